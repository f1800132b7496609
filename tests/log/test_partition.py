"""Append, read, roll and seek in one partition."""

import os
import warnings
from contextlib import suppress
from struct import pack, pack_into

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.codec import columns, encode, headers, read_header
from streamkit.codec.crc import crc32c
from streamkit.errors import (
    BadCrc,
    CorruptBatch,
    MalformedBatch,
    OffsetOutOfRange,
    OutOfSpace,
    RecordTooLarge,
    StorageFailed,
)
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)


class Hours:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.ms = 1_000_000

    def now(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000


def logs(partition) -> list[str]:
    return sorted(name for name in os.listdir(partition.directory) if name.endswith(".log"))


def test_an_empty_partition_begins_and_ends_at_0(partition):
    assert (partition.start_offset, partition.end_offset) == (0, 0)
    assert partition.read(0) == b""
    assert partition.offset_at(0) is None


def test_appends_get_dense_offsets_and_are_read_back(partition, batch, everything):
    assert partition.append([batch(b"a", b"b")]) == 0
    assert partition.append([batch(b"c"), batch(b"d", b"e", b"f")], acks=1) == 2
    assert partition.append([]) == 6
    assert partition.end_offset == 6
    assert everything(partition) == list(enumerate([b"a", b"b", b"c", b"d", b"e", b"f"]))


def test_a_read_begins_with_the_batch_that_holds_the_offset(partition, batch):
    partition.append([batch(b"a", b"b"), batch(b"c", b"d")])
    assert [h.base_offset for _, h in headers(partition.read(1))] == [0, 2]
    assert [h.base_offset for _, h in headers(partition.read(2))] == [2]
    assert [h.base_offset for _, h in headers(partition.read(3))] == [2]


def test_a_read_gives_one_whole_batch_however_little_is_asked_for(partition, batch):
    partition.append([batch(b"x" * 5000), batch(b"y" * 100), batch(b"z")])
    for size in (0, 1, 61, 100, 5000):
        assert [h.base_offset for _, h in headers(partition.read(0, size))] == [0]
    assert [h.base_offset for _, h in headers(partition.read(0, 5300))] == [0, 1]


@pytest.mark.parametrize("offset", [-1, 3, 100])
def test_offsets_outside_are_out_of_range(partition, batch, offset):
    partition.append([batch(b"a", b"b")])
    with pytest.raises(OffsetOutOfRange, match=r"events-0@.*offsets 0 to 1"):
        partition.read(offset)


def test_a_batch_that_is_damaged_is_not_appended(partition, batch):
    good = batch(b"abc")
    with pytest.raises(BadCrc):
        partition.append([good[:-1] + b"x"])
    with pytest.raises(CorruptBatch):
        partition.append([good[:-1]])
    with pytest.raises(MalformedBatch, match="events-0"):
        partition.append([good + good])
    assert partition.end_offset == 0


def test_a_batch_that_takes_more_offsets_than_it_has_records_is_not_appended(partition, batch):
    lying = bytearray(batch(b"abc"))
    pack_into(">i", lying, 23, 2**31 - 1)
    pack_into(">I", lying, 17, crc32c(lying[21:]))
    with pytest.raises(MalformedBatch, match="1 records to append for the 2147483648 offsets"):
        partition.append([bytes(lying)])
    assert partition.end_offset == 0


def test_a_batch_over_the_topics_limits_is_refused(log, batch):
    log.create_topic("small", 1, {"max.message.bytes": "100"})
    log.create_topic("short", 1, {"segment.bytes": "1024"})
    with pytest.raises(RecordTooLarge, match=r"small-0.*max\.message\.bytes is 100"):
        log.partition(TopicPartition("small", 0)).append([batch(b"x" * 100)])
    with pytest.raises(RecordTooLarge, match=r"segment\.bytes is 1024"):
        log.partition(TopicPartition("short", 0)).append([batch(b"x" * 1024)])


def test_a_full_segment_is_followed_by_one_named_after_its_first_offset(log, batch, everything):
    log.create_topic("rolls", 1, {"segment.bytes": "1024"})
    partition = log.partition(TopicPartition("rolls", 0))
    values = [bytes([65 + i]) * 400 for i in range(7)]
    for value in values:
        partition.append([batch(value)])
    assert logs(partition) == [f"{n:020d}.log" for n in (0, 2, 4, 6)]
    assert everything(partition) == list(enumerate(values))
    assert [partition.read(n)[69:-1][:1] for n in range(7)] == [v[:1] for v in values]
    # Another process sees the same.
    with Log.open(log.path, read_only=True) as other:
        assert everything(other.partition(partition.tp)) == list(enumerate(values))


def test_batches_appended_together_share_a_segment_if_one_can_hold_them(log, batch, everything):
    log.create_topic("rolls", 1, {"segment.bytes": "1024"})
    partition = log.partition(TopicPartition("rolls", 0))
    partition.append([batch(b"x" * 500)])
    assert partition.append([batch(b"y" * 300), batch(b"z" * 300)]) == 1
    assert logs(partition) == [f"{n:020d}.log" for n in (0, 1)]
    many = [batch(bytes([n]) * 300) for n in range(9)]
    assert partition.append(many) == 3
    assert [offset for offset, _ in everything(partition)] == list(range(12))


def test_batches_that_must_stay_together_do_in_any_segment(log, batch, everything):
    log.create_topic("small", config={"segment.bytes": "1024"})
    partition = log.partition(TopicPartition("small", 0))
    first = partition.append([batch(b"x" * 300)])
    some = [batch(b"%d" % n * 300) for n in range(5)]
    with pytest.raises(RecordTooLarge):
        partition.append([*some, batch(b"x" * 2000)], together=True)
    assert partition.end_offset == 1
    assert partition.append(some, together=True) == first + 1
    assert logs(partition) == [f"{0:020d}.log", f"{1:020d}.log"]
    assert [value for _, value in everything(partition)][1:] == [b"%d" % n * 300 for n in range(5)]


def test_a_segment_older_than_segment_ms_is_followed_by_another(tmp_path, batch):
    clock = Hours()
    with Log.open(tmp_path, fsync="never", clock=clock) as log:
        log.create_topic("events", 1, {"segment.ms": "1000"})
        partition = log.partition(TP)
        partition.append([batch(b"a")])
        clock.ms += 999
        partition.append([batch(b"b", at=10**15)])  # event time does not roll
        clock.ms += 1
        partition.append([batch(b"c")])
        assert logs(partition) == [f"{n:020d}.log" for n in (0, 2)]


def test_with_log_append_time_all_records_have_the_time_of_the_append(tmp_path, batch):
    clock = Hours()
    with Log.open(tmp_path, fsync="never", clock=clock) as log:
        log.create_topic("events", 1, {"message.timestamp.type": "LogAppendTime"})
        partition = log.partition(TP)
        partition.append([batch(b"a", b"b", at=5)])
        found = columns(partition.read(0))
        assert list(found.timestamps) == [1_000_000, 1_000_000]
        assert read_header(partition.read(0)).log_append_time
        assert partition.offset_at(6) == 0


def test_kafka_python_reads_the_log_files(log, batch):
    with warnings.catch_warnings():  # it loads its schemas in a deprecated way
        warnings.simplefilter("ignore", DeprecationWarning)
        from kafka.record.memory_records import MemoryRecords

    log.create_topic("rolls", 1, {"segment.bytes": "4096"})
    partition = log.partition(TopicPartition("rolls", 0))
    for n in range(30):
        partition.append(
            [
                encode(
                    [b"v%d" % n, None],
                    keys=[None, b"k"],
                    timestamps=[n, n + 1],
                    headers=[(("h", b"1"),), ()],
                    compression=("none", "gzip")[n % 2],
                )
            ]
        )
    found = []
    for name in logs(partition):
        with open(os.path.join(partition.directory, name), "rb") as file:
            records = MemoryRecords(file.read())
        while (some := records.next_batch()) is not None:
            assert some.validate_crc()
            found += [(r.offset, r.timestamp, r.key, r.value, r.headers) for r in some]
    expected = []
    for n in range(30):
        expected.append((2 * n, n, None, b"v%d" % n, [("h", b"1")]))
        expected.append((2 * n + 1, n + 1, b"k", None, []))
    assert found == expected


@settings(max_examples=40, deadline=None)
@given(
    times=st.lists(st.lists(st.integers(-1, 60), min_size=1, max_size=4), max_size=40),
    data=st.data(),
)
def test_the_offset_at_a_time_is_the_first_record_that_is_not_before_it(
    tmp_path_factory, times, data
):
    with Log.open(tmp_path_factory.mktemp("log"), fsync="never") as log:
        log.create_topic("events", 1, {"segment.bytes": "1024", "index.interval.bytes": "150"})
        partition = log.partition(TP)
        for some in times:
            partition.append([encode([b"v" * 30] * len(some), timestamps=some)], acks=1)
        flat = [time for some in times for time in some]
        for asked in data.draw(st.lists(st.integers(0, 61), min_size=1, max_size=8)):
            expected = next((n for n, time in enumerate(flat) if time >= asked), None)
            assert partition.offset_at(asked) == expected


def test_a_finished_segment_notes_its_largest_timestamp_though_no_index_entry_was_due(log, batch):
    log.create_topic("rolls", 1, {"segment.bytes": "1024", "index.interval.bytes": "400"})
    partition = log.partition(TopicPartition("rolls", 0))
    for size, time in ((400, 1), (10, 2), (10, 9), (600, 3)):
        partition.append([batch(b"x" * size, at=time)])
    with open(os.path.join(partition.directory, f"{0:020d}.timeindex"), "rb") as file:
        assert file.read() == pack(">qiqi", 2, 1, 9, 2)
    assert [partition.offset_at(time) for time in (1, 2, 3, 9, 10)] == [0, 1, 2, 2, None]


def test_a_full_disk_takes_back_what_was_half_written(tmp_path, files, batch, everything):
    with Log.open(tmp_path, files=files, fsync="never", maintenance=False) as log:
        log.create_topic("events")
        partition = log.partition(TP)
        partition.append([batch(b"kept")])
        for room in (0, 1, 30, 75):
            files.fail["pwritev"] = room
            with pytest.raises(OutOfSpace, match=r"events-0@1: .*No space left.*free some space"):
                partition.append([batch(b"lost" * 10)])
            path = os.path.join(partition.directory, "0" * 20 + ".log")
            assert os.path.getsize(path) == len(batch(b"kept"))
        del files.fail["pwritev"]
        assert partition.append([batch(b"after")]) == 1
        assert everything(partition) == [(0, b"kept"), (1, b"after")]


def test_a_disk_that_stays_full_stays_an_error_of_space_and_ends_with_it(
    tmp_path, files, batch, everything
):
    with Log.open(tmp_path, files=files, fsync="never", maintenance=False) as log:
        log.create_topic("events")
        partition = log.partition(TP)
        partition.append([batch(b"kept")])
        files.fail["pwritev"] = 30
        full = OSError(28, "No space left on device")
        files.truncate = lambda fd, size: (_ for _ in ()).throw(full)  # type: ignore[method-assign]
        for _ in range(3):  # not even the half of it can be taken back, so it is tried again
            with pytest.raises(OutOfSpace):
                partition.append([batch(b"lost" * 10)])
        files.fail.clear()
        files.truncate = os.ftruncate  # type: ignore[method-assign]
        assert partition.append([batch(b"after")]) == 1
        assert everything(partition) == [(0, b"kept"), (1, b"after")]


def test_short_writes_are_followed_by_the_rest(tmp_path, files, batch, everything):
    files.pwritev = (
        lambda fd, buffers, position: os.pwrite(  # type: ignore[method-assign]
            fd, b"".join(buffers)[:7], position
        )
    )
    with Log.open(tmp_path, files=files, fsync="never", maintenance=False) as log:
        log.create_topic("events")
        log.partition(TP).append([batch(b"a" * 100), batch(b"b" * 100)])
        assert everything(log.partition(TP)) == [(0, b"a" * 100), (1, b"b" * 100)]


def test_more_batches_than_one_pwritev_takes_are_appended(partition, batch, everything):
    partition.append([batch(b"%d" % n) for n in range(1500)])
    assert everything(partition) == [(n, b"%d" % n) for n in range(1500)]


def test_a_write_error_of_the_disk_is_sticky_in_every_process(tmp_path, files, batch, everything):
    with Log.open(tmp_path, files=files, maintenance=False) as log, Log.open(tmp_path) as other:
        log.create_topic("events")
        log.partition(TP).append([batch(b"a")])
        files.fail["pwritev"] = OSError(5, "Input/output error")
        with pytest.raises(StorageFailed):
            log.partition(TP).append([batch(b"b")])
        del files.fail["pwritev"]
        for one in (log, other):
            with pytest.raises(StorageFailed, match=r"Input/output error.*refused"):
                one.partition(TP).append([batch(b"c")])
            assert everything(one.partition(TP)) == [(0, b"a")]


def test_a_read_error_says_where_and_is_not_sticky(tmp_path, files, batch):
    with Log.open(tmp_path, files=files, fsync="never", maintenance=False) as log:
        log.create_topic("events")
        partition = log.partition(TP)
        partition.append([batch(b"a")])
        files.fail["pread"] = OSError(5, "Input/output error")
        with pytest.raises(StorageFailed, match=r"events-0@0.*\.log at byte 0"):
            partition.read(0)
        del files.fail["pread"]
        assert partition.read(0)


def test_an_interrupt_in_the_middle_of_an_append_is_made_good_by_the_next(
    tmp_path, files, batch, everything
):
    with Log.open(tmp_path, files=files, fsync="never", maintenance=False) as log:
        log.create_topic("events")
        partition = log.partition(TP)
        partition.append([batch(b"a")])
        real = files.pwritev

        def interrupted(fd, buffers, position):
            real(fd, buffers, position)
            raise KeyboardInterrupt

        files.pwritev = interrupted  # type: ignore[method-assign]
        with suppress(KeyboardInterrupt):
            partition.append([batch(b"b" * 500)])
        files.pwritev = real  # type: ignore[method-assign]
        assert everything(partition) == [(0, b"a")]
        assert partition.append([batch(b"c")]) == 1
        assert everything(partition) == [(0, b"a"), (1, b"c")]
        assert partition.leader_epoch == 1
