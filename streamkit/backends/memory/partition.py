"""One partition in memory: the batches as a file would have them."""

from bisect import bisect_right

from streamkit import codec
from streamkit.codec.buffer import Encoded
from streamkit.codec.header import stamp
from streamkit.errors import InvalidRecord, OffsetOutOfRange, RecordTooLarge
from streamkit.log.config import TopicConfig
from streamkit.records import Columns, Record, TopicPartition
from streamkit.transactions.isolation import committed
from streamkit.transactions.markers import Marker, encode_marker
from streamkit.transactions.producers import Producers
from streamkit.transactions.txnindex import Aborted


class MemoryPartition:
    """Batches one after the other; `start` moves when records are deleted."""

    def __init__(self, tp: TopicPartition, config: TopicConfig) -> None:
        self.tp = tp
        self.config = config
        self.start = 0
        self._batches: list[bytes] = []
        self._bases: list[int] = []
        self._producers = Producers(str(tp))
        self._aborted: list[Aborted] = []

    @property
    def end(self) -> int:
        return self._producers.end_offset

    @property
    def stable(self) -> int:
        """Where the first open transaction begins, else the end."""
        return max(self.start, self._producers.stable_offset)

    @property
    def size(self) -> int:
        return sum(map(len, self._batches))

    def append(self, batch: Encoded, *, sequenced: bool = True) -> int:
        """Append a batch; its first offset. Raises what the log in a directory would."""
        header = codec.read_header(batch)
        if len(batch) > self.config.max_message_bytes:
            raise RecordTooLarge(
                f"{self.tp}: a batch of {len(batch)} bytes; max.message.bytes is "
                f"{self.config.max_message_bytes}"
            )
        if not header.count:
            raise InvalidRecord(f"{self.tp}: a batch without records")
        draft = self._producers.draft()
        known = draft.check(header, sequenced=sequenced, from_zero=header.transactional)
        if known is not None:
            return known.first_offset
        base = draft.end_offset
        draft.follow(header, base)
        self._producers.adopt(draft)
        self._bases.append(base)
        self._batches.append(_stamped(batch, base))
        return base

    def end_transaction(
        self, producer_id: int, epoch: int, commit: bool, bumped: bool, now: int
    ) -> None:
        """Append the marker, unless it is there."""
        marker = Marker(commit, 0)
        batch = encode_marker(marker, producer_id=producer_id, producer_epoch=epoch, timestamp=now)
        header = codec.read_header(batch)
        draft = self._producers.draft()
        if not draft.check_marker(header, marker, bumped=bumped):
            return
        base = draft.end_offset
        aborted = draft.follow(header, base, marker)
        self._producers.adopt(draft)
        self._bases.append(base)
        self._batches.append(_stamped(batch, base))
        if aborted is not None:
            self._aborted.append(aborted)

    def read(self, position: int, max_bytes: int, *, stable: bool) -> "MemoryBatch | None":
        """What there is from an offset on; None at the end."""
        end = self.stable if stable else self.end
        if position == end:
            return None
        if not self.start <= position <= self.end:
            raise OffsetOutOfRange(
                f"{self.tp}@{position}: it has the offsets {self.start} to {self.end}"
            )
        if position > end:
            return None
        first = last = max(0, bisect_right(self._bases, position) - 1)
        size = 0
        while last < len(self._batches) and (size == 0 or size < max_bytes):
            size += len(self._batches[last])
            last += 1
        raw = b"".join(self._batches[first:last])
        if not stable:
            next_offset = codec.read_header(self._batches[last - 1]).next_offset
            return MemoryBatch(self.tp, raw, position, next_offset)
        seen = committed(raw, self._aborted, end)
        if seen.next_offset is None:
            return None
        raw = b"".join(raw[start:stop] for start, stop in seen.spans)
        return MemoryBatch(self.tp, raw, position, seen.next_offset)

    def delete(self, before: int) -> int:
        """Delete what is before an offset; where it starts then."""
        self.start = max(self.start, before)
        gone = 0
        while gone < len(self._bases) and self._next(gone) <= self.start:
            gone += 1
        del self._bases[:gone], self._batches[:gone]
        return self.start

    def offset_at(self, timestamp: int, end: int) -> int | None:
        """The first offset below `end` whose record's timestamp is not before `timestamp`."""
        for batch in self._batches:
            header = codec.read_header(batch)
            if header.max_timestamp >= timestamp and not header.control:
                columns = codec.columns(batch, self.start)
                for offset, at in zip(columns.offsets, columns.timestamps, strict=True):
                    if at >= timestamp and offset < end:
                        return offset
        return None

    def _next(self, number: int) -> int:
        return self._bases[number + 1] if number + 1 < len(self._bases) else self.end


def _stamped(batch: Encoded, base: int) -> bytes:
    head = stamp(batch, base, 0)
    return head + batch[len(head) :]


class MemoryBatch:
    """See `backends.base.Batch`."""

    __slots__ = ("_from_offset", "next_offset", "partition", "raw")

    def __init__(self, partition: TopicPartition, raw: bytes, start: int, end: int) -> None:
        self.partition = partition
        self.next_offset = end
        self.raw = raw
        self._from_offset = start

    def __len__(self) -> int:
        return len(self.columns())

    def columns(self) -> Columns:
        return codec.columns(self.raw, self._from_offset)

    def records(self) -> list[Record[bytes | None]]:
        return codec.records(self.raw, *self.partition, self._from_offset)
