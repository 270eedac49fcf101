"""Copies of arrays, in memory and in a file: the same numbers, bit by bit, and a training that does not notice."""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import chainrule as cr
from chainrule.runtime import copies, divergence
from chainrule.runtime.copies import Copy, Latest

pytestmark = pytest.mark.skipif(not copies.BY_POSITION, reason="files are not read and written by position here")
WHERE = pytest.mark.parametrize("in_memory", [0, 2**30], ids=["file", "memory"])
RNG = np.random.default_rng(5)
X, Y = RNG.normal(size=(40, 3)), RNG.normal(size=(40, 1))


def some_arrays() -> list[NDArray[Any]]:
    """Also none of its numbers, one number, NaN and the sign of zero."""
    rng = np.random.default_rng(1)
    return [rng.normal(size=(5, 7)), np.zeros((0, 3)), np.float32([[np.nan, -0.0]]), np.arange(3), np.array([2.0])]


def bits(arrays: list[NDArray[Any]]) -> list[bytes]:
    return [array.tobytes() for array in arrays]


@WHERE
def test_what_was_there_comes_back(in_memory: int) -> None:
    arrays = some_arrays()
    first, copy = bits(arrays), Copy(arrays, in_memory)
    for array in arrays:
        array += 1
    second = bits(arrays)
    assert first != second
    made = copy.made()
    assert bits(made) == first
    assert [(a.shape, a.dtype) for a in made] == [(a.shape, a.dtype) for a in arrays]
    copy.refresh(arrays)
    copy.put(made)
    assert bits(made) == second == bits(arrays)
    assert not any(np.shares_memory(a, b) for a, b in zip(copy.made(), made, strict=True))


@pytest.mark.parametrize("most", [1, 8, 50])
def test_a_file_that_takes_and_gives_a_part_at_a_time(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write, read = os.pwrite, os.preadv
    monkeypatch.setattr(os, "pwrite", lambda file, part, at: write(file, part[:most], at))
    monkeypatch.setattr(os, "preadv", lambda file, parts, at: read(file, [parts[0][:most]], at))
    arrays = some_arrays()
    assert bits(Copy(arrays, 0).made()) == bits(arrays)


def test_a_file_that_was_cut() -> None:
    copy = Copy([np.ones(100)], 0)
    assert copy._file is not None
    os.ftruncate(copy._file.fileno(), 8)
    with pytest.raises(OSError, match="shorter than it was"):
        copy.made()


def full(file: int, part: memoryview, at: int) -> int:
    raise OSError(28, "No space left on device")


def test_a_disk_that_is_full_at_once_or_later(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = some_arrays()
    before = Copy(arrays, 0)
    monkeypatch.setattr(os, "pwrite", full)
    for array in arrays:
        array += 1
    before.refresh(arrays)
    assert bits(before.made()) == bits(Copy(arrays, 0).made()) == bits(arrays)


def test_no_folder_for_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(**_: object) -> None:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "TemporaryFile", nowhere)
    arrays = some_arrays()
    assert bits(Copy(arrays, 0).made()) == bits(arrays)


def test_the_file_has_no_name_and_ends_with_its_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    copy = Copy([np.ones(100)], 0)
    assert copy._file is not None
    assert list(tmp_path.iterdir()) == []
    number = copy._file.fileno()
    del copy
    with pytest.raises(OSError, match=r"[Bb]ad file descriptor"):
        os.fstat(number)


@pytest.fixture
def in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(divergence, "IN_MEMORY", 0)
    monkeypatch.setattr(copies.Copy.__init__, "__defaults__", (0,))


def trained(**options: Any) -> tuple[cr.Trainer, list[dict[str, Any]]]:
    model = cr.Model(3, [cr.Dense(4, "tanh"), cr.Dense(1)])
    trainer = cr.Trainer(model, cr.Adam(0.02), batch_size=8, dtype="float64", seed=3, **options)
    trainer.fit(X, Y, epochs=5, validation=0.25, verbose=0)
    return trainer, [{k: v for k, v in row.items() if k != "seconds"} for row in trainer.history]


def same(a: Any, b: Any) -> bool:
    return a.keys() == b.keys() and all((a[k] == b[k]).all() for k in a)


@pytest.mark.parametrize("policy", ["stop", "roll_back"])
def test_a_training_with_its_copies_in_files(
    policy: str, tmp_path: Path, in_files: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, rows = trained(divergence=policy)
    trainer.save(tmp_path / "files")
    restored = cr.Trainer.restore(tmp_path / "files")
    monkeypatch.undo()
    plain, plain_rows = trained(divergence=policy)
    plain.save(tmp_path / "memory")
    assert rows == plain_rows
    for other in (plain, restored):
        assert same(trainer.parameters, other.parameters)
        assert same(trainer.best_parameters, other.best_parameters)
    for name in ("weights", "best", "state", "progress"):
        file = f"checkpoint-000001/{name}.safetensors"
        assert (tmp_path / "files" / file).read_bytes() == (tmp_path / "memory" / file).read_bytes()


def test_a_step_that_fails_is_found(in_files: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def failed() -> tuple[str, dict[str, Any]]:
        model = cr.Model(3, [cr.Dense(4, "relu"), cr.Dense(1)])
        trainer = cr.Trainer(model, cr.SGD(50.0), batch_size=8, dtype="float64", seed=1)
        trainer.fit(X, Y, epochs=40, verbose=0)
        return trainer.history.stopped, trainer.parameters

    found, parameters = failed()
    monkeypatch.undo()
    plain, plain_parameters = failed()
    assert found == plain
    assert "step" in found
    assert same(parameters, plain_parameters)


@WHERE
def test_the_last_copy_while_the_next_one_is_made(in_memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads it has all numbers of one copy, also where two more begin meanwhile, or one of them fails."""
    array, last, made = np.zeros(5), Latest(in_memory), Copy.made
    last.keep([array])
    beginning = [0]

    def meanwhile(copy: Copy) -> list[NDArray[Any]]:
        found, count = made(copy), beginning.pop() if beginning else 0
        for _ in range(count):
            array[...] += 1
            last.keep([array])
        if count > 1:
            found[0][3:] = array[3:]  # it was written over while it was read
        return found

    monkeypatch.setattr(Copy, "made", meanwhile)
    for count, seen in ((0, 0), (1, 0), (2, 3), (3, 6)):
        beginning.append(count)
        (found,) = last.made()
        assert (found == seen).all()

    def fails(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Copy, "refresh", fails)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            last.keep([array + 1])
        assert (last.made()[0] == 6).all()


def test_a_trainer_copies_to_the_same_places() -> None:
    """Memory and files that are new take time."""
    trainer, _ = trained()
    room, last = trainer._room._copy, {id(trainer._last._now), id(trainer._last._spare)}
    assert room is not None
    trainer.fit(X, Y, epochs=5, validation=0.25, verbose=0)
    assert trainer._room._copy is room
    assert {id(trainer._last._now), id(trainer._last._spare)} == last
