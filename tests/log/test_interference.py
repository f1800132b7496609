"""What happens between two system calls of one process because of another, or of a user."""

import errno
import fcntl
import os
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import pytest
from interrupts import Interrupt

from streamkit.codec import columns, encode
from streamkit.errors import (
    LogError,
    OffsetOutOfRange,
    OutOfSpace,
    StorageFailed,
    UnknownTopic,
)
from streamkit.log.control import DIRTY_AT
from streamkit.log.directory import Log
from streamkit.log.files import RealFiles, UnsyncedFiles
from streamkit.log.index import OFFSET_ENTRY, TIME_ENTRY
from streamkit.log.partition import Partition
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)
CONFIG = {"segment.bytes": "1024", "index.interval.bytes": "0"}


class InterruptedFiles(RealFiles):
    """The real files; what is named `before…` and `after…` is called meanwhile."""

    def __init__(self) -> None:
        self.before_open: Callable[[str], None] = lambda path: None
        self.before_listing: Callable[[], None] = lambda: None
        self.after_truncate: Callable[[], None] = lambda: None
        self.waits = Event()
        """Set when somebody has to wait for a lock."""

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:  # type: ignore[override]
        self.before_open(path)
        return os.open(path, flags, mode)

    def listdir(self, path: str) -> list[str]:  # type: ignore[override]
        self.before_listing()
        return os.listdir(path)

    def truncate(self, fd: int, size: int) -> None:  # type: ignore[override]
        os.ftruncate(fd, size)
        self.after_truncate()

    def flock(self, fd: int, operation: int) -> None:  # type: ignore[override]
        if operation == fcntl.LOCK_EX:
            self.waits.set()
        fcntl.flock(fd, operation)


@pytest.fixture
def interrupted() -> InterruptedFiles:
    return InterruptedFiles()


def batch(value: bytes, at: int = 0) -> bytes:
    return encode([value], timestamps=at)


def test_a_roll_that_was_interrupted_and_made_by_another_is_not_written_to_its_old_file(
    tmp_path, interrupted, everything
):
    with (
        Log.open(tmp_path, files=interrupted, maintenance=False) as one,
        Log.open(tmp_path) as other,
    ):
        one.create_topic("events", 1, CONFIG)
        mine, theirs = one.partition(TP), other.partition(TP)
        values = [b"%d" % n * 300 for n in range(4)]
        mine.append([batch(values[0])], acks=1)
        mine.append([batch(values[1])], acks=1)

        def interrupt() -> None:
            if (tmp_path / "events-0" / f"{2:020d}.log").exists():
                interrupted.after_truncate = lambda: None
                raise KeyboardInterrupt

        interrupted.after_truncate = interrupt
        with pytest.raises(KeyboardInterrupt):
            mine.append([batch(b"interrupted" * 30)], acks=1)
        theirs.append([batch(values[2])], acks=1)
        mine.append([batch(values[3])], acks=1)
        for partition in (mine, theirs):
            assert everything(partition) == list(enumerate(values))


def locked(path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


@pytest.mark.parametrize("values", [[b"a"], [b"a", b"b"]], ids=["one batch", "two"])
def test_an_append_that_is_interrupted_anywhere_leaves_no_lock_with_who_goes_on(
    tmp_path, everything, values
):
    with Log.open(tmp_path, files=UnsyncedFiles(), maintenance=False) as log:
        log.create_topic("events")
        partition = log.partition(TP)
        partition.append([batch(b"0")])
        batches = [batch(value) for value in values]
        at, interrupted = 0, True
        while interrupted:
            at += 1
            before = len(everything(partition))
            sys.setprofile(Interrupt(at))
            try:
                partition.append(batches)
                interrupted = False
            except KeyboardInterrupt:
                # In here: what an exception refers to is still alive.
                folder = tmp_path / "events-0"
                assert [locked(path) for path in (folder / "control", folder)] == [False, False]
            finally:
                sys.setprofile(None)
            after = [value for _, value in everything(partition)][before:]
            assert after == values if not interrupted else after in ([], values)
        assert at > 40


@pytest.mark.parametrize(
    "use",
    [
        lambda partition: partition.read(0),
        lambda partition: partition.read(8),
        lambda partition: partition.offset_at(3),
        lambda partition: partition.append([batch(b"more")], acks=1),
        lambda partition: partition.append([batch(b"more")], acks="all"),
        lambda partition: partition.sync(),
    ],
    ids=["read old", "read", "offset_at", "append", "append all", "sync"],
)
def test_a_topic_deleted_under_its_user_is_an_unknown_topic_and_no_broken_disk(
    tmp_path, interrupted, monkeypatch, use: Callable[[Partition], object]
):
    # Else finished segments are synced meanwhile, and may leave nothing to do for `sync`.
    monkeypatch.setattr(Partition, "_sync_rolled", lambda partition: None)
    theirs = InterruptedFiles()
    with (
        Log.open(tmp_path, files=interrupted, maintenance=False) as one,
        Log.open(tmp_path, files=theirs) as other,
    ):
        one.create_topic("events", 1, CONFIG)
        partition = one.partition(TP)
        for number in range(9):
            partition.append([batch(b"%d" % number * 300, number)], acks=1)
        partition.close()
        assert partition.end_offset == 9
        deleting = Thread(target=other.delete_topic, args=("events",))

        def delete(path: str) -> None:
            if Path(path).name.startswith("0"):  # a segment or an index
                interrupted.before_open = lambda path: None
                deleting.start()
                while deleting.is_alive() and not theirs.waits.wait(0.001):
                    pass

        interrupted.before_open = delete
        with pytest.raises(UnknownTopic, match="events-0: deleted"):
            use(partition)
        deleting.join(30)
        assert "events" not in one.topics()


@pytest.mark.parametrize("values", [[b"old"], [b"old", b"older"]], ids=["one batch", "two"])
def test_an_append_that_was_stopped_writes_nothing_to_a_topic_that_was_made_again(
    tmp_path, interrupted, everything, values
):
    theirs = InterruptedFiles()
    with (
        Log.open(tmp_path, files=interrupted, maintenance=False) as one,
        Log.open(tmp_path, files=theirs) as other,
    ):
        one.create_topic("events")
        partition = one.partition(TP)
        partition.append([batch(b"old" * 30)], acks=1)
        partition._segments.relist()
        new = [b"%d" % number * 99 for number in range(5)]

        def make_again() -> None:
            other.delete_topic("events")
            other.create_topic("events")
            for value in new:
                other.partition(TP).append([batch(value)])

        making = Thread(target=make_again)

        def stop(path: str) -> None:
            interrupted.before_open = lambda path: None
            making.start()
            while making.is_alive() and not theirs.waits.wait(0.001):
                pass

        interrupted.before_open = stop
        with pytest.raises(UnknownTopic):
            partition.append([batch(value) for value in values], acks=1)
        making.join(30)
        assert everything(other.partition(TP)) == list(enumerate(new))


def test_who_waits_for_a_deleted_partition_does_not_open_its_half_made_successor(
    tmp_path, interrupted
):
    with (
        Log.open(tmp_path, files=interrupted, maintenance=False) as one,
        Log.open(tmp_path) as other,
    ):
        other.create_topic("events", 1, CONFIG)
        partition = other.partition(TP)
        partition.append([batch(b"old")])
        one.delete_topic("events")
        seen = []

        def look(path: str) -> None:
            interrupted.before_open = lambda path: None
            with pytest.raises(UnknownTopic):
                partition.append([batch(b"lost")], acks=1)
            seen.append(path)
            interrupted.before_open = look

        interrupted.before_open = look
        one.create_topic("events", 1, CONFIG)
        interrupted.before_open = lambda path: None
        assert len(seen) > 5
        assert other.partition(TP).append([batch(b"new")]) == 0


def test_without_file_descriptors_every_call_says_so_and_works_again_with_them(
    tmp_path, interrupted
):
    with Log.open(tmp_path, files=interrupted, maintenance=False) as log:
        log.create_topic("events", 1, CONFIG)
        partition = log.partition(TP)
        partition.append([batch(b"a")], acks=1)

        def refuse(path: str) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

        interrupted.before_open = refuse
        for use in (partition.sync, lambda: partition.append([batch(b"b")])):
            with pytest.raises(StorageFailed, match="Too many open files"):
                use()
        partition.close()
        with pytest.raises(StorageFailed, match="Too many open files"):
            partition.read(0)
        with pytest.raises(StorageFailed, match="Too many open files"):
            log.create_topic("other")
        interrupted.before_open = lambda path: None
        partition.append([batch(b"c")])
        assert columns(partition.read(0)).values[0] == b"a"


def test_on_a_full_disk_no_log_and_no_topic_is_made_and_later_both_are(tmp_path, files):
    files.fail["pwritev"] = 0
    with pytest.raises(OutOfSpace, match="no log can be made here: No space left"):
        Log.open(tmp_path, files=files, maintenance=False)
    files.fail.clear()
    with Log.open(tmp_path, files=files, maintenance=False) as log:
        files.fail["pwritev"] = 100
        with pytest.raises(OutOfSpace, match="No space left"):
            log.create_topic("events", 5)
        assert log.topics() == {}
        files.fail.clear()
        log.create_topic("events", 5)
        names = {f"events-{number}" for number in range(5)}
        found = set(os.listdir(tmp_path))
        ours = {".lock", "__cluster_metadata-0", "control", "meta.properties", "wake"}
        assert found == names | ours


def test_a_directory_that_lost_its_place_is_an_error_of_ours(tmp_path):
    with Log.open(tmp_path / "log") as log:
        log.create_topic("events", 1, CONFIG)
        partition = log.partition(TP)
        for number in range(9):
            partition.append([batch(b"%d" % number * 300)], acks=1)
        partition.close()
        (tmp_path / "log").rename(tmp_path / "moved")
        for use in (
            lambda: partition.read(0),
            lambda: partition.append([batch(b"x")]),
            lambda: log.create_topic("other"),
        ):
            with pytest.raises((LogError, UnknownTopic), match="log"):
                use()


def test_index_entries_of_a_killed_writer_do_not_stay_in_the_segment_it_leaves(tmp_path):
    with Log.open(tmp_path, fsync="never") as log:
        log.create_topic("events", 1, CONFIG)
        for number in range(2):
            log.partition(TP).append([batch(b"%d" % number * 300, at=50 - number)])
    folder = tmp_path / "events-0"
    index, timeindex = (folder / f"{0:020d}.{suffix}" for suffix in ("index", "timeindex"))
    before = index.read_bytes(), timeindex.read_bytes()
    with index.open("ab") as file:
        file.write(OFFSET_ENTRY.pack(2, 760))
    with timeindex.open("ab") as file:
        file.write(TIME_ENTRY.pack(99, 2))
    with (folder / "control").open("r+b") as file:
        file.seek(DIRTY_AT)
        file.write(b"\x01")
    with Log.open(tmp_path, fsync="never") as log:
        log.partition(TP).append([batch(b"2" * 300)])
    assert (folder / f"{2:020d}.log").exists()
    assert (index.read_bytes(), timeindex.read_bytes()) == before


def test_what_a_user_puts_into_the_log_hinders_no_topic(tmp_path):
    mine = [Path("do-not-delete/file"), Path("events-x/file")]
    with Log.open(tmp_path, fsync="never") as log:
        for path in mine:
            (tmp_path / path).parent.mkdir()
            (tmp_path / path).write_text("mine")
        (tmp_path / "a-delete").write_text("mine")
        log.create_topic("events")
        (tmp_path / "events-0" / "backup").mkdir()
        (tmp_path / "events-0" / "backup" / "file").write_text("gone with the topic")
        log.delete_topic("events")
        log.create_topic("events")
        assert log.partition(TP).append([batch(b"x")]) == 0
        assert all((tmp_path / path).exists() for path in [*mine, Path("a-delete")])


def test_names_that_look_like_partitions_are_kept_apart(tmp_path, everything):
    names = ["a", "a-1", "a-1-0", "a.b-3", "a-delete", f"x.{'0f' * 16}-delete"]
    with Log.open(tmp_path, fsync="never") as log:
        for name in names:
            log.create_topic(name, 2)
            log.partition(TopicPartition(name, 1)).append([batch(name.encode())])
        log.delete_topic("a")
        log.create_topic("a", 1)
        for name in names[1:]:
            assert everything(log.partition(TopicPartition(name, 1))) == [(0, name.encode())]


def test_records_that_are_removed_while_a_reader_looks_for_their_file_are_no_damage(
    tmp_path, interrupted
):
    with (
        Log.open(tmp_path, maintenance=False) as other,
        Log.open(tmp_path, files=interrupted, maintenance=False) as one,
    ):
        other.create_topic("events", 1, CONFIG)
        for n in range(8):
            other.partition(TP).append([batch(b"%d" % n * 300)])
        mine = one.partition(TP)
        assert mine.start_offset == 0

        def remove() -> None:
            interrupted.before_listing = lambda: None
            other.delete_records(TP, 5)

        interrupted.before_listing = remove
        with pytest.raises(OffsetOutOfRange, match="has offsets 5 to 7"):
            mine.read(0)
        assert mine.read(5)
