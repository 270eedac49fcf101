"""`chainrule cache`: what is kept, and its end."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from chainrule.cli import main
from chainrule.runtime.cache import write_entry
from chainrule.runtime.folder import ENVIRONMENT, SIZE, cache_folder

NAME = f"model_{'0' * 32}.phase.{'0' * 12}.o"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "cache"))
    return cache_folder()


def said(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["cache", *arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_an_empty_cache(folder: Path) -> None:
    assert f"{folder} " in said()
    assert "entries  0 of 0 bytes\n" in said()
    assert "bound    1.0 GB," in said()
    assert "0 files" in said("--clear")


def test_what_is_there_is_shown_and_cleared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_entry(folder / NAME, bytes(10_000))
    (folder / "notes.txt").write_text("")
    monkeypatch.setenv(SIZE, "2.5MB")
    shown = said()
    assert "entries  1 of 10.1 kB\n" in shown
    assert "bound    2.5 MB," in shown
    assert "the oldest" in shown
    cleared = said("--clear")
    assert "1 files of 10.1 kB are removed" in cleared
    assert "1 not of chainrule's is left, 'notes.txt' among them" in cleared
    assert [p.name for p in folder.iterdir()] == ["notes.txt"]


def test_what_is_wrong_is_said_in_a_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SIZE, "much")
    assert (
        said(code=2) == f"error: SpecError: {SIZE} = 'much'; give a number of bytes, such as 500000000, 500MB or 2G\n"
    )
    monkeypatch.delenv(SIZE)
    link = folder.parent / "link"
    link.symlink_to(folder)
    monkeypatch.setenv(ENVIRONMENT, str(link))
    assert said("--clear", code=2).count("\n") == 1
