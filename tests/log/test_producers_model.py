"""Producers and transactions in any order, with kills, reboots and lost files, held against a list.

Two openings of one log stand for two processes.
"""

import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streamkit.codec import columns, encode, headers
from streamkit.errors import InvalidProducerEpoch, InvalidTxnState, OutOfOrderSequence
from streamkit.log.control import DIRTY_AT, END, SYNCED, Synced
from streamkit.log.directory import Log
from streamkit.log.partition import Partition
from streamkit.records import TopicPartition
from streamkit.transactions.txnindex import Aborted, encode_entries

TP = TopicPartition("events", 0)
WHO = st.integers(0, 1)
ID = st.integers(0, 2)


class Row(NamedTuple):
    """A batch, or with an outcome (committed or not) a marker."""

    offset: int
    count: int
    producer: int = -1
    epoch: int = -1
    sequence: int = -1
    transactional: bool = False
    outcome: bool | None = None

    @property
    def values(self) -> list[bytes]:
        return [b"%d" % (self.offset + n) * 20 for n in range(self.count)]


class ProducersAgainstList(RuleBasedStateMachine):
    @initialize(interval=st.integers(0, 300))
    def make(self, interval: int) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.logs = [self.opened(), self.opened()]
        config = {"segment.bytes": "1024", "index.interval.bytes": str(interval)}
        self.logs[0].create_topic("events", 1, config)
        self.rows: list[Row] = []

    def teardown(self) -> None:
        for log in self.logs:
            log.close()
        shutil.rmtree(self.root)

    def opened(self, *, read_only: bool = False) -> Log:
        return Log.open(self.root, fsync="never", read_only=read_only)

    def partition(self, who: int) -> Partition:
        return self.logs[who].partition(TP)

    @property
    def folder(self) -> Path:
        return self.root / "events-0"

    # The model.

    @property
    def end(self) -> int:
        return self.rows[-1].offset + self.rows[-1].count if self.rows else 0

    def of(self, producer: int) -> list[Row]:
        return [row for row in self.rows if row.producer == producer]

    def open_from(self, producer: int) -> int | None:
        first = None
        for row in self.of(producer):
            if row.outcome is not None:
                first = None
            elif row.transactional and first is None:
                first = row.offset
        return first

    def epoch(self, producer: int) -> int:
        mine = self.of(producer)
        return mine[-1].epoch if mine else 0

    def sent(self, producer: int) -> list[Row]:
        """What the producer has sent in its present epoch."""
        epoch = self.epoch(producer)
        return [row for row in self.of(producer) if row.outcome is None and row.epoch == epoch]

    def next_sequence(self, producer: int) -> int:
        sent = self.sent(producer)
        return sent[-1].sequence + sent[-1].count if sent else 0

    @property
    def stable(self) -> int:
        firsts = [self.open_from(producer) for producer in range(3)]
        return min((first for first in firsts if first is not None), default=self.end)

    def committed(self) -> list[tuple[int, bytes]]:
        found = []
        for n, row in enumerate(self.rows):
            if row.offset >= self.stable or row.outcome is not None:
                continue
            after = (r for r in self.rows[n:] if r.producer == row.producer)
            ended = next((r.outcome for r in after if r.outcome is not None), True)
            if not row.transactional or ended:
                found += list(enumerate(row.values, row.offset))
        return found

    def encoded(self, row: Row) -> bytes:
        return encode(
            row.values,
            timestamps=2**45,
            producer_id=row.producer,
            producer_epoch=row.epoch,
            base_sequence=row.sequence,
            transactional=row.transactional,
        )

    # What processes do.

    @rule(who=WHO, counts=st.lists(st.integers(1, 3), max_size=6))
    def append_plain(self, who: int, counts: list[int]) -> None:
        rows, at = [], self.end
        for count in counts:
            rows.append(Row(at, count))
            at += count
        assert self.partition(who).append([self.encoded(row) for row in rows], acks=1) == self.end
        self.rows += rows

    @rule(who=WHO, producer=ID, counts=st.lists(st.integers(1, 3), min_size=1, max_size=7))
    def send_in_a_transaction(self, who: int, producer: int, counts: list[int]) -> None:
        self.send(who, producer, counts, transactional=True)

    @rule(who=WHO, producer=ID, count=st.integers(1, 3))
    def send_outside_of_a_transaction(self, who: int, producer: int, count: int) -> None:
        if self.open_from(producer) is None:
            self.send(who, producer, [count], transactional=False)
            return
        with pytest.raises(InvalidTxnState):
            self.send(who, producer, [count], transactional=False)

    def send(self, who: int, producer: int, counts: list[int], *, transactional: bool) -> None:
        rows, at, sequence = [], self.end, self.next_sequence(producer)
        for count in counts:
            rows.append(Row(at, count, producer, self.epoch(producer), sequence, transactional))
            at, sequence = at + count, sequence + count
        assert self.partition(who).append([self.encoded(row) for row in rows], acks=1) == self.end
        self.rows += rows

    @rule(who=WHO, producer=ID, back=st.integers(1, 5), data=st.data())
    def send_again(self, who: int, producer: int, back: int, data: st.DataObject) -> None:
        sent = self.sent(producer)
        if len(sent) < back:
            return
        row = sent[-back]
        again = [self.encoded(row)]
        if back == 1 and data.draw(st.booleans()):  # and a new one after it
            new = Row(self.end, 1, producer, row.epoch, self.next_sequence(producer), True)
            again.append(self.encoded(new))
            self.rows.append(new)
        try:
            assert self.partition(who).append(again, acks=1) == row.offset
        except OutOfOrderSequence:
            assert back > 1  # long ago, and by way of a snapshot it is not remembered

    @rule(who=WHO, producer=ID, skip=st.integers(0, 3))
    def send_what_does_not_follow(self, who: int, producer: int, skip: int) -> None:
        epoch = self.epoch(producer)
        gap = Row(self.end, 1, producer, epoch, self.next_sequence(producer) + skip, True)
        old = Row(self.end, 1, producer, epoch - 1, 0, True)
        if skip:
            with pytest.raises(OutOfOrderSequence):
                self.partition(who).append([self.encoded(gap)], acks=1)
        elif epoch > 0:
            with pytest.raises(InvalidProducerEpoch):
                self.partition(who).append([self.encoded(old)], acks=1)

    @rule(who=WHO, data=st.data(), commit=st.sampled_from([False, False, True]))
    def end_a_transaction(self, who: int, data: st.DataObject, commit: bool) -> None:
        opened = [producer for producer in range(3) if self.open_from(producer) is not None]
        if not opened:
            return
        producer = data.draw(st.sampled_from(opened))
        epoch = self.epoch(producer) + 1
        end = self.end
        assert self.partition(who).append_marker(producer, epoch, commit, 0, True)
        self.rows.append(Row(end, 1, producer, epoch, outcome=commit))
        assert not self.partition(1 - who).append_marker(producer, epoch, commit, 0, True)

    @rule(who=WHO, data=st.data())
    def read_somewhere(self, who: int, data: st.DataObject) -> None:
        offset = data.draw(st.integers(0, self.end))
        size = data.draw(st.integers(0, 2000))
        found = self.partition(who).read_committed(offset, size)
        expected = [pair for pair in self.committed() if offset <= pair[0] < found.next_offset]
        assert decoded(found.pieces, offset) == expected
        assert found.next_offset > offset or offset >= self.stable

    # What happens to them.

    @rule(who=WHO)
    def reopen(self, who: int) -> None:
        self.logs[who].close()
        self.logs[who] = self.opened()

    @rule()
    def lose_the_control_block(self) -> None:
        (self.folder / "control").unlink(missing_ok=True)

    @rule(data=st.data())
    def lose_or_damage_a_snapshot(self, data: st.DataObject) -> None:
        self.damage("snapshot", data)
        for who in (0, 1):
            self.reopen(who)

    @rule(data=st.data())
    def lose_or_damage_an_index(self, data: st.DataObject) -> None:
        """Of aborted transactions; lost together with the control block, nobody would know."""
        assert self.partition(0).end_offset == self.end
        self.damage("txnindex", data)
        for who in (0, 1):
            self.reopen(who)
            assert self.read(who) == self.committed()

    def damage(self, suffix: str, data: st.DataObject) -> None:
        paths = sorted(self.folder.glob(f"*.{suffix}"))
        if not paths:
            return
        path = data.draw(st.sampled_from(paths))
        size = path.stat().st_size
        kept = data.draw(st.none() | st.integers(0, max(size - 1, 0)))
        if kept is None:
            path.unlink()
        elif suffix == "snapshot":
            path.write_bytes(path.read_bytes()[:kept])
        elif size:  # shorter by whole entries is what nobody can see, but for the active segment's
            active = path == max(paths)
            path.write_bytes(path.read_bytes()[: kept if active or kept % 34 else kept + 1])

    @precondition(lambda self: (self.folder / "control").exists())
    @rule(tail=st.binary(max_size=200), producer=ID)
    def kill_a_writer(self, tail: bytes, producer: int) -> None:
        """A dirty block, bytes beyond the end, and an abort that never was in the index."""
        assert self.partition(0).end_offset == self.end
        active = max(self.folder.glob("*.log"))
        with active.open("ab") as file:
            file.write(tail)
        with active.with_suffix(".txnindex").open("ab") as file:
            file.write(encode_entries([Aborted(producer, 0, self.end, self.end + 1)]))
        with (self.folder / "control").open("r+b") as file:
            file.seek(DIRTY_AT)
            file.write(b"\x01")
        assert self.partition(0).append([], acks=1) == self.end

    @precondition(lambda self: (self.folder / "control").exists())
    @rule(data=st.data(), flushed=st.booleans(), garbage=st.binary(max_size=70))
    def cut_the_power(self, data: st.DataObject, flushed: bool, garbage: bytes) -> None:
        """Batches of the last segment are lost, and with them whatever was not synced."""
        assert self.partition(0).append([], acks=1) == self.end  # who opens it finds no broker
        for log in self.logs:
            log.close()
        active = max(self.folder.glob("*.log"))
        raw = active.read_bytes()
        starts = [at for at, _ in headers(raw)] + [len(raw)]
        kept = data.draw(st.sampled_from(starts))
        lost = len(starts) - 1 - starts.index(kept)
        active.write_bytes(raw[:kept] + garbage)
        self.rows = self.rows[: len(self.rows) - lost]
        control = bytearray((self.folder / "control").read_bytes())
        _, end = END.decode(control)
        if flushed:
            end = msgspec.structs.replace(end, boot_id=b"another boot ...")
            END.store(control, end)
            END.store(control, end)
            SYNCED.store(control, Synced(int(active.stem), 0, int(active.stem)))
            (self.folder / "control").write_bytes(control)
        else:
            (self.folder / "control").unlink()
        index = active.with_suffix(".txnindex")
        if index.exists():
            index.write_bytes(bytes(index.stat().st_size))
        for path in self.folder.glob("*.cut"):
            path.unlink()
        self.logs = [self.opened(), self.opened()]

    # What holds.

    def read(self, who: int) -> list[tuple[int, bytes]]:
        return read_all(self.partition(who))

    @invariant()
    def both_see_what_is_committed(self) -> None:
        for who, _ in enumerate(getattr(self, "logs", ())):
            partition = self.partition(who)
            assert (partition.stable_offset, partition.end_offset) == (self.stable, self.end)
            assert self.read(who) == self.committed()
            opened = {p: self.epoch(p) for p in range(3) if self.open_from(p) is not None}
            assert partition.open_transactions() == opened

    @rule(lost=st.booleans())
    def look_without_writing(self, lost: bool) -> None:
        """Also when the control block is lost."""
        kept = None
        assert self.partition(0).append([], acks=1) == self.end
        if lost:
            kept = (self.folder / "control").read_bytes()
            (self.folder / "control").unlink()
        with self.opened(read_only=True) as log:
            partition = log.partition(TP)
            assert (partition.stable_offset, partition.end_offset) == (self.stable, self.end)
            assert read_all(partition) == self.committed()
            opened = {p: self.epoch(p) for p in range(3) if self.open_from(p) is not None}
            assert partition.open_transactions() == opened
        if kept is not None:
            (self.folder / "control").write_bytes(kept)


def decoded(pieces: list[bytes], offset: int) -> list[tuple[int, bytes]]:
    found = []
    for piece in pieces:
        some = columns(piece, offset)
        found += zip(some.offsets, some.values, strict=True)
    return found


def read_all(partition: Partition) -> list[tuple[int, bytes]]:
    found, offset = [], partition.start_offset
    while (some := partition.read_committed(offset)).next_offset > offset:
        found += decoded(some.pieces, offset)
        offset = some.next_offset
    return found


TestProducersAgainstList = ProducersAgainstList.TestCase
TestProducersAgainstList.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
