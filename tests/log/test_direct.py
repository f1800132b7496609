"""The append that is compiled: to the byte what Python writes, and nothing where it is special."""

import fcntl
import os
import resource
import select
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import google_crc32c
import pytest
from msgspec.structs import replace

from streamkit.codec import encode
from streamkit.errors import (
    CorruptBatch,
    OutOfOrderSequence,
    OutOfSpace,
    StorageFailed,
    UnknownTopic,
)
from streamkit.log import direct
from streamkit.log.control import DIRTY_AT, END, ERRNO_AT, SYNCED
from streamkit.log.direct import COMPILED
from streamkit.log.directory import Log
from streamkit.log.files import RealFiles
from streamkit.log.segment import INDEX, LOG, TIMEINDEX
from streamkit.log.wake import IN_MODIFY, Inotify
from streamkit.records import TopicPartition

pytestmark = pytest.mark.skipif(not COMPILED, reason="it is not compiled here")

TP = TopicPartition("events", 0)


class Still:
    ms = 1_000_000

    def now(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000


def batch(size: int = 20, **kwargs) -> bytes:
    return encode([b"x" * size], timestamps=1_000_000, **kwargs)


@pytest.fixture
def clock():
    return Still()


@pytest.fixture
def fsync():
    return "never"


syncing = pytest.mark.parametrize("fsync", ["always"])


@pytest.fixture
def log(tmp_path, clock, fsync):
    config = {"segment.ms": "1000", "segment.bytes": "4096", "index.interval.bytes": "1000"}
    with Log.open(tmp_path / "log", fsync=fsync, clock=clock, maintenance=False) as log:
        log.create_topic("events", config=config)
        yield log


@pytest.fixture
def partition(log):
    """One to which all that is special has happened: the next append is for the compiled way."""
    partition = log.partition(TP)
    for _ in range(3):
        partition.append([batch()])
    return partition


def stored(partition) -> dict[str, bytes]:
    folder = Path(partition.directory)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def is_locked(path: str) -> bool:
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


@contextmanager
def held(path: str):
    fd = os.open(path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(fd)


@syncing
def test_it_is_what_appends_and_syncs(log, partition):
    for number in range(4):
        assert partition._direct.append(batch()) == 3 + number
    assert partition.synced_offset == 3
    assert partition._direct.sync(4)
    assert partition.synced_offset == 7
    assert partition._direct.sync(7)
    assert partition._direct.append(batch()) == 7
    assert partition._direct.sync()
    assert partition.synced_offset == 8
    generation = SYNCED.generation(partition._access.block.page)
    assert partition._direct.sync()
    assert SYNCED.generation(partition._access.block.page) == generation, "it is all there"


def test_what_is_compiled_is_no_older_than_its_source():
    (built,) = Path(direct.__file__).parent.glob("_direct.*.so")
    source = built.with_name("_direct.pyx")
    assert source.stat().st_mtime <= built.stat().st_mtime, (
        "_direct.pyx has changed since: python setup.py build_ext --inplace"
    )


def test_files_that_are_not_the_systems_own_are_asked_for_everything(tmp_path):
    class Files(RealFiles):
        pass

    with Log.open(tmp_path, files=Files(), maintenance=False) as log:
        log.create_topic("events")
        assert log.partition(TP)._direct is None


def test_it_leaves_what_python_leaves(tmp_path, clock):
    """Also what is synced; segments end and indexes grow meanwhile."""
    left = []
    for compiled in (True, False):
        clock.ms = 1_000_000
        with Log.open(tmp_path / str(compiled), clock=clock, maintenance=False) as log:
            log.create_topic(
                "events", config={"segment.bytes": "2000", "index.interval.bytes": "300"}
            )
            partition = log.partition(TP)
            if not compiled:
                partition._direct = None
            for number in range(30):
                clock.ms += number
                times = clock.ms if number % 5 else 7
                records = encode([b"x" * number] * (1 + number % 3), timestamps=times)
                partition.append([records], acks="all" if number % 3 else 1)
            found = stored(partition)
            del found["partition.metadata"]
            left.append(found)
    assert left[0] == left[1]


# What is special.


def gappy() -> bytes:
    """A batch as compaction leaves them: of two offsets, with one record."""
    made = bytearray(batch())
    made[23:27] = (1).to_bytes(4, "big")
    made[17:21] = google_crc32c.value(bytes(made[21:])).to_bytes(4, "big")
    return bytes(made)


def dirty(log, partition, clock):
    partition._access.block.page[DIRTY_AT] = 1


def failed(log, partition, clock):
    partition._access.block.page[ERRNO_AT] = 5


def torn(log, partition, clock):
    tear(partition._access.block.page, END)


def tear(page, copies):
    place = copies._places[copies.generation(page) & 1]
    page[place + 30] ^= 1


def gone(log, partition, clock):
    os.unlink(Path(partition.directory) / "control")


def full(log, partition, clock):
    log._space._mark_full(log._space.attach())


def old(log, partition, clock):
    clock.ms += 1000


def begun_in_a_time_to_come(log, partition, clock):
    clock.ms -= 70_000


def index_unopened(log, partition, clock):
    partition.append([batch(1500)])
    partition._segments.current.forget(0, INDEX)


def filled(log, partition, clock):
    partition.append([batch(3600)])
    partition.append([batch(100)])


def rolled(log, partition, clock):
    old(log, partition, clock)
    partition.append([batch()])


def followed(log, partition, clock):
    partition._access.change(partition._appender.roll)


def configured(log, partition, clock):
    log.alter_topic("events", {"segment.ms": "5000"})
    log.partition(TP)


def go_on_with(log, partition, config):
    log.alter_topic("events", config)
    assert log.partition(TP) is partition
    for _ in range(2):
        partition.append([batch()])


def stamping(log, partition, clock):
    go_on_with(log, partition, {"message.timestamp.type": "LogAppendTime"})


def bounded(log, partition, clock):
    go_on_with(log, partition, {"message.timestamp.before.max.ms": "1000"})


def refusing(log, partition, clock):
    go_on_with(log, partition, {"max.message.bytes": "200"})


def closed(log, partition, clock):
    partition.close()


def only_read(log, partition, clock):
    partition.close()
    partition.end()
    partition.read(0)


def unlisted(log, partition, clock):
    partition._segments.relist()


def unwoken(log, partition, clock):
    log._wake._file = None


@pytest.mark.parametrize(
    "happens",
    [
        *(dirty, failed, torn, gone, full, old, begun_in_a_time_to_come, index_unopened, filled),
        *(
            rolled,
            configured,
            stamping,
            bounded,
            refusing,
            closed,
            only_read,
            unlisted,
            unwoken,
            followed,
        ),
    ],
)
def test_where_something_is_special_it_does_nothing(happens, log, partition, clock):
    happens(log, partition, clock)
    before = stored(partition)
    assert partition._direct.append(batch(300)) is None
    assert stored(partition) == before
    assert "control" not in before or not is_locked(f"{partition.directory}/control")
    assert not partition._access.appending.locked()


@pytest.mark.parametrize(
    "special",
    [
        batch(producer_id=7, producer_epoch=0, base_sequence=0),
        batch(control=True),
        batch(control=True, producer_id=7, producer_epoch=0, transactional=True),
        batch(5000),
        gappy(),
        batch() + b"more",
        memoryview(batch() + b"\0" * (-len(batch()) % 4)).cast("i"),
    ],
    ids=["producer", "control", "marker", "large", "gappy", "more", "cast"],
)
def test_a_batch_that_is_special_is_left_alone(special, partition):
    before = stored(partition)
    assert partition._direct.append(special) is None
    assert stored(partition) == before


def test_what_is_left_to_python_has_its_checksum_looked_at_there_alone(partition, monkeypatch):
    seen = []
    compiled = sys.modules[type(partition._direct).__module__]
    monkeypatch.setattr(compiled, "check", seen.append)
    partition.append([batch(producer_id=7, producer_epoch=0, base_sequence=0)])
    assert seen == []
    partition.append([batch()])
    assert len(seen) == 1


def test_a_batch_that_is_broken_is_refused(partition):
    broken = bytearray(batch())
    broken[-1] ^= 1
    before = stored(partition)
    with pytest.raises(CorruptBatch):
        partition.append([broken])
    assert stored(partition) == before


# Of producers.


def data(sequence: int, size: int = 20, producer_id: int = 7, epoch: int = 0) -> bytes:
    return batch(
        size,
        producer_id=producer_id,
        producer_epoch=epoch,
        base_sequence=sequence,
        transactional=True,
    )


@pytest.fixture
def open_(partition):
    """One in which producer 7 has a transaction open, and nobody has appended since."""
    partition.append([data(0)])
    return partition


def commit(partition, epoch: int = 1) -> bool:
    return partition._direct.append_commit(7, epoch, None, True)


class Counted:
    """What of it was done in the compiled way."""

    def __init__(self, direct) -> None:
        self._direct = direct
        self.sync = direct.sync
        self.data = self.commits = 0

    def append(self, batch, sequenced):
        offset = self._direct.append(batch, sequenced)
        self.data += offset is not None
        return offset

    def append_commit(self, *args):
        done = self._direct.append_commit(*args)
        self.commits += done
        return done


def test_of_transactions_too_it_leaves_what_python_leaves(tmp_path, clock):
    """Segments end, indexes grow; another producer writes in between, or one without an id."""
    options = {"clock": clock, "fsync": "never", "maintenance": False}
    left = []
    for compiled in (True, False):
        clock.ms = 1_000_000
        with Log.open(tmp_path / str(compiled), **options) as log:
            log.create_topic(
                "events", config={"segment.bytes": "3000", "index.interval.bytes": "300"}
            )
            partition = log.partition(TP)
            counted = partition._direct = Counted(partition._direct) if compiled else None
            for number in range(40):
                clock.ms += number
                for sequence in range(number % 4):
                    partition.append([data(sequence, 30 * sequence, epoch=number)])
                if number % 5 == 0:
                    partition.append([data(0, producer_id=8, epoch=number)])
                if number % 7 == 0:
                    partition.append([batch()])
                for producer in (8, 7) if number % 5 == 0 else (7,):
                    partition.append_marker(producer, number + 1, number % 3 > 0, None, True)
                partition.append([data(-1, producer_id=9, epoch=number)], sequenced=False)
                partition.append_marker(9, number + 1, True, None, True)
            producers = partition.producers()
            found = stored(partition)
            del found["partition.metadata"]
            left.append((found, producers, partition.stable_offset))
            if counted is not None:
                assert counted.data > 100
                assert counted.commits > 60
        with Log.open(tmp_path / str(compiled), **options) as log:
            assert log.partition(TP).producers() == producers
    assert left[0] == left[1]


def followed_by_another(log, partition, clock):
    with Log.open(log.path, clock=clock, maintenance=False) as other:
        other.partition(TP).append([data(0, producer_id=8)])


def seen_before_another(log, partition, clock):
    """What is looked at without the lock says that the producers are known."""
    followed_by_another(log, partition, clock)
    producers = partition._appender.producers
    producers.place = replace(producers.place, offset=partition.end_offset)


def rewritten(log, partition, clock):
    block = partition._access.block
    block.publish(replace(block.end(), rewrites=1))


def first_of_all(log, partition, clock):
    block = partition._access.block
    block.publish(replace(block.end(), producers_end=-1))


def forgotten(log, partition, clock):
    partition._appender.producers.forget()


def long_ago(log, partition, clock):
    partition._appender.producers._checked -= 700


@pytest.mark.parametrize(
    "happens",
    [
        *(followed_by_another, seen_before_another, rewritten, first_of_all, forgotten, long_ago),
        *(dirty, failed, gone, old, closed, index_unopened),
    ],
)
def test_where_producers_are_not_known_for_sure_it_does_nothing(happens, log, open_, clock):
    happens(log, open_, clock)
    before = stored(open_)
    assert open_._direct.append(data(1, 300)) is None
    assert not commit(open_)
    assert stored(open_) == before
    assert not open_._access.appending.locked()
    if happens not in (failed,):
        if happens is not first_of_all:
            assert open_.append([data(1, 300)]) == open_.end_offset - 1
        assert open_.append_marker(7, 1, True, None, True)


def test_what_is_to_be_refused_or_is_there_is_left_to_python(open_):
    before = stored(open_)
    for refused in (data(0), data(2), data(0, epoch=1), data(1, epoch=-1), data(3, producer_id=9)):
        assert open_._direct.append(refused) is None
    assert open_._direct.append(data(-1, producer_id=9)) is None
    assert not commit(open_, epoch=0)
    assert not commit(open_, epoch=3), "an earlier one is open: it is aborted"
    assert stored(open_) == before
    assert open_.append([data(0)]) == 3
    with pytest.raises(OutOfOrderSequence):
        open_.append([data(2)])
    assert commit(open_)
    assert not commit(open_), "it is there already"
    assert open_.stable_offset == 5


def test_a_commit_waits_for_no_lock(open_):
    with held(f"{open_.directory}/control"):
        assert not commit(open_)
    with open_._access.appending:
        assert not commit(open_)
    assert commit(open_)
    assert not is_locked(f"{open_.directory}/control")


@pytest.mark.parametrize("suffix", [LOG, INDEX, TIMEINDEX])
def test_a_commit_whose_write_fails_is_no_commit(suffix, open_, clock):
    open_.append([data(1, 1200)])
    clock.ms += 1
    before = open_.end()
    for name in (INDEX, TIMEINDEX):
        open_._segments.current.file(0, name, create=True)
    with unfit(open_, suffix), pytest.raises(StorageFailed, match="taken back whole"):
        commit(open_)
    assert open_.end().end_position == before.end_position
    assert not open_._access.appending.locked()
    assert open_.append_marker(7, 1, True, None, True)
    assert open_.stable_offset == open_.end_offset == before.end_offset + 1


def test_on_a_full_disk_a_commit_goes_on_in_the_room_that_is_kept(log, clock):
    # Above the page of the control block, which is not to be cut off.
    log.alter_topic("events", {"segment.bytes": "100000"})
    partition = log.partition(TP)
    partition.append([batch(5000)])
    partition.append([data(0)])
    position = partition.end().end_position
    assert not log._space.full
    with files_end_at(position), pytest.raises(OutOfSpace):
        partition.append_marker(7, 1, True, None, True)
    assert log._space.full, "the room was given up before it was tried again"
    assert partition.end().end_position == position
    assert partition.append_marker(7, 1, True, None, True)


@syncing
def test_it_waits_for_no_lock(partition):
    before = stored(partition)
    with held(f"{partition.directory}/control"):
        assert partition._direct.append(batch()) is None
    with partition._access.appending:
        assert partition._direct.append(batch()) is None
    assert stored(partition) == before
    assert partition._direct.append(batch()) == 3
    before = stored(partition)
    with held(partition.directory):
        assert not partition._direct.sync(4)
    with partition._syncer._mutex:
        assert not partition._direct.sync(4)
    assert stored(partition) == before
    assert partition._direct.sync(4)


def torn_sync(log, partition, clock):
    tear(partition._access.block.page, SYNCED)


def begun(log, partition, clock):
    followed(log, partition, clock)
    partition.append([batch()], acks=1)


def unopened(log, partition, clock):
    partition._syncer.forget()


@syncing
@pytest.mark.parametrize(
    "happens", [failed, torn, torn_sync, closed, unopened, unlisted, followed, begun]
)
def test_where_something_is_special_it_does_not_sync(happens, log, partition, clock):
    partition.append([batch()], acks=1)
    happens(log, partition, clock)
    before = stored(partition)
    assert not partition._direct.sync(4)
    assert stored(partition) == before
    assert not is_locked(partition.directory)
    assert not partition._syncer._mutex.locked()


def test_the_end_is_where_it_is_said_to_be(log, partition, clock):
    assert partition.ends_at(3)
    assert not partition.ends_at(2)
    with Log.open(log.path, clock=clock, maintenance=False) as other:
        other.partition(TP).append([batch()], acks=1)
    assert partition.ends_at(4)
    gone(log, partition, clock)
    assert not partition.ends_at(4)


# What fails.


@contextmanager
def files_end_at(size: int):
    """No file of this process may grow beyond that."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("fits", [0, 1, 30])
def test_a_batch_that_fits_in_part_is_taken_back_whole(fits, log, clock):
    # Above the page of the control block, which is not to be cut off.
    log.alter_topic("events", {"segment.bytes": "100000"})
    partition = log.partition(TP)
    for size in (5000, 20, 20):
        partition.append([batch(size)])
    before = stored(partition)
    position = partition.end().end_position
    with files_end_at(position + fits):
        if fits:
            assert partition._direct.append(batch()) is None
            assert partition._access.block.dirty
        with pytest.raises(OutOfSpace):
            partition.append([batch()])
    assert partition.end().end_position == position
    name = "00000000000000000000.log"
    assert stored(partition)[name] == before[name]
    assert not is_locked(f"{partition.directory}/control")
    assert partition.append([batch()]) == 3
    assert len(stored(partition)[name]) == position + len(batch())


@contextmanager
def unfit(partition, suffix=LOG):
    """What is open of the segment is a pipe: writes at a place and syncs fail."""
    file = partition._segments.current.file(0, suffix)
    kept, pipe = os.dup(file._fd), os.pipe()
    os.dup2(pipe[1], file._fd)
    try:
        yield
    finally:
        os.dup2(kept, file._fd)
        for fd in (kept, *pipe):
            os.close(fd)


def test_a_write_that_fails_leaves_nothing(partition):
    with unfit(partition), pytest.raises(StorageFailed, match="taken back whole"):
        partition._direct.append(batch())
    assert not is_locked(f"{partition.directory}/control")
    assert not partition._access.appending.locked()
    assert partition.append([batch()]) == 3


@syncing
def test_a_sync_that_fails_is_an_error_for_everybody_from_then_on(partition):
    assert partition._direct.append(batch()) == 3
    with unfit(partition), pytest.raises(StorageFailed, match="Invalid argument"):
        partition._direct.sync(4)
    assert not is_locked(partition.directory)
    assert not partition._syncer._mutex.locked()
    assert partition.synced_offset == 3
    for acks in ("all", 1):
        with pytest.raises(StorageFailed, match="Invalid argument"):
            partition.append([batch()], acks=acks)
    assert partition.end_offset == 4


def test_who_appends_to_a_deleted_topic_is_told(log, partition, clock):
    with Log.open(log.path, clock=clock, maintenance=False) as other:
        other.delete_topic("events")
    with pytest.raises(UnknownTopic):
        partition.append([batch()])


# Who is told.


class Roused:
    def __init__(self) -> None:
        self.times = 0

    def rouse(self) -> None:
        self.times += 1


@pytest.mark.parametrize("act", [lambda at: at._direct.append(data(1)) is not None, commit])
def test_who_waits_is_woken_in_this_process_and_in_others(act, log, open_):
    watching = Inotify()
    watching.add(log._wake._path, IN_MODIFY)
    told = select.poll()
    told.register(watching.fd)
    sleeper = Roused()
    log._wake._sleepers.add(sleeper)
    try:
        assert act(open_)
    finally:
        log._wake._sleepers.discard(sleeper)
    assert sleeper.times == 1
    assert told.poll(0)


def test_threads_that_append_at_once_leave_all_they_appended(log, partition):
    offsets: list[int] = []

    def append() -> None:
        for _ in range(40):
            offsets.append(partition.append([batch(1)], acks=1))

    threads = [threading.Thread(target=append) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(offsets) == list(range(3, 163))
