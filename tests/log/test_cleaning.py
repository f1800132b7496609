"""Compaction of a real partition: what stays, beside whom, and what a kill leaves."""

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from faulty_files import CHANGES, Fault, FaultyFiles, Killed
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.clock import ManualClock
from streamkit.codec import columns, encode, headers
from streamkit.errors import CorruptLog, OffsetOutOfRange, OutOfSpace
from streamkit.log import committed
from streamkit.log.cleaned import read_cleaned
from streamkit.log.control import END, PAGE_BYTES, SYNCED, Synced
from streamkit.log.directory import Log
from streamkit.log.files import RealFiles
from streamkit.log.partition import Partition
from streamkit.log.segment import LOG, TXNINDEX, file_name
from streamkit.log.swap import SWAP
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)
CONFIG = {
    "cleanup.policy": "compact",
    "segment.bytes": "1024",
    "index.interval.bytes": "100",
    "delete.retention.ms": "1000",
}


def opened(root, *, files=None, clock=None, read_only=False) -> Log:
    """A log that does nothing by itself."""
    options = {"fsync": "never"} if files is None else {"files": files}
    if not read_only:
        options["maintenance"] = False
    return Log.open(root, clock=clock, read_only=read_only, **options)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def log(tmp_path, clock):
    with opened(tmp_path / "log", clock=clock) as log:
        log.create_topic("events", 1, CONFIG)
        yield log


@pytest.fixture
def partition(log) -> Partition:
    return log.partition(TP)


def put(partition: Partition, **values: str | None) -> None:
    """Append one batch of these records."""
    partition.append(
        [
            encode(
                [None if value is None else value.encode() for value in values.values()],
                keys=[key.encode() for key in values],
                timestamps=partition._clock.now(),
            )
        ],
        acks=1,
    )


def roll(partition: Partition) -> None:
    partition.trimmer.roll(partition.published())


def compact(partition: Partition, **options):
    """A whole round."""
    options.setdefault("force", True)
    while (step := partition.trimmer.compact(**options)) is not None:
        if step.done:
            return step
    return None


def read(partition: Partition) -> list[tuple[int, bytes, bytes | None]]:
    """(offset, key, value) of all committed records."""
    offset, found = partition.start_offset, []
    while True:
        pieces, following = partition.read_committed(offset, 300)
        if following == offset:
            return found
        for piece in pieces:
            some = columns(piece, offset)
            found += zip(some.offsets, some.keys, some.values, strict=True)
        offset = following


def batches(partition: Partition):
    """The headers of all batches, each read with its checksum."""
    offset, found = partition.start_offset, []
    while data := partition.read(offset):
        columns(data)
        found += [header for _, header in headers(data)]
        offset = found[-1].next_offset
    return found


def bases(partition: Partition) -> list[int]:
    return partition._segments.listed()


def assert_joined(partition: Partition) -> None:
    """Each segment ends where the next one begins, so that a lost one is noticed."""
    ends = {header.next_offset for header in batches(partition)}
    assert set(bases(partition)[1:]) <= ends


def leftovers(partition: Partition) -> list[str]:
    ends = (".swap", ".cleaned", ".deleted", ".tmp")
    return [name for name in os.listdir(partition.directory) if name.endswith(ends)]


# What stays.


def test_the_latest_record_of_each_key_stays_where_it_is(partition):
    put(partition, a="1", b="1")
    put(partition, a="2", c="1")
    roll(partition)
    put(partition, b="2")
    assert compact(partition).removed_records == 1
    # What is in the active segment is not looked at.
    assert read(partition) == [(1, b"b", b"1"), (2, b"a", b"2"), (3, b"c", b"1"), (4, b"b", b"2")]
    roll(partition)
    compact(partition)
    assert read(partition) == [(2, b"a", b"2"), (3, b"c", b"1"), (4, b"b", b"2")]
    assert partition.end_offset == 5
    assert leftovers(partition) == []


def test_a_tombstone_stays_until_its_delete_horizon(partition, clock):
    put(partition, a="1", b="1")
    put(partition, a=None)
    roll(partition)
    compact(partition)
    assert read(partition) == [(1, b"b", b"1"), (2, b"a", None)]
    with_horizon = [header for header in batches(partition) if header.has_delete_horizon]
    assert [header.base_timestamp for header in with_horizon] == [clock.now() + 1000]
    clock.advance(999)
    compact(partition)
    assert read(partition) == [(1, b"b", b"1"), (2, b"a", None)]
    clock.advance(1)
    compact(partition)
    assert read(partition) == [(1, b"b", b"1")]
    assert partition.end_offset == 3


def test_small_segments_become_one_and_the_offsets_still_join(partition):
    for number in range(40):
        put(partition, a=str(number) * 50, b=str(number) * 50)
    roll(partition)
    assert len(bases(partition)) > 5
    compact(partition)
    end = partition.end_offset
    assert [row[0] for row in read(partition)] == [end - 2, end - 1]
    assert_joined(partition)
    assert len(bases(partition)) > 2
    compact(partition)
    assert_joined(partition)
    assert len(bases(partition)) == 2
    assert [row[0] for row in read(partition)] == [end - 2, end - 1]
    # Nothing but headers is left of the others; the last one of a segment says where it ends.
    assert batches(partition)[-1].next_offset == end


def test_it_begins_when_more_than_a_part_is_dirty_and_then_knows_what_is_clean(log, clock):
    log.alter_topic("events", {"min.cleanable.dirty.ratio": "0.5"})
    partition = log.partition(TP)
    assert partition.trimmer.compact() is None, "nothing is there"
    for number in range(6):
        put(partition, **{f"k{number}": "x" * 300})
    roll(partition)
    step = compact(partition, force=False)
    assert (step.done, step.clean_to) == (True, partition.end_offset)
    assert read_cleaned(RealFiles(), log.path) == {TP: partition.end_offset}
    assert partition.trimmer.compact() is None
    put(partition, k0="y" * 300)
    roll(partition)
    dirt = partition.trimmer.dirt()
    assert dirt.clean_bytes > dirt.dirty_bytes > 0
    assert partition.trimmer.compact() is None, "a small part is dirty"
    assert compact(partition).removed_records == 1


def test_max_compaction_lag_makes_it_begin_however_little_is_dirty(log, clock):
    log.alter_topic("events", {"max.compaction.lag.ms": "5000"})
    partition = log.partition(TP)
    for number in range(6):
        put(partition, **{f"k{number}": "x" * 300})
    roll(partition)
    compact(partition)
    put(partition, k0="y")
    roll(partition)
    assert partition.trimmer.compact() is None
    clock.advance(5001)
    assert compact(partition, force=False).removed_records == 1


def test_min_compaction_lag_leaves_young_segments_alone(log):
    log.alter_topic("events", {"min.compaction.lag.ms": "60000"})
    partition = log.partition(TP)
    put(partition, a="1", b="1")
    put(partition, a="2")
    roll(partition)
    path = partition._segments.path(0)
    now = partition._clock.now()
    RealFiles.date(path, now - 59_000)
    assert compact(partition).removed_records == 0
    RealFiles.date(path, now - 60_000)
    assert compact(partition).removed_records == 1


def test_the_age_of_a_segment_is_that_of_its_last_append(partition):
    put(partition, a="1")
    put(partition, a="2")
    roll(partition)
    path = partition._segments.path(0)
    RealFiles.date(path, 1_234_567_890_123)
    compact(partition)
    assert RealFiles.measure(path)[1] == 1_234_567_890_123


def test_records_without_a_key_go_and_topics_that_delete_are_left_alone(log):
    partition = log.partition(TP)
    partition.append([encode([b"x", b"y"], keys=[None, b"k"], timestamps=0)])
    roll(partition)
    log.create_topic("plain", 1)
    plain = log.partition(TopicPartition("plain", 0))
    plain.append([encode([b"x", b"y"], keys=[b"k", b"k"], timestamps=0)])
    roll(plain)
    assert plain.trimmer.compact(force=True) is None
    compact(partition)
    assert read(partition) == [(1, b"k", b"y")]
    assert len(read(plain)) == 2


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
def test_compressed_batches_stay_compressed(partition, compression):
    for number in range(3):
        keys = [b"%d" % (key + number) for key in range(5)]
        partition.append(
            [encode([b"v%d" % number] * 5, keys=keys, timestamps=0, compression=compression)]
        )
    roll(partition)
    compact(partition)
    assert [row[0] for row in read(partition)] == [0, 5, 10, 11, 12, 13, 14]
    assert {header.compression for header in batches(partition)} == {compression}


def test_a_topic_that_no_longer_compacts_can_be_read_though_offsets_are_missing(log, tmp_path):
    partition = log.partition(TP)
    for number in range(20):
        put(partition, a=str(number) * 50)
    roll(partition)
    put(partition, a="last")
    compact(partition)
    log.alter_topic("events", {"cleanup.policy": "delete"})
    expected = [(19, b"a", b"19" * 50), (20, b"a", b"last")]
    assert read(log.partition(TP)) == expected
    log.close()
    with opened(tmp_path / "log") as again:
        assert read(again.partition(TP)) == expected
    os.unlink(tmp_path / "log" / "events-0" / "control")
    with opened(tmp_path / "log") as again:
        assert read(again.partition(TP)) == expected


def test_with_little_memory_several_rounds_do_what_one_does(partition):
    for number in range(60):
        put(partition, **{f"key {(number * 7 + n) % 90}": str(number) for n in range(10)})
    roll(partition)
    expected: dict[bytes, tuple[int, bytes]] = {}
    for offset, key, value in read(partition):
        expected[key] = offset, value
    rounds = 0
    while partition.trimmer.dirt().dirty_bytes:
        step = compact(partition, memory=2048)
        rounds += 1
        assert read_cleaned(RealFiles(), os.path.dirname(partition.directory))[TP] == step.clean_to
    assert rounds > 1
    assert read(partition) == sorted((o, k, v) for k, (o, v) in expected.items())


def test_a_round_goes_in_steps_and_others_read_and_append_between_them(log, tmp_path):
    partition = log.partition(TP)
    for number in range(200):
        put(partition, **{f"k{number % 20}": str(number) * 30})
    roll(partition)
    with opened(tmp_path / "log") as other:
        following = other.partition(TP)
        expected = {key: value for _, key, value in read(following)}
        steps = 0
        while (step := partition.trimmer.compact(2000, force=True)) is not None:
            put(following, new=str(steps))
            expected[b"new"] = str(steps).encode()
            assert {key: value for _, key, value in read(following)} == expected
            assert {key: value for _, key, value in read(partition)} == expected
            assert following.trimmer.compact(force=True) is None or step.done
            steps += 1
            if step.done:
                break
        assert steps > 5


# Transactions.


class Producer:
    """Writes transactions, and what may follow them."""

    def __init__(self, partition: Partition, producer_id: int) -> None:
        self.partition = partition
        self.id = producer_id
        self.sequence = 0

    def put(self, **values: str | None) -> None:
        batch = encode(
            [None if value is None else value.encode() for value in values.values()],
            keys=[key.encode() for key in values],
            timestamps=self.partition._clock.now(),
            producer_id=self.id,
            producer_epoch=0,
            base_sequence=self.sequence,
            transactional=True,
        )
        self.partition.append([batch], acks=1)
        self.sequence += len(values)

    def end(self, *, commit: bool) -> None:
        self.partition.append_marker(self.id, 0, commit, 0, False)


def state(partition: Partition) -> dict[int, tuple[int, int]]:
    """Epoch and last sequence of every producer."""
    return {one.producer_id: (one.epoch, one.last_sequence) for one in partition.producers()}


def test_aborted_records_go_at_once_and_their_marker_when_its_time_has_come(partition, clock):
    one, two = Producer(partition, 1), Producer(partition, 2)
    put(partition, a="before")
    one.put(a="aborted", b="aborted")
    two.put(c="committed")
    one.end(commit=False)
    two.end(commit=True)
    one.put(d="1")  # so that the aborted batch is not its last one
    one.end(commit=True)
    roll(partition)
    expected = [(0, b"a", b"before"), (3, b"c", b"committed"), (6, b"d", b"1")]
    assert read(partition) == expected
    compact(partition)
    assert read(partition) == expected
    assert [header.base_offset for header in batches(partition)] == [0, 3, 4, 5, 6, 7]
    assert [entry.last_offset for entry in partition.aborted(0, 99)] == [4]
    compact(partition)
    assert partition.aborted(0, 99) == []
    marker = batches(partition)[2]
    assert (marker.base_offset, marker.has_delete_horizon) == (4, True)
    assert marker.base_timestamp == clock.now() + 1000
    clock.advance(1000)
    compact(partition)
    # The other markers stay as long as a batch of their transactions does.
    assert [header.base_offset for header in batches(partition)] == [0, 3, 5, 6, 7]
    assert read(partition) == expected


def test_what_was_aborted_below_the_start_is_not_taken_for_committed(partition, clock):
    one = Producer(partition, 1)
    one.put(a="aborted")
    one.end(commit=False)
    one.put(b="1")  # so that the aborted batch is not its last one
    one.end(commit=True)
    partition.trimmer.remove_before(2)
    roll(partition)
    compact(partition)
    # Also where the start offset is lost, with the control block and the checkpoints.
    assert b"aborted" not in Path(partition.directory, file_name(0, LOG)).read_bytes()
    assert read(partition) == [(2, b"b", b"1")]


def test_open_transactions_and_what_follows_them_are_left_alone(partition):
    one = Producer(partition, 1)
    put(partition, a="1")
    put(partition, a="2")
    one.put(a="open")
    put(partition, a="3")
    put(partition, a="4")
    roll(partition)
    assert partition.trimmer.dirt().uncleanable == 2
    compact(partition)
    assert [header.base_offset for header in batches(partition)] == [1, 2, 3, 4]
    one.end(commit=False)
    assert read(partition) == [(1, b"a", b"2"), (3, b"a", b"3"), (4, b"a", b"4")]
    roll(partition)
    compact(partition)
    assert read(partition) == [(4, b"a", b"4")]


def test_the_last_sequence_of_each_producer_survives_also_a_lost_snapshot(partition, tmp_path):
    one, two = Producer(partition, 1), Producer(partition, 2)
    one.put(a="1", b="2")
    one.end(commit=True)
    two.put(a="3", b="4", c="5")
    two.end(commit=False)
    put(partition, a="6", b="7")
    roll(partition)
    before = state(partition)
    assert before == {1: (0, 1), 2: (0, 2)}
    for _ in range(3):
        partition._clock.advance(2000)
        compact(partition)
    assert [(h.base_offset, h.count) for h in batches(partition) if h.producer_id >= 0] == [
        (0, 0),
        (2, 1),
        (3, 0),
        (6, 1),
    ]
    folder = Path(partition.directory)
    partition.close()
    for path in [*folder.glob("*.snapshot"), folder / "control"]:
        path.unlink()
    assert state(partition) == before
    one.put(x="goes on")
    one.end(commit=True)
    assert [row[1] for row in read(partition)] == [b"a", b"b", b"x"]


def test_the_index_of_aborted_transactions_is_that_of_what_was_merged(partition):
    one = Producer(partition, 1)
    for number in range(12):
        one.put(**{f"k{number}": "aborted" * 20})
        one.end(commit=False)
        put(partition, **{f"k{number}": "stays"})
    roll(partition)
    found = partition.aborted(0, partition.end_offset)
    assert len(found) == 12
    compact(partition)
    assert partition.aborted(0, partition.end_offset) == found
    assert len(read(partition)) == 12
    segments = bases(partition)
    for base in segments:
        os.unlink(partition._segments.path(base, TXNINDEX))
    partition.close()
    assert len(read(partition)) == 12


def test_who_was_stopped_in_the_middle_of_reading_sees_nothing_that_was_aborted(
    partition, tmp_path, clock
):
    one = Producer(partition, 1)
    one.put(a="aborted")
    one.end(commit=False)
    one.put(b="committed")
    one.end(commit=True)
    roll(partition)
    with opened(tmp_path / "log", read_only=True) as other:
        reader = other.partition(TP)
        committed = reader._committed
        plainly = committed._read

        def stopped(offset, max_bytes):
            data = plainly(offset, max_bytes)
            committed._read = plainly
            for _ in range(3):
                compact(partition)
                clock.advance(2000)
            return data

        committed._read = stopped
        assert read(reader) == [(2, b"b", b"committed")]
        assert committed._read is plainly


def test_who_missed_a_marker_that_is_gone_does_not_take_its_transaction_for_open(
    partition, tmp_path, clock
):
    one, two = Producer(partition, 1), Producer(partition, 2)
    with opened(tmp_path / "log", clock=clock) as other:
        there = other.partition(TP)
        two.put(b="open")
        assert set(there.open_transactions()) == {2}
        partition.append_marker(2, 1, True, 0, True)  # which raises the epoch
        put(partition, b="later")
        roll(partition)
        for _ in range(4):
            compact(partition)
            clock.advance(2000)
        assert [(h.base_offset, h.count) for h in batches(partition)] == [(1, 0), (2, 1)]
        one.partition = there
        one.put(a="2")
        one.end(commit=True)
        assert partition.stable_offset == partition.end_offset
        assert there.open_transactions() == {}


def test_a_thread_that_is_late_does_not_bring_back_an_index_that_was_replaced(
    partition, monkeypatch
):
    one = Producer(partition, 1)
    for _ in range(3):  # segments that become one
        one.put(a="aborted")
        one.end(commit=False)
        roll(partition)
    found = partition.aborted(0, partition.end_offset)
    assert len(found) == len(bases(partition)) - 1 == 3
    partition._committed.forget()
    decoded = committed._decoded

    def late(raw, base, end):
        """Meanwhile there is a round, and another thread that reads after it."""
        monkeypatch.undo()
        entries = decoded(raw, base, end)
        compact(partition)
        assert len(bases(partition)) == 2
        assert partition.aborted(0, 1)
        return entries

    monkeypatch.setattr(committed, "_decoded", late)
    partition.aborted(0, 1)
    assert committed._decoded is decoded
    assert partition.aborted(0, partition.end_offset) == found


@pytest.mark.parametrize("known", ["followed", "loaded", "rebooted"])
def test_a_transaction_that_is_open_is_not_mistaken_for_one_whose_marker_is_gone(
    partition, tmp_path, clock, known
):
    def batch(epoch: int, **values: str) -> bytes:
        return encode(
            [value.encode() for value in values.values()],
            keys=[key.encode() for key in values],
            timestamps=clock.now(),
            producer_id=2,
            producer_epoch=epoch,
            base_sequence=0,
            transactional=True,
        )

    with opened(tmp_path / "log", clock=clock) as other:
        there = other.partition(TP)
        partition.append([batch(0, b="1")])
        if known == "followed":
            assert set(there.open_transactions()) == {2}
        roll(partition)  # the snapshot has it open
        partition.append_marker(2, 1, True, 0, True)
        put(partition, b="later")
        roll(partition)
        for _ in range(4):
            compact(partition)
            clock.advance(2000)
        put(partition, c="plain")
        partition.append([batch(1, b="open")])
        first = partition.end_offset - 1
        if known == "rebooted":
            partition.close()
            (Path(partition.directory) / "control").unlink()
        one = Producer(there, 1)
        one.put(a="2")
        one.end(commit=True)
        assert there.stable_offset == first
        there.append_marker(2, 2, False, 0, True)
        assert there.stable_offset == there.end_offset
        assert [value for _, _, value in read(there)] == [b"later", b"plain", b"2"]


Action = st.one_of(
    st.tuples(st.just("plain"), st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1)),
    st.tuples(st.just("send"), st.integers(1, 2), st.integers(0, 5), st.booleans()),
    st.tuples(st.just("end"), st.integers(1, 2), st.booleans()),
    st.tuples(st.just("roll")),
    st.tuples(st.just("compact"), st.sampled_from([1, 1 << 20])),
    st.tuples(st.just("time"), st.sampled_from([500, 1500])),
    st.tuples(st.just("reopen"), st.booleans()),
)


class Model:
    """Committed records in the order of their offsets."""

    def __init__(self) -> None:
        self.records: dict[int, tuple[bytes, bytes | None]] = {}
        self.open: dict[int, dict[int, tuple[bytes, bytes | None]]] = {}

    def stable(self, end: int) -> int:
        return min((min(records) for records in self.open.values()), default=end)

    def latest(self, below: int) -> dict[bytes, tuple[int, bytes | None]]:
        return {
            key: (offset, value)
            for offset, (key, value) in sorted(self.records.items())
            if offset < below
        }


@settings(max_examples=60, deadline=None)
@given(actions=st.lists(Action, max_size=40))
def test_any_order_of_things_leaves_the_latest_committed_records(actions):
    root = Path(tempfile.mkdtemp())
    clock = ManualClock()
    model = Model()
    log = opened(root, clock=clock)
    try:
        log.create_topic("events", 1, CONFIG)
        producers = {number: Producer(log.partition(TP), number) for number in (1, 2)}
        for number, action in enumerate([*actions, ("compact", 1 << 20)]):
            partition = log.partition(TP)
            for producer in producers.values():
                producer.partition = partition
            end = partition.end_offset
            text = f"{number} " * 20
            match action:
                case "plain", rows:
                    values = {f"k{key}": None if empty else text for key, empty in rows}
                    put(partition, **values)
                    for key, value in values.items():
                        model.records[end] = key.encode(), value and value.encode()
                        end += 1
                case "send", who, key, empty:
                    value = None if empty else text
                    producers[who].put(**{f"k{key}": value})
                    model.open.setdefault(who, {})[end] = (
                        f"k{key}".encode(),
                        value and text.encode(),
                    )
                case "end", who, commit:
                    if who in model.open:
                        producers[who].end(commit=commit)
                        records = model.open.pop(who)
                        model.records.update(records if commit else {})
                case ["roll"]:
                    roll(partition)
                case "compact", memory:
                    before = state(partition)
                    compact(partition, memory=memory)
                    assert state(partition) == before
                    assert leftovers(partition) == []
                    assert_joined(partition)
                case "time", milliseconds:
                    clock.advance(milliseconds)
                case "reopen", lost:
                    log.close()
                    if lost:
                        for path in root.glob("events-0/*.snapshot"):
                            path.unlink()
                        (root / "events-0" / "control").unlink()
                    log = opened(root, clock=clock)
            held(log.partition(TP), model)
    finally:
        log.close()
        shutil.rmtree(root)


def held(partition: Partition, model: Model) -> None:
    """Hold what can be read against the model."""
    stable = model.stable(partition.end_offset)
    assert partition.stable_offset == stable
    found = read(partition)
    offsets = [offset for offset, _, _ in found]
    assert offsets == sorted(set(offsets))
    for offset, key, value in found:
        assert model.records[offset] == (key, value), "no such record was committed"
    latest = {key: (offset, value) for offset, key, value in found}
    for key, (offset, value) in model.latest(stable).items():
        # A tombstone may be gone, and then all before it are.
        assert latest.get(key) == (offset, value) or (value is None and key not in latest)
    clean_to = read_cleaned(RealFiles(), os.path.dirname(partition.directory)).get(TP, 0)
    clean = [key for offset, key, _ in found if offset < clean_to]
    assert len(clean) == len(set(clean)), "a key is twice in the clean part"


# Who reads meanwhile.


def test_who_had_read_all_of_it_sees_what_is_left_from_the_next_read_on(partition, tmp_path):
    put(partition, a="1")
    put(partition, a="2")
    roll(partition)
    with opened(tmp_path / "log", read_only=True) as other:
        reader = other.partition(TP)
        assert len(read(reader)) == 2
        compact(partition)
        assert read(reader) == [(1, b"a", b"2")]


def test_a_reader_sees_all_that_stays_whatever_was_merged_since_it_began(partition, tmp_path):
    for number in range(60):
        put(partition, **{f"k{number % 6}": str(number) * 20, f"once {number}": "x"})
    roll(partition)
    with opened(tmp_path / "log", read_only=True) as other:
        reader = other.partition(TP)
        offset, seen, turn = 0, [], 0
        while data := reader.read(offset, 200):
            some = columns(data, offset)
            assert not seen or some.offsets[0] > seen[-1][0]
            seen += zip(some.offsets, some.keys, some.values, strict=True)
            for _, header in headers(data):
                offset = header.next_offset
            turn += 1
            if turn % 5 == 0:
                compact(partition)
    stays = {row for row in read(partition) if row[1].startswith(b"once")}
    assert len(stays) == 60
    assert stays <= set(seen)


def test_an_offset_at_a_time_is_found_in_what_was_merged(partition, clock):
    for number in range(40):
        put(partition, **{f"k{number}": "x" * 60, "again": "y"})
        clock.advance(10)
    roll(partition)
    began = clock.now() - 400
    wanted = {10 * number: partition.offset_at(began + 10 * number) for number in range(40)}
    compact(partition)
    assert {10 * number: partition.offset_at(began + 10 * number) for number in range(40)} == wanted


READER = """
    import sys, threading
    from streamkit.codec import columns, headers
    from streamkit.log.directory import Log
    from streamkit.records import TopicPartition
    log = Log.open(sys.argv[1], read_only=True)
    partition = log.partition(TopicPartition("events", 0))
    print("ready", flush=True)
    passes = 0
    while True:
        offset, latest, done = 0, {}, False
        while data := partition.read(offset, 2000):
            some = columns(data, offset)
            assert some.offsets[0] >= offset if len(some) else True
            for key, value in zip(some.keys, some.values):
                latest[key] = value
                done = done or key == b"done"
            for _, header in headers(data):
                assert header.next_offset > offset
                offset = header.next_offset
        passes += 1
        if done:
            break
    print(passes, sorted((k.decode(), v.decode()) for k, v in latest.items()), flush=True)
"""


def test_readers_of_other_processes_see_the_final_state_while_segments_are_replaced(tmp_path):
    root = tmp_path / "log"
    with opened(root) as log:
        log.create_topic("events", 1, CONFIG)
        partition = log.partition(TP)
        put(partition, k0="0")
        command = [sys.executable, "-c", textwrap.dedent(READER), str(root)]
        readers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        try:
            for reader in readers:
                assert reader.stdout.readline() == "ready\n"
            for number in range(1500):
                put(partition, **{f"k{number % 30}": str(number) * 10})
                if number % 40 == 0:
                    compact(partition)
            put(partition, done="1")
            expected = {key.decode(): value.decode() for _, key, value in read(partition)}
            for reader in readers:
                out, _ = reader.communicate(timeout=60)
                assert reader.returncode == 0
                assert out.partition(" ")[2].strip() == str(sorted(expected.items()))
        finally:
            for reader in readers:
                reader.kill()
                reader.wait()


CLEANER = """
    import sys
    from streamkit.log.directory import Log
    from streamkit.records import TopicPartition
    log = Log.open(sys.argv[1], maintenance=False)
    partition = log.partition(TopicPartition("events", 0))
    print("ready", flush=True)
    done = 0
    while True:
        step = partition.trimmer.compact(4000, force=True)
        done += step is not None and step.done
        if partition.end_offset >= int(sys.argv[2]) and done > 3 and step is not None and step.done:
            break
    print(done, flush=True)
"""


def test_two_cleaners_and_a_producer_at_once_lose_nothing(tmp_path):
    root = tmp_path / "log"
    with opened(root) as log:
        log.create_topic("events", 1, CONFIG)
        partition = log.partition(TP)
        put(partition, k0="0")
        command = [sys.executable, "-c", textwrap.dedent(CLEANER), str(root), "1200"]
        cleaners = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        try:
            for cleaner in cleaners:
                assert cleaner.stdout.readline() == "ready\n"
            expected = {b"k0": b"0"}
            for number in range(1300):
                key, value = f"k{number % 40}", str(number) * 10
                put(partition, **{key: value})
                expected[key.encode()] = value.encode()
            for cleaner in cleaners:
                out, _ = cleaner.communicate(timeout=60)
                assert cleaner.returncode == 0
                assert int(out) > 3
        finally:
            for cleaner in cleaners:
                cleaner.kill()
                cleaner.wait()
        assert {key: value for _, key, value in read(partition)} == expected
        assert partition.end_offset == 1301
        assert len(batches(partition)) < 900


# What goes wrong.


def fill(log: Log, other: Log) -> Partition:
    """Segments to be merged, with aborted transactions among what is in them.

    `other` has written at the beginning, and knows the producers of that time.
    """
    log.create_topic("events", 1, CONFIG)
    put(other.partition(TP), k0="goes, so that all after it moves")
    nine = Producer(other.partition(TP), 9)
    nine.put(nine="9")
    nine.end(commit=True)
    partition = log.partition(TP)
    one = Producer(partition, 1)
    for number in range(8):
        put(partition, **{f"k{number % 5}": str(number) * 40, f"once {number}": "x"})
        one.put(**{f"k{number % 5}": "aborted " * 5})
        one.end(commit=number % 3 == 0)
    roll(partition)
    put(partition, active="1")
    return partition


def test_killed_at_any_step_it_leaves_a_log_and_the_next_one_goes_on(tmp_path):
    with opened(tmp_path / "whole") as log:
        partition = fill(log, log)
        committed, producers = read(partition), state(partition)
        compact(partition)
        expected = read(partition)
    final = {key: value for _, key, value in committed}
    died = {}
    at = 0
    while True:
        at += 1
        root = tmp_path / f"{at}"
        reader = opened(root)
        with opened(root) as log:
            fill(log, reader)
        files = FaultyFiles(synced=False)
        log = opened(root, files=files)
        partition = log.partition(TP)
        assert read(reader.partition(TP)) == committed
        files.fault = Fault(at, Killed(), CHANGES)
        with suppress(Killed):
            compact(partition)
        files.bury()
        if files.hit is None:
            break
        died[files.hit] = died.get(files.hit, 0) + 1
        # Who has it open, who opens it, who can only read, and who finds no control block.
        with opened(root, read_only=True) as other:
            for each in (reader, other):
                found = read(each.partition(TP))
                assert set(expected) <= set(found) <= set(committed), f"after {at}, {files.hit}"
                assert {key: value for _, key, value in found} == final
        assert state(reader.partition(TP)) == producers, f"after {at}, {files.hit}"
        put(reader.partition(TP), after="1")
        reader.close()
        if at % 2:
            (root / "events-0" / "control").unlink()
        with opened(root) as other:
            partition = other.partition(TP)
            assert {key: value for _, key, value in read(partition)} == {**final, b"after": b"1"}
            compact(partition)
            assert leftovers(partition) == []
            assert read(partition) == [*expected, (partition.end_offset - 1, b"after", b"1")]
            assert state(partition) == producers
            compact(partition)
            assert leftovers(partition) == []
        shutil.rmtree(root)
    assert set(died) >= {"open", "pwritev", "rename", "link", "unlink", "fdatasync", "fsync_dir"}


@pytest.mark.parametrize("number", [5, 28])
def test_failing_at_any_step_it_changes_nothing_that_can_be_read(tmp_path, number):
    died = set()
    at = 0
    while True:
        at += 1
        root = tmp_path / f"{at}"
        with opened(root) as log:
            fill(log, log)
        files = FaultyFiles(synced=False)
        with opened(root, files=files) as log:
            partition = log.partition(TP)
            final = {key: value for _, key, value in read(partition)}
            files.fault = Fault(at, OSError(number, os.strerror(number)))
            try:
                compact(partition)
            except Exception as error:
                assert type(error).__name__ in ("StorageFailed", "OutOfSpace", "CorruptLog")
            hit, files.fault = files.hit, None
            died.add(hit)
            assert {key: value for _, key, value in read(partition)} == final, f"after {at}, {hit}"
            if partition._open().errno == 0:
                compact(partition)
                assert leftovers(partition) == []
                assert {key: value for _, key, value in read(partition)} == final
                put(partition, after="1")
        shutil.rmtree(root)
        if hit is None:
            break
    assert died >= {"open", "pwritev", "pread", "rename", "link", "unlink", "fsync_dir"}


def test_a_full_disk_ends_the_round_and_gives_back_what_it_took(tmp_path):
    files = FaultyFiles(synced=False)
    with opened(tmp_path / "log", files=files) as log:
        partition = fill(log, log)
        files.fail["pwritev"] = 100
        with pytest.raises(OutOfSpace):
            compact(partition)
        assert leftovers(partition) == []
        del files.fail["pwritev"]
        assert compact(partition).done


def test_damage_is_named_and_neither_cleaned_away_nor_given_a_right_checksum(partition, tmp_path):
    put(partition, a="1")
    put(partition, a="2", b="damaged")
    put(partition, a="3")
    roll(partition)
    path = Path(partition._segments.path(0))
    content = bytearray(path.read_bytes())
    content[content.index(b"damaged")] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptLog, match=r"00000\.log is corrupt at byte \d+: .*checksum"):
        compact(partition)
    assert path.read_bytes() == content
    assert leftovers(partition) == []


def test_a_power_cut_after_a_round_finds_all_that_was_there(tmp_path):
    """Where the log was synced to before must not be looked for in a file that was replaced."""
    root = tmp_path / "log"
    with opened(root, files=RealFiles()) as log:
        log.create_topic("events", 1, CONFIG)
        partition = log.partition(TP)
        put(partition, a="1", b="1")
        partition.sync()  # into the middle of what will be a finished segment
        put(partition, a="2" * 200, c="1")
        roll(partition)
        block = partition._open()
        synced = block.synced()
        assert 0 < synced.position < partition._segments.size(0)
        compact(partition)
        put(partition, d="1")
        expected = read(partition)
    page = bytearray((root / "events-0" / "control").read_bytes())
    for _ in range(2):
        END.store(page, msgspec.structs.replace(END.decode(page)[1], boot_id=b"another boot ..."))
    (root / "events-0" / "control").write_bytes(page)
    with opened(root) as log:
        assert read(log.partition(TP)) == expected


def test_what_others_finish_while_a_round_begins_is_not_said_to_be_synced(tmp_path):
    with opened(tmp_path / "log", files=RealFiles()) as log:
        log.create_topic("events", 1, CONFIG)
        partition = log.partition(TP)
        put(partition, a="1")
        roll(partition)
        put(partition, a="2")
        sync = partition.trimmer._cleaner._sync

        def overtaken():
            sync()
            put(partition, a="3")
            roll(partition)

        partition.trimmer._cleaner._sync = overtaken
        compact(partition)
        assert partition.synced_offset == 2


def test_a_topic_deleted_in_the_middle_of_a_round_takes_nothing_of_it_over(log):
    partition = log.partition(TP)
    for number in range(60):
        put(partition, **{f"k{number % 5}": str(number) * 40})
    roll(partition)
    assert not partition.trimmer.compact(1000, force=True).done
    log.delete_topic("events")
    log.create_topic("events", 1, CONFIG)
    new = log.partition(TP)
    put(new, a="1")
    put(new, a="2")
    with pytest.raises(Exception, match="deleted"):
        compact(partition)
    roll(new)
    compact(new)
    assert read(new) == [(1, b"a", b"2")]
    assert leftovers(new) == []


def test_a_new_topic_of_an_old_name_is_dirty_from_its_start(log):
    partition = log.partition(TP)
    for number in range(60):
        put(partition, **{f"k{number % 5}": str(number) * 40})
    roll(partition)
    compact(partition)
    assert TP in read_cleaned(RealFiles(), log.path)
    log.delete_topic("events")
    log.create_topic("events", 1, CONFIG)
    assert TP not in read_cleaned(RealFiles(), log.path)
    partition.trimmer._cleaner._note()  # as a round would do that ends only now
    assert TP not in read_cleaned(RealFiles(), log.path)


@pytest.mark.parametrize("when", ["read", "written"])
def test_records_removed_in_the_middle_of_a_round_do_not_come_back(partition, when):
    for number in range(60):
        put(partition, **{f"k{number}": str(number) * 40})
    put(partition, k0="", k1="", k58="")
    roll(partition)
    segments = bases(partition)
    cleaner = partition.trimmer._cleaner
    if when == "read":
        assert not partition.trimmer.compact(3000, force=True).done
        partition.trimmer.remove_before(segments[-2])
    else:
        replace = cleaner._replace

        def interrupted(group):
            partition.trimmer.remove_before(segments[-2])
            replace(group)

        cleaner._replace = interrupted
    compact(partition)
    assert bases(partition) == segments[-2:]
    assert partition.start_offset == segments[-2]
    assert read(partition)[0][0] == segments[-2]
    with pytest.raises(OffsetOutOfRange):
        partition.read(0)
    assert leftovers(partition) == []


def test_what_a_broker_left_half_renamed_is_not_taken_for_decided(partition, tmp_path):
    for number in range(20):
        put(partition, **{f"k{number}": str(number) * 40})
    roll(partition)
    expected = read(partition)
    folder = Path(partition.directory)
    partition.close()
    (folder / file_name(0, LOG + SWAP)).write_bytes((folder / file_name(0, LOG)).read_bytes()[:200])
    (folder / (file_name(0, ".index") + ".cleaned")).write_bytes(b"")
    (folder / "control").unlink()
    assert read(partition) == expected
    assert leftovers(partition) == []


def test_the_synced_position_of_a_log_that_is_never_synced_is_moved_too(partition):
    put(partition, a="1")
    put(partition, a="2")
    roll(partition)
    compact(partition)
    page = Path(partition.directory, "control").read_bytes()
    assert len(page) == PAGE_BYTES
    end = partition.end_offset
    assert SYNCED.decode(page)[1] == Synced(end, 0, end)
