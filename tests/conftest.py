"""What holds for every test."""

import os
import signal
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings

# Threads that wait sleep: the tests run beside other work, where threads that spin take milliseconds to meet.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# What a shell starts in the background ignores Ctrl-C, and tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# With NUMBA_DISABLE_JIT=1 Numba's functions are Python's, and what needs machine code is skipped; other processes that
# tests start have machine code all the same.
JIT_OFF = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
if JIT_OFF:
    import numba

    assert numba.config.DISABLE_JIT
    del os.environ["NUMBA_DISABLE_JIT"]

# The same examples in every run; no deadline, because a first call may compile.
settings.register_profile("chainrule", derandomize=True, deadline=None)
settings.load_profile("chainrule")


@pytest.fixture(scope="session", autouse=True)
def _no_machine_code() -> Iterator[None]:
    """Where the JIT is off, a test ends at the first function that it wants compiled."""
    if not JIT_OFF:
        yield
        return
    from chainrule.runtime import native

    def skipped(self: native.Code, name: str) -> int:
        pytest.skip(f"{name} is needed as machine code, and NUMBA_DISABLE_JIT is set")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native.Code, "address", skipped)
        patch.setattr(native.Code, "prepare", lambda self, names: None)
        yield


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with the file of that name in `golden/` beside the test.

    UPDATE_GOLDENS=1 writes the files instead, to be reviewed as a diff.
    """

    def check(name: str, text: str) -> None:
        path = request.path.parent / "golden" / name
        if os.environ.get("UPDATE_GOLDENS"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, "utf-8")
        assert path.is_file(), f"{path} does not exist; UPDATE_GOLDENS=1 pytest writes it"
        assert text == path.read_text("utf-8")

    return check
