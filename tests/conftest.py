"""What holds for every test."""

import os
from collections.abc import Callable

import pytest
from hypothesis import settings

# Threads that wait sleep: the tests run beside other work, where threads that spin take milliseconds to meet.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# The same examples in every run; no deadline, because a first call may compile.
settings.register_profile("chainrule", derandomize=True, deadline=None)
settings.load_profile("chainrule")


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
