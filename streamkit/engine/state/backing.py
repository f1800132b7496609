"""What a store has its values in besides memory: a place on disk, or another store."""

from collections.abc import Mapping
from typing import Protocol


class Backing(Protocol):
    """Encoded values by key, at one offset of the changelog. Written to between batches only."""

    @property
    def position(self) -> int:
        """The offset after the last change it has."""
        ...

    def __len__(self) -> int: ...

    def get(self, key: bytes) -> bytes | None: ...

    def some(self, low: bytes, high: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        """The first rows of [low, high) in order of their keys, at most `limit`."""
        ...

    def last(self, low: bytes, high: bytes) -> bytes | None:
        """The last key of [low, high); None: there is none."""
        ...

    @property
    def note(self) -> bytes:
        """What was last written with a position."""
        ...

    def write(
        self, changes: Mapping[bytes, bytes | None], position: int, note: bytes = b""
    ) -> bool:
        """Take in changes (None: the key is gone) that lead to a position.

        Some of them may be there without the position, after a crash; never the other way round.
        False when they cannot be taken now.
        """
        ...

    def due(self, rows: int) -> bool:
        """Whether so many changes should be written now."""
        ...

    def close(self) -> None: ...
