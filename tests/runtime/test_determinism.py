"""Equal bits: for any number of threads, in any process, however often a training was broken off."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from chainrule.runtime import keeping, store
from chainrule.runtime.keeping import Checkpoint
from chainrule.runtime.trainer import Trainer, _Pace

from . import bits
from .bits import CASES, EPOCHS, X, made, trained, use

SCRIPT = Path(bits.__file__)
NAMES = list(CASES)
THREADS = range(1, 9)


@pytest.fixture(scope="module")
def alone() -> dict[str, Trainer]:
    """Every case, trained by one thread."""
    return {name: trained(name) for name in CASES}


@pytest.mark.parametrize("name", NAMES)
def test_any_number_of_threads_trains_to_the_same_bits(name: str, alone: dict[str, Trainer]) -> None:
    """Each number from the first step to the last, and another number in every call of the compiled loop."""
    training = alone[name]._training
    assert training is not None
    assert training.machine.phases("train", training.batch).most_blocks > 1
    assert len({row["loss"] for row in alone[name].history}) == EPOCHS, "it does train"
    for threads in THREADS:
        assert bits.bits(trained(name, threads)) == bits.bits(alone[name]), threads
    trainer, y = made(name, 8)
    use(trainer, *np.random.default_rng(0).integers(1, 9, 1000).tolist())
    trainer.fit(X, y, epochs=EPOCHS, validation=0.1, verbose=0)
    assert bits.bits(trainer) == bits.bits(alone[name])


@pytest.mark.parametrize("name", NAMES)
def test_predictions_do_not_depend_on_threads(name: str, alone: dict[str, Trainer]) -> None:
    """As many samples as fit in one call of the kernels, and more; with and without a conversion of the inputs."""
    kernels, weights = alone[name].kernels, alone[name].parameters
    many = np.random.default_rng(1).normal(size=(5000, 20))
    for x in (many, many[:700]):
        wanted = kernels.predict(weights, x)
        for threads in THREADS:
            more = made(name, threads)[0]
            assert (more.kernels.predict(weights, x) == wanted).all(), threads
            more.set_parameters(weights)
            assert (more.predict(x) == wanted).all(), threads
            assert (more.predict(x.astype(more.dtype)) == wanted).all(), threads


@pytest.mark.parametrize("name", NAMES)
def test_resumed_at_an_epochs_end_and_within_one(
    name: str, alone: dict[str, Trainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From every checkpoint of a run, with another number of threads."""
    monkeypatch.setattr(keeping, "SHARE", 1e9)
    monkeypatch.setattr(_Pace, "took", lambda *_: None)  # a look, and a checkpoint, after every step
    trainer, y = made(name, 2)
    trainer.fit(X, y, EPOCHS, 0.1, verbose=0, checkpoint=Checkpoint(tmp_path, 1, seconds=0, keep=100))
    positions = set()
    for number in store.numbers(tmp_path):
        resumed = Trainer.restore(tmp_path / f"checkpoint-{number:06d}")
        positions.add(resumed._position.step)
        use(resumed, 1 + number % 2)
        if resumed.unfinished:
            resumed.fit(X, y, resumed.unfinished, 0.1, verbose=0)
        assert bits.bits(resumed) == bits.bits(alone[name]), number
    assert positions == {0, 1, 2}, "the last of three steps ends its epoch"


# --- other processes


def elsewhere(*names: str, **environment: str) -> dict[str, str]:
    """The bits of another process: of one case, or of all."""
    given = {**os.environ, "NUMBA_NUM_THREADS": "2", **environment}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *names], env=given, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def here() -> dict[str, str]:
    return bits.here(NAMES, bits.long_sums)


@pytest.mark.parametrize("layer", ["omp", "workqueue", "tbb"])
def test_another_process_with_another_layer_and_other_hashes(layer: str, here: dict[str, str]) -> None:
    """Threads are our own: Numba's layer is not started, even where it is asked for. BLAS has as many as it likes."""
    seed, threads = {"omp": ("1", "1"), "workqueue": ("2", "4"), "tbb": ("3", "2")}[layer]
    found = elsewhere(NUMBA_THREADING_LAYER=layer, PYTHONHASHSEED=seed, OPENBLAS_NUM_THREADS=threads)
    assert found == here


def test_from_an_empty_cache_and_from_a_full_one(here: dict[str, str], tmp_path: Path) -> None:
    (name,) = bits.SMALL
    cold = elsewhere(name, CHAINRULE_CACHE=str(tmp_path))
    assert any(tmp_path.rglob("*"))
    assert cold == elsewhere(name, CHAINRULE_CACHE=str(tmp_path)) == bits.here([name])
