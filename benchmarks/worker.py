"""One contestant in a process of its own: libraries share a machine badly, a process at least.

    python -m chainrule.benchmarks.worker jax

reads commands from stdin, one JSON object a line, and answers each with one on stdout.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from .contestant import Contestant, UnsupportedError
from .workloads import Workload

# name -> (module, its function of variants, the distribution that it needs)
CONTESTANTS: Final = {
    "chainrule": ("ours", "variants", "chainrule"),
    "one thread": ("ours", "variants_serial", "chainrule"),
    "jax": ("jax_peer", "variants", "jax"),
    "torch": ("torch_peer", "variants", "torch"),
    "torch compiled": ("torch_peer", "variants_compiled", "torch"),
    "scikit-learn": ("sklearn_peer", "variants", "scikit-learn"),
    "products": ("products", "", "numpy"),
}
OURS: Final = ("chainrule", "one thread", "products")


def contestant(name: str) -> Any:
    """The contestant of a name; imports its library."""
    module, variants, _ = CONTESTANTS[name]
    imported = import_module(f".{module}", __package__)
    return imported.Products() if name == "products" else Contestant(getattr(imported, variants))


def answer(them: Any, command: dict[str, Any]) -> dict[str, Any]:
    """What a command gives."""
    if "prepare" in command:
        return dict(them.prepare(Workload.from_dict(command["prepare"]), command["quick"]))
    return dict(them.run(command["run"]))


def serve(name: str, commands: Any, say: Callable[[dict[str, Any]], None]) -> None:
    """Answer until there are no more commands."""
    try:
        them = contestant(name)
    except Exception as error:  # noqa: BLE001  a library that is broken is no reason to measure none
        say({"error": described(error)})
        return
    say({})
    for line in commands:
        try:
            say(answer(them, json.loads(line)))
        except Exception as error:  # noqa: BLE001  likewise for one workload
            say({"error": described(error)})


def described(error: Exception) -> str:
    """One line."""
    kind = "" if isinstance(error, UnsupportedError) else f"{type(error).__name__}: "
    return kind + " ".join(str(error).split())[:300]


def main() -> None:
    """Answers go where stdout went; what libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(reply: dict[str, Any]) -> None:
        print(json.dumps(reply), file=answers, flush=True)

    serve(sys.argv[1], sys.stdin, say)


if __name__ == "__main__":
    main()
