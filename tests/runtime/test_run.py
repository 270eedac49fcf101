"""Directories of runs, and files that are whole or not there."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from chainrule.runtime.data import Fitted, Selection, Source
from chainrule.runtime.run import check_replaceable, read_run, save_run, write_text
from chainrule.runtime.spec import Spec, Training
from chainrule.symbolic.errors import SpecError
from chainrule.symbolic.layers import Dense
from chainrule.symbolic.model import Model

SPEC = Spec(Model(2, [Dense(1)]), Training(epochs=7), None, Path("net.toml"))


class Trainer:
    def __init__(self, content: str = "weights", fails: bool = False) -> None:
        self.content, self.fails = content, fails

    def save(self, directory: str) -> None:
        (Path(directory) / "weights").write_text(self.content, "utf-8")
        if self.fails:
            raise OSError("the disk is full")


def test_a_run_is_saved_and_saved_again(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "net"
    save_run(run, Trainer("first"), SPEC, Fitted())
    save_run(run, Trainer("second"), replace(SPEC, training=Training(epochs=8)), Fitted(classes=("a", "b")))
    assert sorted(p.name for p in run.iterdir()) == ["spec.json", "weights"]
    assert [p.name for p in run.parent.iterdir()] == ["net"]
    assert (run / "weights").read_text("utf-8") == "second"
    read = read_run(run, ["training.verbose=0"])
    assert read.model == SPEC.model
    assert (read.training.epochs, read.training.verbose) == (8, 0)
    assert read.fitted is not None
    assert read.fitted.classes == ("a", "b")


def test_a_run_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    run = tmp_path / "net"
    save_run(run, Trainer("first"), SPEC, Fitted())
    with pytest.raises(OSError, match="full"):
        save_run(run, Trainer("second", fails=True), SPEC, Fitted())
    assert (run / "weights").read_text("utf-8") == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["net"]


def test_what_is_no_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(SpecError, match="is not empty and no run"):
        save_run(tmp_path, Trainer(), SPEC, Fitted())
    with pytest.raises(SpecError, match="is a file"):
        check_replaceable(tmp_path / "thesis.tex")
    (tmp_path / "empty").mkdir()
    assert check_replaceable(tmp_path / "empty")


def test_the_columns_of_a_csv_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("y,b,a\n1,2,3\n", "utf-8")
    source = Source(tmp_path / "d.csv", Selection(targets=(0,)))
    save_run(tmp_path / "net", Trainer(), replace(SPEC, data=source), Fitted())
    read = read_run(tmp_path / "net")
    assert read.data is not None
    assert read.data.selection == Selection(("b", "a"), ("y",))
    assert read.data.file.resolve() == tmp_path / "d.csv"


def test_what_the_trainer_wrote_stays(tmp_path: Path) -> None:
    class Verbose(Trainer):
        def save(self, directory: str) -> None:
            (Path(directory) / "spec.json").write_text('{"state": {"step": 3}, "model": {}}', "utf-8")

    save_run(tmp_path / "net", Verbose(), SPEC, Fitted())
    written = json.loads((tmp_path / "net" / "spec.json").read_text("utf-8"))
    assert written["state"] == {"step": 3}
    assert written["model"]["inputs"] == 2
    assert read_run(tmp_path / "net").model == SPEC.model


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="is not a directory"):
        read_run(tmp_path / "net")
    with pytest.raises(SpecError, match=r"it has no spec\.json"):
        read_run(tmp_path)
    save_run(tmp_path / "net", Trainer(), SPEC, Fitted())
    with pytest.raises(SpecError, match="the model of a run and its way of training stay"):
        read_run(tmp_path / "net", ["layer.0.units=3"])
    with pytest.raises(SpecError, match=r"To set: data, training\.epochs"):
        read_run(tmp_path / "net", ["training.seed=3"])


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
