"""The directory of a run: numbered checkpoints, each whole and verified, or not there.

    runs/digits/checkpoint-000007/    named files, and manifest.json with the sha256 of each
    runs/digits/checkpoint-000008/    the newest one; the one before it is kept
    runs/digits/earlier-1/            the checkpoints of another training, which was here before
    runs/digits/damaged-000006/       what was a checkpoint until something changed it

Writing: the files beside the place, one by one to the disk, the manifest last; the folder flushed; renamed; the folder
around it flushed; then older ones are deleted. A process that is killed at any moment leaves the checkpoints that were
there, or these and the new one. Reading: the newest one whose files are what its manifest says.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..symbolic.errors import DataError, SpecError
from .durable import LOCK, flush_folder, write_new

MANIFEST: Final = "manifest.json"
FORMAT: Final = 1
CHECKPOINT: Final = re.compile(r"checkpoint-(\d{6,15})\Z")
LEFT_OVER: Final = re.compile(r"\.checkpoint-\d{6,15}\.(part|old)\Z")
OURS: Final = re.compile(rf"{re.escape(LOCK)}\Z|(earlier|damaged)-\d+\Z|{LEFT_OVER.pattern}")
FILE: Final = re.compile(r"[a-z]{1,20}\.(json|safetensors)\Z")
LARGEST_MANIFEST: Final = 1_000_000  # bytes
KEPT: Final = 2


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was read and verified.

    path    its directory
    run     the name of its training, which no other training has
    made    the versions it was made with
    files   the content of its files
    """

    path: Path
    run: str
    made: Mapping[str, str]
    files: Mapping[str, bytes]

    def content(self, name: str) -> bytes:
        """What a file holds."""
        if name not in self.files:
            raise DataError(f"there is no {name}")
        return self.files[name]

    def table(self, name: str) -> dict[str, Any]:
        """What a file of JSON holds."""
        from .spec_file import read_json

        try:
            given = read_json(self.content(name).decode("utf-8"))
        except RecursionError:
            raise DataError("is nested too deeply") from None
        if not isinstance(given, dict):
            raise DataError("is no table")
        return given


@contextmanager
def in_file(path: Path) -> Iterator[None]:
    """Put the file in front of a message about what it holds; what cannot be understood in it is a DataError."""
    try:
        yield
    except (DataError, SpecError) as error:
        raise DataError(f"{path}: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise DataError(f"{path}: does not hold what it must ({type(error).__name__}: {error})") from None


class DamageError(Exception):
    """Why a checkpoint cannot be used."""


# --- writing


def write(
    directory: Path, files: Iterable[tuple[str, bytes]], run: str, made: Mapping[str, str], keep: int = KEPT
) -> Path:
    """Add a checkpoint; when this returns it is on the disk. At least two are kept, this one among them.

    files   names and contents, which are taken one at a time

    Raises OSError, and then the checkpoints are those that were there before.
    """
    made_here = not directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    if made_here:
        flush_folder(directory.parent)
    _clear(directory)
    number = max(numbers(directory), default=0) + 1
    part = directory / f".checkpoint-{number:06d}.part"
    final = directory / f"checkpoint-{number:06d}"
    try:
        part.mkdir()
        listed = {}
        for name, content in files:
            write_new(part / name, content)
            listed[name] = entry_of(content)
            del content  # before the next one is made
        write_new(part / MANIFEST, manifest_of(listed, run, made))
        flush_folder(part)
        part.rename(final)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    flush_folder(directory)
    _delete(directory, sorted(numbers(directory))[: -max(keep, KEPT)])
    return final


def entry_of(content: bytes) -> dict[str, Any]:
    """What a manifest says of a file."""
    return {"bytes": len(content), "sha256": sha256(content)}


def manifest_of(listed: Mapping[str, Mapping[str, Any]], run: str, made: Mapping[str, str]) -> bytes:
    """The manifest: what each file must be, and in the end what the manifest itself must be."""
    return signed({"format": FORMAT, "run": run, "made": dict(made), "files": dict(listed)})


def signed(body: Mapping[str, Any]) -> bytes:
    """A manifest with its own hash at the end."""
    return f"{json.dumps({**body, 'sha256': sha256(_canonical(body))}, indent=1)}\n".encode()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _canonical(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def _delete(directory: Path, old: list[int]) -> None:
    """Delete checkpoints, each first renamed: one that is half deleted is none."""
    for number in old:
        leaving = directory / f".checkpoint-{number:06d}.old"
        (directory / f"checkpoint-{number:06d}").rename(leaving)
        shutil.rmtree(leaving, ignore_errors=True)


def _clear(directory: Path) -> None:
    """Delete what a writer that was killed has left."""
    for path in directory.iterdir():
        if LEFT_OVER.match(path.name):
            shutil.rmtree(path, ignore_errors=True)


def numbers(directory: Path) -> list[int]:
    """The numbers of the checkpoints that are there."""
    if not directory.is_dir():
        return []
    found = (CHECKPOINT.match(path.name) for path in directory.iterdir())
    return [int(match[1]) for match in found if match]


def new_run() -> str:
    """A name that no other training has; it is in no formula and in no weight."""
    return secrets.token_hex(8)


# --- whose directory it is


def check_free(directory: Path, run: str = "") -> Path:
    """The directory, if a training may write there: it holds nothing, or checkpoints of this very training."""
    check_directory(directory)
    if numbers(directory) and owner(directory) != run:
        raise SpecError(
            f"{directory} holds a run already; go on with it (chainrule resume, Trainer.restore), "
            "put it aside (--again, Checkpoint(again=True)), or give another directory"
        )
    return directory


def check_directory(directory: Path) -> Path:
    """The directory, if it holds nothing but checkpoints, or is not there."""
    if directory.exists() and not directory.is_dir():
        raise SpecError(f"{directory} is a file; give a directory for the run")
    if directory.is_dir() and not numbers(directory):
        others = [p.name for p in directory.iterdir() if not OURS.match(p.name)]
        if others:
            raise SpecError(f"{directory} is not empty and no run (it has no checkpoint); give another directory")
    return directory


def owner(directory: Path) -> str:
    """The name of the training whose checkpoints these are; empty where none can be read."""
    for number in sorted(numbers(directory), reverse=True):
        try:
            return str(_manifest(directory / f"checkpoint-{number:06d}")["run"])
        except DamageError:
            continue
    return ""


def set_aside(directory: Path) -> Path:
    """Move the checkpoints of another training into a directory below; where to."""
    count = 1
    while (directory / f"earlier-{count}").exists():
        count += 1
    aside = directory / f"earlier-{count}"
    aside.mkdir()
    for number in sorted(numbers(directory)):  # the newest last: at a crash it is still where it was
        name = f"checkpoint-{number:06d}"
        (directory / name).rename(aside / name)
    flush_folder(aside)
    flush_folder(directory)
    return aside


def set_damaged_aside(directory: Path) -> None:
    """Take damaged checkpoints out of the row, so that as many as are kept are whole."""
    for number in numbers(directory):
        path = directory / f"checkpoint-{number:06d}"
        try:
            read(path)
        except DamageError:
            path.rename(_unused(directory, f"damaged-{number:06d}"))


def _unused(directory: Path, name: str) -> Path:
    """A name that nothing has yet."""
    path, count = directory / name, 1
    while path.exists():
        path, count = directory / f"{name}{count}", count + 1
    return path


# --- reading


def latest(directory: Path) -> Saved:
    """The newest checkpoint that is whole; what is damaged is named in a warning.

    Raises DataError where there is none.
    """
    if (directory / MANIFEST).is_file():
        return _read_or_say(directory)
    found = sorted(numbers(directory), reverse=True)
    if not found:
        raise DataError(f"{directory} holds no checkpoint; give a directory that a training was saved in")
    damage = []
    for number in found:
        path = directory / f"checkpoint-{number:06d}"
        try:
            saved = read(path)
        except DamageError as problem:
            damage.append(f"{path}: {problem}")
            continue
        for line in damage:
            warnings.warn(f"{line}; {path.name}, the one before it, is used", stacklevel=3)
        return saved
    raise DataError(f"no checkpoint is whole: {'; '.join(damage)}")


def _read_or_say(path: Path) -> Saved:
    try:
        return read(path)
    except DamageError as problem:
        raise DataError(f"{path}: {problem}") from None


def read(path: Path) -> Saved:
    """A checkpoint, if it is what its manifest says; else `DamageError`."""
    manifest = _manifest(path)
    files = {}
    for name, listed in manifest["files"].items():
        content = _content(path / name, listed["bytes"])
        if sha256(content) != listed["sha256"]:
            raise DamageError(f"{name} is not what was written (its sha256 is another one)")
        files[name] = content
    return Saved(path, manifest["run"], manifest["made"], files)


def _content(path: Path, size: int) -> bytes:
    try:
        if not path.is_file():
            raise DamageError(f"{path.name} is missing")
        if path.stat().st_size != size:
            raise DamageError(f"{path.name} has {path.stat().st_size} bytes, not {size}")
        return path.read_bytes()
    except OSError as error:
        raise DamageError(f"{path.name} cannot be read: {error.strerror}") from None


def _manifest(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint, checked in all its parts."""
    file = path / MANIFEST
    try:
        if not file.is_file() or file.stat().st_size > LARGEST_MANIFEST:
            raise DamageError(f"{MANIFEST} is missing or too long")
        content = file.read_bytes()
        body = {key: value for key, value in json.loads(content).items() if key != "sha256"}
        if signed(body) != content:
            raise DamageError(f"{MANIFEST} is not what was written")
    except OSError as error:
        raise DamageError(f"{MANIFEST} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise DamageError(f"{MANIFEST} is not what was written") from None
    if not _well_formed(body):
        raise DamageError(f"{MANIFEST} is none of format {FORMAT}")
    return body


def _well_formed(body: Mapping[str, Any]) -> bool:
    files = body.get("files")
    texts = isinstance(body.get("run"), str) and isinstance(body.get("made"), dict)
    return body.get("format") == FORMAT and texts and isinstance(files, dict) and all(
        FILE.match(name)
        and isinstance(listed, dict)
        and isinstance(listed.get("bytes"), int)
        and isinstance(listed.get("sha256"), str)
        for name, listed in files.items()
    )  # fmt: skip
