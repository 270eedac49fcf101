"""Small programs, one for each thing that the language can say, and random values for their tensors.

They are small enough to be interpreted with many digits at every perturbation of every parameter, and large
enough for an index to be mistaken for another one. The loss is `L`. The equations are kept as the user would
write them, not in normal form.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import sympy as sp

from chainrule.symbolic.derivation import derived_program
from chainrule.symbolic.derive import Derived
from chainrule.symbolic.formula import Names, parse_expression, split_equations
from chainrule.symbolic.language import (
    SAMPLE_INDEX,
    SAMPLES,
    Equation,
    Index,
    Kind,
    Program,
    Role,
    Tensor,
    extent,
    index,
)

SAMPLE_COUNT = 3
LARGEST = 1.0  # of the random numbers, in absolute value

Build = Callable[[], Program]
PROGRAMS: dict[str, Build] = {}


def example(build: Build) -> Build:
    PROGRAMS[build.__name__] = build
    return build


@cache
def derived_example(name: str) -> Derived:
    """The derivation of a program, once for all tests."""
    return derived_program(PROGRAMS[name]())


def written(
    extents: Mapping[str, int | sp.Expr],
    tensors: Mapping[str, str],
    equations: str,
    sizes: Mapping[sp.Symbol, int] | None = None,
    outputs: tuple[str, ...] = ("L",),
) -> Program:
    """A program from text.

    `tensors` maps a name to its role, the word "integer" if it is one, and its indices: "parameter i j".
    """
    indices = {"n": SAMPLE_INDEX} | {name: index(name, size) for name, size in extents.items()}
    given = tuple(_tensor(name, words.split(), indices) for name, words in tensors.items())
    known = {t.name: t for t in given}
    made: list[Equation] = []
    for name, where, text, line in split_equations(equations, "program"):
        readers = {t.name: _reader(t) for t in known.values()}
        names = Names({str(s): s for s in sizes or {}}, readers, {k: i.extent for k, i in indices.items()})
        expr = parse_expression(text, names, line)
        kind = Kind.INTEGER if expr.is_integer and expr.has(sp.Indexed) else Kind.REAL
        made.append(Equation(name, tuple(indices[i] for i in where), expr, kind=kind))
        known[name] = made[-1].tensor
    return Program(given, tuple(made), outputs, sizes or {})


def _tensor(name: str, words: list[str], indices: Mapping[str, Index]) -> Tensor:
    role, *where = words
    kind = Kind.INTEGER if where[:1] == ["integer"] else Kind.REAL
    return Tensor(name, tuple(indices[i] for i in where if i != "integer"), Role(role), kind)


def _reader(tensor: Tensor) -> Callable[[tuple[sp.Expr, ...]], sp.Expr]:
    return lambda where: tensor[where] if where else tensor.element


# Values


def random_values(
    program: Program, samples: int = SAMPLE_COUNT, seed: int = 0
) -> dict[str, dict[tuple[int, ...], Any]]:
    """A table for every given tensor: numbers in [-1, 1], integers in the range that they index."""
    draw = random.Random(seed)
    values: dict[str, dict[tuple[int, ...], Any]] = {}
    for tensor in program.tensors:
        limit = _range_of(tensor, program, samples) if tensor.kind is Kind.INTEGER else 0
        positions = itertools.product(*(range(program.size(e, samples)) for e in tensor.shape))
        values[tensor.name] = {
            p: draw.randrange(limit) if limit else draw.uniform(-LARGEST, LARGEST) for p in positions
        }
    return values


def _range_of(tensor: Tensor, program: Program, samples: int) -> int:
    """How many values an integer tensor may have: the extent of what it stands for an index of."""
    limits = [program.size(e, samples) for e in _places(tensor.name, program)]
    return min(limits, default=2)


def _places(name: str, program: Program) -> Iterator[sp.Expr]:
    def is_it(expr: sp.Basic) -> bool:
        return (isinstance(expr, sp.Indexed) and str(expr.base.label) == name) or str(expr) == name

    for equation in program.equations:
        bound = {i.symbol: i.extent for i in equation.indices}
        for contraction in equation.expr.atoms(sp.concrete.expr_with_limits.ExprWithLimits):
            bound |= {symbol: high + 1 for symbol, _, high in contraction.limits}
        for read in equation.expr.atoms(sp.Indexed):
            shape = program.by_name[str(read.base.label)].shape
            yield from (e for where, e in zip(read.indices, shape, strict=True) if is_it(where))
        for delta in equation.expr.atoms(sp.KroneckerDelta):
            yield from (bound[a] for a in delta.args if a in bound and any(map(is_it, delta.args)))


# Layers of nets


@example
def dense() -> Program:
    return written(
        {"i": 3, "j": 2},
        {"x": "input n j", "y": "target n i", "W": "parameter i j", "b": "parameter i"},
        """
        z[n,i] = sum(j, W[i,j]*x[n,j]) + b[i]
        a[n,i] = tanh(z[n,i])
        L = sum(n, i, (a[n,i] - y[n,i])**2)
        """,
    )


@example
def two_dense_layers() -> Program:
    return written(
        {"i": 3, "j": 2, "k": 2},
        {"x": "input n j", "y": "target n k", "W": "parameter i j", "V": "parameter k i", "c": "parameter k"},
        """
        a[n,i] = sigmoid(sum(j, W[i,j]*x[n,j]))
        h[n,k] = softplus(sum(i, V[k,i]*a[n,i]) + c[k])
        l[n] = sum(k, (h[n,k] - y[n,k])**2)/2
        L = mean(n, l[n])
        """,
        outputs=("L", "h"),
    )


@example
def layer_norm() -> Program:
    return written(
        {"j": 3},
        {"x": "input n j", "t": "target n j", "s": "parameter j", "g": "parameter j", "b": "parameter j"},
        """
        u[n,j] = x[n,j]*s[j]
        m[n] = mean(j, u[n,j])
        v[n] = mean(j, (u[n,j] - m[n])**2)
        h[n,j] = g[j]*(u[n,j] - m[n])/sqrt(v[n] + 1/1000) + b[j]
        L = sum(n, j, h[n,j]*t[n,j])**2
        """,
    )


@example
def batch_norm() -> Program:
    return written(
        {"j": 2, "i": 3},
        {"x": "input n j", "t": "target n i", "W": "parameter i j", "g": "parameter i", "b": "parameter i"},
        """
        z[n,i] = sum(j, W[i,j]*x[n,j])
        m[i] = mean(n, z[n,i])
        v[i] = mean(n, (z[n,i] - m[i])**2)
        h[n,i] = g[i]*(z[n,i] - m[i])/sqrt(v[i] + 1/1000) + b[i]
        L = sum(n, i, h[n,i]*t[n,i])**2
        """,
    )


@example
def softmax() -> Program:
    return written(
        {"i": 3, "j": 2, "k": 3},
        {"x": "input n j", "t": "target n i", "W": "parameter i j"},
        """
        z[n,i] = sum(j, W[i,j]*x[n,j])
        p[n,i] = exp(z[n,i])/sum(k, exp(z[n,k]))
        L = sum(n, i, p[n,i]*t[n,i])
        """,
    )


@example
def log_softmax() -> Program:
    return written(
        {"i": 3, "j": 2, "k": 3},
        {"x": "input n j", "y": "target integer n", "W": "parameter i j"},
        """
        z[n,i] = sum(j, W[i,j]*x[n,j])
        p[n,i] = z[n,i] - log(sum(k, exp(z[n,k])))
        L = -mean(n, p[n,y[n]])
        """,
    )


@example
def shifted_softmax() -> Program:
    """The shift by the maximum is differentiated too, and must cancel."""
    return written(
        {"i": 3, "j": 2, "k": 3},
        {"x": "input n j", "t": "target n i", "W": "parameter i j"},
        """
        z[n,i] = sum(j, W[i,j]*x[n,j])
        m[n] = max(k, z[n,k])
        e[n,i] = exp(z[n,i] - m[n])
        p[n,i] = e[n,i]/sum(k, e[n,k])
        L = sum(n, i, p[n,i]*t[n,i])
        """,
    )


@example
def residual() -> Program:
    return written(
        {"i": 2, "j": 2},
        {"x": "input n j", "t": "target n i", "W": "parameter i j", "V": "parameter i j"},
        """
        u[n,i] = x[n,i] + tanh(sum(j, W[i,j]*x[n,j]))
        v[n,i] = u[n,i] + tanh(sum(j, V[i,j]*u[n,j])) + x[n,i]*u[n,i]
        L = sum(n, i, v[n,i]*t[n,i])**2
        """,
    )


@example
def conv1d() -> Program:
    """Stride 2, padding 1: length 5, window 3, so 3 positions."""
    return written(
        {"o": 2, "i": 2, "s": 5, "p": 3, "r": 3},
        {
            "x": "input n i s",
            "t": "target n o r",
            "A": "parameter i",
            "K": "parameter o i p",
            "b": "parameter o",
        },
        """
        u[n,i,s] = tanh(A[i]*x[n,i,s])
        z[n,o,r] = sum(i, p, K[o,i,p]*where(2*r + p - 1 >= 0 and 2*r + p - 1 < 5, u[n,i,2*r+p-1], 0)) + b[o]
        L = sum(n, o, r, z[n,o,r]*t[n,o,r])**2
        """,
    )


@example
def conv1d_valid() -> Program:
    return written(
        {"s": 4, "p": 2, "r": 3},
        {"x": "input n s", "t": "target n r", "A": "parameter s", "K": "parameter p"},
        """
        u[n,s] = tanh(A[s]*x[n,s])
        z[n,r] = sum(p, K[p]*u[n,r+p])
        L = sum(n, r, z[n,r]*t[n,r])**2
        """,
    )


@example
def conv1d_dilated() -> Program:
    return written(
        {"s": 6, "p": 3, "r": 2},
        {"x": "input n s", "t": "target n r", "A": "parameter s", "K": "parameter p"},
        """
        u[n,s] = A[s]*x[n,s]
        z[n,r] = sum(p, K[p]*u[n,r+2*p])
        L = sum(n, r, z[n,r]**2*t[n,r])
        """,
    )


@example
def conv2d() -> Program:
    """Stride 2 one way and 1 the other, padding 1 both ways."""
    return written(
        {"i": 1, "o": 1, "s": 3, "t": 2, "p": 2, "q": 2, "r": 2, "c": 3},
        {"x": "input n i s t", "y": "target n o r c", "A": "parameter i s t", "K": "parameter o i p q"},
        """
        u[n,i,s,t] = A[i,s,t]*x[n,i,s,t]
        z[n,o,r,c] = sum(i, p, q, K[o,i,p,q]*where(
            2*r + p >= 1 and 2*r + p - 1 < 3 and c + q >= 1 and c + q - 1 < 2, u[n,i,2*r+p-1,c+q-1], 0))
        L = sum(n, o, r, c, z[n,o,r,c]**2*y[n,o,r,c])
        """,
    )


@example
def upsampling() -> Program:
    """A transposed convolution: what goes out is where the input times the stride plus the window points."""
    return written(
        {"s": 2, "p": 3, "r": 5},
        {"x": "input n s", "t": "target n r", "A": "parameter s", "K": "parameter p"},
        """
        u[n,s] = tanh(A[s]*x[n,s])
        z[n,r] = sum(s, where(r - 2*s >= 0 and r - 2*s < 3, K[r-2*s]*u[n,s], 0))
        L = sum(n, r, z[n,r]*t[n,r])**2
        """,
    )


@example
def embedding() -> Program:
    return written(
        {"i": 2, "v": 4, "s": 3},
        {"token": "input integer n s", "t": "target n i", "E": "parameter v i", "P": "parameter s i"},
        """
        h[n,s,i] = E[token[n,s],i] + P[s,i]
        m[n,i] = mean(s, h[n,s,i]**2)
        L = sum(n, i, m[n,i]*t[n,i])
        """,
    )


@example
def max_pool_1d() -> Program:
    return written(
        {"s": 5, "p": 3, "r": 2},
        {"x": "input n s", "t": "target n r", "A": "parameter s"},
        """
        u[n,s] = A[s]*x[n,s]
        h[n,r] = max(p, u[n,2*r+p])
        L = sum(n, r, h[n,r]*t[n,r])**2
        """,
    )


@example
def max_pool_2d() -> Program:
    return written(
        {"s": 4, "c": 3, "p": 2, "q": 2, "r": 2, "k": 2},
        {"x": "input n s c", "t": "target n r k", "A": "parameter s c"},
        """
        u[n,s,c] = A[s,c]*x[n,s,c]
        h[n,r,k] = max(p, q, u[n,2*r+p,k+q])
        L = sum(n, r, k, h[n,r,k]*t[n,r,k])**2
        """,
    )


@example
def max_pool_padded() -> Program:
    return written(
        {"s": 3, "p": 2, "r": 2},
        {"x": "input n s", "t": "target n r", "A": "parameter s"},
        """
        u[n,s] = A[s]*x[n,s]
        h[n,r] = max(p, where(2*r + p - 1 >= 0, u[n,2*r+p-1], -1000)) + u[n,r]
        L = sum(n, r, h[n,r]*t[n,r])**2
        """,
    )


@example
def mean_pool() -> Program:
    return written(
        {"s": 4, "p": 2, "r": 2},
        {"x": "input n s", "t": "target n r", "A": "parameter s"},
        """
        u[n,s] = A[s]*x[n,s]
        h[n,r] = mean(p, u[n,2*r+p])
        L = sum(n, r, h[n,r]*t[n,r])**2
        """,
    )


@example
def attention() -> Program:
    """One head, softmax over the keys."""
    return written(
        {"s": 3, "k": 3, "m": 3, "d": 2, "j": 2},
        {
            "x": "input n s j",
            "t": "target n s d",
            "Q": "parameter d j",
            "K": "parameter d j",
            "V": "parameter d j",
        },
        """
        q[n,s,d] = sum(j, Q[d,j]*x[n,s,j])
        key[n,s,d] = sum(j, K[d,j]*x[n,s,j])
        v[n,s,d] = sum(j, V[d,j]*x[n,s,j])
        score[n,s,k] = sum(d, q[n,s,d]*key[n,k,d])/sqrt(2)
        p[n,s,k] = exp(score[n,s,k])/sum(m, exp(score[n,s,m]))
        h[n,s,d] = sum(k, p[n,s,k]*v[n,k,d])
        L = sum(n, s, d, h[n,s,d]*t[n,s,d])
        """,
    )


@example
def causal_attention() -> Program:
    """A mask is a condition on indices."""
    return written(
        {"s": 3, "k": 3, "m": 3},
        {"x": "input n s", "t": "target n s", "Q": "parameter", "K": "parameter"},
        """
        e[n,s,k] = where(k <= s, exp(Q*x[n,s]*tanh(K*x[n,k])), 0)
        p[n,s,k] = e[n,s,k]/sum(m, e[n,s,m])
        L = sum(n, s, t[n,s]*sum(k, p[n,s,k]*x[n,k]))
        """,
    )


@example
def gru() -> Program:
    """One step."""
    return written(
        {"i": 2, "j": 2, "k": 2},
        {
            "x": "input n j", "h": "input n i", "t": "target n i",
            "Wr": "parameter i j", "Wu": "parameter i j", "Wc": "parameter i j",
            "Ur": "parameter i k", "Uu": "parameter i k", "Uc": "parameter i k",
            "br": "parameter i", "bc": "parameter i",
        },
        """
        r[n,i] = sigmoid(sum(j, Wr[i,j]*x[n,j]) + sum(k, Ur[i,k]*h[n,k]) + br[i])
        u[n,i] = sigmoid(sum(j, Wu[i,j]*x[n,j]) + sum(k, Uu[i,k]*h[n,k]))
        c[n,i] = tanh(sum(j, Wc[i,j]*x[n,j]) + sum(k, Uc[i,k]*r[n,k]*h[n,k]) + bc[i])
        g[n,i] = (1 - u[n,i])*h[n,i] + u[n,i]*c[n,i]
        L = sum(n, i, g[n,i]*t[n,i])**2
        """,
    )  # fmt: skip


@example
def lstm() -> Program:
    """Three steps that share their weights; the steps read x[n,0,j], x[n,1,j] and x[n,2,j]."""
    step = """
        gate{t}[n,g,i] = sum(j, W[g,i,j]*x[n,{t},j]) + sum(k, U[g,i,k]*h{s}[n,k])
        forget{t}[n,i] = sigmoid(gate{t}[n,0,i] + b[i])
        take{t}[n,i] = sigmoid(gate{t}[n,1,i])
        show{t}[n,i] = sigmoid(gate{t}[n,2,i])
        c{t}[n,i] = forget{t}[n,i]*c{s}[n,i] + take{t}[n,i]*tanh(gate{t}[n,3,i])
        h{t}[n,i] = show{t}[n,i]*tanh(c{t}[n,i])
    """
    steps = "".join(step.format(t=t, s=t - 1 if t else "") for t in range(3))
    return written(
        {"g": 4, "i": 1, "k": 1, "j": 2, "s": 3},
        {
            "x": "input n s j", "h": "state n i", "c": "state n i", "t": "target n i",
            "W": "parameter g i j", "U": "parameter g i k", "b": "parameter i",
        },
        steps + "L = sum(n, i, h2[n,i]*t[n,i])**2",
    )  # fmt: skip


# The language itself


@example
def several_inputs_and_outputs() -> Program:
    return written(
        {"i": 2, "j": 3, "k": 2},
        {
            "x": "input n j", "y": "input n k", "mask": "noise n i", "t": "target n i", "r": "target n k",
            "W": "parameter i j", "V": "parameter i k", "S": "parameter k i",
        },
        """
        a[n,i] = sin(sum(j, W[i,j]*x[n,j]))
        b[n,i] = a[n,i]*sum(k, V[i,k]*y[n,k])
        first[n,i] = a[n,i] + b[n,i]*mask[n,i]
        second[n,k] = cos(sum(i, S[k,i]*b[n,i])) + y[n,k]
        one = sum(n, i, first[n,i]*t[n,i])
        two = sum(n, k, second[n,k]*r[n,k])
        L = one*two + one**2
        """,
        outputs=("L", "first", "second"),
    )  # fmt: skip


@example
def pairs_of_samples() -> Program:
    """A Gram matrix: a second index over the samples."""
    return written(
        {"i": 2, "j": 2, "m": SAMPLES},
        {"x": "input n j", "t": "target n", "W": "parameter i j"},
        """
        h[n,i] = tanh(sum(j, W[i,j]*x[n,j]))
        G[n,m] = sum(i, h[n,i]*h[m,i])
        L = sum(n, m, exp(G[n,m])*t[n]*t[m])
        """,
    )


@example
def outer_product() -> Program:
    """A tensor read twice, once transposed."""
    return written(
        {"i": 2, "j": 2},
        {"x": "input n i", "t": "target n i j", "s": "parameter i"},
        """
        u[n,i] = x[n,i]*s[i]
        h[n,i,j] = u[n,i]*u[n,j] + u[n,i]
        L = sum(n, i, j, h[n,i,j]*t[n,i,j])
        """,
    )


@example
def matrix_square() -> Program:
    """Two reads of one tensor under one sum, and its diagonal."""
    return written(
        {"i": 2, "j": 2, "k": 2},
        {"x": "input n i", "t": "target n i", "A": "parameter i j"},
        """
        B[i,j] = sum(k, A[i,k]*A[k,j]) + A[j,i]
        trace = sum(i, A[i,i]*B[i,i])
        h[n,i] = sum(j, B[i,j]*x[n,j])*trace
        L = sum(n, i, h[n,i]*t[n,i])
        """,
    )


@example
def fixed_position() -> Program:
    return written(
        {"i": 3, "j": 2},
        {"x": "input n i", "t": "target i", "w": "parameter i", "V": "parameter j i"},
        """
        h[n] = w[0]*x[n,1] + w[2]**2*x[n,0] + sum(i, V[1,i]*x[n,i])
        L = sum(n, h[n]**2)*t[0] + w[1]*V[0,2]*t[1]
        """,
    )


@example
def parameters_without_indices() -> Program:
    return written(
        {"j": 2},
        {"x": "input n j", "t": "target n j", "alpha": "parameter", "beta": "parameter"},
        """
        h[n,j] = where(x[n,j] <= 0, alpha*x[n,j], x[n,j]) + beta**2*alpha
        L = sum(n, j, h[n,j]*t[n,j])**2 + beta
        """,
    )


@example
def symbolic_extents() -> Program:
    """The sizes stay symbols in the equations and in their gradients; they are bound beside them."""
    U, F = extent("U"), extent("F")
    return written(
        {"i": U, "j": F},
        {"x": "input n j", "t": "target n i", "W": "parameter i j", "b": "parameter i"},
        """
        h[n,i] = mean(j, W[i,j]*x[n,j])*F + b[i]/U
        l[n] = mean(i, (h[n,i] - t[n,i])**2)
        L = mean(n, l[n])
        """,
        {U: 3, F: 2},
    )


@example
def arithmetic_of_extents() -> Program:
    """The extent of a result is computed from those of what it reads: r runs to T - P + 1, s to 2*R."""
    T, P = extent("T"), extent("P")
    return written(
        {"t": T, "p": P, "r": T - P + 1, "s": 2 * (T - P + 1)},
        {"x": "input n t", "y": "target n s", "K": "parameter p", "A": "parameter t", "c": "parameter s"},
        """
        u[n,t] = A[t]*x[n,t]
        z[n,r] = sum(p, K[p]*u[n,r+p])
        h[n,s] = where(s < T - P + 1, z[n,s], c[s]*z[n,s - (T - P + 1)])
        L = sum(n, s, h[n,s]*y[n,s])**2
        """,
        {T: 4, P: 2},
    )


@example
def reshaped() -> Program:
    """Two indices address one axis: a delta that fixes neither of them alone."""
    return written(
        {"i": 2, "j": 3, "k": 6},
        {"x": "input n k", "t": "target n i j", "w": "parameter k"},
        """
        h[n,i,j] = tanh(w[3*i+j]*x[n,3*i+j])
        L = sum(n, i, j, h[n,i,j]*t[n,i,j])**2
        """,
    )


@example
def reversed_and_shifted() -> Program:
    return written(
        {"i": 3, "k": 4},
        {"x": "input n i", "t": "target n i", "w": "parameter i", "v": "parameter k"},
        """
        u[n,i] = w[i]*x[n,i]
        h[n,i] = u[n,2-i]*v[i+1] + where(i >= 1, u[n,i-1], v[0])
        L = sum(n, i, h[n,i]*t[n,i])**2
        """,
    )


@example
def running_sum() -> Program:
    return written(
        {"i": 3, "j": 3},
        {"x": "input n i", "t": "target n i", "w": "parameter i"},
        """
        h[n,i] = sum(j, where(j <= i, w[j]*x[n,j], 0))
        L = sum(n, i, h[n,i]**2*t[n,i])
        """,
    )


@example
def picked_classes() -> Program:
    """An integer target as a Kronecker delta, against the logarithm of a softmax."""
    program = written(
        {"i": 3, "j": 2, "k": 3},
        {"x": "input n j", "y": "target integer n", "W": "parameter i j"},
        """
        z[n,i] = sum(j, W[i,j]*x[n,j])
        p[n,i] = exp(z[n,i])/sum(k, exp(z[n,k]))
        """,
        outputs=("p",),
    )
    y, p, i = program.by_name["y"], program.by_name["p"], program.by_name["p"].indices[1]
    body = -sp.KroneckerDelta(y.element, i.symbol) * sp.log(p.element) + p.element**2
    loss = Equation("L", (), sp.Sum(body, SAMPLE_INDEX.limits, i.limits) / SAMPLES)
    return Program(program.tensors, (*program.equations, loss), ("L", "p"), program.sizes)


@example
def position_of_the_largest() -> Program:
    """What is read at an argmax has a gradient, the argmax itself has none."""
    return written(
        {"i": 3, "j": 3},
        {"x": "input n i", "t": "target n", "w": "parameter i", "v": "parameter i"},
        """
        u[n,i] = w[i]*x[n,i]
        best[n] = argmax(j, u[n,j])
        h[n] = v[best[n]]*u[n,best[n]]
        L = sum(n, h[n]*t[n])**2
        """,
    )


@example
def piecewise_constant() -> Program:
    return written(
        {"i": 3},
        {"x": "input n i", "t": "target n i", "w": "parameter i"},
        """
        u[n,i] = w[i]*x[n,i]
        v[n,i] = floor(3*u[n,i])*u[n,i] + abs(u[n,i])*ceil(u[n,i]) + heaviside(u[n,i])
        h[n,i] = v[n,i] + u[n,i]**2*sign(u[n,i])
        L = sum(n, i, h[n,i]*t[n,i])
        """,
    )


@example
def several_contractions() -> Program:
    """Sums inside sums, products of sums, a sum inside a maximum, one name bound three times."""
    return written(
        {"i": 2, "j": 2, "k": 3},
        {"x": "input n j", "t": "target n i", "W": "parameter i j", "c": "parameter k"},
        """
        h[n,i] = sum(j, W[i,j]*x[n,j])*sum(j, W[i,j]**2) + max(k, c[k]*sum(j, x[n,j]*c[k]))*sum(k, c[k])
        L = sum(n, sum(i, h[n,i]*t[n,i])**2)/(1 + sum(n, i, h[n,i]**2))
        """,
    )


@example
def sums_in_one_another() -> Program:
    """The second j needs another name, which must not be that of the k inside it."""
    return written(
        {"i": 2, "j": 3, "k": 3},
        {"x": "input n i", "a": "parameter j", "b": "parameter j", "C": "parameter j k"},
        """
        h[n,i] = x[n,i]*sum(j, a[j])*exp(sum(j, b[j]*sum(k, C[j,k])))
        L = sum(n, i, h[n,i])
        """,
    )


@example
def sums_without_their_index() -> Program:
    """What is summed does not depend on the index: as often as the index has values."""
    return written(
        {"i": 2, "j": 3},
        {"w": "parameter i", "v": "parameter"},
        """
        s[i] = sum(j, w[i]**2)
        t = sum(i, j, w[i]*v)
        L = sum(n, i, s[i]) + t
        """,
    )


@example
def largest_of_all() -> Program:
    """A maximum without a free index, and its position."""
    return written(
        {"i": 3, "k": 3},
        {"x": "input n i", "t": "target n i", "w": "parameter i"},
        """
        m = max(k, w[k]**2)
        p = argmax(k, w[k])
        h[n,i] = w[i]*x[n,i]/(1 + m) + w[p]
        L = sum(n, i, h[n,i]*t[n,i])**2
        """,
    )


@example
def shared_by_branches() -> Program:
    """A tensor that five later equations read."""
    return written(
        {"i": 2, "j": 2, "k": 2},
        {"x": "input n i", "t": "target n i", "w": "parameter i", "V": "parameter i j"},
        """
        u[n,i] = tanh(w[i]*x[n,i])
        a[n,i] = sum(j, V[i,j]*u[n,j])
        b[n,i] = sum(j, V[j,i]*u[n,j])
        m[n] = max(k, u[n,k])
        s[i] = mean(n, u[n,i])
        h[n,i] = a[n,i]*b[n,i] + m[n]*s[i] + u[n,i]**3
        L = sum(n, i, h[n,i]*t[n,i])
        """,
    )


@example
def elementary_functions() -> Program:
    return written(
        {"i": 2},
        {"x": "input n i", "t": "target n i", "w": "parameter i"},
        """
        u[n,i] = w[i]*x[n,i]/2
        a[n,i] = sinh(u[n,i])*cosh(u[n,i]) + tan(u[n,i]) + asin(u[n,i])*acos(u[n,i]) + atan(u[n,i])
        b[n,i] = asinh(u[n,i]) + acosh(2 + u[n,i])*atanh(u[n,i]) + erf(u[n,i]) + erfc(u[n,i])*log(2 + u[n,i])
        c[n,i] = expm1(u[n,i])*log1p(u[n,i]) + sqrt(1 + u[n,i]) + relu(u[n,i]) + min(u[n,i], x[n,i])
        d[n,i] = max(u[n,i], x[n,i], 1/10) + clip(u[n,i], -1/4, 1/4) + (2 + u[n,i])**(x[n,i]*w[i])
        f[n,i] = a[n,i] + b[n,i] + c[n,i] + d[n,i] + pi**u[n,i] + e**u[n,i]
        L = sum(n, i, f[n,i]*t[n,i])**2
        """,
    )


@example
def unused_parameter() -> Program:
    """One parameter nowhere, one only in an equation that the loss does not need."""
    return written(
        {"i": 2, "k": 3},
        {
            "x": "input n i",
            "t": "target n i",
            "w": "parameter i",
            "idle": "parameter i k",
            "aside": "parameter k",
        },
        """
        other[k] = aside[k]**2
        h[n,i] = w[i]*x[n,i]
        L = sum(n, i, h[n,i]*t[n,i])**2
        """,
        outputs=("L", "other"),
    )


@example
def weights_only() -> Program:
    """A loss that reads parameters directly, without samples: penalties and normalised weights."""
    return written(
        {"i": 2, "j": 2, "k": 2},
        {"x": "input n j", "t": "target n i", "W": "parameter i j", "g": "parameter i"},
        """
        size[i] = sqrt(sum(j, W[i,j]**2))
        V[i,j] = g[i]*W[i,j]/size[i]
        h[n,i] = sum(j, V[i,j]*x[n,j])
        L = sum(n, i, h[n,i]*t[n,i]) + sum(i, j, abs(W[i,j]))/10 + sum(k, g[k])**2
        """,
    )
