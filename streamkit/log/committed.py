"""Reading committed records: up to the last stable offset, and without what was aborted."""

from bisect import bisect_left
from collections.abc import Callable
from itertools import pairwise
from struct import Struct
from typing import NamedTuple

from streamkit.codec.header import CONTROL, TRANSACTIONAL
from streamkit.errors import UnsupportedFormat
from streamkit.log.control import End
from streamkit.log.segment import TXNINDEX
from streamkit.log.segments import Segments
from streamkit.log.view import View
from streamkit.transactions.isolation import committed
from streamkit.transactions.txnindex import ENTRY_BYTES, Aborted, aborted_in, decode_entries

_HEAD = Struct(">qi9xhi")
"""Base offset, length, attributes, last offset delta."""

ATTEMPTS = 10
"""How often files may be gone when they are about to be opened, until they count as lost."""


class Visible(NamedTuple):
    """What is committed of a stretch of a partition: whole batches of data, in order.

    `next_offset` is where to read on. It is beyond `pieces` where something was left out, so that
    there may be no pieces and yet a stretch read; where it is the offset that was asked for, the
    last stable offset is reached.
    """

    pieces: list[bytes]
    next_offset: int


class CommittedReader:
    """Takes no lock, as long as no index is lost."""

    def __init__(
        self,
        segments: Segments,
        *,
        end: Callable[[], End],
        read: Callable[[int, int], bytes],
        walked: Callable[[int], list[Aborted] | None],
        rebuild: Callable[[int], list[Aborted]],
    ) -> None:
        """`read` as `Reader.read`; `rebuild(base)` walks a segment whose index is lost or damaged.

        `walked(base)` is what a walk that nobody wrote down found in a segment, if there was one.
        """
        self._segments = segments
        self._end = end
        self._read = read
        self._walked = walked
        self._rebuild = rebuild
        self._known: tuple[int, dict[int, list[Aborted]]] = (-1, {})
        """The indexes of finished segments, and as of which `rewrites`: as one value, so that a
        thread that is late adds to the ones that it began with."""

        self._active: tuple[int, int, list[Aborted]] = (-1, 0, [])

    def forget(self) -> None:
        """The files may be others from now on."""
        self._known = (-1, {})
        self._active = (-1, 0, [])

    def read(self, offset: int, max_bytes: int = 1 << 20) -> Visible:
        """Read about `max_bytes` from `offset` on, at least one batch if one is committed there.

        Raises what `Reader.read` does, except that a batch in the way may be one that is left out.
        """
        while True:
            end = self._end()
            found = self._read_by(end, offset, max_bytes)
            # A process that was stopped between reading records and reading which were aborted may
            # find compaction to have been there twice: the index no longer names those that went.
            if self._end().rewrites == end.rewrites:
                return found

    def _read_by(self, end: End, offset: int, max_bytes: int) -> Visible:
        stable = max(end.stable_offset, end.start_offset)
        if stable <= offset <= end.end_offset:
            return Visible([], offset)
        data = self._read(offset, max_bytes)
        if not data:
            return Visible([], stable)  # a gap up to the end, left by a power cut or compaction
        at = attributes = 0
        next_offset = offset
        while at < len(data):
            base_offset, length, attribute, delta = _HEAD.unpack_from(data, at)
            if base_offset >= stable:
                next_offset = stable  # compaction has left a gap up to the open transaction
                break
            attributes |= attribute
            next_offset = base_offset + delta + 1
            at += length + 12
        if not attributes & (TRANSACTIONAL | CONTROL):
            return Visible([data[:at]] if at else [], next_offset)
        first = int.from_bytes(data[:8], "big")
        # Asked for after the last stable offset was taken: see `committed`.
        found = committed(data[:at], self.aborted(first, next_offset), stable)
        return Visible([data[start:stop] for start, stop in found.spans], next_offset)

    def aborted(self, start: int, stop: int) -> list[Aborted]:
        """The aborted transactions with offsets in `start` … `stop` − 1, by their markers."""
        for _ in range(ATTEMPTS):
            end = self._end()
            view = self._segments.view(end)
            rewrites, known = self._known
            if rewrites != end.rewrites:
                known = {}
                self._known = end.rewrites, known
            try:
                return self._aborted_in(end, view, known, start, stop)
            except FileNotFoundError as error:  # a segment was removed or merged meanwhile
                self._segments.relist()
                gone = error
        raise gone

    def _aborted_in(
        self, end: End, view: View, known: dict[int, list[Aborted]], start: int, stop: int
    ) -> list[Aborted]:
        found: list[Aborted] = []
        base: int | None = view.base_for(start, end)
        while base is not None:
            entries = self._entries(end, view, known, base)
            since = bisect_left(entries, start, key=lambda entry: entry.last_offset)
            some = aborted_in(entries[since:], start, stop)
            found += some.aborted
            if some.complete:
                break
            base = view.after(base)
        return found

    def _entries(
        self, end: End, view: View, known: dict[int, list[Aborted]], base: int
    ) -> list[Aborted]:
        walked = self._walked(base)
        if walked is not None:
            return walked
        if base == end.active_base:
            return self._of_active(end, view, base)
        entries = known.get(base)
        if entries is None:
            try:
                file = view.file(base, TXNINDEX)
                entries = _decoded(file.read(file.size(), 0), base, view.after(base) or base)
            except FileNotFoundError:
                entries = None
            if entries is None:
                entries = self._rebuild(base)
            known[base] = entries
        return entries

    def _of_active(self, end: End, view: View, base: int) -> list[Aborted]:
        size = end.txnindex_bytes
        if size == 0:
            return []
        known = self._active
        if known[:2] == (base, size):
            return known[2]
        try:
            raw = view.file(base, TXNINDEX).read(size, 0)
            entries = _decoded(raw, base, end.end_offset) if len(raw) == size else None
        except FileNotFoundError:
            entries = None
        if entries is None:
            return self._rebuild(base)
        self._active = base, size, entries
        return entries


def _decoded(raw: bytes, base: int, end: int) -> list[Aborted] | None:
    """The entries of a segment that ends at offset `end`; None when they can't be right."""
    if len(raw) % ENTRY_BYTES:
        return None
    try:
        entries = decode_entries(raw, TXNINDEX)
    except UnsupportedFormat:
        return None
    whole = all(
        entry.first_offset < entry.last_offset and base <= entry.last_offset < end
        for entry in entries
    ) and all(one.last_offset < other.last_offset for one, other in pairwise(entries))
    return entries if whole else None
