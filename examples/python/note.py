"""The note's network, K hidden layers and a linear output, and its derivation: python examples/python/note.py [K]"""

from __future__ import annotations

import sys

import chainrule as cr


def note(hidden_layers: int = 2) -> cr.Model:
    """y_hat = W^(o) a^(K)(W^(K) ... a^(1)(W^(1) x)): as in the note, without biases."""
    hidden = [cr.Dense(4, "tanh", bias=False) for _ in range(hidden_layers)]
    return cr.Model(3, [*hidden, cr.Dense(2, bias=False)], loss="squared_error", name="note")


def main(hidden_layers: int = 2) -> None:
    derivation = note(hidden_layers).derivation()
    print(derivation)
    derivation.prove()
    print(f"Proven by brute force: {', '.join(derivation.gradients)}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
