"""Tables of rows that are made when they are first looked up: to read a formula takes a millisecond or more, and a
process needs few of the hundred formulas that the tables hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

R = TypeVar("R")


class Table(Mapping[str, R], Generic[R]):
    """Rows by name, in the order given; none can be added or changed.

    >>> table = Table([("one", lambda: 1), ("two", lambda: 2)])
    >>> list(table), table["two"], table.get("three")
    (['one', 'two'], 2, None)
    """

    __slots__ = ("_makers", "_rows")

    def __init__(self, makers: Iterable[tuple[str, Callable[[], R]]]) -> None:
        self._makers = dict(makers)
        self._rows: dict[str, R] = {}

    def __getitem__(self, name: str) -> R:
        if name not in self._rows:
            self._rows[name] = self._makers[name]()
        return self._rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def __contains__(self, name: object) -> bool:
        return name in self._makers
