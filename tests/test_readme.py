"""The README says what is true: its commands are two lines, its examples run, its lists are those of the tables."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from chainrule.cli import main
from chainrule.runtime.metrics import METRICS
from chainrule.runtime.spec import Training
from chainrule.symbolic.activations import ACTIVATIONS
from chainrule.symbolic.initialisers import INITIALISERS
from chainrule.symbolic.losses import LOSSES
from chainrule.symbolic.optimisers import OPTIMISERS
from chainrule.symbolic.penalties import PENALTIES
from chainrule.symbolic.schedules import SCHEDULES
from chainrule.symbolic.spec import LAYERS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MARKDOWN = [path for path in ROOT.rglob("*.md") if not any(p.startswith(".") for p in path.relative_to(ROOT).parts)]
TABLES = {
    "activations": ACTIVATIONS,
    "losses": LOSSES,
    "penalties": PENALTIES,
    "optimisers": OPTIMISERS,
    "schedules": SCHEDULES,
    "initialisers": INITIALISERS,
    "metrics": METRICS,
}


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def test_the_two_commands_are_one_line_each() -> None:
    install, test = blocks("sh")[:2]
    assert all(block.count("\n") == 1 and len(block.split("&&")) == 3 for block in (install, test))
    assert install.strip().endswith("chainrule train examples/digits.toml")
    assert test.strip().endswith("pytest -q -n 2 --dist loadfile")
    assert "'.[test]'" in test


def test_the_python_blocks_print_what_they_show() -> None:
    text = "\n".join(blocks("python"))
    assert text.count(">>>") > 20
    example = doctest.DocTestParser().get_doctest(text, {}, "README.md", "README.md", 0)
    output: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(example, out=output.append, clear_globs=False)
    assert result.failed == 0, "".join(output)
    shown = next(block for block in blocks("") if "# (2)" in block)
    assert all(line in example.globs["kernels"].source for line in shown.splitlines())


@pytest.mark.parametrize("kind", TABLES)
def test_every_row_is_listed(kind: str) -> None:
    line = re.search(rf"^- {kind}: (.*)$", README, flags=re.MULTILINE)
    assert line is not None
    named = set(re.findall(r"`(\w+)`", line[1])) - {"lbfgs", "reduce_on_plateau"}
    assert named == set(TABLES[kind])


def test_every_command_is_in_the_table() -> None:
    assert re.findall(r"^\| `chainrule (\w+)", README, flags=re.MULTILINE) == list(main.commands)
    for command in main.commands:
        assert CliRunner().invoke(main, [command, "--help"]).exit_code == 0


def test_every_key_of_training_and_every_layer_is_in_the_table() -> None:
    table = README[README.index("| section | key |") : README.index("An unknown key")]
    for key in Training.__dataclass_fields__:
        assert f"`{key}`" in table, key
    for layer in LAYERS:
        assert f"`{layer}`" in table, layer


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert "://" in target or (path.parent / target).exists(), target
