"""`check` finds what is wrong, and names it: a derivative, a rewrite, an emitted line."""

from __future__ import annotations

import pytest
import sympy as sp
from mpmath import mp

import chainrule as cr
from chainrule.codegen import expression
from chainrule.runtime import kernels
from chainrule.runtime.certify import look_at_cut
from chainrule.runtime.grid import cut
from chainrule.runtime.judge import Verdict, beyond_range
from chainrule.symbolic import functions, stability
from chainrule.symbolic.exact import Where
from chainrule.symbolic.proof import proofs


def small(activation: str = "tanh", loss: str = "squared_error") -> cr.Model:
    return cr.Model(2, [cr.Dense(2, activation), cr.Dense(2)], loss)


def test_a_sound_model_holds() -> None:
    certificate = cr.check(small("gelu", "log_cosh"), cr.Adam(1e-3))
    assert certificate.holds, certificate.text()
    assert all(row.proven is not None for row in certificate.rows)
    assert "all hold" in str(certificate)


def test_a_wrong_derivative_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions.softplus, "fdiff", lambda self, argindex=1: functions.sigmoid(2 * self.args[0]))
    certificate = cr.check(small("softplus"))
    assert not certificate.holds
    assert any("dz1[n,i]" in fault for fault in certificate.faults)


def test_a_wrong_rewrite_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    right = stability._logarithm
    monkeypatch.setattr(stability, "_logarithm", lambda node: right(node) * sp.Rational(1001, 1000))
    certificate = cr.check(small("softplus"))
    assert any("x1[n,i]" in fault and "written program" in fault for fault in certificate.faults)


def test_a_wrong_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "key_of", lambda *_: None)  # no source is remembered
    monkeypatch.setattr(expression, "FUNCTIONS", {**expression.FUNCTIONS, sp.tanh: "sinh"})
    certificate = cr.check(small())
    assert {fault.split(" = ")[0] for row in certificate.rows for fault in row.faults} == {"(2) x1[n,i]"}
    assert all("gradients" in fault for fault in certificate.faults if not fault.startswith("(2)"))


def faults_of(*formulas: str) -> list[str]:
    """What fails of layers with these activations at hard points, in float32; each is proven as well."""
    derivation = cr.Model(1, [*(cr.Dense(1, formula) for formula in formulas), cr.Dense(1)]).derivation()
    assert proofs(derivation).holds
    verdicts = {e.name: Verdict(e.name) for e in derivation.program.equations}
    look_at_cut(cut(derivation.derived), "float32", verdicts)
    return [f"{derivation.program.defined[v.name]}: {v.fault}" for v in verdicts.values() if v.fault]


def test_what_users_write() -> None:
    """Forms that cancel or overflow as they are written; `test_stability` has all of them."""
    assert not faults_of("1 - tanh(z)**2", "1/(1 + 3*exp(-z))", "exp(-z)/(1 + exp(-z))**2", "z/(1 + abs(z))")


def test_what_has_no_stable_form_is_named() -> None:
    """With the line and the point."""
    (value,) = faults_of("atan(z) - z")
    assert value.startswith("x1[n,i] = atan(z1[n,i]) - z1[n,i]: cancellation")
    assert "at z1 =" in value


def test_a_factor_beyond_the_range_is_no_fault_of_the_form() -> None:
    s, d = (sp.Indexed(sp.IndexedBase(name, real=True), 0) for name in "sd")
    where = Where({}, {"s": {(0,): mp.mpf(90)}, "d": {(0,): mp.mpf("1e-9")}})
    assert beyond_range(1 - d**2 * sp.exp(s), where, 3e38)
    assert not beyond_range(sp.exp(s) / (1 + sp.exp(s)), where, 3e38)


def test_a_verdict_does_not_hang_on_the_digits_of_what_is_written() -> None:
    """log(1 - sigmoid(z)) has none of 60 digits left at z = 200; that is no fault of what was derived."""
    model = cr.Model(3, [cr.Dense(4, "relu"), cr.Dense(2, "sigmoid")], "binary_cross_entropy")
    assert proofs(model.derivation(), seed=1).holds
