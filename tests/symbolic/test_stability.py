"""Every rule by before and after; values and gradients stay finite and right where the written form overflows."""

import math
from collections.abc import Mapping
from typing import Any

import mpmath
import pytest
import sympy as sp

from chainrule.symbolic.activations import ACTIVATIONS
from chainrule.symbolic.check import check
from chainrule.symbolic.derivation import BEFORE_NORMAL_FORM, FORWARD_PASSES, derived_program
from chainrule.symbolic.exact import Where, compiled, dependence, settled
from chainrule.symbolic.exponentials import inlined, logarithms_opened, shifted_exponentials
from chainrule.symbolic.functions import MaxOver, erfc, expm1, log1p, sigmoid, softplus
from chainrule.symbolic.interpret import evaluate, interpret
from chainrule.symbolic.language import Equation, Program, Tensor
from chainrule.symbolic.layers import Dense, Equations
from chainrule.symbolic.losses import LOSSES
from chainrule.symbolic.model import Model, Variant
from chainrule.symbolic.normalise import normalise
from chainrule.symbolic.stability import branches_outward, named_functions, stable_values

from .programs import PROGRAMS, random_values, written

FAR = [1000.0, -1000.0, 710.0, -40.0, 1.5, -0.5]  # no kink: those have tests in test_activations
DIGITS = 950  # 1 + exp(-1000) differs from 1 in the 435th digit

Tables = Mapping[str, Mapping[tuple[int, ...], Any]]


def elementwise(formula: str) -> Program:
    """The formula of one number z = w x, whose gradient is its slope times x."""
    return written(
        {"i": 1}, {"x": "input n i", "w": "parameter i"},
        f"z[n,i] = w[i]*x[n,i]\na[n,i] = {formula.replace('z', 'z[n,i]')}\nL = sum(n, i, a[n,i])",
    )  # fmt: skip


def after(rule: Any, formula: str) -> sp.Expr:
    """What a rule makes of a formula, in a symbol z."""
    made = rule(elementwise(formula)).by_name["a"]
    equation = next(e for e in rule(elementwise(formula)).equations if e.name == made.name)
    z = Tensor("z", equation.indices).element
    return equation.expr.xreplace({z: sp.Symbol("z", real=True)})


z = sp.Symbol("z", real=True)


# Names for functions


RENAMED: list[tuple[str, sp.Expr]] = [
    ("1/(1 + exp(-z))", sigmoid(z)),
    ("1/(1 + exp(z))", sigmoid(-z)),
    ("exp(z)/(1 + exp(z))", sigmoid(z)),
    ("exp(-z)/(1 + exp(-z))", sigmoid(-z)),
    ("z/(1 + exp(-1.702*z))", z * sigmoid(sp.Rational(851, 500) * z)),
    ("exp(-z)/(1 + exp(-z))**2", sigmoid(z) * sigmoid(-z)),
    ("1/(1 + exp(-z))**2", sigmoid(z) ** 2),
    ("2/(1 + exp(-2*z)) - 1", sp.tanh(z)),
    ("log(1 + exp(z))", softplus(z)),
    ("log(1 + exp(-3*z))", softplus(-3 * z)),
    ("log(1/(1 + exp(-z)))", -softplus(-z)),
    ("log(1 - 1/(1 + exp(-z)))", -softplus(z)),
    ("exp(z) - 1", expm1(z)),
    ("2*exp(z**2) - 2", 2 * expm1(z**2)),
    ("exp(z) - 1 + z", expm1(z) + z),
    ("1 - exp(z)", -expm1(z)),
    ("log(1 + z**2)", log1p(z**2)),
    ("sinh(z)/cosh(z)", sp.tanh(z)),
    ("z*tanh(log(1 + exp(z)))", z * sp.tanh(softplus(z))),
    ("1 + erf(z)", erfc(-z)),
    ("1 - erf(z)", erfc(z)),
    ("1 + tanh(z)", 2 * sigmoid(2 * z)),
    ("1/(1 + 3*exp(-z))", sigmoid(z - sp.log(3))),
    ("log(2 + exp(z))", softplus(z - sp.log(2)) + sp.log(2)),
    ("exp(z) - exp(-z)", 2 * sp.sinh(z)),
    ("(exp(z) - exp(-z))/(exp(z) + exp(-z))", sp.tanh(z)),
    ("(1 - exp(-z))/(1 + exp(-z))", sp.tanh(z / 2)),
    ("1/(1 + exp(-z)) - 1/(1 + exp(z))", sp.tanh(z / 2)),
    ("1 - tanh(z)**2", sp.cosh(z) ** -2),
    ("cosh(z) - 1", 2 * sp.sinh(z / 2) ** 2),
    ("z - log(1 + exp(z))", -softplus(-z)),
    ("log(1 + exp(z)) - z", softplus(-z)),
    ("log(z + sqrt(1 + z**2))", sp.asinh(z)),
    ("1 - cos(z)", 2 * sp.sin(z / 2) ** 2),
    ("sqrt(1 + z**2) - 1", z**2 / (1 + sp.sqrt(z**2 + 1))),
]
LEFT_ALONE: list[tuple[str, sp.Expr]] = [
    ("exp(z) - 2", sp.exp(z) - 2),
    ("exp(z)*exp(-2*z)", sp.exp(-z)),
    ("log(2 + z**2)", sp.log(z**2 + 2)),
    ("tanh(z)", sp.tanh(z)),
    ("1/(1 + z**2)", 1 / (1 + z**2)),
]


@pytest.mark.parametrize(("formula", "wanted"), [*RENAMED, *LEFT_ALONE])
def test_named_functions(formula: str, wanted: sp.Expr) -> None:
    assert after(named_functions, formula) == wanted


IN_DOUBLES = {
    "sigmoid": lambda u: 1 / (1 + math.exp(-u)) if u >= 0 else math.exp(u) / (1 + math.exp(u)),
    "softplus": lambda u: max(u, 0.0) + math.log1p(math.exp(-abs(u))),
}
HARD = [s * v for v in (1e-12, 1e-9, 1e-5, 1e-3, 0.1, 0.7, 2.0, 8.0, 20.0, 37.0, 100.0, 600.0, 1000.0) for s in (1, -1)]


def worst_error(formula: sp.Expr, right: sp.Expr) -> float:
    """The largest error of a formula in double precision at hard points, in units of what the last digit of z does."""
    computed = sp.lambdify(z, formula, modules=[IN_DOUBLES, "math"])
    exact, worst = compiled(right), 0.0
    for at in HARD:
        where = Where({}, {"z": {(): mpmath.mpf(at)}})
        value = settled(exact, where)
        if not 1e-290 < abs(value) < 1e290:
            continue
        try:
            off = abs(computed(at) - value)
        except (OverflowError, ValueError, ZeroDivisionError):
            return math.inf
        worst = max(worst, float(off / (abs(value) + dependence(exact, where)) / 2.0**-52))
    return worst


@pytest.mark.parametrize("formula", [formula for formula, _ in RENAMED])
def test_the_form_that_is_chosen_is_the_better_one(formula: str) -> None:
    """Measured: it keeps its digits at every point, and the other one keeps no more of them."""
    written, chosen = after(lambda program: program, formula), after(named_functions, formula)
    error = worst_error(chosen, written)
    assert error < 2
    assert error <= worst_error(written, written) + 1


def test_log_cosh_is_rewritten_as_a_value_only() -> None:
    """Its derivative, tanh, is better than that of the stable form; so the rule runs after deriving."""
    assert after(named_functions, "log(cosh(z))") == sp.log(sp.cosh(z))
    (equation,) = (e for e in elementwise("log(cosh(z))").equations if e.name == "a")
    u = Tensor("z", equation.indices).element
    (near, condition), (far, _) = stable_values(equation).expr.args
    assert (near, condition) == (log1p(2 * sp.sinh(u / 2) ** 2), sp.Abs(u) <= 1)
    assert far == sp.Abs(u) + softplus(-2 * sp.Abs(u)) - sp.log(2)
    made = derived_program(elementwise("log(cosh(z))"))
    assert "tanh" in str(made.backward[0])
    assert not any(e.expr.has(sp.cosh) for e in made.program.equations)


def test_stable_values_knows_the_named_functions_too() -> None:
    (equation,) = (e for e in elementwise("1/(1 + exp(-z))").equations if e.name == "a")
    assert stable_values(equation).expr == sigmoid(Tensor("z", equation.indices).element)


# Guards


@pytest.mark.parametrize(
    ("formula", "wanted"),
    [
        ("sqrt(max(z, 0))", sp.Piecewise((0, z <= 0), (sp.sqrt(z), True))),
        ("log(max(z, 1))", sp.Piecewise((0, z <= 1), (sp.log(z), True))),
        ("1/max(z, 2)", sp.Piecewise((sp.Rational(1, 2), z <= 2), (1 / z, True))),
        ("max(z, 0)**2", sp.Piecewise((0, z <= 0), (z, True)) ** 2),
        ("2*max(z, 0) + z", 2 * sp.Piecewise((0, z <= 0), (z, True)) + z),
    ],
)
def test_branches_outward(formula: str, wanted: sp.Expr) -> None:
    assert after(branches_outward, formula) == wanted


GUARDED = [
    "sqrt(max(z, 0))",
    "sqrt(2*max(z, 0))",
    "max(z, 0)**0.7",
    "sqrt(max(z, 1) - 1)",
    "sqrt(max(2*z - 1, 0) + max(z, 0))",
    "sqrt(where(z > 0, z, 0))*3 + max(z, 0)",
    "log(max(z, 1))",
    "log(max(z, 0) + 1)",
    "1/max(z, 1)",
    "where(z > 0, sqrt(z), 0)",
    "where(z > 0, log(1 + z), 0)",
    "where(z > 1, sqrt(z**2 - 1), 0)",
    "where(z > 0, exp(-1/z), 0)",
    "acosh(max(z, 1))",
    "asin(clip(z, -1, 1/10))",
    "sqrt(max(z, 0)*max(1 - z, 0))",
]


@pytest.mark.parametrize("formula", GUARDED)
def test_slope_is_zero_where_the_guard_is_constant(formula: str) -> None:
    """Not 0/0: the branch that is not taken has no say."""
    made = derived_program(elementwise(formula))
    for x in (-3.0, -1.5, -1000.0):
        table = interpret(made.program, {"x": {(0, 0): x}, "w": {(0,): 1.0}}, 1)
        assert table[made.adjoint["w"]][(0,)] == 0, x


@pytest.mark.parametrize("formula", ["where(z > 0, z*log(z), 0)", "max(z, 0)*log(max(z, 1/1000))"])
def test_guarded_function_is_not_computed_where_it_has_no_value(formula: str) -> None:
    """A logarithm that forward and backward share stays behind its guard."""
    made = derived_program(elementwise(formula))
    table = interpret(made.program, {"x": {(0, 0): -2.0}, "w": {(0,): 1.0}}, 1)
    assert (table["L"][()], table[made.adjoint["w"]][(0,)]) == (0, 0)


@pytest.mark.parametrize("formula", GUARDED)
def test_guarded_value_elsewhere(formula: str) -> None:
    compare(elementwise(formula), *({"x": {(0, 0): x}, "w": {(0,): 1.0}} for x in (0.7, 2.5)))


# Far away


def compare(program: Program, *points: Tables) -> None:
    """Loss and gradients, in floats, against central differences of the program as written, with 950 digits."""
    made = derived_program(program)
    for given in points:
        got = interpret(made.program, given, 1)
        with mpmath.workdps(DIGITS):
            exact = {n: {p: v if isinstance(v, int) else mpmath.mpf(v) for p, v in t.items()} for n, t in given.items()}
            same(got["L"][()], loss_of(program, exact), f"L at {given}")
            for parameter in program.parameters:
                for position, value in got[made.adjoint[parameter.name]].items():
                    wanted = slope(program, exact, parameter.name, position)
                    same(value, wanted, f"d{parameter.name}{list(position)} at {given}")


def loss_of(program: Program, values: Tables) -> Any:
    return interpret(program, values, 1, mpmath)["L"][()]


def slope(program: Program, values: Tables, name: str, position: tuple[int, ...]) -> Any:
    step = mpmath.mpf(10) ** -200

    def shifted(by: Any) -> Any:
        return loss_of(program, {**values, name: {**values[name], position: values[name][position] + by}})

    return (shifted(step) - shifted(-step)) / (2 * step)


def same(value: float, wanted: Any, what: str) -> None:
    assert math.isfinite(value), f"{what} is {value}"
    assert abs(value - wanted) <= 1e-11 * abs(wanted) + 1e-11, f"{what} is {value}, not {mpmath.nstr(wanted, 17)}"


UNBOUNDED = ("exp",)  # a value of exp(1000) is not a float
USERS_OWN = [
    "z/(1+exp(-1.702*z))",
    "exp(z)/(1+exp(z))",
    "exp(-z)/(1+exp(-z))",
    "z*exp(z)/(1+exp(z))",
    "1 - 1/(1+exp(z))",
    "2/(1+exp(-2*z)) - 1",
    "exp(-z)/(1+exp(-z))**2",
    "1/(1+exp(-z))**3",
    "log(1+exp(z))",
    "log(1+exp(-2*z))/2 + z",
    "log(1/(1+exp(-z)))",
    "log(1 - 1/(1+exp(-z)))",
    "log(1+exp(-abs(z))) + max(z, 0)",
    "exp(z - log(1+exp(z)))",
    "log(cosh(z))",
    "log(cosh(3*z - 1))",
    "sinh(z)/cosh(z)",
    "where(z <= 0, exp(z) - 1, z)",
    "where(z <= 0, 0.5*(exp(2*z) - 1), z)",
    "z*tanh(log(1+exp(z)))",
    "exp(-z**2)",
    "log(1+z**2)",
    "sqrt(1+z**2)",
]
ROWS = [n for n, row in ACTIVATIONS.items() if n not in UNBOUNDED and "softmax" not in n and not row.parameters]


@pytest.mark.parametrize("formula", USERS_OWN)
def test_far_from_zero(formula: str) -> None:
    compare(elementwise(formula), *({"x": {(0, 0): x}, "w": {(0,): 1.0}} for x in FAR))


@pytest.mark.parametrize("name", ROWS)
def test_activations_far_from_zero(name: str) -> None:
    """In a net, with squared error; the prediction, the loss and every gradient."""
    program = Model(1, [Dense(1, name)]).program()
    rest: dict[str, Any] = {"y": {(0, 0): 0.5}, "Wo": {(0, 0): 1.0}, "bo": {(0,): 0.0}}
    compare(program, *({"x": {(0, 0): x}, **rest} for x in FAR))


@pytest.mark.parametrize("formula", ["(exp(z) - 1)/z", "log(1 + z)/z", "exp(z) - 1", "where(z <= 0, exp(z) - 1, z)"])
@pytest.mark.parametrize("x", [1e-9, -1e-9, 1e-5])
def test_digits_near_zero(formula: str, x: float) -> None:
    program = elementwise(formula)
    made = derived_program(program)
    got = interpret(made.program, {"x": {(0, 0): x}, "w": {(0,): 1.0}}, 1)["L"][()]
    with mpmath.workdps(60):
        wanted = interpret(program, {"x": {(0, 0): mpmath.mpf(x)}, "w": {(0,): mpmath.mpf(1)}}, 1, mpmath)["L"][()]
        assert abs(got - wanted) <= 1e-15 * abs(wanted), "expm1 and log1p keep all digits"


def over_units(lines: str) -> Model:
    """A layer of one's own over three numbers, behind weights that let them through."""
    layer = Equations(lines, "a", {"i": 3}, {"s": ["j"]}, {"s": 1.0})
    return Model(3, [layer])


ROWS_OF_UNITS = [(1000.0, -1000.0, 3.0), (-1000.0, -1001.0, -1003.0), (720.0, 720.5, 1.0), (0.5, -0.25, 1.5)]
Z_LINE = "u[n,j] = s[j]*x[n,j]\n"
OF_ALL_UNITS = [
    "a[n,i] = exp(u[n,i])/sum(j, exp(u[n,j]))",
    "a[n,i] = u[n,i] - log(sum(j, exp(u[n,j])))",
    "a[n,i] = log(sum(j, exp(u[n,j]))) + u[n,i]/7",
    "a[n,i] = log(sum(j, exp(2*u[n,j])))/2",
    "a[n,i] = exp(u[n,i]/3)/sum(j, exp(u[n,j]/3))",
    "a[n,i] = exp(-u[n,i])/sum(j, exp(-u[n,j]))",
    "a[n,i] = exp(u[n,i])**2/sum(j, exp(u[n,j]))**2",
    "p[n,i] = exp(u[n,i])/sum(j, exp(u[n,j]))\na[n,i] = log(p[n,i])",
    "p[n,i] = exp(u[n,i])/sum(j, exp(u[n,j]))\nt[n] = sum(i, p[n,i]**2)\na[n,i] = p[n,i] + t[n]",
    "t[n] = sum(j, exp(u[n,j]))\np[n,i] = exp(u[n,i])/t[n]\na[n,i] = p[n,i] + log(t[n])",
    "m[n] = max(j, u[n,j])\na[n,i] = exp(u[n,i] - m[n])/sum(j, exp(u[n,j] - m[n]))",
    "e[n,j] = exp(u[n,j])\na[n,i] = e[n,i]/sum(j, e[n,j])",
    "a[n,i] = -log(exp(u[n,i])/sum(j, exp(u[n,j])))",
    "a[n,i] = log(mean(j, exp(u[n,j]))) + u[n,i]/7",
    "a[n,i] = log(sum(j, exp(u[n,j]))/3) + u[n,i]/7",
]


@pytest.mark.parametrize("lines", OF_ALL_UNITS)
def test_functions_of_all_units_far_from_zero(lines: str) -> None:
    program = over_units(Z_LINE + lines).program()
    rest = {"y": {(0, k): v for k, v in enumerate((0.5, 0.3, -0.7))}, "so": {(k,): 1.0 for k in range(3)}}
    compare(program, *({"x": {(0, k): v for k, v in enumerate(row)}, **rest} for row in ROWS_OF_UNITS))


@pytest.mark.parametrize("variant", [Variant(), Variant(classes=True), Variant(weighted=True)])
@pytest.mark.parametrize(
    ("ending", "loss"),
    [
        ("softmax", "cross_entropy"),
        ("softmax", "kl_divergence"),
        ("sigmoid", "binary_cross_entropy"),
        ("exp", "poisson"),
        ("identity", "log_cosh"),
    ],
)
def test_losses_far_from_zero(ending: str, loss: str, variant: Variant) -> None:
    if variant.classes and not LOSSES[loss].classes:
        return  # it has no integer targets
    program = Model(1, [Dense(3, ending)], loss).program(variant)
    given: dict[str, dict[tuple[int, ...], Any]] = {
        "x": {(0, 0): 1.0},
        "y": {(0,): 1} if variant.classes else {(0, k): v for k, v in enumerate((0.25, 0.75, 0.0))},
        "bo": {(k,): 0.0 for k in range(3)},
    }
    if variant.weighted:
        given["w"] = {(0,): 2.0}
    rows = [r for r in ROWS_OF_UNITS if ending != "exp" or max(r) < 700]  # exp(1000) is no float
    compare(program, *({**given, "Wo": {(k, 0): v for k, v in enumerate(row)}} for row in rows))


def test_certain_and_wrong_cross_entropy_is_the_distance() -> None:
    """The loss is what the logits are apart, not the logarithm of 0."""
    program = derived_program(Model(1, [Dense(2, "softmax")], "cross_entropy").program()).program
    given = {"x": {(0, 0): 1.0}, "y": {(0,): 1}, "Wo": {(0, 0): 1000.0, (1, 0): -1000.0}, "bo": {(0,): 0.0, (1,): 0.0}}
    table = interpret(program, given, 1)
    assert table["L"][()] == 2000.0
    assert table["dzo"] == {(0, 0): 1.0, (0, 1): -1.0}


# Logarithms and shifts, by before and after


def net(lines: str) -> Program:
    return normalise(
        written(
            {"i": 3, "j": 3}, {"z": "parameter j", "x": "input n j", "y": "target integer n"},
            f"u[n,i] = z[i]*x[n,i]\n{lines}",
        )
    )  # fmt: skip


def lines_of(program: Program) -> list[str]:
    return [str(e) for e in program.equations]


def test_logarithms_opened() -> None:
    program = net("p[n,i] = exp(u[n,i])/sum(j, exp(u[n,j]))\nl[n] = -log(p[n,y[n]])\nL = mean(n, l[n])")
    made = check(logarithms_opened(program))
    assert "l[n] = log(p_sum[n]) - u[n,y[n]]" in lines_of(made)
    assert made.by_name.keys() == program.by_name.keys()


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("log(a[n,i])", "-softplus(-u[n,i])"),
        ("log(1 - a[n,i])", "-softplus(u[n,i])"),
        ("log(u[n,i])", "log(u[n,i])"),  # nothing to open: x w is no exponential
    ],
)
def test_logarithms_of_a_stored_sigmoid(line: str, wanted: str) -> None:
    program = named_functions(net(f"a[n,i] = 1/(1 + exp(-u[n,i]))\nl[n,i] = {line}\nL = sum(n, i, l[n,i])"))
    assert f"l[n,i] = {wanted}" in lines_of(logarithms_opened(program))


def test_shifted_exponentials() -> None:
    program = net("s[n] = sum(j, exp(u[n,j]))\np[n,i] = exp(u[n,i])/s[n]\nl[n] = log(s[n])\nL = sum(n, i, p[n,i]*l[n])")
    made = check(shifted_exponentials(program))
    assert lines_of(made)[1:5] == [
        "s_max[n] = max_j (u[n,j])",
        "s[n] = sum_j exp(u[n,j] - s_max[n])",
        "p[n,i] = exp(u[n,i] - s_max[n])/s[n]",
        "l[n] = log(s[n]) + s_max[n]",
    ]
    assert made.defined["s_max"].constant
    assert isinstance(made.defined["s_max"].expr, MaxOver)


@pytest.mark.parametrize(
    "lines",
    [
        "s[n] = sum(j, exp(u[n,j]))\nL = sum(n, s[n])",  # the sum itself is read
        "s[n] = sum(j, exp(u[n,j]))\nt[n] = log(s[n]) + s[n]\nL = sum(n, t[n])",
        "m[n] = max(j, u[n,j])\ns[n] = sum(j, exp(u[n,j] - m[n]))\nl[n] = log(s[n])\nL = sum(n, l[n])",  # it is already
        "s[n] = sum(j, x[n,j]*u[n,j])\nl[n] = log(1 + s[n]**2)\nL = sum(n, l[n])",
    ],
)
def test_what_must_not_be_shifted(lines: str) -> None:
    program = net(lines)
    assert lines_of(shifted_exponentials(program)) == lines_of(program)


def test_inlined() -> None:
    program = net("a[n,i] = exp(u[n,i])\ns[n] = sum(j, u[n,j])\nL = sum(n, i, a[n,i]*s[n])")
    a, s = program.by_name["a"], program.by_name["s"]
    n = a.indices[0].symbol
    assert str(inlined(a[n, 2], dict(program.defined))) == "exp(u[n, 2])"
    assert inlined(s[n], dict(program.defined)) is None, "a sum is not written elsewhere"
    assert inlined(program.by_name["x"][n, 0], dict(program.defined)) is None, "what is given has no right side"


# Values are kept


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_pass_keeps_every_value(name: str) -> None:
    """Not only the outputs: a sum may become a shifted one and a name go, everything else stays."""
    program = PROGRAMS[name]()
    values = random_values(program, 2)
    wanted = interpret(program, values, 2)
    for forward_pass in FORWARD_PASSES:
        program = check(forward_pass(program), normal=forward_pass not in BEFORE_NORMAL_FORM)
        got = interpret(program, values, 2)
        shifted = {e.name.removesuffix("_max") for e in program.equations if e.name.endswith("_max")}
        assert set(program.outputs) <= got.keys()  # what nothing reads any more may go
        for tensor in (wanted.keys() & got.keys()) - shifted - {f"{s}_sum" for s in shifted}:
            assert got[tensor] == pytest.approx(wanted[tensor], rel=1e-10, abs=1e-12), (forward_pass.__name__, tensor)
        wanted = got


@pytest.mark.parametrize("formula", USERS_OWN)
@pytest.mark.parametrize("x", [-2.0, -0.3, 0.4, 3.0])
def test_formulas_keep_their_values(formula: str, x: float) -> None:
    """Of the rewritten formula, with 40 digits: not nearly the same, the same."""
    with mpmath.workdps(40):
        tables = {"z": {(): mpmath.mpf(x)}}
        before, rewritten = after(lambda p: p, formula), after(named_functions, formula)
        wanted, got = (evaluate(e, {}, tables, mpmath) for e in (before, rewritten))
        assert abs(got - wanted) <= mpmath.mpf(10) ** -35 * max(1, abs(wanted))


def test_rules_leave_other_equations_as_they_are() -> None:
    program = PROGRAMS["dense"]()
    for rule in (named_functions, branches_outward, logarithms_opened, shifted_exponentials):
        made = rule(program)
        assert all(a is b for a, b in zip(made.equations, program.equations, strict=True)), rule.__name__


def test_rules_keep_rule_kind_and_constant() -> None:
    (equation,) = (e for e in elementwise("1/(1 + exp(-z))").equations if e.name == "a")
    marked = Equation(equation.name, equation.indices, equation.expr, "a rule", constant=True)
    assert (stable_values(marked).rule, stable_values(marked).constant) == ("a rule", True)
