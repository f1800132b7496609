"""How much memory a value takes, and the rows of a store."""

from collections.abc import Iterable
from sys import getsizeof
from typing import Any

SAMPLE = 16
"""Rows of each change that are measured, to know what a row takes."""
_SLOT_BYTES = 45
"""What a row takes in the dictionary."""
_MOST = 200
"""Parts of a value that are looked at: of a long list the first ones stand for the others."""


def weight(value: Any) -> int:
    """About how many bytes a value takes, with all that it consists of."""
    taken, looked, waiting = 0, 0, [value]
    while waiting and looked < _MOST:
        part = waiting.pop()
        looked += 1
        # Small ones are shared by everybody.
        if part is None or part is True or part is False or (type(part) is int and -6 < part < 257):
            continue
        taken += getsizeof(part)
        waiting += _parts(part)
    return taken if not waiting else taken * (looked + len(waiting)) // looked


def _parts(value: Any) -> list[Any]:
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, dict):
        return [*value, *value.values()]
    fields = getattr(value, "__struct_fields__", None)
    if fields is not None:
        return [getattr(value, field) for field in fields]
    held = getattr(value, "__dict__", None)
    if held is not None and not isinstance(value, type):
        return [held]
    return []


class RowWeight:
    """What a row of a store takes, learnt from some of them."""

    __slots__ = ("_surprise", "bytes")

    def __init__(self) -> None:
        self.bytes = _SLOT_BYTES * 3.0
        self._surprise = 1.0  # how much of a new measure is believed

    @property
    def is_guessed(self) -> bool:
        """Whether it was learnt from few rows yet: the next ones may change it much."""
        return self._surprise > 0.2

    def learn(self, rows: Iterable[tuple[bytes, Any]]) -> None:
        """From keys and what is in memory for them; None: nothing is."""
        taken = [getsizeof(key) + weight(cell) for key, cell in rows if cell is not None]
        if taken:
            mean = sum(taken) / len(taken)
            self.bytes += (_SLOT_BYTES + mean - self.bytes) * self._surprise
            self._surprise = max(self._surprise / 2, 0.1)
