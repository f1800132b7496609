"""What maintenance does to a log: which files go, which segments end, and who does it when."""

import logging
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from streamkit.clock import ManualClock, SystemClock
from streamkit.codec import encode
from streamkit.errors import LogError, OffsetOutOfRange, ReadOnlyLog
from streamkit.log import directory, maintenance, rounds
from streamkit.log.config import HOUR
from streamkit.log.directory import Log
from streamkit.log.files import UnsyncedFiles
from streamkit.log.partition import Partition
from streamkit.log.trimming import Trimmer
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)
DAY = 24 * HOUR
SMALL = {"segment.bytes": "1024"}


@pytest.fixture
def log(tmp_path):
    with Log.open(tmp_path / "log", fsync="never", maintenance=False) as log:
        yield log


def fill(log: Log, topic: str = "events", count: int = 9, at: int = 0, **config: str) -> Partition:
    """A topic of one partition, with three records to a segment; the ninth is in the third."""
    log.create_topic(topic, 1, SMALL | {key.replace("_", "."): v for key, v in config.items()})
    partition = log.partition(TopicPartition(topic, 0))
    append(partition, count, at)
    return partition


def append(partition: Partition, count: int = 1, at: int = 0) -> None:
    for _ in range(count):
        partition.append([encode([b"x" * 250], timestamps=at)], acks=1)


def bases(partition: Partition) -> list[int]:
    return sorted(int(p.stem) for p in Path(partition.directory).glob("*.log"))


def appended(partition: Partition, base: int, ago: int) -> None:
    """Let the last append to a segment be `ago` ms in the past."""
    then = time.time() - ago / 1000
    os.utime(Path(partition.directory) / f"{base:020d}.log", (then, then))


def test_segments_go_when_their_last_append_is_too_long_ago(log):
    partition = fill(log, retention_ms=str(DAY))
    assert bases(partition) == [0, 3, 6]
    for base, ago in ((0, 3 * DAY), (3, 2 * DAY), (6, DAY - HOUR)):
        appended(partition, base, ago)
    (removed,) = log.maintain().removed
    assert (removed[0], removed[1].before, removed[1].why) == (TP, 6, "retention.ms")
    assert bases(partition) == [6]
    assert (partition.start_offset, partition.end_offset) == (6, 9)
    assert sorted(os.listdir(partition.directory))[0].startswith(f"{6:020d}")
    with pytest.raises(OffsetOutOfRange, match="6 to 8"):
        partition.read(5)
    assert log.maintain().removed == ()


def test_what_is_imported_from_long_ago_is_not_removed_at_once(log):
    partition = fill(log, at=0, retention_ms=str(DAY))
    assert log.maintain().removed == ()
    assert partition.start_offset == 0


def test_a_time_in_the_far_future_pins_no_segment(log):
    partition = fill(log, at=10**15, retention_ms=str(DAY))
    appended(partition, 0, 2 * DAY)
    log.maintain()
    assert bases(partition) == [3, 6]


def test_a_file_of_the_future_is_as_old_as_it_is_known(tmp_path):
    clock = ManualClock(now=round(time.time() * 1000))
    with Log.open(tmp_path / "log", fsync="never", maintenance=False, clock=clock) as log:
        partition = fill(log, retention_ms=str(DAY), segment_ms=str(1000 * DAY))
        appended(partition, 0, -1000 * DAY)
        for base in (3, 6):
            appended(partition, base, -2 * HOUR)
        assert log.maintain().removed == ()
        clock.advance(DAY - HOUR)
        assert log.maintain().removed == ()
        clock.advance(2 * HOUR)
        log.maintain()
        assert bases(partition) == [3, 6]


class SetClock(SystemClock):
    """A machine's clock that somebody sets, while time goes on as ever."""

    ahead = 0

    def now(self) -> int:
        return super().now() + self.ahead


@pytest.mark.parametrize("again", [True, False], ids=["opened again", "still open"])
def test_a_machine_that_wakes_up_in_1970_removes_nothing_when_its_clock_is_set(tmp_path, again):
    clock = SetClock()
    log = Log.open(tmp_path / "log", fsync="never", maintenance=False, clock=clock)
    partition = fill(log, retention_ms=str(DAY))
    clock.ahead = HOUR - clock.now()
    for _ in range(2):
        assert log.maintain().removed == ()
    if again:
        log.close()
        log = Log.open(tmp_path / "log", fsync="never", maintenance=False, clock=clock)
        log.maintain()
        log.close()
        log = Log.open(tmp_path / "log", fsync="never", maintenance=False, clock=clock)
    clock.ahead = 0
    for _ in range(2):
        assert log.maintain().removed == ()
    assert bases(partition) == [0, 3, 6, 9], "the last one, begun in a time to come, has ended"
    log.close()


def test_a_clock_that_is_set_forward_removes_nothing_for_a_while_and_says_so(tmp_path, monkeypatch):
    clock = SetClock()
    with Log.open(tmp_path / "log", fsync="never", maintenance=False, clock=clock) as log:
        partition = fill(log, retention_ms=str(DAY), segment_ms=str(1000 * DAY))
        log.maintain()
        clock.ahead = 365 * DAY
        done = log.maintain()
        assert done.removed == ()
        (problem,) = done.problems
        assert "set forward by 8760 hours" in problem
        clock.ahead = 0
        log.maintain()
        assert bases(partition) == [0, 3, 6]
        monkeypatch.setattr(maintenance, "DOUBT_SECONDS", 0.0)
        clock.ahead = 365 * DAY
        assert log.maintain().removed, "it stays so: then it is the time"


def test_what_has_just_been_removed_does_not_count_for_the_limit_of_all(log):
    other, partition = fill(log, "other", count=90), fill(log, count=90)
    log.maintain()
    sizes = other.figures().bytes, partition.figures().bytes
    beside = 3 * maintenance.PAGE_BYTES + 2 * len(bases(other)) * 64  # control blocks, indexes
    log.alter_topic("events", {"retention.bytes": "4000"})
    log.alter_config({"max.disk.bytes": str(sizes[0] + 8000 + beside)})
    (removed,) = log.maintain().removed
    assert removed[0] == partition.tp
    assert other.start_offset == 0
    log.alter_config({"max.disk.bytes": str(sizes[0] + 3000 + beside)})
    log.delete_records(partition.tp, -1)
    log._upkeep.run(patience=1.0, everything=False)  # no partition's turn: what it knows is old
    assert other.start_offset == 0


def test_when_all_is_too_old_all_of_it_goes_and_the_offsets_go_on(log, tmp_path):
    partition = fill(log, retention_ms=str(DAY))
    for base in bases(partition):
        appended(partition, base, 2 * DAY)
    done = log.maintain()
    assert done.rolled == (TP,)
    assert bases(partition) == [9]
    assert (partition.start_offset, partition.end_offset) == (9, 9)
    partition.close()
    (Path(partition.directory) / "control").unlink()
    assert (partition.start_offset, partition.end_offset) == (9, 9)
    append(partition)
    assert partition.end_offset == 10
    assert log.maintain() == maintenance.Maintained()


def test_the_oldest_go_when_there_are_more_bytes_than_retention_bytes(log):
    partition = fill(log, retention_bytes="1900")
    size = sum(f.stat().st_size for f in Path(partition.directory).glob("*.log"))
    log.maintain()
    left = sum(f.stat().st_size for f in Path(partition.directory).glob("*.log"))
    assert bases(partition) == [3, 6]
    assert 1900 <= left < size


def test_an_idle_segment_ends_by_its_age_though_nobody_appends(tmp_path):
    clock = ManualClock()
    with Log.open(tmp_path, fsync="never", clock=clock, maintenance=False) as log:
        partition = fill(log, count=1, segment_ms="5000")
        clock.advance(4999)
        assert log.maintain().rolled == ()
        clock.advance(1)
        assert log.maintain().rolled == (TP,)
        assert bases(partition) == [0, 1]
        clock.advance(10**6)
        assert log.maintain().rolled == ()  # an empty one has no age
        append(partition)
        assert partition.end_offset == 2


def test_nothing_of_an_open_transaction_is_removed(log):
    partition = fill(log, count=0, retention_ms=str(DAY))
    for sequence in range(6):
        batch = encode(
            [b"x" * 250],
            timestamps=0,
            producer_id=1,
            producer_epoch=0,
            base_sequence=sequence,
            transactional=True,
        )
        partition.append([batch], acks=1)
    for base in bases(partition):
        appended(partition, base, 2 * DAY)
    assert log.maintain().removed == ()
    partition.append_marker(1, 1, True, 0, True)
    for base in bases(partition):
        appended(partition, base, 2 * DAY)
    log.maintain()
    assert partition.start_offset == partition.end_offset == 7


def test_the_oldest_of_all_topics_go_when_the_directory_has_too_many_bytes(log):
    first, second = fill(log, "first"), fill(log, "second")
    compacted = fill(log, "compacted", cleanup_policy="compact", count=0)
    for _ in range(9):
        compacted.append([encode([b"x" * 250], keys=[b"k"], timestamps=0)], acks=1)
    for partition, base, ago in ((first, 0, 4), (second, 0, 3), (second, 3, 2), (first, 3, 1)):
        appended(partition, base, ago * HOUR)
    appended(compacted, 0, 9 * HOUR)
    log.maintain()
    total = size_of(log)
    log.alter_config({"max.disk.bytes": str(total - 1)})
    done = log.maintain()
    assert [(tp.topic, removal.why) for tp, removal in done.removed] == [
        ("first", "max.disk.bytes")
    ]
    assert (first.start_offset, second.start_offset, compacted.start_offset) == (3, 0, 0)
    assert size_of(log) <= total - 1
    log.alter_config({"max.disk.bytes": "10"})
    done = log.maintain()
    assert (first.start_offset, second.start_offset, compacted.start_offset) == (6, 6, 0)
    assert "raise the limit" in done.problems[0]
    log.alter_config({"max.disk.bytes": None})
    assert log.config.max_disk_bytes == -1
    assert log.maintain() == maintenance.Maintained()


def size_of(log: Log) -> int:
    return sum(
        f.stat().st_size for name in log.topics() for f in (Path(log.path) / f"{name}-0").iterdir()
    )


def test_other_limits_count_from_the_next_pass_on_and_new_topics_are_seen(log):
    partition = fill(log)
    for base in bases(partition):
        appended(partition, base, 2 * DAY)
    assert log.maintain().removed == ()
    log.alter_topic("events", {"retention.ms": str(DAY)})
    log.maintain()
    assert partition.start_offset == 9
    log.delete_topic("events")
    assert log.maintain() == maintenance.Maintained()
    partition = fill(log, retention_ms=str(DAY))
    appended(partition, 0, 2 * DAY)
    log.maintain()
    assert partition.start_offset == 3


def test_a_partition_that_nobody_has_opened_since_the_machine_started_is_kept_too(tmp_path):
    with Log.open(tmp_path, fsync="never", maintenance=False) as log:
        partition = fill(log, retention_ms=str(DAY))
        appended(partition, 0, 2 * DAY)
    (tmp_path / "events-0" / "control").unlink()
    with Log.open(tmp_path, fsync="never", maintenance=False) as log:
        log.maintain()
        assert log._partitions._opened == {}, "opened for good by maintenance"
        assert log.partition(TP).start_offset == 3


def test_a_broken_partition_keeps_none_of_the_others_from_being_kept(log, caplog):
    fill(log, "a", retention_ms="1000")
    partition = fill(log, "b", retention_ms=str(DAY))
    appended(partition, 0, 2 * DAY)
    (Path(log.path) / "a-0" / f"{6:020d}.log").unlink()
    for _ in range(3):
        assert "a-0" in log.maintain().problems[0]
    assert partition.start_offset == 3
    assert caplog.text.count("maintenance: a-0") == 1, "said again and again"


def test_duties_are_done_with_every_pass_and_their_errors_are_told(log):
    done = []

    def duty() -> None:
        done.append(1)
        if len(done) == 2:
            raise LogError("what went wrong")

    log.add_duty(duty)
    assert log.maintain().problems == ()
    assert "what went wrong" in log.maintain().problems[0]
    assert log.maintain().problems == ()
    assert len(done) == 3


def test_one_who_finds_another_at_it_waits_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(directory, "PATIENCE_SECONDS", 0.1)
    with (
        Log.open(tmp_path, fsync="never", maintenance=False) as one,
        Log.open(tmp_path, fsync="never", maintenance=False) as other,
    ):
        inside = []

        def duty() -> None:
            with pytest.raises(LogError, match="another thread of this process does maintenance"):
                other.maintain()
            inside.append(1)

        one.add_duty(duty)
        one.maintain()
        assert inside
        other.maintain()


def test_who_did_the_last_pass_goes_on_until_it_fails_to(tmp_path):
    clock = ManualClock()
    options = {"fsync": "never", "clock": clock, "maintenance": False}
    with Log.open(tmp_path, **options) as one, Log.open(tmp_path, **options) as other:
        passes = []
        one.add_duty(lambda: passes.append("one"))
        other.add_duty(lambda: passes.append("other"))
        clock.advance(5000)
        for log in (one, other, one, other):
            log._upkeep._tick(False)
            clock.advance(600)
        assert passes == ["one", "one"]
        clock.advance(1000)
        for log in (other, one):
            log._upkeep._tick(False)
        assert passes == ["one", "one", "other"]
        one._upkeep._tick(True)  # asked for: now, whoever's turn it is
        assert passes == ["one", "one", "other", "one"]


def test_what_is_idle_is_looked_at_ever_more_rarely(tmp_path):
    class Counting(UnsyncedFiles):
        looks = 0

        def open(self, path: str, flags: int, mode: int = 0o666) -> int:  # type: ignore[override]
            self.looks += path.endswith("events-0/control")
            return os.open(path, flags, mode)

    files, clock = Counting(), ManualClock()
    with Log.open(tmp_path, files=files, clock=clock, maintenance=False) as log:
        partition = fill(log)
        partition.close()
        files.looks = 0
        for _ in range(600):
            clock.advance(1000)
            log._upkeep._tick(False)
        assert 100 < files.looks < 150
        append(partition, 1)
        before = files.looks
        for _ in range(9):
            clock.advance(1000)
            log._upkeep._tick(False)
        assert files.looks > before + 2, "what has changed is looked at soon again"


def test_a_segment_that_becomes_too_old_is_removed_in_time_though_nothing_changes(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(maintenance, "RARELY", 1e6)

    class Late(SystemClock):
        late = 0

        def now(self) -> int:
            return super().now() + self.late

        def monotonic(self) -> float:
            return super().monotonic() + self.late / 1000

    clock = Late()
    with Log.open(tmp_path, fsync="never", clock=clock, maintenance=False) as log:
        partition = fill(log, retention_ms="300000")
        for _ in range(294):
            clock.late += 1000
            log._upkeep._tick(False)
        assert partition.start_offset == 0
        for _ in range(10):
            clock.late += 1000
            log._upkeep._tick(False)
        assert partition.start_offset == 9


def test_a_log_of_many_partitions_is_looked_at_in_steps(tmp_path, monkeypatch):
    looked = []
    with Log.open(tmp_path, fsync="never", maintenance=False) as log:
        log.create_topic("events", 300)
        look = log._upkeep.maintenance._look

        def slow(tp: TopicPartition) -> None:
            looked.append(tp)
            look(tp)
            time.sleep(0.001)

        monkeypatch.setattr(log._upkeep.maintenance, "_look", slow)
        log._upkeep._tick(True)
        assert len(looked) == 300
        looked.clear()
        log.create_topic("others", 300)
        log._upkeep._tick(False)
        assert 0 < len(looked) < 100
        for _ in range(100):
            log._upkeep._tick(False)
        assert len({tp for tp in looked if tp.topic == "others"}) == 300


def threads(others: Iterable[threading.Thread] = ()) -> int:
    """How many do maintenance, but for `others`."""
    return sum(
        thread.name == "streamkit-maintenance" and thread not in others
        for thread in threading.enumerate()
    )


def test_a_log_that_only_short_programs_write_is_kept_as_well(tmp_path):
    """None of them lives to the first tick of its thread, a second after its first append."""
    clock = ManualClock()
    clock.advance(HOUR)
    for number in range(10):
        with Log.open(tmp_path, fsync="never", clock=clock) as log:
            if number == 0:
                log.create_topic("events", 1, SMALL | {"retention.bytes": "2048"})
            append(log.partition(TP), 9)
        clock.advance(61_000)
    assert len(bases(log.partition(TP))) <= 6, "the limit, and what was appended since the last"
    assert (tmp_path / "ballast").exists()


def test_who_only_reads_does_no_maintenance_when_it_closes_the_log(tmp_path):
    clock = ManualClock()
    clock.advance(HOUR)
    with Log.open(tmp_path, fsync="never", clock=clock, maintenance=False) as log:
        fill(log, retention_bytes="1024")
    clock.advance(HOUR)
    with Log.open(tmp_path, fsync="never", clock=clock) as log:
        log.partition(TP).read(0)
    assert bases(log.partition(TP))[0] == 0


def test_the_thread_runs_from_the_first_append_to_the_end(tmp_path):
    others = threading.enumerate()
    with Log.open(tmp_path, fsync="never") as log:
        assert threads(others) == 0
        fill(log)
        assert threads(others) == 1
    assert threads(others) == 0
    log.notify()
    assert threads(others) == 0
    with Log.open(tmp_path, fsync="never", maintenance=False) as log:
        append(log.partition(TP))
        assert threads(others) == 0
    with Log.open(tmp_path, read_only=True) as log:
        assert log.partition(TP).end_offset == 10
        assert threads(others) == 0
        with pytest.raises(ReadOnlyLog):
            log.maintain()


def test_the_thread_removes_what_is_too_old(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    with Log.open(tmp_path, fsync="never") as log:
        partition = fill(log, retention_ms=str(DAY))
        appended(partition, 0, 2 * DAY)
        deadline = time.monotonic() + 30
        while partition.start_offset == 0:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert "up to offset 2 (retention.ms)" in caplog.text


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # threads and fork, which is the point
def test_a_forked_child_does_maintenance_of_its_own(tmp_path):
    with Log.open(tmp_path, fsync="never") as log:
        partition = fill(log)
        log.maintain()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                alone = threads() == 0
                append(partition)
                alone = alone and threads() == 1
                log.maintain()
                log.close()
                code = 0 if alone and threads() == 0 else 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert partition.end_offset == 10
        log.maintain()


def fill_compacted(log: Log, topic: str, segments: int, keys: int = 1) -> Partition:
    log.create_topic(topic, 1, SMALL | {"cleanup.policy": "compact"})
    partition = log.partition(TopicPartition(topic, 0))
    for number in range(segments * 3 + 1):
        key = b"k%d" % (number % keys)
        partition.append([encode([b"x" * 250], keys=[key], timestamps=0)], acks=1)
    return partition


def test_what_is_dirty_is_compacted_and_then_left_alone(log, everything):
    partition = fill_compacted(log, "events", 6)
    clean = fill_compacted(log, "clean", 6, keys=1000)
    before = len(everything(partition))
    done = log.maintain()
    assert {tp.topic for tp, _ in done.compacted} == {"events", "clean"}
    assert len(everything(partition)) < before / 4
    assert len(everything(clean)) == 19
    assert log.maintain() == maintenance.Maintained()


def test_a_round_goes_on_over_several_passes(log, everything, monkeypatch):
    monkeypatch.setattr(rounds, "WORK_SECONDS", 0.0)
    compact = Trimmer.compact
    monkeypatch.setattr(Trimmer, "compact", lambda self: compact(self, 1))
    partition = fill_compacted(log, "events", 6)
    partition.close()
    log._partitions._opened.clear()  # as in a process that has not used it
    passes = 1
    assert log._upkeep._tick(True) < 1
    while log._upkeep._tick(True) < 1:
        passes += 1
        assert passes < 1000
    assert passes > 2
    assert log._partitions._borrowed == set()
    assert len(everything(log.partition(TP))) < 5


def test_who_loses_the_turn_gives_up_the_round(tmp_path, monkeypatch, everything):
    monkeypatch.setattr(rounds, "WORK_SECONDS", 0.0)
    compact = Trimmer.compact
    monkeypatch.setattr(Trimmer, "compact", lambda self: compact(self, 1))
    clock = ManualClock()
    options = {"fsync": "never", "clock": clock, "maintenance": False}
    with Log.open(tmp_path, **options) as one, Log.open(tmp_path, **options) as other:
        partition = fill_compacted(one, "events", 6)
        one._upkeep._tick(True)
        assert one._upkeep.maintenance.waiting
        assert other.partition(TP).trimmer.compact() is None
        clock.advance(100)
        other._upkeep._tick(True)
        one._upkeep._tick(False)
        while other._upkeep._tick(True) < 1:
            pass
        assert len(everything(partition)) < 5


def test_nothing_is_compacted_while_the_disk_is_full(log, everything):
    partition = fill_compacted(log, "events", 6)
    log._space.give_up_ballast()
    log._upkeep._duties.clear()  # else there is room again
    assert log.maintain().compacted == ()
    assert len(everything(partition)) == 19


def test_a_corrupt_partition_is_not_compacted_again_and_again(log, everything):
    partition = fill_compacted(log, "events", 6)
    other = fill_compacted(log, "other", 4)
    path = Path(partition.directory) / f"{3:020d}.log"
    path.write_bytes(b"\0" * path.stat().st_size)
    assert "corrupt" in log.maintain().problems[0]
    assert len(everything(other)) < 5
    assert log._upkeep._tick(False) == 1
