"""A disk that fills up, and one on which there is room again."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from streamkit.backends.locate import open_backend
from streamkit.backends.offsets_topic import OffsetsTopic
from streamkit.backends.values import CommittedOffset
from streamkit.clients.consumer import Consumer
from streamkit.clients.producer import Producer
from streamkit.clock import ManualClock, SystemClock
from streamkit.codec import encode
from streamkit.errors import OutOfSpace, StorageFailed
from streamkit.groups.offsets import OffsetCommit
from streamkit.log.directory import Log
from streamkit.log.files import Buffer, UnsyncedFiles, write_new
from streamkit.log.space import BALLAST, BALLAST_BYTES, PAGE
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)
DISK = 4 << 20


class SmallDisk(UnsyncedFiles):
    """The real files, of which all together may have so many bytes."""

    def __init__(self, size: int = DISK) -> None:
        self.free = size

    def pwritev(self, fd: int, buffers: Sequence[Buffer], position: int) -> int:  # type: ignore[override]
        data = b"".join(buffers)
        grows = max(position + len(data) - os.fstat(fd).st_size, 0)
        if grows > self.free:
            data = data[: len(data) - grows + self.free]
            grows = self.free
            if not data:
                raise OSError(28, "No space left on device")
        self.free -= grows
        return os.pwrite(fd, data, position)

    def truncate(self, fd: int, size: int) -> None:  # type: ignore[override]
        self.free += os.fstat(fd).st_size - size
        os.ftruncate(fd, size)

    def unlink(self, path: str) -> None:  # type: ignore[override]
        size = os.stat(path).st_size
        os.unlink(path)
        self.free += size


@pytest.fixture
def disk() -> SmallDisk:
    return SmallDisk()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def open_log(tmp_path, disk, clock) -> Iterator[Callable[[], Log]]:
    """Open the log on the small disk, as one more process does."""
    opened = []

    def open_() -> Log:
        opened.append(Log.open(tmp_path / "log", files=disk, clock=clock, maintenance=False))
        return opened[-1]

    yield open_
    for log in opened:
        log.close()


@pytest.fixture
def small_mount(tmp_path) -> Iterator[Path]:
    """A real file system of four MiB."""
    path = tmp_path / "mount"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield path
    # Lazily: the frames of expected errors may still hold files open.
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def append(log: Log, size: int = 50_000, tp: TopicPartition = TP) -> int:
    return log.partition(tp).append([encode([b"x" * size], timestamps=0)], acks=1)


def fill(log: Log) -> int:
    """Append until the disk is full to the last byte; how many records went in."""
    count = 0
    for size in (50_000, 1000, 1):
        while True:
            try:
                append(log, size)
            except OutOfSpace:
                break
            count += 1
    return count


def commit(log: Log, offset: int) -> None:
    OffsetsTopic(log, SystemClock()).commit("g", {TP: OffsetCommit(offset, "", 0)})


def committed(log: Log) -> int:
    return OffsetsTopic(log, SystemClock()).committed("g")[TP].offset


def test_offsets_are_committed_on_a_full_disk_and_all_producers_wait(open_log, everything):
    one, other = open_log(), open_log()
    one.create_topic("events")
    one.maintain()
    commit(one, 0)
    count = fill(one)
    assert [offset for offset, _ in everything(one.partition(TP))] == list(range(count))
    assert not one._space.full, "nothing of what is kept was needed yet"
    for offset in range(1, 100):
        commit(other, offset)
    assert committed(one) == 99
    assert not (Path(one.path) / BALLAST).exists()
    for log in (one, other):
        with pytest.raises(OutOfSpace, match="what is left is kept for offsets"):
            append(log, 1)
    assert one.partition(TP).end_offset == count


def test_the_room_for_the_log_itself_is_not_for_topics_that_are_named_like_its_own(open_log, disk):
    log = open_log()
    mine = TopicPartition("__heartbeat", 0)
    log.create_topic("__heartbeat")
    log.create_topic("events")
    log.maintain()
    commit(log, 0)
    fill(log)
    disk.free = 0
    with pytest.raises(OutOfSpace, match="taken back whole"):
        append(log, 1, mine)
    assert (Path(log.path) / BALLAST).exists()
    commit(log, 1)
    with pytest.raises(OutOfSpace, match="kept for offsets"):
        append(log, 1, mine)


def test_producers_go_on_by_themselves_when_there_is_room(open_log, disk, clock):
    one, other = open_log(), open_log()
    one.create_topic("events")
    one.maintain()
    commit(one, 0)
    count = fill(one)
    commit(one, 1)
    with pytest.raises(OutOfSpace):
        append(other, 1)
    disk.free += 2 << 20
    with pytest.raises(OutOfSpace):
        append(other, 1)  # it looks again only after a while
    clock.advance(1000)
    assert append(other, 1) == count
    assert append(one, 1) == count + 1
    assert (Path(one.path) / BALLAST).stat().st_size == BALLAST_BYTES


def test_maintenance_lets_producers_go_on_once_it_has_removed_something(open_log, clock):
    log = open_log()
    log.create_topic("events", 1, {"segment.bytes": str(1 << 20)})
    log.maintain()
    commit(log, 0)
    count = fill(log)
    commit(log, 1)
    assert log._space.full
    log.maintain()
    assert log._space.full, "there is no more room than before"
    log.alter_topic("events", {"retention.bytes": str(1 << 20)})
    log.maintain()
    log.maintain()  # the first has made the room
    assert not log._space.full
    assert append(log) == count


def test_producers_are_refused_before_there_is_room_for_others(open_log, disk, monkeypatch):
    log = open_log()
    log.create_topic("events")
    log.maintain()
    refused = []
    unlink = disk.unlink

    def watched(path: str) -> None:
        refused.append(log._space.full)
        unlink(path)

    monkeypatch.setattr(disk, "unlink", watched)
    log._space.give_up_ballast()
    assert refused[0]
    assert log._space.full


def test_a_small_file_that_does_not_fit_leaves_nothing(tmp_path, disk):
    write_new(disk, str(tmp_path / "checkpoint"), b"old")
    disk.free = 0
    with pytest.raises(OSError, match="No space"):
        write_new(disk, str(tmp_path / "checkpoint"), b"newer")
    assert os.listdir(tmp_path) == ["checkpoint"]
    assert (tmp_path / "checkpoint").read_bytes() == b"old"


def test_topics_are_deleted_on_a_full_disk(open_log, clock):
    log = open_log()
    log.create_topic("events")
    log.maintain()
    fill(log)
    log.delete_topic("events")
    clock.advance(1000)
    log.create_topic("events")
    append(log)


def test_records_are_deleted_on_a_full_disk(open_log, disk, clock):
    log = open_log()
    log.create_topic("events", 1, {"segment.bytes": "500000"})
    log.maintain()
    count = fill(log)
    disk.free = 0
    assert log.delete_records(TP, count // 2) == count // 2
    clock.advance(1000)
    append(log)


def test_a_transaction_is_ended_on_a_full_disk(open_log):
    log = open_log()
    log.create_topic("events")
    log.maintain()
    partition = log.partition(TP)
    batch = encode(
        [b"x"],
        timestamps=0,
        producer_id=1,
        producer_epoch=0,
        base_sequence=0,
        transactional=True,
    )
    partition.append([batch])
    fill(log)
    assert partition.append_marker(1, 1, True, 0, True)
    assert partition.published().stable_offset == partition.end_offset


def test_a_full_disk_without_a_ballast_refuses_commits_and_takes_them_again(open_log, disk):
    log = open_log()
    log.create_topic("events")
    commit(log, 0)
    fill(log)
    with pytest.raises(OutOfSpace):
        commit(log, 1)
    assert committed(log) == 0
    disk.free += 2 << 20
    commit(log, 1)
    append(log)


def test_there_is_no_ballast_where_there_is_no_room_for_one(open_log, disk):
    log = open_log()
    log.create_topic("events")
    disk.free = BALLAST_BYTES - 1
    assert log.maintain().problems == ()
    assert sorted(set(os.listdir(log.path)) & {BALLAST, f"{BALLAST}.tmp"}) == []
    assert disk.free > BALLAST_BYTES - 10_000
    append(log)


def test_a_log_that_begins_on_a_full_disk_works_when_there_is_room(open_log, disk):
    log = open_log()
    log.create_topic("events")
    disk.free = 0
    with pytest.raises(OutOfSpace):
        append(log)
    assert (Path(log.path) / PAGE).exists()
    disk.free = DISK
    append(log)
    log.maintain()
    assert (Path(log.path) / BALLAST).exists()


def test_the_flag_is_cleared_by_who_opens_the_log_next(open_log, disk):
    log = open_log()
    log.create_topic("events")
    log.maintain()
    commit(log, 0)
    fill(log)
    commit(log, 1)
    log.close()
    disk.free += 2 << 20
    log = open_log()
    assert log._space.full
    append(log)
    assert not log._space.full


WRITER = """
import sys
from streamkit.clients.producer import Producer
with Producer(sys.argv[1], linger=0) as producer:
    for line in sys.stdin:
        try:
            producer.send_and_wait("events", line.strip() * 1000)
            print("ok", flush=True)
        except Exception as error:
            print(type(error).__name__, flush=True)
"""


def test_a_real_file_system_fills_up_under_two_processes(small_mount, everything):
    """Producers are refused in both, offsets are committed, and all goes on by itself."""
    root = small_mount / "log"
    filler = small_mount / "filler"
    with Log.open(root) as log:
        log.create_topic("events")
        log.maintain()
        commit(log, 0)
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdin is not None and child.stdout is not None

        def send() -> str:
            child.stdin.write("x\n")
            child.stdin.flush()
            return child.stdout.readline().strip()

        taken = 0
        assert send() == "ok"
        taken += 1
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(bytes(4096))
        while (answer := send()) == "ok":  # what the last page of a file still takes
            taken += 1
        assert answer == "OutOfSpace"
        for offset in range(1, 200):
            commit(log, offset)
        assert committed(log) == 199
        assert send() == "OutOfSpace"
        with pytest.raises(OutOfSpace, match="kept for offsets"):
            append(log, 1)
        filler.unlink()
        deadline = time.monotonic() + 30
        while send() != "ok":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        taken += 1
        append(log, 1)
        child.communicate()
        assert child.returncode == 0
        found = everything(log.partition(TP))
        assert [offset for offset, _ in found] == list(range(taken + 1))
        assert {value for _, value in found[:-1]} == {b"x" * 1000}


def test_the_first_of_all_groups_and_transactions_find_room_on_a_full_disk(small_mount):
    """Topics of the log's own, and the files of members, are made in the room kept for them."""
    root, filler = str(small_mount / "log"), small_mount / "filler"
    with open_backend(root) as log:
        log.create_topic("events")
        with Producer(log) as producer:
            producer.send_many("events", [b"x"] * 10)
        log.maintain()
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(bytes(4096))
        with Consumer(log, "events", group="first") as consumer:
            assert len(list(consumer.until_end())) == 10
            consumer.commit()
        with Producer(log, transactional_id="first") as producer, producer.transaction() as open_:
            open_.commit_offsets("second", {TP: 7})
        assert log.committed("first")[TP].offset == 10
        assert log.committed("second")[TP].offset == 7
        log.reset("third", lambda _: {TP: CommittedOffset(3)})
        assert log.committed("third")[TP].offset == 3


def test_who_finds_the_ballast_gone_tries_once_more(open_log, disk):
    """Another process has given it up between this one's failed append and its look."""
    log, other = open_log(), open_log()
    log.create_topic("events")
    log.maintain()
    commit(log, 0)
    fill(log)
    disk.free = 0
    write, given_up = disk.pwritev, []

    def first_write_meets_the_other(fd: int, buffers: Sequence[Buffer], position: int) -> int:
        if not given_up and disk.free == 0:
            try:
                return write(fd, buffers, position)
            finally:
                given_up.append(other._space.give_up_ballast())
        return write(fd, buffers, position)

    disk.pwritev = first_write_meets_the_other  # type: ignore[method-assign]
    commit(log, 1)
    assert given_up == [True]
    assert committed(log) == 1


def test_what_was_given_up_for_offsets_is_not_filled_by_a_try(tmp_path):
    files = UnsyncedFiles()
    with Log.open(tmp_path, files=files) as log:
        log.create_topic("events")
        files.room = lambda path: BALLAST_BYTES  # type: ignore[method-assign]
        log.maintain()
        assert not (tmp_path / BALLAST).exists()
        files.room = lambda path: 2 * BALLAST_BYTES  # type: ignore[method-assign]
        log.maintain()
        assert (tmp_path / BALLAST).exists()


def test_a_producer_keeps_what_the_disk_has_no_room_for(small_mount, everything):
    filler = small_mount / "filler"
    with Log.open(small_mount / "log") as log:
        log.create_topic("events")
        with Producer(str(small_mount / "log")) as producer:
            with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
                while True:
                    file.write(bytes(4096))
            producer.send("events", b"x" * 20_000)
            with pytest.raises(OutOfSpace):
                producer.flush()
            filler.unlink()
            deadline = time.monotonic() + 30
            while log.partition(TP).end_offset == 0:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        assert [value for _, value in everything(log.partition(TP))] == [b"x" * 20_000]


class Unlockable(UnsyncedFiles):
    """The real files, on a system without locks for the shared page."""

    def __init__(self) -> None:
        self.broken = False

    def flock(self, fd: int, operation: int) -> None:  # type: ignore[override]
        if self.broken and os.readlink(f"/proc/self/fd/{fd}").endswith(PAGE):
            raise OSError(5, "Input/output error")
        super().flock(fd, operation)

    def unlink(self, path: str) -> None:  # type: ignore[override]
        if self.broken:
            raise OSError(5, "Input/output error")
        os.unlink(path)


def test_what_fails_about_the_page_is_an_error_of_the_log(tmp_path):
    files = Unlockable()
    with Log.open(tmp_path, files=files, maintenance=False) as log:
        log.create_topic("events")
        log.maintain()
        files.broken = True
        with pytest.raises(StorageFailed, match=r"maintenance: cannot be locked"):
            log.maintain()
        assert not log._space.give_up_ballast()
        with pytest.raises(StorageFailed):
            append(log)
        files.broken = False
        append(log)
