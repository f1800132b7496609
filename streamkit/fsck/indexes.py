"""A segment's indexes held against its batches, which are given one after the other.

An index may know less than it could: entries are hints. None may say what is not so.
"""

from collections.abc import Iterable

from streamkit.codec import BatchHeader
from streamkit.log.index import OFFSET_ENTRY, TIME_ENTRY
from streamkit.transactions.txnindex import Aborted


class OffsetIndex:
    """`.index`: where it says that a batch begins, one does, and the offset is not before it."""

    def __init__(self, data: bytes, base: int) -> None:
        self._data = data
        self._base = base
        self._at = 0
        self._end = _used(data, OFFSET_ENTRY.size)
        self._last = -1
        self.problem: tuple[int, str] | None = None
        """Byte and text of the first lie."""
        if len(data) % OFFSET_ENTRY.size:
            self._lie(self._end, "ends in a part of an entry")

    def batch(self, position: int, header: BatchHeader) -> None:
        while self._at < self._end:
            relative, at = OFFSET_ENTRY.unpack_from(self._data, self._at)
            offset = self._base + relative
            if at > position:
                return
            if at < position:
                self._lie(self._at, f"no batch begins at byte {at}")
            elif not header.base_offset <= offset or offset <= self._last:
                self._lie(self._at, f"offset {offset} at byte {at}, where {header.base_offset} is")
            self._last = offset
            self._at += OFFSET_ENTRY.size

    def finish(self) -> None:
        """The segment has no more batches."""
        if self._at < self._end:
            _, at = OFFSET_ENTRY.unpack_from(self._data, self._at)
            self._lie(self._at, f"no batch begins at byte {at}")

    def _lie(self, at: int, problem: str) -> None:
        self.problem = self.problem or (at, problem)


class TimeIndex:
    """`.timeindex`: no record up to the offset of an entry is later than its timestamp."""

    def __init__(self, data: bytes, base: int) -> None:
        self._data = data
        self._base = base
        self._at = 0
        self._end = _used(data, TIME_ENTRY.size)
        self._last = (-1, -1)
        self._largest = -1
        self.problem: tuple[int, str] | None = None
        if len(data) % TIME_ENTRY.size:
            self._lie(self._end, "ends in a part of an entry")

    def batch(self, header: BatchHeader) -> None:
        before = self._largest
        self._largest = max(before, header.max_timestamp)
        while self._at < self._end:
            timestamp, relative = TIME_ENTRY.unpack_from(self._data, self._at)
            offset = self._base + relative
            if offset > header.last_offset:
                return
            # Within a batch the entry may mean one of its records.
            largest = self._largest if offset == header.last_offset else before
            if largest > timestamp:
                self._lie(self._at, f"{timestamp} up to offset {offset}, but {largest} is there")
            if (timestamp, offset) <= self._last:
                self._lie(self._at, f"{timestamp} at offset {offset} after a later entry")
            self._last = (timestamp, offset)
            self._at += TIME_ENTRY.size

    def finish(self, *, sealed: bool) -> None:
        """No more batches; a `sealed` segment's last entry has its largest timestamp."""
        if self._at < self._end:
            _, relative = TIME_ENTRY.unpack_from(self._data, self._at)
            self._lie(self._at, f"offset {self._base + relative} is not in the segment")
        elif sealed and 0 <= self._last[0] < self._largest:
            self._lie(self._end, f"ends with {self._last[0]}, but the segment has {self._largest}")

    def _lie(self, at: int, problem: str) -> None:
        self.problem = self.problem or (at, problem)


class TransactionIndex:
    """`.txnindex`: exactly the aborted transactions whose markers stand in the segment."""

    def __init__(self, entries: Iterable[Aborted], *, begin: int, sparse: bool) -> None:
        """`begin`: from there on the log was walked; `sparse`: compaction may have taken markers"""
        self._begin = begin
        self._sparse = sparse
        self.problems: list[tuple[int, str]] = []
        """Offset and text of each lie."""

        self._left: dict[int, Aborted] = {}
        for entry in entries:
            if entry.last_offset in self._left:
                self.problems.append((entry.last_offset, "two transactions with one marker"))
            self._left[entry.last_offset] = entry

    def marker(self, header: BatchHeader, *, commit: bool, ended: Aborted | None) -> None:
        """A marker of the segment. `ended` is what following the producers makes of it."""
        entry = self._left.pop(header.base_offset, None)
        if commit or entry is None:
            if entry is not None:
                self._lie(header, "called aborted, but it was committed")
            elif ended is not None:
                self._lie(header, "the abort is missing: its records are taken for committed ones")
            return
        if entry.producer_id != header.producer_id:
            self._lie(header, f"said to be of producer {entry.producer_id}")
        elif ended is not None and not self._same(entry, ended):
            self._lie(
                header, f"from offset {entry.first_offset}, but it began at {ended.first_offset}"
            )
        elif ended is None and entry.first_offset >= self._begin and not self._sparse:
            self._lie(header, f"from offset {entry.first_offset}, but no transaction was open")

    def _same(self, entry: Aborted, ended: Aborted) -> bool:
        if self._sparse:  # the first records may be gone, and with them where it began
            return entry.first_offset <= ended.first_offset
        # One that was open already where the log begins today was seen from there on only.
        began = entry.first_offset == ended.first_offset or entry.first_offset < self._begin
        return began and entry.last_stable_offset == ended.last_stable_offset

    def finish(self) -> None:
        for offset, entry in self._left.items():
            if not self._sparse:
                self.problems.append(
                    (offset, f"producer {entry.producer_id} has no marker at offset {offset}")
                )

    def _lie(self, header: BatchHeader, problem: str) -> None:
        text = f"transaction of producer {header.producer_id}, ended at {header.base_offset}"
        self.problems.append((header.base_offset, f"{text}: {problem}"))


def _used(data: bytes, entry: int) -> int:
    """Without the zeros at the end: a broker that was killed leaves the room it set aside."""
    used = len(data.rstrip(b"\0"))
    return min(-(-used // entry) * entry, len(data) - len(data) % entry)
