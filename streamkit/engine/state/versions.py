"""The rows of a table as they were at some time: a row per key and time.

A row is kept under the length of its key, the key, and its time, so that those of one key stand
together in the order of their times. As of a time the key has the one with the largest timestamp
that is not after it; of several with one timestamp that with the largest offset.

What nobody asks for any more is dropped, some of it at each commit: of the rows of a key before the
time that is kept, all but the last. That cannot be seen, nor when it is done. A deletion is a row
as well; where it is the last of its key it stays until the table itself has gone on for a day (by
the timestamps of its partition), and from then on it is as if the key had never been. So what there
is as of a time depends on the topic alone.
"""

from collections.abc import Callable
from itertools import zip_longest
from typing import Any

from streamkit.engine.state.table import Mark, TableStore, read_mark
from streamkit.records import Columns

REMEMBERED = 24 * 3600 * 1000
"""How long, in ms of a partition's own time, a key is known to be deleted."""
_TIME = 8
_ZERO = 1 << 63
_DELETED = b"\0"
_ROW = b"\1"
_LOOKED_AT = 256
"""Rows looked at in each commit, and twice as many as were taken."""
_NEAR = 10_000
"""Keys whose last answer is remembered."""


def _head(key: bytes) -> bytes:
    return len(key).to_bytes(4, "big") + key


def _time(stamp: int) -> bytes:
    return (stamp + _ZERO).to_bytes(_TIME, "big")


def _stamp(at: bytes) -> int:
    return int.from_bytes(at[-_TIME:], "big") - _ZERO


_FIRST, _LAST = b"\0" * _TIME, b"\xff" * _TIME


class VersionRows(TableStore):
    """See the module. A cell is (row,), or (None,) for a deletion."""

    layout = "versions"
    may_repeat = False
    """A deletion of later on would seem to be one that is to be forgotten."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.trimmed: int | None = None
        """From this time (ms) on there is everything; None: nothing was dropped."""
        self._latest: dict[int, int] = {}
        self._since: dict[object, int] = {}
        self._near: dict[bytes, tuple[int, int, Any]] = {}  # a row, and from when to when it is
        self._whole: dict[bytes, tuple[int, int]] = {}  # from when to when no deletion is known
        self._next: bytes | None = None  # where the look for what to drop goes on
        self._passed: int | None = None  # the time that the last one was for
        self._allowance = 0

    def as_of(self, key: bytes, time: int) -> Any:
        """The row that was there at a time (ms); None: there was none."""
        near = self._near.get(key)
        if near is not None and near[0] <= time < near[1]:
            return near[2]
        head = _head(key)
        found = self.last(head + _FIRST, head + _time(time + 1))
        after = self.first(head + _time(time + 1), head + _LAST)
        start, row = (-_ZERO, None) if found is None else (_stamp(found[0]), found[1][0])
        if len(self._near) >= _NEAR:
            self._near.clear()
        self._near[key] = (start, _ZERO if after is None else _stamp(after[0]), row)
        return row

    def keep(self, user: object, since: int) -> None:
        """A user asks for no time before `since` (ms) any more."""
        self._since[user] = since

    def leave(self, user: object) -> None:
        """A user asks for nothing any more."""
        self._since.pop(user, None)

    def reaches(self, since: int | None) -> bool:
        """Whether it has all versions that matter from a time (ms) on; None: all there were."""
        return _reaches(self.trimmed, since)

    def settle(self) -> None:
        super().settle()
        if self._since:
            self._drop_some(min(self._since.values()))

    def make_room(self) -> bool:
        self._near.clear()
        self._whole.clear()
        return super().make_room()

    # Inside.

    def _take(self, partition: int, columns: Columns, start: int, stop: int) -> None:
        latest = self._latest.get(partition, -_ZERO)
        for at in range(start, stop):
            key, data, stamp = columns.keys[at], columns.values[at], columns.timestamps[at]
            if key is None:
                raise self._keyless(partition, columns.offsets[at])
            head = _head(key)
            if stamp + REMEMBERED < latest:
                self._forget_deletion(head, stamp, latest)
            if data is None:
                self._whole.pop(head, None)
                self._keep(head + _time(stamp), (None,), _DELETED)
            else:
                row = self._row(data, partition, columns.offsets[at])
                self._keep(head + _time(stamp), (row,), _ROW + data)
            self._near.pop(key, None)
            latest = max(latest, stamp)
        self._latest[partition] = latest
        self._allowance += 2 * (stop - start)

    def _some_keys(self, columns: Columns, start: int, stop: int) -> list[bytes]:
        return [
            _head(columns.keys[at] or b"") + _time(columns.timestamps[at])
            for at in range(start, min(stop, start + 16))
        ]

    def _forget_deletion(self, head: bytes, stamp: int, latest: int) -> None:
        """Before a row comes with an older time than that at which its key was deleted long ago:
        what has come of it since tells nobody whether that is still known."""
        first, end = stamp + 1, latest - REMEMBERED + 1
        low, high = self._whole.get(head, (end, end))
        if high < first:
            low = high = end
        for start, stop in ((high, end), (first, low)):
            some = self.scan(head + _time(start), head + _time(stop)) if start < stop else ()
            deleted = [at for at, (row,) in some if row is None]
            if deleted:
                self._whole.pop(head, None)
                for at, _ in list(self.scan(head + _FIRST, deleted[-1] + b"\0")):
                    self._keep(at, None, None)
                return
        if len(self._whole) >= _NEAR:
            self._whole.clear()
        self._whole[head] = min(first, low), end

    def _drop_some(self, since: int) -> None:
        if self._next is None:
            if self._passed is not None and since <= self._passed:
                return
            self._next, self._passed = b"", since
        elif self._passed is None or since < self._passed:
            self._passed = since  # somebody came who is further behind
        since = self._passed
        limit, self._allowance = _LOOKED_AT + self._allowance, 0
        forgotten = min(self._latest.values(), default=0) - REMEMBERED
        while limit > 0:
            found, whole = self._keys(self._next, None)
            keys = [key for key in found if not self._is_gone(key)]
            limit -= len(found)
            for key, after in zip_longest(keys, keys[1:], fillvalue=b""):
                if after[:-_TIME] == key[:-_TIME]:
                    if _stamp(after) <= since:
                        self._drop(key, since)
                elif (after or whole) and _stamp(key) <= min(since, forgotten):
                    first = self.first(key[:-_TIME] + _FIRST, key[:-_TIME] + _LAST)
                    if first is not None and first[0] == key and first[1][0] is None:
                        self._drop(key, since)
            if whole:
                self._next = None
                break
            # The last one once more, with what comes after it.
            self._next = keys[-1] if len(keys) > 1 else found[-1] + b"\0"

    def _is_gone(self, key: bytes) -> bool:
        return key in self._young and self._young[key] is None

    def _drop(self, key: bytes, since: int) -> None:
        self._keep(key, None, None)
        if self.trimmed is None or since > self.trimmed:
            self.trimmed = since
            if self._at_once:
                self._settled = self._mark()

    def _begin_with(self, mark: Mark) -> None:
        super()._begin_with(mark)
        self._latest, self.trimmed = dict(mark.latest), mark.trimmed

    def _mark(self) -> Mark:
        return Mark(dict(self.positions), dict(self._latest), self.trimmed)

    # Cells.

    def _from_backing(self, data: bytes) -> Any:
        return (super()._from_backing(data[1:]) if data[:1] == _ROW else None,)


def begins_at(since: int | None) -> Callable[[bytes], bool]:
    """Whether what a backing notes is enough for who asks for no time before `since`; None: for
    who asks for any."""

    def fits(note: bytes) -> bool:
        return _reaches(read_mark(note or b"{}").trimmed, since)

    return fits


def _reaches(trimmed: int | None, since: int | None) -> bool:
    return trimmed is None or (since is not None and trimmed <= since)
