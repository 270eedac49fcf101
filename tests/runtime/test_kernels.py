"""Kernels against an independent autograd, at the edges of numbers, and at the door."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import autograd.numpy as anp
import numpy as np
import pytest
import sympy as sp
from autograd import elementwise_grad, value_and_grad

import chainrule as cr
from chainrule.runtime.evaluation import CHUNK, run_gradients
from chainrule.runtime.given import initial_parameters
from chainrule.symbolic.activations import ACTIVATIONS, Z
from chainrule.symbolic.language import SAMPLE_INDEX, Equation, Program, Role, Tensor, index
from chainrule.symbolic.losses import LOSSES
from chainrule.symbolic.model import Variant

from ..codegen.plain_python import in_both_orders, model_machine
from . import reference
from .reference import POSITIVE, mean_over_samples, targets

Arrays = dict[str, np.ndarray]


def assert_same(got: tuple[float, Arrays], wanted: tuple[float, Arrays], relative: float = 1e-10) -> None:
    """Every gradient to a part of its largest element."""
    assert got[0] == pytest.approx(wanted[0], rel=relative, abs=relative)
    assert got[1].keys() == wanted[1].keys()
    for name, gradient in wanted[1].items():
        largest = float(abs(gradient).max())
        assert np.isfinite(largest)
        assert got[1][name].shape == gradient.shape
        error = float(abs(got[1][name] - gradient).max())
        assert error <= relative * largest + 1e-16, f"d{name}: wrong by {error:.2g} where {largest:.2g} is largest"


def shifted(parameters: Mapping[str, np.ndarray], seed: int, size: float = 0.3) -> Arrays:
    """Parameters none of which is at its first value."""
    rng = np.random.default_rng(seed)
    return {name: np.asarray(v + size * rng.normal(size=np.shape(v))) for name, v in parameters.items()}


# Every activation with every loss, in Python: the source is what is wrong, if something is


def pairs() -> list[tuple[str, str]]:
    """Every activation with every loss that takes a logarithm, because the two are rewritten together (and those of
    which the logarithm has no value are refused); with one of the others, in turn."""
    others = [loss for loss in LOSSES if loss not in POSITIVE]
    found = []
    for number, activation in enumerate(ACTIVATIONS):
        refused = activation in ("identity", "log_softmax")
        found += [(activation, loss) for loss in (others[number % len(others)], *(() if refused else POSITIVE))]
    return found


def test_all_rows_have_a_reference() -> None:
    assert reference.ACTIVATIONS.keys() == ACTIVATIONS.keys()
    assert reference.LOSSES.keys() == LOSSES.keys()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_with_losses(activation: str, tmp_path: Path) -> None:
    checked = 0
    for number, loss in enumerate(loss for a, loss in pairs() if a == activation):
        rng = np.random.default_rng([number, len(activation)])
        model = cr.Model(2, [cr.Dense(4, activation)], loss)
        machine = model_machine(model, tmp_path, Variant(weighted=bool(number % 2)))
        parameters = shifted(initial_parameters(machine), number)
        x, y = rng.normal(size=(3, 2)), targets(loss, 3, 4, rng)
        if loss in POSITIVE:  # keep what comes out between 0 and 1
            parameters["Wo"] *= 0.05
            parameters["bo"] = (-0.5 if activation in ("exp", "softplus") else 0.5) + 0.05 * rng.normal(size=4)
            x = x.clip(-1, 1)
        weight = np.array([0.5, 0.0, 2.0]) if number % 2 else None
        got = in_both_orders(machine, lambda m: run_gradients(m, parameters, x, y, weight))  # noqa: B023
        assert_same(got, reference.loss_and_gradients([activation], loss, parameters, x, y, weight))
        checked += 1
    assert checked >= 1


# The same in machine code: one activation a layer, one model a group


GROUPS = {
    "squared_error": ("leaky_relu+prelu+elu+selu", "relu+identity"),
    "huber": ("gelu+tanh+sigmoid+hard_sigmoid", "gelu_tanh+hard_tanh"),
    "absolute_error": ("softplus+softsign+silu+swish", "hard_swish+mish+relu6"),
    "cross_entropy": ("sin+gaussian+exp", "log_softmax+softmax"),
}
OTHER_LOSSES = {
    "log_cosh": ("identity",), "quantile": ("identity",), "binary_cross_entropy": ("sigmoid",), "hinge": ("tanh",),
    "squared_hinge": ("identity",), "poisson": ("exp",), "gaussian_nll": ("identity",), "kl_divergence": ("softmax",),
}  # fmt: skip
UNITS = 4
PENALTIES = [cr.L2(0.01), cr.L1(0.02)]
PENALISED = ("squared_error", "quantile")


@lru_cache
def kernels(layers: tuple[str, ...], loss: str, dtype: str = "float64") -> cr.Kernels:
    """Compiled once for all tests."""
    made: list[Any] = []
    for names in layers:
        first, *others = names.split("+")
        made += [cr.Dense(UNITS, first), *map(cr.Activation, others)]
    return cr.compile(cr.Model(3, made, loss, PENALTIES if loss in PENALISED else []), dtype)


def rows_of(made: cr.Kernels, variant: Variant, samples: int) -> int:
    """Samples in a block."""
    return made.machine(variant).phases("gradients", samples).rows


def check(layers: tuple[str, ...], loss: str, samples: int, weighted: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    made = kernels(layers, loss)
    parameters = shifted(made.init(seed), seed)
    x, y = rng.normal(size=(samples, 3)), targets(loss, samples, UNITS, rng)
    weight = rng.random(samples) * (rng.random(samples) > 0.3) if weighted else None
    if weight is not None:
        weight[-1] = 0.5  # zeros elsewhere
    l2, l1 = (0.01, 0.02) if loss in PENALISED else (0.0, 0.0)
    wanted = reference.loss_and_gradients(layers, loss, parameters, x, y, weight, l2, l1)
    assert_same(made.loss_and_gradients(parameters, x, y, weight), wanted)


def test_groups_hold_every_row() -> None:
    assert {a for group in GROUPS.values() for names in group for a in names.split("+")} == set(ACTIVATIONS)
    assert set(GROUPS) | set(OTHER_LOSSES) == set(LOSSES)


@pytest.mark.parametrize("loss", [*GROUPS, *OTHER_LOSSES])
def test_gradients_equal_autograd_for_odd_batches(loss: str) -> None:
    layers = GROUPS.get(loss) or OTHER_LOSSES[loss]
    block = rows_of(kernels(layers, loss), Variant(), 512)
    assert 8 <= block <= 512
    for seed, samples in enumerate((1, 2, 31, 33, block, block + 1)):
        check(layers, loss, samples, False, seed)


@pytest.mark.parametrize("loss", ["hinge", "kl_divergence"])
def test_sample_weights(loss: str) -> None:
    for seed, samples in enumerate((1, 2, 33, 513)):
        check(GROUPS.get(loss) or OTHER_LOSSES[loss], loss, samples, True, seed)


CLASSES = GROUPS["cross_entropy"]
X = np.random.default_rng(5).normal(size=(37, 3))
LABELS = np.random.default_rng(6).integers(0, UNITS, 37)


def test_integer_targets_are_one_hot_targets() -> None:
    made = kernels(CLASSES, "cross_entropy")
    parameters = shifted(made.init(), 1)
    one_hot = np.eye(UNITS)[LABELS]
    wanted = reference.loss_and_gradients(CLASSES, "cross_entropy", parameters, X, one_hot)
    for y in (LABELS, LABELS[:, None], LABELS.astype(float), LABELS.astype(np.uint8), one_hot, one_hot.astype(int)):
        assert_same(made.loss_and_gradients(parameters, X, y), wanted)


def test_integer_targets_with_weights() -> None:
    made, weight = kernels(("softmax",), "cross_entropy"), np.arange(37.0)
    parameters = shifted(made.init(), 1)
    wanted = reference.loss_and_gradients(["softmax"], "cross_entropy", parameters, X, np.eye(UNITS)[LABELS], weight)
    assert_same(made.loss_and_gradients(parameters, X, LABELS, weight), wanted)


def test_weights_that_are_all_zero_give_a_gradient_of_zero() -> None:
    made = kernels(("softmax",), "cross_entropy")
    loss, gradients = made.loss_and_gradients(made.init(), X, LABELS, np.zeros(37))
    assert loss == 0
    assert not gradients["Wo"].any()
    assert not gradients["bo"].any()


def test_single_precision() -> None:
    layers = ("gelu+swish", "softmax")
    made = kernels(layers, "cross_entropy", "float32")
    parameters = shifted(made.init(), 3)
    got = made.loss_and_gradients(parameters, X, LABELS)
    assert {g.dtype for g in got[1].values()} == {np.dtype("float32")}
    assert {v.dtype for v in made.init().values()} == {np.dtype("float32")}
    one_hot = np.eye(UNITS)[LABELS]
    wanted = reference.loss_and_gradients(layers, "cross_entropy", parameters, X, one_hot)
    assert_same(got, wanted, 2e-5)
    with pytest.raises(AssertionError):  # it is not double precision under another name
        assert_same(got, wanted, 1e-10)


# Threads, samples


@pytest.fixture(scope="module")
def wide() -> cr.Kernels:
    """Blocks of 32 samples and several blocks of units, so that there is something to share out."""
    return cr.compile(cr.Model(200, [cr.Dense(180, "tanh"), cr.Dense(3, "softmax")], "cross_entropy"), "float32")


def test_same_bits_for_any_number_of_threads(wide: cr.Kernels) -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(321, 200)), rng.integers(0, 3, 321)
    phases = wide.machine().kernels["routines"]["gradients"]
    assert max(phase["tasks"] for phase in phases) > 4
    assert 2 * wide.machine().phases("gradients", 321).rows < 321
    parameters, results = wide.init(1), []
    for threads in (1, 2, 4, 1):
        wide.threads = threads
        results.append((wide.loss_and_gradients(parameters, x, y), wide.predict(parameters, x)))
    (loss, gradients), outputs = results[0]
    assert all(g.any() for g in gradients.values())
    for (other_loss, others), other_outputs in results[1:]:
        assert other_loss == loss
        assert np.array_equal(other_outputs, outputs)
        assert all(np.array_equal(others[name], g) for name, g in gradients.items())


def test_predict_any_number_of_samples(wide: cr.Kernels) -> None:
    rng = np.random.default_rng(2)
    parameters = {k: np.asarray(v, "float64") for k, v in wide.init(2).items()}
    x = rng.normal(size=(CHUNK + 37, 200)).astype("float32")
    wanted = reference.predicted(["tanh", "softmax"], parameters, x.astype("float64"))
    got = wide.predict(parameters, x)
    assert got.shape == (len(x), 3)
    np.testing.assert_allclose(got, wanted, atol=2e-6)
    for first, last in ((0, 1), (CHUNK - 1, CHUNK + 2), (0, CHUNK)):
        np.testing.assert_allclose(wide.predict(parameters, x[first:last]), wanted[first:last], atol=2e-6)


def test_evaluate_is_the_loss_and_the_outputs() -> None:
    made = kernels(CLASSES, "cross_entropy")
    parameters = shifted(made.init(), 4)
    loss, outputs = made.evaluate(parameters, X, LABELS)
    assert loss == pytest.approx(made.loss_and_gradients(parameters, X, LABELS)[0], rel=1e-12)
    np.testing.assert_allclose(outputs, reference.predicted(CLASSES, parameters, X), rtol=1e-10)
    many = np.tile(X, (200, 1))
    again, outputs = made.evaluate(parameters, many, np.tile(LABELS, 200))
    assert len(outputs) == len(many) > CHUNK
    assert again == pytest.approx(loss, rel=1e-12)


# Arrays as they come


def test_arrays_in_any_memory_order_and_type() -> None:
    made = kernels(CLASSES, "cross_entropy")
    parameters = shifted(made.init(), 5)
    wanted = made.loss_and_gradients(parameters, X, LABELS)
    turned = {k: np.asfortranarray(v) for k, v in parameters.items()}
    strided = {k: np.repeat(v, 2, axis=-1)[..., ::2] for k, v in parameters.items()}
    lists = {k: v.tolist() for k, v in parameters.items()}
    assert not strided["W1"].flags.c_contiguous
    for given in (turned, strided, lists):
        assert_same(made.loss_and_gradients(given, X, LABELS), wanted, 0.0)
    for x in (np.asfortranarray(X), np.repeat(X, 2, axis=1)[:, ::2], X.tolist(), X[::-1][::-1]):
        assert_same(made.loss_and_gradients(parameters, x, LABELS.tolist()), wanted, 0.0)


def test_what_is_given_is_not_changed() -> None:
    made = kernels(CLASSES, "cross_entropy")
    parameters, x, y = shifted(made.init(), 6), X.copy(), LABELS.copy()
    before = {k: v.copy() for k, v in parameters.items()}
    _, gradients = made.loss_and_gradients(parameters, x, y)
    made.loss_and_gradients(parameters, -x, y)
    assert np.array_equal(x, X)
    assert np.array_equal(y, LABELS)
    assert all(np.array_equal(before[k], v) for k, v in parameters.items())
    assert all(np.array_equal(g, made.loss_and_gradients(parameters, x, y)[1][k]) for k, g in gradients.items())


def good() -> dict[str, Any]:
    return {"params": kernels(CLASSES, "cross_entropy").init(), "x": X, "y": LABELS}


def without(name: str) -> dict[str, Any]:
    return {k: v for k, v in good()["params"].items() if k != name}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "parameter missing": ({"params": lambda p: without("b1")}, "b1"),
    "parameter turned": ({"params": lambda p: {**p, "W1": p["W1"].T}}, "W1"),
    "parameter too long": ({"params": lambda p: {**p, "bo": np.zeros(UNITS + 1)}}, "bo"),
    "parameter of text": ({"params": lambda p: {**p, "bo": np.full(UNITS, "a")}}, ""),
    "x with other features": ({"x": lambda x: x[:, :2]}, "x"),
    "x one sample": ({"x": lambda x: x[0]}, "x"),
    "x of text": ({"x": lambda x: x.astype(str)}, "x"),
    "x ragged": ({"x": lambda x: [[1, 2, 3], [1, 2]]}, ""),
    "x empty": ({"x": lambda x: x[:0], "y": lambda y: y[:0]}, "x"),
    "y shorter": ({"y": lambda y: y[:-1]}, "y has 36"),
    "y missing": ({"y": lambda y: None}, "y"),
    "y above": ({"y": lambda y: y + 1}, "class 4"),
    "y below": ({"y": lambda y: y - 1}, "class -1"),
    "y broken": ({"y": lambda y: np.where(y == 1, 0.5, y)}, "0.5"),
    "y not a number": ({"y": lambda y: y * np.nan}, "nan"),
    "y of text": ({"y": lambda y: y.astype(str)}, "y"),
    "y of other outputs": ({"y": lambda y: np.zeros((37, 3))}, "y"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_data_is_named(what: str) -> None:
    changes, words = WRONG[what]
    given = {k: changes[k](v) if k in changes else v for k, v in good().items()}
    with pytest.raises(cr.DataError) as error:
        kernels(CLASSES, "cross_entropy").loss_and_gradients(given["params"], given["x"], given["y"])
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_wrong_weights_are_named() -> None:
    made, given = kernels(CLASSES, "cross_entropy"), good()
    for weight in (np.ones(36), np.ones((37, 1)), np.full(37, "a")):
        with pytest.raises(cr.DataError):
            made.loss_and_gradients(given["params"], X, LABELS, weight)


def test_signs_are_asked_for() -> None:
    made = kernels(OTHER_LOSSES["hinge"], "hinge")
    with pytest.raises(cr.DataError, match="-1 and 1"):
        made.loss_and_gradients(made.init(), X, np.zeros((37, UNITS)))


def test_unknown_dtype() -> None:
    with pytest.raises(cr.SpecError, match="float16"):
        cr.compile(cr.Model(1, [cr.Dense(1)]), dtype="float16")


# The edges of numbers


FAR = (1e4, -1e4, 1e3, -1e3, 100.0, -100.0, 40.0, -40.0, 0.0)
OF_A_NUMBER = [
    name for name, row in ACTIVATIONS.items()
    if row.expr.has(sp.exp, sp.log, sp.tanh, sp.erf, sp.sin, sp.Abs) and "softmax" not in name
]  # fmt: skip


@pytest.fixture(scope="module")
def every_activation() -> Any:
    """One program with an output for each activation: a[n] = activation(w[k] x[n]), L = the sum of all."""
    k, outputs = index("k", len(OF_A_NUMBER)), []
    x, w = Tensor("x", (SAMPLE_INDEX,), Role.INPUT), Tensor("w", (k,), Role.PARAMETER)
    for number, name in enumerate(OF_A_NUMBER):
        row = ACTIVATIONS[name]
        constants = {sp.Symbol(p, real=True): sp.Rational(str(v)) for p, v in row.parameters.items()}
        z = w[number] * x.element
        outputs.append(Equation(f"a_{name}", (SAMPLE_INDEX,), row.expr.xreplace({Z: z, **constants})))
    total = sp.Sum(sp.Add(*(a.element for a in outputs)), SAMPLE_INDEX.limits)
    program = Program((x, w), (*outputs, Equation("L", (), total)), ("L", *(a.name for a in outputs)))
    return cr.compile(program)


@pytest.mark.parametrize("far", FAR)
def test_far_away_values_and_slopes_are_right(every_activation: Any, far: float) -> None:
    """|z| of 1000 and more, where exp(z) is infinite: the value, and the slope, by which the weight's is far."""
    w = np.ones(len(OF_A_NUMBER))
    w[OF_A_NUMBER.index("exp")] = -np.sign(far)  # the other side is infinite
    _, gradients = every_activation.loss_and_gradients({"w": w}, {"x": [far]})
    outputs = every_activation.predict({"w": w}, [far])
    compared = 0
    for name, weight, slope in zip(OF_A_NUMBER, w, gradients["w"], strict=True):
        own = tuple(ACTIVATIONS[name].parameters.values())
        with np.errstate(all="ignore"):
            value = reference.ACTIVATIONS[name](np.float64(weight * far), *own)
            wanted = far * elementwise_grad(reference.ACTIVATIONS[name])(np.float64(weight * far), *own)
        assert outputs[f"a_{name}"][0] == pytest.approx(value, rel=1e-12, abs=1e-300), name
        assert np.isfinite(slope), name
        if np.isfinite(wanted):
            assert slope == pytest.approx(wanted, rel=1e-9, abs=1e-15 * abs(far)), name
            compared += 1
    assert compared >= len(OF_A_NUMBER) - 3  # some of autograd's own slopes are NaN there


def test_nan_is_an_answer(every_activation: Any) -> None:
    w = np.ones(len(OF_A_NUMBER))
    outputs = every_activation.predict({"w": w}, [np.nan, 1.0])
    for name in OF_A_NUMBER:
        assert np.isnan(outputs[f"a_{name}"]).tolist() == [True, False], name
    value, gradients = every_activation.loss_and_gradients({"w": w}, {"x": [1.0, np.nan]})
    assert np.isnan(value)
    assert np.isnan(gradients["w"]).all()


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "kl_divergence", "poisson", "log_cosh"])
def test_far_away_losses_are_finite(loss: str) -> None:
    """The output of sigmoid and softmax rounds to 0 and 1; the logarithm is taken before."""
    made = kernels(GROUPS.get(loss) or OTHER_LOSSES[loss], loss)
    for far in (300.0, -300.0, 1000.0, -1000.0):
        if loss == "poisson" and far > 0:
            continue  # exp itself
        parameters = {k: np.asarray(v) for k, v in made.init(1).items()}
        parameters["bo"] = far * np.array([1.0, 1 if loss == "poisson" else -1, 1, 1])
        y = np.eye(UNITS)[[1, 2]] if loss != "log_cosh" else np.zeros((2, UNITS))
        value, gradients = made.loss_and_gradients(parameters, X[:2], y)
        assert np.isfinite(value)
        assert value > 10
        assert all(np.isfinite(g).all() for g in gradients.values())
        assert gradients["bo"].any()


@pytest.mark.parametrize("loss", GROUPS)
def test_nan_stays_nan(loss: str) -> None:
    made = kernels(GROUPS[loss], loss)
    x = X.copy()
    x[3, 1] = np.nan
    value, gradients = made.loss_and_gradients(made.init(), x, targets(loss, 37, UNITS, np.random.default_rng(0)))
    assert np.isnan(value)
    assert np.isnan(gradients["W1"]).any()


def test_nan_stays_in_its_sample(wide: cr.Kernels) -> None:
    x = np.zeros((5, 200))
    x[2, 7] = np.nan
    assert np.isnan(wide.predict(wide.init(), x)).any(axis=1).tolist() == [False, False, True, False, False]


# Layers of other shapes


def test_dense_on_matrices() -> None:
    """A sample with two indices goes into a dense layer: the sum runs over both."""
    layers = [
        cr.Equations("h[n,i,s] = tanh(sum(j, A[i,j]*x[n,j,s]) + c[i])", "h", {"i": 3}, {"A": "ij", "c": "i"},
                     incoming=["j", "s"]),
        cr.Dense(2),
    ]  # fmt: skip
    made = cr.compile(cr.Model((2, 4), layers))
    parameters = shifted(made.init(), 7)
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(33, 2, 4)), rng.normal(size=(33, 2))

    def total(p: Any) -> Any:
        h = anp.tanh(anp.einsum("ij,njs->nis", p["A1"], x) + p["c1"][:, None])
        return anp.mean((anp.einsum("kis,nis->nk", p["Wo"], h) + p["bo"] - y) ** 2)

    assert parameters["Wo"].shape == (2, 3, 4)
    assert_same(made.loss_and_gradients(parameters, x, y), value_and_grad(total)(parameters))


def test_batch_norm_of_the_whole_batch_with_weights() -> None:
    """Statistics need all samples, also those of other blocks; the weights are those of the loss only."""
    equations = """
        m[j] = mean(n, x[n,j])
        v[j] = mean(n, (x[n,j] - m[j])**2)
        h[n,j] = g[j]*(x[n,j] - m[j])/sqrt(v[j] + 1/1000) + c[j]
    """
    layers = [cr.Dense(3), cr.Equations(equations, "h", {}, {"g": "j", "c": "j"})]
    made = cr.compile(cr.Model(2, layers))
    parameters = shifted(made.init(), 8)
    rng = np.random.default_rng(8)
    x, y, weight = rng.normal(size=(515, 2)), rng.normal(size=(515, 3)), rng.random(515)

    def total(p: Any) -> Any:
        z = anp.dot(x, p["W1"].T) + p["b1"]
        m = anp.mean(z, 0)
        h = p["go"] * (z - m) / anp.sqrt(anp.mean((z - m) ** 2, 0) + 1e-3) + p["co"]
        return mean_over_samples(anp.mean((h - y) ** 2, 1), weight)

    got, wanted = made.loss_and_gradients(parameters, x, y, weight), value_and_grad(total)(parameters)
    assert abs(wanted[1].pop("b1")).max() < 1e-12  # what the mean takes away
    assert abs(got[1].pop("b1")).max() < 1e-12
    assert_same(got, wanted)


def test_tokens_attention_and_layer_norm() -> None:
    attention = """
        q[n,s,d] = sum(j, Q[d,j]*x[n,s,j])
        k[n,s,d] = sum(j, K[d,j]*x[n,s,j])
        e[n,s,t] = exp(sum(d, q[n,s,d]*k[n,t,d])/sqrt(2))
        h[n,s,j] = x[n,s,j] + sum(t, e[n,s,t]/sum(u, e[n,s,u])*x[n,t,j])
    """
    norm = """
        m[n,s] = mean(j, x[n,s,j])
        v[n,s] = mean(j, (x[n,s,j] - m[n,s])**2)
        h[n,s,j] = g[j]*(x[n,s,j] - m[n,s])/sqrt(v[n,s] + 1/100)
    """
    layers = [
        cr.Equations("h[n,s,j] = E[x[n,s],j] + P[s,j]", "h", {"v": 5, "j": 3}, {"E": "vj", "P": "sj"}, incoming=["s"]),
        cr.Equations(attention, "h", {"d": 2, "t": 4, "u": 4}, {"Q": "dj", "K": "dj"}, incoming=["s", "j"]),
        cr.Equations(norm, "h", {}, {"g": "j"}, {"g": "normal"}, incoming=["s", "j"]),
        cr.Dense(2, "softmax"),
    ]  # fmt: skip
    made = cr.compile(cr.Model(4, layers, "cross_entropy", tokens=5))
    parameters = shifted(made.init(), 9)
    rng = np.random.default_rng(9)
    x, y = rng.integers(0, 5, (34, 4)), rng.integers(0, 2, 34)

    def total(p: Any) -> Any:
        a = p["E1"][x] + p["P1"]
        q, k = anp.einsum("dj,nsj->nsd", p["Q2"], a), anp.einsum("dj,nsj->nsd", p["K2"], a)
        e = anp.exp(anp.einsum("nsd,ntd->nst", q, k) / 2**0.5)
        a = a + anp.einsum("nst,ntj->nsj", e / anp.sum(e, -1, keepdims=True), a)
        m = anp.mean(a, -1, keepdims=True)
        a = p["g3"] * (a - m) / anp.sqrt(anp.mean((a - m) ** 2, -1, keepdims=True) + 0.01)
        z = anp.einsum("ksj,nsj->nk", p["Wo"], a) + p["bo"]
        return -anp.mean(anp.sum(np.eye(2)[y] * reference.log_softmax(z), -1))

    assert_same(made.loss_and_gradients(parameters, x, y), value_and_grad(total)(parameters))
    with pytest.raises(cr.DataError, match="5"):
        made.predict(parameters, x + 1)
    with pytest.raises(cr.DataError, match="integer"):
        made.predict(parameters, x + 0.5)


def test_convolution_and_pooling() -> None:
    layers = [
        cr.Equations("h[n,o,r] = tanh(sum(i, p, K[o,i,p]*where(r + p >= 1 and r + p < 7, x[n,i,r+p-1], 0)))", "h",
                     {"o": 2, "p": 3, "r": 6}, {"K": "oip"}, incoming=["i", "s"]),
        cr.Equations("h[n,o,r] = max(p, x[n,o,2*r+p])", "h", {"r": 3, "p": 2}, incoming=["o", "s"]),
        cr.Dense(1),
    ]  # fmt: skip
    made = cr.compile(cr.Model((2, 6), layers))
    parameters = shifted(made.init(), 10)
    rng = np.random.default_rng(10)
    x, y = rng.normal(size=(5, 2, 6)), rng.normal(size=(5, 1))
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1)))
    windows = np.stack([padded[:, :, r : r + 3] for r in range(6)], axis=2)  # n i r p

    def total(p: Any) -> Any:
        h = anp.tanh(anp.einsum("oip,nirp->nor", p["K1"], windows))
        h = anp.max(anp.reshape(h, (5, 2, 3, 2)), -1)
        return anp.mean((anp.einsum("kor,nor->nk", p["Wo"], h) + p["bo"] - y) ** 2)

    assert_same(made.loss_and_gradients(parameters, x, y), value_and_grad(total)(parameters))
    x[0, 0, 2] = np.nan
    assert np.isnan(made.predict(parameters, x)).ravel().tolist() == [True, False, False, False, False]


def test_parameters_of_activations_for_each_unit() -> None:
    own = cr.Activation("bent", "where(z <= 0, a*z, z) + b*sin(z)", {"a": 0.1, "b": 0.2}, per_unit=True)
    made = cr.compile(cr.Model(2, [cr.Dense(3, own), cr.Dense(1, "swish")]))
    parameters = shifted(made.init(), 11)
    rng = np.random.default_rng(11)
    x, y = rng.normal(size=(9, 2)), rng.normal(size=(9, 1))
    bent = {name: v for name, v in parameters.items() if v.shape == (3,) and name != "b1"}
    (a, b) = sorted(bent)

    def total(p: Any) -> Any:
        z = anp.dot(x, p["W1"].T) + p["b1"]
        h = anp.where(z <= 0, p[a] * z, z) + p[b] * anp.sin(z)
        z = anp.dot(h, p["Wo"].T) + p["bo"]
        return anp.mean((z * reference.sigmoid(p["betao"] * z) - y) ** 2)

    assert made.init()[a] == pytest.approx(0.1)
    assert parameters["betao"].shape == ()
    assert_same(made.loss_and_gradients(parameters, x, y), value_and_grad(total)(parameters))


def test_scalar_gradients_wait_for_scalars() -> None:
    """da is a number that reads another number, ds, which a sum over the batch must have made before."""
    text = "m = mean(n, j, x[n,j]**2)\ns = a*m\nh[n,j] = x[n,j]*s + c[j]"
    made = cr.compile(cr.Model(3, [cr.Equations(text, "h", {}, {"a": [], "c": "j"}, {"a": 0.3})]))
    parameters = shifted(made.init(), 12)
    y = np.random.default_rng(12).normal(size=(37, 3))

    def total(p: Any) -> Any:
        return anp.mean((X * p["ao"] * np.mean(X**2) * 3 / 3 + p["co"] - y) ** 2)

    assert_same(made.loss_and_gradients(parameters, X, y), value_and_grad(total)(parameters))


def test_first_values() -> None:
    made = kernels(GROUPS["absolute_error"], "absolute_error")
    one, again, other = made.init(3), made.init(3), made.init(4)
    assert {k: v.shape for k, v in one.items()} == dict(made.parameters)
    assert all(np.array_equal(one[k], again[k]) for k in one)
    assert not np.array_equal(one["W1"], other["W1"])
    assert not one["b1"].any()
    assert one["beta_4"] == 1.0


def test_source_is_the_file_and_repeats(tmp_path: Path) -> None:
    made = kernels(("tanh",), "hinge")
    assert made.path.read_text("utf-8") == made.source
    assert cr.compile(made.model).path == made.path
    assert cr.compile(made.model, "float32").path != made.path
    assert "Kernels(" in repr(made)
