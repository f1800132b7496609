"""Parts of columns: up to an offset, or within a span of time."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import TypeVar

from streamkit.records import Columns

T = TypeVar("T")


def before(columns: Columns, offset: int) -> Columns:
    """The records whose offset is below `offset`."""
    if not len(columns) or columns.offsets[-1] < offset:
        return columns
    count = bisect_left(columns.offsets, offset)
    return Columns(
        columns.offsets[:count],
        columns.timestamps[:count],
        columns.keys[:count],
        columns.values[:count],
        None if columns.headers is None else columns.headers[:count],
    )


def within(columns: Columns, start: int, end: int) -> Columns:
    """The records whose timestamp (ms) is in [start, end)."""
    chosen = [at for at, stamp in enumerate(columns.timestamps) if start <= stamp < end]
    if len(chosen) == len(columns):
        return columns
    return Columns(
        _take(columns.offsets, chosen),
        _take(columns.timestamps, chosen),
        _take(columns.keys, chosen),
        _take(columns.values, chosen),
        None if columns.headers is None else _take(columns.headers, chosen),
    )


def _take(column: Sequence[T], chosen: list[int]) -> list[T]:
    return [column[at] for at in chosen]
