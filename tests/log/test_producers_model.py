"""Producers and transactions in any order, with kills, reboots and lost files, held against a list.

Two openings of one log stand for two processes.
"""

import shutil
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from producer_rows import Row, Rows, decoded, read_all

from streamkit.codec import headers
from streamkit.errors import InvalidProducerEpoch, InvalidTxnState, OutOfOrderSequence
from streamkit.log.control import DIRTY_AT, END, SYNCED, Synced
from streamkit.log.directory import Log
from streamkit.log.partition import Partition
from streamkit.records import TopicPartition
from streamkit.transactions.txnindex import Aborted, encode_entries

TP = TopicPartition("events", 0)
WHO = st.integers(0, 1)
ID = st.integers(0, 2)


class ProducersAgainstList(RuleBasedStateMachine):
    @initialize(interval=st.integers(0, 300))
    def make(self, interval: int) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.logs = [self.opened(), self.opened()]
        config = {"segment.bytes": "1024", "index.interval.bytes": str(interval)}
        self.logs[0].create_topic("events", 1, config)
        self.rows = Rows()
        self.lost: dict[Path, bytes] = {}  # indexes that nobody has needed and made anew yet

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

    # What processes do.

    @rule(who=WHO, counts=st.lists(st.integers(1, 3), max_size=6))
    def append_plain(self, who: int, counts: list[int]) -> None:
        self.append(who, self.rows.plain(counts))

    @rule(who=WHO, producer=ID, counts=st.lists(st.integers(1, 3), min_size=1, max_size=7))
    def send_in_a_transaction(self, who: int, producer: int, counts: list[int]) -> None:
        self.append(who, self.rows.following(producer, counts, transactional=True))

    @rule(who=WHO, producer=ID, count=st.integers(1, 3))
    def send_outside_of_a_transaction(self, who: int, producer: int, count: int) -> None:
        rows = self.rows.following(producer, [count], transactional=False)
        if self.rows.open_from(producer) is None:
            self.append(who, rows)
            return
        with pytest.raises(InvalidTxnState):
            self.append(who, rows)

    def append(self, who: int, rows: list[Row]) -> None:
        encoded = [row.encoded for row in rows]
        assert self.partition(who).append(encoded, acks=1) == self.rows.end
        self.rows += rows

    @rule(who=WHO, producer=ID, back=st.integers(1, 5), data=st.data())
    def send_again(self, who: int, producer: int, back: int, data: st.DataObject) -> None:
        sent = self.rows.sent(producer)
        if len(sent) < back:
            return
        row = sent[-back]
        again = [row.encoded]
        if back == 1 and data.draw(st.booleans()):  # and a new one after it
            new = self.rows.following(producer, [1], transactional=True)[0]
            again.append(new.encoded)
            self.rows.append(new)
        try:
            assert self.partition(who).append(again, acks=1) == row.offset
        except OutOfOrderSequence:
            assert back > 1  # long ago, and by way of a snapshot it is not remembered

    @rule(who=WHO, producer=ID, skip=st.integers(0, 3))
    def send_what_does_not_follow(self, who: int, producer: int, skip: int) -> None:
        epoch = self.rows.epoch(producer)
        gap = Row(self.rows.end, 1, producer, epoch, self.rows.next_sequence(producer) + skip, True)
        old = Row(self.rows.end, 1, producer, epoch - 1, 0, True)
        if skip:
            with pytest.raises(OutOfOrderSequence):
                self.partition(who).append([gap.encoded], acks=1)
        elif epoch > 0:
            with pytest.raises(InvalidProducerEpoch):
                self.partition(who).append([old.encoded], acks=1)

    @rule(who=WHO, data=st.data(), commit=st.sampled_from([False, False, True]))
    def end_a_transaction(self, who: int, data: st.DataObject, commit: bool) -> None:
        if not self.rows.opened:
            return
        producer = data.draw(st.sampled_from(sorted(self.rows.opened)))
        row = self.rows.ending(producer, commit=commit)
        assert self.partition(who).append_marker(producer, row.epoch, commit, 0, True)
        self.rows.append(row)
        assert not self.partition(1 - who).append_marker(producer, row.epoch, commit, 0, True)

    @rule(who=WHO, data=st.data())
    def read_somewhere(self, who: int, data: st.DataObject) -> None:
        offset = data.draw(st.integers(0, self.rows.end))
        size = data.draw(st.integers(0, 2000))
        found = self.partition(who).read_committed(offset, size)
        expected = [pair for pair in self.rows.committed if offset <= pair[0] < found.next_offset]
        assert decoded(found.pieces, offset) == expected
        assert found.next_offset > offset or offset >= self.rows.stable

    # What happens to them.

    @rule(who=WHO)
    def reopen(self, who: int) -> None:
        self.logs[who].close()
        self.logs[who] = self.opened()

    @precondition(lambda self: self.indexed())
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
        assert self.partition(0).end_offset == self.rows.end
        before = {path: path.read_bytes() for path in self.folder.glob("*.txnindex")}
        self.damage("txnindex", data)
        self.lost = before | self.lost
        for who in (0, 1):
            self.reopen(who)
            self.hold(self.partition(who))

    def indexed(self) -> bool:
        """Whether every index that was lost is there again, or its segment is not."""
        self.lost = {
            path: was
            for path, was in self.lost.items()
            if path.with_suffix(".log").exists()
            and not (path.exists() and path.read_bytes().startswith(was))
        }
        return not self.lost

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
            active = path.stem == max(self.folder.glob("*.log")).stem
            path.write_bytes(path.read_bytes()[: kept if active or kept % 34 else kept + 1])

    @precondition(lambda self: (self.folder / "control").exists())
    @rule(tail=st.binary(max_size=200), producer=ID)
    def kill_a_writer(self, tail: bytes, producer: int) -> None:
        """A dirty block, bytes beyond the end, and an abort that never was in the index."""
        assert self.partition(0).end_offset == self.rows.end
        active = max(self.folder.glob("*.log"))
        with active.open("ab") as file:
            file.write(tail)
        with active.with_suffix(".txnindex").open("ab") as file:
            file.write(encode_entries([Aborted(producer, 0, self.rows.end, self.rows.end + 1)]))
        with (self.folder / "control").open("r+b") as file:
            file.seek(DIRTY_AT)
            file.write(b"\x01")
        assert self.partition(0).append([], acks=1) == self.rows.end

    @precondition(lambda self: (self.folder / "control").exists() and self.indexed())
    @rule(data=st.data(), flushed=st.booleans(), garbage=st.binary(max_size=70))
    def cut_the_power(self, data: st.DataObject, flushed: bool, garbage: bytes) -> None:
        """Batches of the last segment are lost, and with them whatever was not synced."""
        assert self.partition(0).append([], acks=1) == self.rows.end  # who opens it finds no broker
        for log in self.logs:
            log.close()
        active = max(self.folder.glob("*.log"))
        raw = active.read_bytes()
        starts = [at for at, _ in headers(raw)] + [len(raw)]
        kept = data.draw(st.sampled_from(starts))
        lost = len(starts) - 1 - starts.index(kept)
        active.write_bytes(raw[:kept] + garbage)
        del self.rows[len(self.rows) - lost :]
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

    def hold(self, partition: Partition) -> None:
        assert partition.end_offset == self.rows.end
        assert partition.stable_offset == self.rows.stable
        assert read_all(partition) == self.rows.committed
        assert partition.open_transactions() == self.rows.opened

    @invariant()
    def both_see_what_is_committed(self) -> None:
        for who, _ in enumerate(getattr(self, "logs", ())):
            partition = self.partition(who)
            assert (partition.stable_offset, partition.end_offset) == (
                self.rows.stable,
                self.rows.end,
            )
            self.hold(self.partition(who))
            assert partition.open_transactions() == self.rows.opened

    @rule(lost=st.booleans())
    def look_without_writing(self, lost: bool) -> None:
        """Also when the control block is lost."""
        kept = None
        assert self.partition(0).append([], acks=1) == self.rows.end
        if lost:
            kept = (self.folder / "control").read_bytes()
            (self.folder / "control").unlink()
        with self.opened(read_only=True) as log:
            partition = log.partition(TP)
            assert (partition.stable_offset, partition.end_offset) == (
                self.rows.stable,
                self.rows.end,
            )
            assert read_all(partition) == self.rows.committed
            assert partition.open_transactions() == self.rows.opened
        if kept is not None:
            (self.folder / "control").write_bytes(kept)


TestProducersAgainstList = ProducersAgainstList.TestCase
TestProducersAgainstList.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
