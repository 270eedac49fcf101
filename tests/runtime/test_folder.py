"""Where the folder of kernels is, whose it must be, and what happens where it cannot be written."""

import os
import stat
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import chainrule as cr
from chainrule.runtime import folder as folders
from chainrule.runtime.folder import DEFAULT_SIZE, ENVIRONMENT, NUMBA, SIZE, cache_folder, size_bound, way_to


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "around" / "cache"
    monkeypatch.setenv(ENVIRONMENT, str(place))
    return place


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No temporary folder of an earlier test."""
    monkeypatch.setattr(folders, "_temporary", {})
    yield
    for made in folders._temporary.values():
        made.rmdir()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_users_alone_and_so_is_what_is_made_around_it(folder: Path) -> None:
    before = os.umask(0)
    try:
        assert cache_folder() == folder
    finally:
        os.umask(before)
    assert mode(folder) == mode(folder.parent) == 0o700
    for opened in (0o777, 0o770, 0o755):
        folder.chmod(opened)
        assert mode(cache_folder()) == 0o700


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {NUMBA: tmp_path / "n" / "chainrule", "XDG_CACHE_HOME": tmp_path / "x" / "chainrule"}
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable, place in wanted.items():
        monkeypatch.setenv(variable, str(place.parent))
    for variable, place in wanted.items():
        assert cache_folder() == place
        monkeypatch.delenv(variable)
    assert cache_folder() == tmp_path / ".cache" / "chainrule"
    monkeypatch.setenv(NUMBA, str(tmp_path / "n"))
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "ours"))
    assert cache_folder() == tmp_path / "ours"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(ENVIRONMENT, "relative")
    assert cache_folder() == tmp_path / "relative"


def refused(match: str) -> None:
    with pytest.raises(cr.SpecError, match=match) as caught:
        cache_folder()
    assert ENVIRONMENT in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    folder.parent.mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    refused("is a link")
    folder.unlink()
    folder.symlink_to(tmp_path / "nowhere")
    refused("is a link")


def test_a_file(folder: Path) -> None:
    folder.parent.mkdir()
    folder.write_text("")
    refused("is not a folder")


def test_of_another_user(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache_folder()
    mine = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: mine + 1)
    refused("another user")


def test_around_it_of_another_user(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache_folder()
    real, theirs = os.lstat, folder.parent
    found = list(real(theirs))
    found[4] = 12345  # st_uid

    def lstat(path: os.PathLike[str], **more: int) -> os.stat_result:
        return os.stat_result(found) if Path(path) == theirs else real(path, **more)

    monkeypatch.setattr(os, "lstat", lstat)
    refused(f"is not safe: {theirs} belongs to another user")


@pytest.mark.parametrize(("opened", "rule"), [(0o777, "by everybody"), (0o757, "by everybody"), (0o770, "by a group")])
def test_around_it_open_to_others(folder: Path, opened: int, rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_is_own_group", lambda group: False)
    cache_folder()
    folder.parent.chmod(opened)
    refused(f"{folder.parent} can be written {rule}")
    folder.parent.chmod(opened | stat.S_ISVTX)  # as /tmp: nobody can rename what belongs to somebody else
    assert cache_folder() == folder


def test_groups_of_one_user(monkeypatch: pytest.MonkeyPatch) -> None:
    grp, pwd = pytest.importorskip("grp"), pytest.importorskip("pwd")
    user = pwd.struct_passwd(("ada", "x", 1000, 1000, "", "/", ""))
    groups = {
        1000: grp.struct_group(("ada", "x", 1000, [])), 1001: grp.struct_group(("users", "x", 1001, [])),
        1002: grp.struct_group(("ada", "x", 1002, ["eve"])),
    }  # fmt: skip
    monkeypatch.setattr(pwd, "getpwuid", lambda _: user)
    monkeypatch.setattr(grp, "getgrgid", groups.__getitem__)
    assert [folders._is_own_group(k) for k in (0, 1000, 1001, 1002, 1003)] == [True, True, False, False, False]


def test_links_on_the_way(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are followed, and what they lead through is looked at as well."""
    (tmp_path / "open" / "real").mkdir(parents=True)
    folder.parent.symlink_to(Path("open") / ".." / "open" / "real")
    assert cache_folder() == folder
    assert tmp_path / "open" / "real" in set(way_to(folder))
    (tmp_path / "open").chmod(0o777)
    refused(f"{tmp_path / 'open'} can be written by everybody")
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(cr.SpecError, match="links"):
        list(way_to(tmp_path / "round"))


@pytest.mark.usefixtures("temporary")
def test_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file stands in the way: then a folder of this process, which is said once."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "file" / "cache"))
    with pytest.warns(UserWarning, match=f"file.*Not a directory; kernels are kept in .*{ENVIRONMENT}"):
        made = cache_folder()
    assert mode(made) == 0o700
    assert cache_folder() == made  # and no warning


@pytest.mark.usefixtures("temporary")
def test_that_is_read_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache_folder()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.warns(UserWarning, match="read-only"):
        assert cache_folder() != folder


@pytest.mark.usefixtures("temporary")
def test_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for variable in (ENVIRONMENT, NUMBA, "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(Path, "home", fail)
    with pytest.warns(UserWarning, match="home directory"):
        assert cache_folder().is_dir()


def test_the_temporary_folder_goes_with_its_process(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    program = "from chainrule.runtime.folder import cache_folder as f; p = f(); (p / 'a').touch(); print(p, p.is_dir())"
    environment = {**os.environ, ENVIRONMENT: str(tmp_path / "file" / "cache"), "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    place, there = done.stdout.split()
    assert there == "True"
    assert Path(place).parent == tmp_path
    assert not Path(place).exists()
    assert done.stderr.count("kernels are kept in") == 1


def test_the_bound(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {
        "": DEFAULT_SIZE,
        "0": 0,
        "500": 500,
        "5k": 5000,
        "500MB": 5 * 10**8,
        "1.5 G": 15 * 10**8,
        "2T": 2 * 10**12,
    }
    for given, size in wanted.items():
        monkeypatch.setenv(SIZE, given)
        assert size_bound() == size
    monkeypatch.delenv(SIZE)
    assert size_bound() == DEFAULT_SIZE


@pytest.mark.parametrize("given", ["big", "-1", "1e9", "nan", "inf", "1 X", "9" * 40, "٣", "1\n2", "0x10", "1" * 10**6])
def test_a_wrong_bound(folder: Path, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SIZE, given)
    with pytest.raises(cr.SpecError, match=f"^{SIZE} = .*; give a number of bytes, such as"):
        cache_folder()
    assert not folder.exists()


def test_no_warning_where_all_is_well(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache_folder() == cache_folder()
