"""Producers with ids in one partition: their sequences, transactions, markers, and lost files."""

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from streamkit.codec import columns, encode, headers
from streamkit.errors import (
    CoordinatorFenced,
    InvalidProducerEpoch,
    InvalidRecord,
    InvalidTxnState,
    OutOfOrderSequence,
    OutOfSpace,
)
from streamkit.log.block import ControlBlock
from streamkit.log.control import DIRTY_AT, END, SYNCED, Synced
from streamkit.log.directory import Log
from streamkit.log.partition import Partition
from streamkit.log.producer_state import EXPIRATION
from streamkit.records import TopicPartition
from streamkit.transactions.markers import Marker, encode_marker
from streamkit.transactions.snapshot import decode_snapshot, encode_snapshot
from streamkit.transactions.txnindex import Aborted, decode_entries, encode_entries

TP = TopicPartition("events", 0)
SMALL = {"segment.bytes": "1024", "index.interval.bytes": "0"}
OLD = 1_000
"""A timestamp long ago, in ms."""


class Hours:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.ms = 1_700_000_000_000

    def now(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000


def data(
    *values: bytes,
    of: int,
    at: int,
    epoch: int = 0,
    transactional: bool = True,
    time: int = 1_700_000_000_000,
) -> bytes:
    """A batch of producer `of`, its first sequence `at`."""
    return encode(
        list(values),
        timestamps=time,
        producer_id=of,
        producer_epoch=epoch,
        base_sequence=at,
        transactional=transactional,
    )


def plain(value: bytes = b"plain") -> bytes:
    return encode([value], timestamps=1_700_000_000_000)


def visible(partition: Partition) -> list[tuple[int, bytes]]:
    found, offset = [], partition.start_offset
    while (some := partition.read_committed(offset)).next_offset > offset:
        for piece in some.pieces:
            taken = columns(piece, offset)
            found += zip(taken.offsets, taken.values, strict=True)
        offset = some.next_offset
    assert offset == partition.stable_offset
    return found


def names(partition: Partition, suffix: str) -> list[str]:
    return sorted(name for name in os.listdir(partition.directory) if name.endswith(suffix))


def active_index(partition: Partition) -> Path:
    return Path(partition.directory, names(partition, ".log")[-1]).with_suffix(".txnindex")


@pytest.fixture
def reopened(tmp_path) -> Callable[..., Partition]:
    """`reopened()`: the partition as a process sees it that has just come."""
    opened = []

    def again(**options) -> Partition:
        opened.append(Log.open(tmp_path / "log", fsync="never", **options))
        return opened[-1].partition(TP)

    yield again
    for log in opened:
        log.close()


@pytest.fixture
def small(tmp_path) -> Partition:
    """A partition whose segments hold about eight batches of one small record."""
    with Log.open(tmp_path / "log", fsync="never") as log:
        log.create_topic("events", 1, SMALL)
        yield log.partition(TP)


# Sequences.


def test_a_batch_that_comes_again_is_answered_with_its_offset_and_not_appended(partition, reopened):
    batches = [data(b"%d" % n, of=7, at=n, transactional=False) for n in range(6)]
    for n, batch in enumerate(batches):
        assert partition.append([batch]) == n
    for process in (partition, reopened(), reopened()):
        for n in range(1, 6):
            assert process.append([batches[n]]) == n
        with pytest.raises(OutOfOrderSequence):  # before the last five
            process.append([batches[0]])
        assert process.end_offset == 6


def test_the_last_five_batches_are_known_across_a_roll_and_a_restart(small, reopened):
    batches = [data(b"x" * 90, of=7, at=n, transactional=False) for n in range(9)]
    for n, batch in enumerate(batches):
        assert small.append([batch]) == n
    rolled = int(names(small, ".log")[-1][:20])
    assert 4 < rolled < 9  # some of the five are in the segment before
    for process in (small, reopened()):
        assert [process.append([batch]) for batch in batches[4:]] == [4, 5, 6, 7, 8]


def test_of_a_list_only_what_is_new_is_appended(partition, everything):
    first = data(b"a", of=7, at=0, transactional=False)
    partition.append([first])
    more = data(b"b", b"c", of=7, at=1, transactional=False)
    assert partition.append([first, more, plain()]) == 0
    assert [value for _, value in everything(partition)] == [b"a", b"b", b"c", b"plain"]
    assert partition.append([more, data(b"d", of=7, at=3, transactional=False)]) == 1
    assert partition.end_offset == 5


def test_when_one_batch_of_a_list_does_not_follow_none_is_appended(partition):
    lists = [plain(), data(b"a", of=7, at=0), data(b"b", of=7, at=5)]
    with pytest.raises(
        OutOfOrderSequence, match=r"events-0@2: producer 7: sequence 5 .*expected 1"
    ):
        partition.append(lists)
    assert partition.end_offset == 0
    assert partition.producers() == []


def test_an_older_epoch_is_refused_in_every_process(partition, reopened):
    partition.append([data(b"a", of=7, at=0, epoch=3, transactional=False)])
    partition.append([data(b"b", of=7, at=0, epoch=4, transactional=False)])
    for process in (partition, reopened()):
        with pytest.raises(InvalidProducerEpoch, match="epoch 3, but 4"):
            process.append([data(b"c", of=7, at=1, epoch=3, transactional=False)])


@pytest.mark.parametrize(
    ("batch", "problem"),
    [
        (
            encode_marker(Marker(True, 0), producer_id=7, producer_epoch=0, timestamp=0),
            "control batches are written by coordinators only",
        ),
        (encode([b"a"], timestamps=0, transactional=True), "has a producer id"),
        (encode([b"a"], timestamps=0, producer_id=7, producer_epoch=0), "has a sequence"),
    ],
    ids=["marker", "no id", "no sequence"],
)
def test_what_no_producer_sends_is_refused(partition, batch, problem):
    with pytest.raises(InvalidRecord, match=problem):
        partition.append([batch])
    assert partition.end_offset == 0


def test_what_did_not_fit_the_disk_can_be_sent_again(tmp_path, files):
    with Log.open(tmp_path / "log", files=files, maintenance=False) as log:
        log.create_topic("events")
        partition = log.partition(TP)
        partition.append([data(b"a", of=7, at=0)])
        files.fail["pwritev"] = 30
        with pytest.raises(OutOfSpace):
            partition.append([data(b"b" * 500, of=7, at=1)])
        del files.fail["pwritev"]
        assert partition.append([data(b"b" * 500, of=7, at=1)]) == 1
        assert partition.append([data(b"b" * 500, of=7, at=1)]) == 1
        assert partition.append_marker(7, 1, False, 0, True)
        assert decode_entries(active_index(partition).read_bytes(), "") == [Aborted(7, 0, 2, 3)]


# Transactions.


def test_a_transaction_is_seen_when_it_is_committed_and_not_before(partition, reopened):
    other = reopened()
    partition.append([data(b"a", of=7, at=0)])
    other.append([plain()])
    partition.append([data(b"b", of=7, at=1)])
    for process in (partition, other, reopened()):
        assert (process.stable_offset, process.end_offset) == (0, 3)
        assert process.open_transactions() == {7: 0}
        assert visible(process) == []
    assert other.append_marker(7, 1, True, 0, True)
    for process in (partition, other, reopened(), reopened(read_only=True)):
        assert (process.stable_offset, process.end_offset) == (4, 4)
        assert process.open_transactions() == {}
        assert visible(process) == [(0, b"a"), (1, b"plain"), (2, b"b")]


def test_an_aborted_transaction_is_never_seen_and_what_is_round_it_is(partition, reopened):
    other = reopened()
    for n in range(3):
        partition.append([plain(b"%d" % n)])
        other.append([data(b"no", of=7, at=n)])
    partition.append([data(b"yes", of=8, at=0)])
    other.append_marker(7, 1, False, 0, True)
    assert visible(partition) == [(0, b"0"), (2, b"1"), (4, b"2")]
    assert partition.stable_offset == 6
    partition.append_marker(8, 1, True, 0, True)
    for process in (partition, other, reopened(), reopened(read_only=True)):
        assert visible(process) == [(0, b"0"), (2, b"1"), (4, b"2"), (6, b"yes")]
        assert process.aborted(0, 9) == [Aborted(7, 1, 7, 6)]
        assert process.aborted(8, 9) == []
        assert process.producers()[0].epoch == 1


def test_a_read_in_the_middle_of_what_was_aborted_goes_on_without_it(partition):
    for n in range(4):
        partition.append([data(b"no" * 50, of=7, at=n)])
    partition.append_marker(7, 1, False, 0, True)
    partition.append([plain()])
    assert partition.read_committed(1, 10) == ([], 2)
    assert partition.read_committed(4, 10) == ([], 5)
    assert partition.read_committed(6) == ([], 6)
    (piece,), after = partition.read_committed(3)
    assert ([header.base_offset for _, header in headers(piece)], after) == ([5], 6)


def test_the_same_producer_goes_on_after_an_abort_and_that_is_seen(partition, reopened):
    partition.append([data(b"no", of=7, at=0)])
    partition.append_marker(7, 1, False, 0, True)
    partition.append([data(b"yes", of=7, at=0, epoch=1)])
    partition.append_marker(7, 2, True, 0, True)
    assert visible(partition) == visible(reopened()) == [(2, b"yes")]


def test_a_marker_is_written_once_whoever_writes_it(partition, reopened):
    partition.append([data(b"a", of=7, at=0)])
    assert partition.append_marker(7, 1, True, 3, True)
    for process in (partition, reopened()):
        assert not process.append_marker(7, 1, True, 3, True)
        with pytest.raises(InvalidProducerEpoch):
            process.append_marker(7, 0, True, 3, True)
        with pytest.raises(CoordinatorFenced):
            process.append_marker(7, 2, True, 2, True)
    assert partition.end_offset == 2


@pytest.mark.parametrize("bumped", [True, False])
def test_what_a_fenced_producer_has_left_is_not_committed_by_the_next_ones_marker(
    partition, reopened, bumped
):
    # The first epoch's end was never heard of here, as in a topic that was made again since.
    partition.append([data(b"fenced", of=7, at=0), plain(b"behind")])
    assert partition.append_marker(7, 2, True, 0, bumped)
    assert visible(partition) == visible(reopened()) == [(1, b"behind")]
    assert not reopened().append_marker(7, 2, True, 0, bumped)
    assert partition.append([data(b"next", of=7, at=0, epoch=2 if bumped else 3)]) == 3


def test_a_batch_that_is_late_does_not_land_in_the_next_transaction(partition):
    partition.append([data(b"a", of=7, at=0)])
    partition.append_marker(7, 1, False, 0, True)
    with pytest.raises(InvalidProducerEpoch):
        partition.append([data(b"late", of=7, at=1)])
    with pytest.raises(OutOfOrderSequence):  # of a transaction whose beginning is not here
        partition.append([data(b"late", of=8, at=1)])
    assert partition.stable_offset == partition.end_offset == 2


def test_a_producer_in_a_transaction_sends_nothing_outside_of_it(partition):
    partition.append([data(b"a", of=7, at=0)])
    with pytest.raises(InvalidTxnState, match="open since offset 0"):
        partition.append([data(b"b", of=7, at=1, transactional=False)])


def test_offsets_are_part_of_a_transaction_without_a_sequence(partition):
    batch = encode([b"o"], timestamps=0, producer_id=7, producer_epoch=0, transactional=True)
    assert partition.append([batch], sequenced=False) == 0
    assert partition.append([batch], sequenced=False) == 1  # nothing tells that it came before
    assert (partition.stable_offset, visible(partition)) == (0, [])
    partition.append_marker(7, 1, True, 0, True)
    assert visible(partition) == [(0, b"o"), (1, b"o")]


def test_who_appends_nothing_of_producers_never_reads_what_they_did(tmp_path, files, partition):
    partition.append([data(b"a", of=7, at=0)])
    with Log.open(tmp_path / "log", fsync="never", files=files, maintenance=False) as log:
        other = log.partition(TP)
        other.append([plain()])
        files.calls.clear()
        for _ in range(3):
            other.append([plain()])
        assert "pread" not in files.calls
        assert (other.stable_offset, other.end_offset) == (0, 5)
    partition.append_marker(7, 1, True, 0, True)
    assert partition.stable_offset == 6


def test_the_start_may_pass_the_beginning_of_an_open_transaction(small, reopened):
    small.append([plain(), data(b"a", of=7, at=0), plain()])
    small.trimmer.remove_before(3)
    assert small.stable_offset == small.end_offset == 3
    for process in (small, reopened()):
        process.append([plain()])
        assert process.stable_offset == 3
        assert process.open_transactions() == {7: 0}
    small.append_marker(7, 1, False, 0, True)
    assert visible(small) == visible(reopened()) == [(3, b"plain"), (4, b"plain")]


def test_what_others_appended_is_known_though_it_was_removed_before_it_was_seen(
    partition, reopened
):
    other = reopened()
    partition.append([data(b"a", of=7, at=0, transactional=False)])
    last = data(b"b", of=7, at=1, transactional=False)
    other.append([last])
    other.trimmer.roll(other.published())
    other.trimmer.remove_before(2)
    assert partition.append([last]) == 1
    assert partition.append([data(b"c", of=7, at=2, transactional=False)]) == 2


def test_who_slept_through_the_marker_and_its_removal_is_fenced(partition, reopened):
    other = reopened()
    partition.append([data(b"a", of=7, at=0)])
    other.append_marker(7, 1, False, 0, True)
    other.trimmer.roll(other.published())
    other.trimmer.remove_before(2)
    with pytest.raises(InvalidProducerEpoch):
        partition.append([data(b"b", of=7, at=1)])
    assert partition.stable_offset == partition.end_offset == 2


@pytest.mark.parametrize("asked", ["now", "monotonic"])
def test_what_is_closed_in_the_middle_of_an_append_is_opened_again(
    timed, clock, asked, monkeypatch
):
    """By another thread, it may come wherever Python lets one go on; here, with the clock."""
    timed.append([data(b"a", of=7, at=0)])
    tell = getattr(clock, asked)

    def close() -> float:
        timed.close()
        return tell()

    monkeypatch.setattr(clock, asked, close)
    assert timed.append([data(b"b", of=7, at=1)]) == 1
    assert timed.append_marker(7, 1, True, None, bumped=True)
    monkeypatch.undo()
    assert timed.append([data(b"a", of=7, at=0, epoch=1)]) == 3
    assert timed.open_transactions() == {7: 1}


def test_a_forked_child_goes_on_from_what_the_log_says(partition):
    partition.append([data(b"a", of=7, at=0)])
    child = os.fork()
    if child == 0:
        done = 1
        try:
            partition.append([data(b"b", of=7, at=1)], acks=1)
            partition.append_marker(7, 1, False, 0, True)
            done = 0
        finally:
            os._exit(done)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (partition.stable_offset, partition.end_offset) == (3, 3)
    with pytest.raises(InvalidProducerEpoch):
        partition.append([data(b"c", of=7, at=2)])


# The index of aborted transactions.


@pytest.fixture
def long_abort(small) -> Partition:
    """Aborted records in the first segment, their marker in the third; then an open transaction."""
    small.append([data(b"no", of=7, at=0), plain(b"first")])
    for n in range(1, 14):
        small.append([data(b"no" * 50, of=7, at=n)])
    small.append_marker(7, 1, False, 0, True)
    for _ in range(8):
        small.append([plain(b"x" * 90)])
    small.append([data(b"open", of=8, at=0)])
    indexes = [Path(small.directory, name) for name in names(small, ".txnindex")]
    sizes = [path.stat().st_size for path in indexes]
    assert len(indexes) == len(names(small, ".log")) == 4
    assert sizes == [0, 0, 34, 0]
    return small


def test_the_index_of_a_later_segment_tells_what_was_aborted_in_an_earlier(long_abort, reopened):
    expected = [(1, b"first"), *((n, b"x" * 90) for n in range(16, 24))]
    for process in (long_abort, reopened(), reopened(read_only=True)):
        assert visible(process) == expected


@pytest.mark.parametrize("damage", ["lost", "cut", "zeros", "newer"])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_lost_or_damaged_index_is_made_again(long_abort, reopened, damage, read_only):
    expected = visible(long_abort)
    path = Path(long_abort.directory, names(long_abort, ".txnindex")[2])
    right = path.read_bytes()
    if damage == "lost":
        path.unlink()
    else:
        path.write_bytes(
            {"cut": right[:-1], "zeros": bytes(34), "newer": b"\0\1" + right[2:]}[damage]
        )
    assert visible(reopened(read_only=read_only)) == expected
    if not read_only:
        assert path.read_bytes() == right


@pytest.mark.parametrize("damage", ["lost", "empty", "zeros"])
def test_a_lost_or_damaged_index_of_the_active_segment_is_made_again(partition, reopened, damage):
    for epoch in range(3):
        partition.append([data(b"no", of=7, at=0, epoch=epoch)])
        partition.append_marker(7, epoch + 1, False, 0, True)
    path = active_index(partition)
    right = path.read_bytes()
    if damage == "lost":
        path.unlink()
    else:
        path.write_bytes(b"" if damage == "empty" else bytes(len(right)))
    other = reopened()
    assert visible(other) == []
    assert path.read_bytes() == right
    for process in (partition, other):  # both write into the file that is there now
        producer = process.producers()[0]
        process.append([data(b"no", of=7, at=0, epoch=producer.epoch)])
        process.append_marker(7, producer.epoch + 1, False, 0, True)
        assert visible(process) == []
    assert len(decode_entries(path.read_bytes(), "")) == 5
    assert visible(reopened()) == []


def test_an_abort_that_a_killed_writer_did_not_publish_hides_nothing(partition, reopened):
    partition.append([data(b"a", of=7, at=0)])
    index = active_index(partition)
    with index.open("ab") as file:
        file.write(encode_entries([Aborted(7, 0, 1, 2)]))
    with Path(partition.directory, "control").open("r+b") as file:
        file.seek(DIRTY_AT)
        file.write(b"\x01")
    other = reopened()
    other.append_marker(7, 1, True, 0, True)
    other.append([data(b"b", of=7, at=0, epoch=1)])
    other.append_marker(7, 2, False, 0, True)
    assert visible(other) == visible(reopened()) == [(0, b"a")]
    assert decode_entries(index.read_bytes(), "") == [Aborted(7, 2, 3, 4)]


def test_nor_does_it_once_its_segment_is_finished(small, reopened):
    small.append([data(b"a", of=7, at=0)])
    with active_index(small).open("ab") as file:
        file.write(encode_entries([Aborted(7, 0, 1, 2)]))
    with Path(small.directory, "control").open("r+b") as file:
        file.seek(DIRTY_AT)
        file.write(b"\x01")
    small.append_marker(7, 1, True, 0, True)
    while len(names(small, ".log")) == 1:
        small.append([plain(b"x" * 90)])
    assert visible(small)[0] == visible(reopened())[0] == (0, b"a")


def test_an_index_made_again_from_a_damaged_segment_is_the_one_that_counts(partition, reopened):
    for producer in (7, 8):
        partition.append([data(b"no", of=producer, at=0)])
        partition.append_marker(producer, 1, False, 0, True)
    path = Path(partition.directory, names(partition, ".log")[0])
    raw = bytearray(path.read_bytes())
    raw[list(headers(bytes(raw)))[1][0] + 70] ^= 1  # in the first marker's record
    path.write_bytes(raw)
    active_index(partition).unlink()
    other = reopened()
    assert visible(other) == [(0, b"no")]
    other.append([data(b"no", of=9, at=0)])
    other.append_marker(9, 1, False, 0, True)
    assert visible(other) == visible(reopened()) == [(0, b"no")]
    entries = decode_entries(active_index(other).read_bytes(), "")
    assert [(entry.producer_id, entry.last_offset) for entry in entries] == [(8, 3), (9, 5)]


# Restarts.


def set_boot(partition: Partition, synced: Synced) -> None:
    """Make the control block one of another boot, synced up to there."""
    path = Path(partition.directory, "control")
    page = bytearray(path.read_bytes())
    _, end = END.decode(page)
    for _ in range(2):
        END.store(page, msgspec.structs.replace(end, boot_id=b"another boot ..."))
        SYNCED.store(page, synced)
    path.write_bytes(page)


def test_after_a_reboot_the_index_is_made_again_from_where_the_log_was_synced(long_abort, reopened):
    expected = visible(long_abort)
    bases = [int(name[:20]) for name in names(long_abort, ".log")]
    for name in names(long_abort, ".txnindex")[1:]:
        Path(long_abort.directory, name).write_bytes(b"torn" * 40)
    set_boot(long_abort, Synced(bases[1], 0, bases[1]))
    for read_only in (True, False):
        process = reopened(read_only=read_only)
        assert visible(process) == expected
        assert process.open_transactions() == {8: 0}
    sizes = [Path(process.directory, n).stat().st_size for n in names(process, ".txnindex")]
    assert sizes == [0, 0, 34, 0]


def test_a_snapshot_of_what_a_power_cut_has_taken_is_not_used(small, reopened):
    """Its offset is reached again, by other batches."""
    small.append([plain(b"x" * 90) for _ in range(4)])
    for n in range(8):
        small.append([data(b"x" * 90, of=7, at=n, transactional=False)])
    base = int(names(small, ".log")[-1][:20])
    assert base > 5
    with Path(small.directory, names(small, ".log")[0]).open("r+b") as file:
        raw = file.read()
        file.truncate(list(headers(raw))[5][0])
    set_boot(small, Synced(0, 0, 0))
    after = reopened()
    assert after.end_offset == 5
    assert names(after, ".snapshot") == []
    while after.end_offset <= base:
        after.append([plain(b"x" * 90)])
    assert reopened().append([data(b"y", of=7, at=1, transactional=False)]) == base + 1


def test_nor_when_only_the_snapshot_is_left_of_its_segment(small, reopened):
    for n in range(8):
        small.append([data(b"x" * 90, of=7, at=n, transactional=False)])
    base = int(names(small, ".log")[-1][:20])
    for name in os.listdir(small.directory):
        if name.startswith(f"{base:020d}") and not name.endswith(".snapshot"):
            Path(small.directory, name).unlink()
    with Path(small.directory, names(small, ".log")[0]).open("r+b") as file:
        file.truncate(list(headers(file.read()))[2][0])
    set_boot(small, Synced(0, 0, 0))
    after = reopened()
    assert after.end_offset == 2
    assert names(after, ".snapshot") == []


def test_a_snapshot_in_the_middle_of_a_segment_is_gone_on_from(partition, reopened):
    """A broker leaves one where it stops."""
    for n in range(3):
        partition.append([data(b"x", of=7, at=n)])
    entries = partition.producers()
    partition.append([data(b"x", of=7, at=3), data(b"x", of=8, at=0)])
    path = Path(partition.directory, f"{3:020d}.snapshot")
    path.write_bytes(encode_snapshot(entries))
    Path(partition.directory, "control").unlink()
    assert [
        (one.producer_id, one.last_sequence, one.open_from) for one in reopened().producers()
    ] == [
        (7, 3, 0),
        (8, 0, 4),
    ]


def test_the_control_block_lost_and_the_snapshots_damaged_the_log_alone_tells(long_abort, reopened):
    expected = visible(long_abort)
    long_abort.append([data(b"open", of=8, at=1)])
    known = long_abort.producers()
    for name in names(long_abort, ".snapshot"):
        Path(long_abort.directory, name).write_bytes(b"\0" * 20)
    Path(long_abort.directory, "control").unlink()
    after = reopened()
    assert visible(after) == expected
    assert [(one.producer_id, one.epoch, one.open_from) for one in after.producers()] == [
        (one.producer_id, one.epoch, one.open_from) for one in known
    ]
    assert after.append([data(b"open", of=8, at=1)]) == after.end_offset - 1


def test_of_a_brokers_files_a_missing_index_is_none(long_abort, reopened, files):
    """It makes one for the first transaction that is aborted: nothing is walked for the others."""
    expected = visible(long_abort)
    for name in names(long_abort, ".txnindex"):
        path = Path(long_abort.directory, name)
        if path.stat().st_size == 0:
            path.unlink()
    Path(long_abort.directory, "control").unlink()
    before = names(long_abort, ".txnindex")
    assert visible(reopened(read_only=True)) == expected
    assert names(long_abort, ".txnindex") == before
    after = reopened(files=files)
    assert after.end_offset == long_abort.end_offset
    assert len(names(after, ".txnindex")) == 4
    files.calls.clear()
    assert visible(after) == expected


def test_every_roll_leaves_a_snapshot_also_where_nobody_has_an_id(small, tmp_path, files):
    with Log.open(tmp_path / "log", fsync="never", files=files, maintenance=False) as log:
        partition = log.partition(TP)
        partition.append([plain(b"x" * 90)])
        files.calls.clear()
        partition.append([plain(b"x" * 90) for _ in range(20)])
        assert "pread" not in files.calls
    logs, snapshots = names(small, ".log"), names(small, ".snapshot")
    assert [name[:20] for name in snapshots] == [name[:20] for name in logs[1:]]
    for name in snapshots:
        assert decode_snapshot(Path(small.directory, name).read_bytes(), name) == []
    assert names(small, ".txnindex") == []


def test_without_a_snapshot_the_walk_begins_at_the_one_before(long_abort, reopened):
    known = long_abort.producers()
    for name in names(long_abort, ".snapshot")[1:]:
        Path(long_abort.directory, name).unlink()
    after = reopened().producers()
    assert [msgspec.structs.replace(one, batches=()) for one in after] == [
        msgspec.structs.replace(one, batches=()) for one in known
    ]


def test_a_snapshot_that_cannot_be_written_keeps_nobody_from_appending(small, caplog):
    small.append([data(b"x" * 90, of=7, at=0, transactional=False)])
    (Path(small.directory) / f"{6:020d}.snapshot").mkdir()
    with caplog.at_level(logging.WARNING):
        for n in range(1, 9):
            small.append([data(b"x" * 90, of=7, at=n, transactional=False)])
    assert names(small, ".log")[-1].startswith(f"{6:020d}")
    assert re.search(r"events-0@6: no snapshot of the producers", caplog.text)


def test_producers_behind_a_damaged_batch_are_known(small, reopened, caplog):
    small.append([data(b"%d" % n * 20, of=n, at=0) for n in range(5)])
    path = Path(small.directory, names(small, ".log")[0])
    raw = bytearray(path.read_bytes())
    starts = [at for at, _ in headers(bytes(raw))]
    raw[starts[2] + 8] ^= 0x41  # the length of the third
    path.write_bytes(raw)
    with caplog.at_level(logging.ERROR):
        found = reopened().producers()
    assert [one.producer_id for one in found] == [0, 1, 3, 4]
    assert f"corrupt at byte {starts[2]}, producers there are not known" in caplog.text


def test_committed_records_do_not_end_earlier_because_a_marker_is_damaged(
    partition, reopened, caplog
):
    partition.append([data(b"a", of=7, at=0)])
    partition.append_marker(7, 1, True, 0, True)
    path = Path(partition.directory, names(partition, ".log")[0])
    raw = bytearray(path.read_bytes())
    raw[list(headers(bytes(raw)))[1][0] + 8] ^= 0x41  # the length of the marker
    path.write_bytes(raw)
    other = reopened()
    other.append([plain()])
    with caplog.at_level(logging.ERROR):
        other.append([data(b"b", of=8, at=0)])
    assert (other.stable_offset, other.open_transactions()) == (3, {8: 0})
    assert "marker that ended a transaction of producer 7 was not found" in caplog.text


def test_a_block_that_speaks_of_more_than_there_is_does_not_come_back(small, reopened, monkeypatch):
    """It says that the log had no producers up to an end that is reached again, by producers."""
    flushed = []
    monkeypatch.setattr(ControlBlock, "flush", lambda self: flushed.append(self.end()))
    small.append([plain(), plain()])
    set_boot(small, Synced(0, 0, 0))
    assert reopened().end_offset == 2
    assert flushed == []
    with Path(small.directory, names(small, ".log")[0]).open("r+b") as file:
        file.truncate(list(headers(file.read()))[1][0])
    set_boot(small, Synced(0, 0, 0))
    assert reopened().end_offset == 1
    assert [end.end_offset for end in flushed] == [1]


# Forgetting.


@pytest.fixture
def clock() -> Hours:
    return Hours()


@pytest.fixture
def timed(tmp_path, clock) -> Partition:
    with Log.open(tmp_path / "log", fsync="never", clock=clock) as log:
        log.create_topic("events", 1, {"segment.bytes": "1024", "segment.ms": "1000000000000"})
        yield log.partition(TP)


def test_a_producer_that_was_silent_for_a_day_is_forgotten_unless_it_is_in_a_transaction(
    timed, clock, reopened
):
    timed.append([data(b"a", of=7, at=0, transactional=False, time=clock.ms)])
    timed.append([data(b"b", of=8, at=0, time=clock.ms)])
    clock.ms += EXPIRATION
    timed.append([data(b"c", of=9, at=0, transactional=False, time=clock.ms)])
    assert [one.producer_id for one in timed.producers()] == [8, 9]
    assert [one.producer_id for one in reopened(clock=clock).producers()] == [8, 9]
    assert timed.append([data(b"d", of=7, at=55, transactional=False, time=clock.ms)]) == 3


def test_a_producer_that_imports_old_records_is_not_forgotten_while_it_works(timed, clock):
    for n in range(9):
        timed.append([data(b"x" * 90, of=7, at=n, transactional=False, time=OLD + n)])
    assert len(names(timed, ".log")) > 1
    assert timed.append([data(b"x" * 90, of=7, at=8, transactional=False, time=OLD + 8)]) == 8
    clock.ms += EXPIRATION
    timed.append([data(b"c", of=9, at=0, transactional=False, time=clock.ms)])
    assert [one.producer_id for one in timed.producers()] == [9]


def test_nor_by_other_processes_as_long_as_its_segment_is_young(timed, clock, reopened):
    batch = data(b"x", of=7, at=0, transactional=False, time=OLD)
    timed.append([batch])
    assert reopened(clock=clock).append([batch]) == 0
    clock.ms += EXPIRATION
    assert reopened(clock=clock).producers() == []
