"""Columns as they come from a log."""

from collections.abc import Sequence
from typing import Any

from streamkit.records import Columns


def as_read(offsets: Sequence[int], *columns: Any) -> Columns:
    """Offsets without holes are a range, all others a list."""
    if offsets and offsets[-1] - offsets[0] == len(offsets) - 1:
        return Columns(range(offsets[0], offsets[-1] + 1), *columns)
    return Columns(list(offsets), *columns)
