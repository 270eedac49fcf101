"""Every example in a docstring runs, under the name its module has in the package.

`pytest --doctest-modules` would meet the files twice, in their folders and behind the links.
"""

import doctest
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import chainrule


def module_names() -> Iterator[str]:
    def fail(package: str) -> None:
        raise ImportError(f"{package} cannot be imported, so its examples cannot be found")

    yield "chainrule"
    for found in pkgutil.walk_packages(chainrule.__path__, "chainrule.", onerror=fail):
        yield found.name


def source(name: str) -> str:
    """The text of a module, without running it."""
    spec = find_spec(name)
    return Path(spec.origin).read_text("utf-8") if spec and spec.origin else ""


@pytest.mark.parametrize("name", [name for name in module_names() if ">>> " in source(name)])
def test_examples_run(name: str) -> None:
    result = doctest.testmod(
        import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, report=True
    )
    assert result.attempted, f"{name} shows a prompt, but doctest finds no example"
    assert not result.failed, f"{result.failed} of {result.attempted} examples in {name} fail"
