"""Every example is read and derived, one of each kind trains, every script runs with small settings."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import chainrule as cr
from chainrule.runtime.data import prepare

EXAMPLES = Path(__file__).parent.parent / "examples"
SPECS = sorted(EXAMPLES.rglob("*.toml"))
TRAINED = ("regression.toml", "own/convolution.toml", "own/embedding.toml")


def named(path: Path) -> str:
    return path.relative_to(EXAMPLES).as_posix()


def script(name: str) -> ModuleType:
    path = EXAMPLES / name
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", SPECS, ids=named)
def test_a_spec_is_derived(path: Path) -> None:
    spec = cr.read_spec(path)
    derivation = spec.model.derivation()
    assert set(derivation.gradients) == {p.name for p in spec.model.program().parameters}
    assert spec.data is not None
    assert spec.data.file.is_file()
    assert spec.data.test is not None, "an example ends with scores on samples that it has not seen"


@pytest.mark.parametrize("name", TRAINED)
def test_a_spec_trains(name: str) -> None:
    spec = cr.read_spec(EXAMPLES / name)
    how = spec.training
    data = prepare(spec.data, spec.model, how.validation, how.seed, how.dtype).training
    trainer = cr.Trainer(spec.model, how.optimiser, how.batch_size, how.dtype, how.seed, 1, schedule=how.schedule)
    history = trainer.fit(data.x, data.y, epochs=2, verbose=0)
    assert history["loss"][1] < history["loss"][0]


@pytest.mark.parametrize("path", SPECS, ids=named)
def test_a_spec_says_what_it_shows(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert f"({named(path)})" in (EXAMPLES / "README.md").read_text(encoding="utf-8") or (
        f"({path.name})" in (path.parent / "README.md").read_text(encoding="utf-8")
    )


@pytest.mark.parametrize("name", ["layer_norm", "embedding", "activation", "loss"])
def test_the_examples_of_ones_own_are_proven(name: str) -> None:
    samples = 1 if name == "activation" else 2  # with its ten classes a proof takes long
    cr.load(EXAMPLES / "own" / f"{name}.toml").derivation().prove(samples=samples)


def test_the_note_is_printed_and_proven(capsys: pytest.CaptureFixture[str]) -> None:
    script("python/note.py").main(1)
    printed = capsys.readouterr().out
    assert "= W^(o) a^(1)(W^(1) x)" in printed  # the note's nesting
    assert "dL/dW^(1) = sum_n delta_n^(1) x_n^T" in printed
    assert printed.endswith("Proven by brute force: W1, Wo\n")


def test_lbfgs_fits() -> None:
    assert script("python/lbfgs.py").main(40) < 0.05


def test_the_standalone_file_trains() -> None:
    assert script("python/standalone.py").main(3) > 0.6


def test_the_comparison_measures() -> None:
    loss, accuracy, *_, epochs = script("overfitting/compare.py").measured("none", seed=0, epochs=2)
    assert 0 < loss < 2
    assert 0 < accuracy <= 1
    assert epochs == 2


def test_the_data_are_those_that_the_script_makes(tmp_path: Path) -> None:
    make = script("data/make.py")
    for part in (make.noisy, make.crop, make.words):
        part(tmp_path)
    for made in tmp_path.iterdir():
        kept = EXAMPLES / "data" / made.name
        if made.suffix == ".csv":
            assert made.read_text() == kept.read_text()
            continue
        with np.load(made) as new, np.load(kept) as old:
            for name in ("x", "y"):
                np.testing.assert_array_equal(new[name], old[name])
