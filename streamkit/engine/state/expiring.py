"""A store that forgets what was not written for some time."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from streamkit.engine.rows import Rows
from streamkit.engine.state.store import Cursor, Store
from streamkit.serde import Serde

_STAMP = 8
"""Bytes before each value in the backing: the time it was written at, signed, big-endian."""
_PASSES = 16
"""How often, while the time to live goes by, the backing is looked through."""
_LOOKED_AT = 256
"""Rows of the backing looked at in each commit, and twice as many as were changed."""


class Clock(Protocol):
    """A task's event time."""

    @property
    def watermark(self) -> int: ...


class ExpiringStore(Store):
    """A value is gone once the task's watermark is `ttl` ms or more after its last change.

    That depends on nothing but the events, and not on when it is taken away: that happens at
    commits, a bounded number at a time, with a tombstone in the changelog. A cell is
    (time of the last change, value).
    """

    layout = "times and values"

    def __init__(
        self, changelog: str, serde: Serde, cursor: Cursor, ttl: int, clock: Clock
    ) -> None:
        super().__init__(changelog, serde, cursor)
        self.ttl = ttl
        self._clock = clock
        self.passed: Callable[[], int] = lambda: clock.watermark
        """How far time has come for all that may still ask."""
        self._next: bytes | None = None  # where the look through the backing goes on
        self._look_again = -(1 << 62)  # the watermark at which the next one begins

    def get(self, key: bytes) -> Any:
        cell = super().get(key)
        if cell is None or cell[0] + self.ttl <= self._clock.watermark:
            return None
        return cell[1]

    def put(self, key: bytes, value: Any, stamp: int) -> None:
        if value is None:
            self.delete(key, stamp)
            return
        before = self._look(key)
        # A late event does not let a value go earlier.
        stamp = max(stamp, 0 if before is None else before[0])
        if not self._partial and before is not None:
            # Behind the others: so the cells are about in the order in which they expire.
            del self._young[key]
            self.changed.setdefault(key, stamp)
        super().put(key, (stamp, value), stamp)

    def scan(self, low: bytes, high: bytes | None = None) -> Iterator[tuple[bytes, Any]]:
        for key, cell in super().scan(low, high):
            if cell[0] + self.ttl > self._clock.watermark:
                yield key, cell[1]

    def changes(self) -> Rows:
        limit = _LOOKED_AT + 2 * len(self.changed)
        if self._partial:
            self._expire_behind(limit)
        else:
            self._expire(limit)
        return super().changes()

    def _expire(self, limit: int) -> None:
        gone: list[tuple[bytes, int]] = []
        now = self.passed()
        for key, (stamp, _) in self._young.items():
            if stamp + self.ttl > now or len(gone) == limit:
                break
            gone.append((key, stamp))
        for key, stamp in gone:
            self.delete(key, stamp + self.ttl)

    def _expire_behind(self, limit: int) -> None:
        assert self._backing is not None
        now = self.passed()
        if self._next is None:
            if now < self._look_again:
                return
            self._next, self._look_again = b"", now + self.ttl // _PASSES
        rows = self._backing.some(self._next, None, limit)
        for key, data in rows:
            # What was written since is in memory; so is what was deleted.
            if _stamp(data) + self.ttl <= now:
                cell = self._look(key)
                if cell is not None and cell[0] + self.ttl <= now:
                    self.delete(key, cell[0] + self.ttl)
        self._next = rows[-1][0] + b"\0" if len(rows) == limit else None

    # Cells.

    def _cell(self, value: Any, stamp: int) -> Any:
        return stamp, value

    def _values(self, cells: list[Any]) -> list[Any]:
        return [None if cell is None else cell[1] for cell in cells]

    def _anew(self, cell: Any, data: bytes) -> Any:
        return cell[0], super()._anew(cell, data)

    def _from_backing(self, data: bytes) -> Any:
        return _stamp(data), super()._from_backing(data[_STAMP:])

    def _kept(
        self, keys: list[bytes], values: list[bytes | None], stamps: Mapping[bytes, int]
    ) -> dict[bytes, bytes | None]:
        return {
            key: None if data is None else stamps[key].to_bytes(_STAMP, "big", signed=True) + data
            for key, data in zip(keys, values, strict=True)
        }


def _stamp(data: bytes) -> int:
    return int.from_bytes(data[:_STAMP], "big", signed=True)


def new_store(changelog: str, serde: Serde, cursor: Cursor, ttl: int | None, clock: Clock) -> Store:
    """A store of a task, whose values expire if there is a `ttl` (ms)."""
    if ttl is None:
        return Store(changelog, serde, cursor)
    return ExpiringStore(changelog, serde, cursor, ttl, clock)
