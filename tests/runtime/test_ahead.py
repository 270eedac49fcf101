"""The driver, compiled in another process."""

import subprocess
import sys
from pathlib import Path

import pytest

import chainrule as cr
from chainrule.runtime import ahead
from chainrule.runtime.native import team

TRAIN = """
import numpy as np, chainrule as cr
kernels = cr.compile(cr.Model(2, [cr.Dense(1)]), "float32")
print(kernels.predict(kernels.init(0), np.ones((3, 2))).shape)
"""


class Begun(list[list[str]]):
    """What stands in for `subprocess.Popen`."""

    def __call__(self, command: list[str], **_: object) -> "Begun":
        self.append(command)
        return self

    def terminate(self) -> None:
        """As the end of the process asks."""

    def wait(self) -> None:
        """Likewise."""


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Begun:
    begun = Begun()
    monkeypatch.setattr(ahead.subprocess, "Popen", begun)
    monkeypatch.setattr(ahead.os, "cpu_count", lambda: 2)
    ahead.compile_driver_ahead.cache_clear()
    return begun


def test_what_is_missing_is_compiled_by_another_process(
    begun: Begun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(team().code, "stem", tmp_path / "driver")
    ahead.compile_driver_ahead("float64")
    assert [command[3:] for command in begun] == [["product_float64", "alone", "team"]]
    ahead.compile_driver_ahead("float64")
    assert len(begun) == 1, "once"


def test_nothing_is_begun_where_little_is_missing(
    begun: Begun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(team().code, "stem", tmp_path / "driver")
    for name in ("product_float32", "team"):
        team().code.path(name).touch()
    ahead.compile_driver_ahead("float32")
    assert not begun


def test_an_empty_cache_is_filled_and_no_process_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "kernels"))
    done = subprocess.run([sys.executable, "-W", "error", "-c", TRAIN], capture_output=True, text=True, check=False)
    assert done.stdout == "(3, 1)\n", done.stderr
    assert not done.stderr
    assert {p.name.split(".")[1] for p in (tmp_path / "kernels").glob("driver_*.o")} >= {"product_float32", "alone"}


def test_a_process_that_cannot_be_started_is_no_obstacle(
    begun: Begun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(team().code, "stem", tmp_path / "driver")
    monkeypatch.setattr(ahead.subprocess, "Popen", refuse)
    ahead.compile_driver_ahead("float32")
    assert cr.compile(cr.Model(2, [cr.Dense(1)]), "float32")


def test_a_program_that_has_python_inside_is_not_started(
    begun: Begun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(team().code, "stem", tmp_path / "driver")
    for program in ("/usr/bin/blender", "", None):
        monkeypatch.setattr(ahead.sys, "executable", program)
        ahead.compile_driver_ahead.cache_clear()
        ahead.compile_driver_ahead("float32")
    assert not begun
