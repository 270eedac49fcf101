"""The layout is a promise: links that are links, imports that run one way, one installed name."""

import ast
from collections.abc import Iterator
from importlib.metadata import files
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDERS: Final = ("symbolic", "codegen", "runtime", "benchmarks")
# A folder may import itself and what stands before it. The benchmark uses what a user would,
ORDER: Final = ("symbolic", "codegen", "runtime", "chainrule", "benchmarks")
# and one module of the package knows it: its command.
DOOR: Final = ROOT / "chainrule" / "bench.py"
FORBIDDEN: Final = {
    "symbolic": {"numpy", "numba", "scipy", "llvmlite"},
    "codegen": {"numba", "llvmlite"},
    "runtime": set(),
    "chainrule": set(),
    "benchmarks": set(),
}


def sources(folder: str) -> list[Path]:
    """The Python files that belong to a folder; the links below chainrule/ belong to their targets."""
    return [
        path
        for path in sorted((ROOT / folder).rglob("*.py"))
        if folder != "chainrule" or path.relative_to(ROOT / folder).parts[0] not in FOLDERS
    ]


def imported_names(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Every name that a module imports, absolute and split at the dots.

    `package` is the package around the module: `from ..symbolic import Program` in a module of
    `("chainrule", "codegen")` gives `("chainrule", "symbolic", "Program")`.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield tuple(alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            module = tuple(node.module.split(".")) if node.module else ()
            for alias in node.names:
                yield (*start, *module, alias.name)


def faults(source: str, folder: str, below: tuple[str, ...] = (), reach: str = "") -> list[str]:
    """What is wrong with the imports of one module of `folder` (in its sub-package `below`).

    reach   the last folder that it may import; its own, if nothing is said
    """
    package = ("chainrule", *below) if folder == "chainrule" else ("chainrule", folder, *below)
    found = []
    for name in imported_names(ast.parse(source), package):
        shown = ".".join(name)
        if name[0] in FOLDERS:
            found.append(f"{shown}: goes around the package; write a relative import")
        elif name[0] in FORBIDDEN[folder]:
            found.append(f"{shown}: {folder} must not know {name[0]}")
        elif name[0] == "chainrule":
            target = name[1] if name[1:2] and name[1] in FOLDERS else "chainrule"
            if ORDER.index(target) > ORDER.index(reach or folder):
                found.append(f"{shown}: {folder} imports upward")
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_link_is_a_relative_link(folder: str) -> None:
    link = ROOT / "chainrule" / folder
    assert link.is_symlink()
    assert link.readlink() == Path("..") / folder
    assert link.resolve() == ROOT / folder
    assert (link / "__init__.py").is_file()


@pytest.mark.parametrize("folder", ORDER)
def test_imports_run_one_way(folder: str) -> None:
    paths = sources(folder)
    assert paths, f"no sources found in {folder}/"
    found = [
        f"{path.relative_to(ROOT)}: {fault}"
        for path in paths
        for fault in faults(
            path.read_text("utf-8"),
            folder,
            path.relative_to(ROOT / folder).parts[:-1],
            "benchmarks" if path == DOOR else folder,
        )
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("folder", ["tests", "examples"])
def test_nothing_goes_around_the_package(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}: {'.'.join(name)}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in imported_names(ast.parse(path.read_text("utf-8")), path.relative_to(ROOT).parts[:-1])
        if name[:1] and name[0] in FOLDERS
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("folder", "source"),
    [
        ("symbolic", "import numpy as np"),
        ("symbolic", "def f():\n    from scipy.linalg import blas"),
        ("symbolic", "from ..codegen import emit"),
        ("symbolic", "from .. import Model"),
        ("symbolic", "import chainrule.runtime"),
        ("codegen", "import numba.core"),
        ("codegen", "from ..runtime.trainer import Trainer"),
        ("runtime", "from .. import cli"),
        ("runtime", "from chainrule import Model"),
        ("runtime", "import symbolic"),
        ("chainrule", "from codegen.emit import emit"),
        ("chainrule", "from .benchmarks.suite import run"),
        ("benchmarks", "from benchmarks import workloads"),
    ],
)
def test_a_wrong_import_is_found(folder: str, source: str) -> None:
    assert faults(source, folder)


@pytest.mark.parametrize(
    ("folder", "source"),
    [
        ("symbolic", "import sympy\nfrom .program import Program\nfrom . import program"),
        ("codegen", "import numpy\nfrom ..symbolic.program import Program\nfrom .. import symbolic"),
        ("runtime", "import numba\nfrom ..codegen import emit\nfrom ..symbolic import Model"),
        ("chainrule", "from . import runtime\nfrom .runtime import Trainer\nfrom .cli import main"),
        ("benchmarks", "import jax\nimport chainrule as cr\nfrom .workloads import ALL"),
    ],
)
def test_a_right_import_is_left_alone(folder: str, source: str) -> None:
    assert not faults(source, folder)


def test_the_command_may_import_the_benchmark() -> None:
    assert not faults("from .benchmarks.suite import run", "chainrule", reach="benchmarks")


def test_sub_packages_are_resolved() -> None:
    assert not faults("from ...symbolic import Program", "codegen", ("passes",))
    assert faults("from ...runtime import Trainer", "codegen", ("passes",))


def test_only_one_name_is_installed() -> None:
    installed = files("chainrule")
    assert installed
    assert not {path.parts[0].removesuffix(".py") for path in installed} & {*FOLDERS, "tests"}
