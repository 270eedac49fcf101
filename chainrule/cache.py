"""What `chainrule cache` shows and clears: the folder of kernels."""

from __future__ import annotations

import time

from .runtime.cache import Kept, clear, kept
from .runtime.folder import ENVIRONMENT, SIZE, cache_folder, size_bound


def show() -> None:
    """Where the folder is, how much is in it, and when that was used."""
    folder = cache_folder()
    entries = kept(folder)
    print(f"folder   {folder} (set {ENVIRONMENT} for another)")
    print(f"entries  {len(entries):,} of {_size(sum(k.size for k in entries))}")
    print(f"bound    {_size(size_bound())}, then what was used least recently goes (set {SIZE} for another)")
    if entries:
        print(f"used     {_when(entries[0])} the oldest, {_when(entries[-1])} the newest")


def empty() -> None:
    """Remove all entries, and say what is left because it is not ours."""
    folder = cache_folder()
    removed, left = clear(folder)
    print(f"{folder}: {len(removed):,} files of {_size(sum(k.size for k in removed))} are removed")
    if left:
        print(f"{len(left):,} not of chainrule's {'is' if len(left) == 1 else 'are'} left, {left[0]!a} among them")


def _when(entry: Kept) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))


def _size(count: int) -> str:
    """
    >>> _size(512), _size(1_500), _size(123_456_789)
    ('512 bytes', '1.5 kB', '123.5 MB')
    """
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} bytes"
