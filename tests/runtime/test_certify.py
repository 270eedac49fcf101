"""`check` finds what is wrong, and names it: a derivative, a rewrite, an emitted line."""

from __future__ import annotations

import pytest
import sympy as sp

import chainrule as cr
from chainrule.codegen import expression
from chainrule.runtime import kernels
from chainrule.symbolic import functions, stability


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


def test_what_users_write() -> None:
    """Forms that cancel or overflow as they are written."""
    cancelling = ("1 - tanh(z)**2", "1/(1 + 3*exp(-z))")
    certificate = cr.check(cr.Model(1, [*(cr.Dense(2, formula) for formula in cancelling), cr.Dense(1)]))
    assert certificate.holds, certificate.text()
