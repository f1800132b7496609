"""The producers of one partition: what each wrote last, and which transactions are open.

    draft = producers.draft()
    for header in headers:                          # under the partition's append lock
        if (known := draft.check(header)) is None:  # raises when the batch may not be appended
            ended = draft.follow(header, offset, marker)
    ... write, publish ...
    producers.adopt(draft)

`check` and `check_marker` are asked about batches that come in. `follow` says what a batch that
stands in the log means, whoever put it there: an append, the appends of other processes since, and
recovery all go through it. A draft that is not adopted leaves nothing behind.
"""

from collections.abc import Container, Iterable, Iterator

import msgspec

from streamkit.codec import BatchHeader
from streamkit.codec.header import CONTROL, TRANSACTIONAL
from streamkit.errors import (
    CoordinatorFenced,
    InvalidProducerEpoch,
    InvalidRecord,
    InvalidTxnState,
    OutOfOrderSequence,
)
from streamkit.transactions.markers import Marker
from streamkit.transactions.producer import (
    NONE,
    WINDOW,
    Batch,
    Producer,
    last_sequence,
    sequence_after,
)
from streamkit.transactions.txnindex import Aborted


class Producers:
    """All producers of one partition up to `end_offset`.

    Owned by whoever holds the partition's append lock; changed by `adopt`, `follow`, `advance`,
    `settle` and `expire` only. `name` is the partition's, for messages.
    """

    __slots__ = ("_entries", "_name", "_open", "end_offset")

    def __init__(self, name: str, entries: Iterable[Producer] = (), end_offset: int = 0) -> None:
        self._name = name
        self._entries = {entry.producer_id: entry for entry in entries}
        found = [(e.open_from, e.producer_id) for e in self._entries.values() if e.open_from >= 0]
        # By first offset, which is also the order in which later ones are added.
        self._open = dict(sorted(found))
        self.end_offset = end_offset

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Producer]:
        """By producer id."""
        return iter(sorted(self._entries.values(), key=lambda entry: entry.producer_id))

    def get(self, producer_id: int) -> Producer | None:
        return self._entries.get(producer_id)

    @property
    def open_transactions(self) -> dict[int, int]:
        """First offset to producer id, earliest first."""
        return dict(self._open)

    @property
    def stable_offset(self) -> int:
        """LSO: the first offset of the earliest open transaction, else the end.

        Where retention has removed that offset, the partition's start counts instead.
        """
        return next(iter(self._open), self.end_offset)

    def draft(self) -> "Draft":
        return Draft(self._name, self._entries, self._open, self.end_offset)

    def adopt(self, draft: "Draft") -> None:
        """Make what the draft followed the state. One draft at a time."""
        assert draft.began_at == self.end_offset, "the draft was begun before another was adopted"
        self._entries.update(draft.changed)
        for first in draft.closed:
            self._open.pop(first, None)
        self._open.update(draft.opened)
        self.end_offset = draft.end_offset

    def follow(
        self, header: BatchHeader, base_offset: int, marker: Marker | None = None
    ) -> Aborted | None:
        """Take in one batch that stands in the log; see `Draft.follow`."""
        draft = self.draft()
        ended = draft.follow(header, base_offset, marker)
        self.adopt(draft)
        return ended

    def advance(self, end_offset: int) -> None:
        """Take in that up to there the log has no further batches with a producer id."""
        assert end_offset >= self.end_offset, f"{self._name}@{end_offset} was followed before"
        self.end_offset = end_offset

    def settle(self, stable_offset: int) -> list[int]:
        """Take in that no transaction from before that offset is open, whatever was followed.

        Returns the producer ids whose markers were missing.
        """
        missing = [
            producer_id for first, producer_id in self._open.items() if first < stable_offset
        ]
        for producer_id in missing:
            entry = self._entries[producer_id]
            del self._open[entry.open_from]
            self._entries[producer_id] = msgspec.structs.replace(entry, open_from=NONE)
        return missing

    def expire(self, now: int, after: int, keep: Container[int] = ()) -> list[int]:
        """Forget producers without an open transaction whose last batch is `after` ms old or more.

        `now` in ms. As in Kafka, a batch is as old as its records' timestamps say; `keep` are the
        ids that the caller knows to be alive although they write old records. Returns the ids
        forgotten. A producer that is forgotten may go on with any sequence.
        """
        gone = [
            entry.producer_id
            for entry in self._entries.values()
            if entry.open_from < 0
            and now - entry.timestamp >= after
            and entry.producer_id not in keep
        ]
        for producer_id in gone:
            del self._entries[producer_id]
        return gone


class Draft:
    """Producers as they will be once some batches are appended. Made by `Producers.draft`."""

    __slots__ = (
        "_entries",
        "_name",
        "_open",
        "began_at",
        "changed",
        "closed",
        "end_offset",
        "opened",
    )

    def __init__(
        self, name: str, entries: dict[int, Producer], open_: dict[int, int], end_offset: int
    ) -> None:
        self._name = name
        self._entries = entries
        self._open = open_
        self.began_at = self.end_offset = end_offset
        self.changed: dict[int, Producer] = {}
        self.opened: dict[int, int] = {}
        self.closed: set[int] = set()

    def get(self, producer_id: int) -> Producer | None:
        return self.changed.get(producer_id) or self._entries.get(producer_id)

    @property
    def stable_offset(self) -> int:
        """LSO once the draft is adopted."""
        for first in self._open:
            if first not in self.closed:
                return first
        return next(iter(self.opened), self.end_offset)

    def check(
        self, header: BatchHeader, *, sequenced: bool = True, from_zero: bool = False
    ) -> Batch | None:
        """Whether a batch of data may be appended at the end: None if it may.

        A batch that is there already is given as it stands there: answer with its offsets and
        append nothing. `sequenced` is False for batches that the coordinator of groups writes for
        a transaction. `from_zero` refuses an unknown producer that does not begin with sequence 0,
        as clients of transaction version 2 do. Raises InvalidProducerEpoch, OutOfOrderSequence,
        InvalidTxnState, and InvalidRecord when the header contradicts itself.
        """
        if header.producer_id == NONE and not header.attributes & (TRANSACTIONAL | CONTROL):
            return None
        self._require_sense(header, sequenced)
        entry = self.get(header.producer_id)
        epoch, first = header.producer_epoch, header.base_sequence
        if entry is None:
            if sequenced and from_zero and first != 0:
                raise OutOfOrderSequence(
                    f"{self._where(header)}: sequence {first} of a producer that is not known"
                    " here, expected 0; abort the transaction and send it again"
                )
            return None
        same = epoch == entry.epoch
        if same and sequenced and entry.batches:
            last = last_sequence(header)
            for batch in entry.batches:
                if batch.last_sequence == last and batch.offset_delta == header.last_offset_delta:
                    return batch
        if epoch < entry.epoch:
            raise InvalidProducerEpoch(
                f"{self._where(header)}: epoch {epoch}, but {entry.epoch} is the present one; this"
                " producer's transaction was ended, or another one took its place"
            )
        if sequenced:
            expected = 0
            if same and entry.last_sequence >= 0:
                expected = sequence_after(entry.last_sequence, 1)
            if first != expected:
                raise OutOfOrderSequence(
                    f"{self._where(header)}: sequence {first} in epoch {epoch}, expected {expected}"
                    f" after sequence {entry.last_sequence} in epoch {entry.epoch}; a batch between"
                    " them is missing, or was sent before the last few"
                )
        if entry.open_from >= 0 and epoch > entry.epoch:
            raise InvalidTxnState(
                f"{self._where(header)}: epoch {epoch}, but a transaction of epoch {entry.epoch} is"
                f" open since offset {entry.open_from}, and would be committed together with this"
                " one; abort, and begin again when it has ended"
            )
        if entry.open_from >= 0 and not header.transactional:
            raise InvalidTxnState(
                f"{self._where(header)}: a batch outside of a transaction, but the producer has had"
                f" one open since offset {entry.open_from}; commit or abort it first"
            )
        return None

    def check_marker(self, header: BatchHeader, marker: Marker, *, bumped: bool) -> bool:
        """Whether a marker is to be appended; False when its transaction has ended here already.

        `bumped` says that the coordinator raised the epoch to end the transaction (transaction
        version 2): the marker's is then above that of the batches. Raises InvalidProducerEpoch for
        a marker that is too late, and CoordinatorFenced.
        """
        if header.producer_id < 0 or header.producer_epoch < 0:
            raise InvalidRecord(f"{self._name}: a marker without a producer's id and epoch")
        entry = self.get(header.producer_id)
        if entry is None:
            return True
        epoch = header.producer_epoch
        if epoch < entry.epoch or (bumped and epoch == entry.epoch and entry.open_from >= 0):
            raise InvalidProducerEpoch(
                f"{self._where(header)}: a marker of epoch {epoch}, but the producer is at"
                f" {entry.epoch}{' with a transaction open' if entry.open_from >= 0 else ''}; the"
                " marker is of a transaction that is over"
            )
        if marker.coordinator_epoch < entry.coordinator_epoch:
            raise CoordinatorFenced(
                f"{self._where(header)}: a marker of coordinator {marker.coordinator_epoch}, but"
                f" {entry.coordinator_epoch} has written one; this coordinator is no longer it"
            )
        # Written again, it would only be one more record: it opens and closes nothing.
        return epoch != entry.epoch or entry.open_from >= 0

    def coordinator_epoch(self, producer_id: int) -> int:
        """That of the producer's last marker. A coordinator that names it is never fenced.

        For those who know by other means that they are the coordinator. A higher one would fence a
        Kafka broker that comes next, as that counts its epochs from 0.
        """
        entry = self.get(producer_id)
        return max(0, entry.coordinator_epoch) if entry is not None else 0

    def holds_earlier(self, header: BatchHeader, *, bumped: bool) -> bool:
        """Whether the producer has a transaction open from before the one that a marker ends.

        A marker to commit is not for that: its producer was fenced, and this partition is the one
        that had not heard of it, because the topic was deleted and made again since, or because
        the producer was forgotten. `bumped` as in `check_marker`.
        """
        entry = self.get(header.producer_id)
        ended = header.producer_epoch - 1 if bumped else header.producer_epoch
        return entry is not None and entry.open_from >= 0 and entry.epoch < ended

    def follow(
        self, header: BatchHeader, base_offset: int, marker: Marker | None = None
    ) -> Aborted | None:
        """Take in one batch at `base_offset`; `marker` is what `read_marker` finds in it.

        Returns what to add to the transaction index, when the batch aborts a transaction. Nothing
        is checked: what is in the log counts.
        """
        assert base_offset >= self.end_offset, f"{self._name}@{base_offset} was followed before"
        last_offset = base_offset + header.last_offset_delta
        self.end_offset = last_offset + 1
        if header.producer_id < 0:
            return None
        entry = self.get(header.producer_id) or Producer(header.producer_id)
        if header.attributes & CONTROL:
            if marker is not None:
                return self._end(entry, header, base_offset, marker)
            if header.count == 0:
                # Compaction has emptied a marker and kept its header, for the epoch.
                gone = Marker(commit=True, coordinator_epoch=entry.coordinator_epoch)
                self._end(entry, header, base_offset, gone)
            return None
        batch = Batch(last_sequence(header), last_offset, header.last_offset_delta)
        open_from = entry.open_from
        if open_from >= 0 and entry.epoch < header.producer_epoch:
            # `check` lets none in before the marker: compaction has taken that since.
            self._close(open_from)
            open_from = NONE
        # A batch that compaction has emptied keeps its header for the sequence alone: its
        # transaction was decided long ago, and the marker may be gone.
        if open_from < 0 and header.attributes & TRANSACTIONAL and header.count > 0:
            open_from = base_offset
            self.opened[open_from] = header.producer_id
        known = entry.batches if entry.epoch == header.producer_epoch else ()
        self.changed[header.producer_id] = Producer(
            header.producer_id,
            header.producer_epoch,
            entry.coordinator_epoch,
            header.max_timestamp,
            open_from,
            (*known[1 - WINDOW :], batch),
        )
        return None

    def _end(
        self, entry: Producer, header: BatchHeader, offset: int, marker: Marker
    ) -> Aborted | None:
        self.changed[entry.producer_id] = Producer(
            entry.producer_id,
            header.producer_epoch,
            marker.coordinator_epoch,
            header.max_timestamp,
            NONE,
            entry.batches if entry.epoch == header.producer_epoch else (),
        )
        first = entry.open_from
        if first < 0:
            return None
        self._close(first)
        if marker.commit:
            return None
        return Aborted(entry.producer_id, first, offset, self.stable_offset)

    def _close(self, first: int) -> None:
        if self.opened.pop(first, None) is None:
            self.closed.add(first)

    def _require_sense(self, header: BatchHeader, sequenced: bool) -> None:
        if header.attributes & CONTROL:
            problem = "control batches are written by coordinators only"
        elif header.producer_id < 0:
            problem = "a transactional batch has a producer id, and none is negative"
        elif header.producer_epoch < 0:
            problem = "a producer's epoch is not negative"
        elif sequenced and header.base_sequence < 0:
            problem = "a batch with a producer id has a sequence"
        else:
            return
        raise InvalidRecord(
            f"{self._where(header)}: epoch {header.producer_epoch}, sequence"
            f" {header.base_sequence}: {problem}"
        )

    def _where(self, header: BatchHeader) -> str:
        return f"{self._name}@{self.end_offset}: producer {header.producer_id}"
