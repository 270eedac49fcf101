"""BLAS, its routines and its threads."""

import pytest

from chainrule.runtime.blas import ROUTINES, OneThread


def test_routines_are_found() -> None:
    assert all(OneThread().library.routines[name] for name in ROUTINES)


def test_blas_runs_on_one_thread_inside() -> None:
    """Else each of our threads would start threads of its own."""
    inside = OneThread()
    library = inside.library
    if library.get is None:
        pytest.skip("NumPy brings another BLAS here")
    before = library.get()
    library.set(2)
    try:
        with inside:
            assert library.get() == 1
            with inside:
                assert library.get() == 1
            assert library.get() == 1, "the inner one does not end the outer one"
        assert library.get() == 2
    finally:
        library.set(before)
