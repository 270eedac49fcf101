"""Directories of runs, and files that are whole or not there."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chainrule.runtime import store
from chainrule.runtime.data import Fitted, Selection, Source
from chainrule.runtime.run import SPEC as SPEC_FILE
from chainrule.runtime.run import check_replaceable, open_run, with_named_inputs, write_text
from chainrule.runtime.spec import Spec, Training, spec_to_dict
from chainrule.symbolic.errors import DataError, SpecError
from chainrule.symbolic.layers import Dense
from chainrule.symbolic.model import Model

SPEC = Spec(Model(2, [Dense(1)]), Training(epochs=7), None, Path("net.toml"))


def saved(directory: Path, spec: Spec = SPEC, **more: Any) -> None:
    """A checkpoint that holds nothing but its spec."""
    tables = {**spec_to_dict(with_named_inputs(spec), directory / "checkpoint" / SPEC_FILE), **more}
    store.write(directory, [(SPEC_FILE, json.dumps(tables).encode())], "me", {})


def test_a_run_is_opened_at_its_newest_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "net"
    saved(run, replace(SPEC, fitted=Fitted()))
    saved(run, replace(SPEC, training=Training(epochs=8), fitted=Fitted(classes=("a", "b"))))
    spec, checkpoint = open_run(run, ["training.verbose=0", "training.divergence=raise", "training.checkpoint=3"])
    assert checkpoint.path == run / "checkpoint-000002"
    assert spec.model == SPEC.model
    assert (spec.training.epochs, spec.training.verbose) == (8, 0)
    assert (spec.training.divergence.policy, spec.training.checkpoint.epochs) == ("raise", 3)
    assert spec.fitted is not None
    assert spec.fitted.classes == ("a", "b")


def test_what_is_no_run_is_left_alone_and_a_run_as_well(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(SpecError, match="is not empty and no run"):
        check_replaceable(tmp_path)
    with pytest.raises(SpecError, match="is not empty and no run"):
        check_replaceable(tmp_path, again=True)
    with pytest.raises(SpecError, match="is a file"):
        check_replaceable(tmp_path / "thesis.tex")
    (tmp_path / "empty").mkdir()
    assert check_replaceable(tmp_path / "empty")
    saved(tmp_path / "net")
    with pytest.raises(SpecError, match="holds a run already"):
        check_replaceable(tmp_path / "net")
    assert check_replaceable(tmp_path / "net", again=True)


def test_the_columns_of_a_csv_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("y,b,a\n1,2,3\n", "utf-8")
    source = Source(tmp_path / "d.csv", Selection(targets=(0,)))
    saved(tmp_path / "net", replace(SPEC, data=source))
    data = open_run(tmp_path / "net")[0].data
    assert data is not None
    assert data.selection == Selection(("b", "a"), ("y",))
    assert data.file.resolve() == tmp_path / "d.csv"


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="is not a directory"):
        open_run(tmp_path / "net")
    with pytest.raises(SpecError, match="is no run: it has no checkpoint"):
        open_run(tmp_path)
    saved(tmp_path / "net")
    with pytest.raises(SpecError, match="the model of a run and its way of training stay"):
        open_run(tmp_path / "net", ["layer.0.units=3"])
    with pytest.raises(SpecError, match=r"To set: data, training\.epochs"):
        open_run(tmp_path / "net", ["training.seed=3"])
    store.write(tmp_path / "empty", [], "me", {})
    with pytest.raises(DataError, match=r"spec\.json: there is no spec\.json"):
        open_run(tmp_path / "empty")
    saved(tmp_path / "other", training={"epochs": 0})
    with pytest.raises(SpecError, match="epochs = 0"):
        open_run(tmp_path / "other")


def test_a_file_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "formulas.txt"
    write_text(path, "one")
    path.chmod(0o600)
    write_text(path, "zwei ü")
    assert path.read_text("utf-8") == "zwei ü"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["formulas.txt"]
    with pytest.raises(SpecError, match="is a directory"):
        write_text(tmp_path, "")
    with pytest.raises(SpecError, match="there is no folder"):
        write_text(tmp_path / "no" / "formulas.txt", "")
