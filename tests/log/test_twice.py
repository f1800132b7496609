"""One directory opened twice in one process: two logs, with locks between them as if they were two
processes, and closing one takes nothing from the other."""

import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamkit.backends.embedded import EmbeddedBackend
from streamkit.backends.locate import open_backend
from streamkit.clients.producer import Producer
from streamkit.codec import encode
from streamkit.errors import Fenced, GroupActive, LogInUse, ProducerFenced
from streamkit.fsck.check import check
from streamkit.fsck.repair import repair
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)


def value(text: bytes = b"x") -> bytes:
    return encode([text], timestamps=0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with Log.open(tmp_path / "log", fsync="never", maintenance=False) as log:
        log.create_topic("events")
    return tmp_path / "log"


@pytest.fixture
def logs(root: Path) -> Iterator[list[Log]]:
    logs = [Log.open(root, fsync="never", maintenance=False) for _ in range(2)]
    yield logs
    for log in logs:
        log.close()


def is_locked(log: Log) -> bool:
    """Whether an append through the log has to wait."""
    done = threading.Event()

    def append() -> None:
        log.partition(TP).append([value(b"waited")])
        done.set()

    thread = threading.Thread(target=append, daemon=True)
    thread.start()
    waits = not done.wait(0.2)
    is_locked.threads.append(thread)  # type: ignore[attr-defined]
    return waits


is_locked.threads = []  # type: ignore[attr-defined]


def test_threads_of_both_append_at_once_and_nothing_is_lost(logs, everything):
    def work(log: Log, name: bytes) -> None:
        for number in range(100):
            log.partition(TP).append([value(b"%s %d" % (name, number))], acks=1)

    threads = [
        threading.Thread(target=work, args=(log, b"%d-%d" % (which, again)))
        for which, log in enumerate(logs)
        for again in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = everything(logs[0].partition(TP))
    assert [offset for offset, _ in found] == list(range(400))
    for which in range(2):
        for again in range(2):
            name = b"%d-%d" % (which, again)
            mine = [text for _, text in found if text.startswith(name + b" ")]
            assert mine == [b"%s %d" % (name, number) for number in range(100)]


@pytest.mark.parametrize("how", ["close", "forget"])
def test_closing_one_drops_no_lock_of_the_other(root, logs, how):
    one, other = logs
    for log in logs:
        log.partition(TP).append([value()])
    third = Log.open(root, fsync="never", maintenance=False)
    third.partition(TP).append([value()])
    block = one.partition(TP)._open()
    block.file.lock()
    assert is_locked(other)
    if how == "close":
        third.close()
    del third
    gc.collect()
    (root / "events-0" / "control").read_bytes()  # plain record locks would be lost by this
    fourth = Log.open(root, fsync="never", maintenance=False)
    assert is_locked(fourth), "the append lock is held on"
    with pytest.raises(LogInUse):
        repair(root, now=0)
    block.file.unlock()
    for thread in is_locked.threads:  # type: ignore[attr-defined]
        thread.join(30)
    assert one.partition(TP).end_offset == 5
    fourth.close()
    one.close()
    with pytest.raises(LogInUse):
        repair(root, now=0)
    assert other.partition(TP).append([value()]) == 5
    other.close()
    assert repair(root, now=0) == []


def test_one_of_them_does_maintenance_at_a_time_and_the_other_after_it_is_closed(logs):
    one, other = logs
    assert one._space.try_lock()
    assert not other._space.try_lock()
    one._space.unlock()
    one.close()
    assert other.maintain().problems == ()


def test_members_and_transactional_ids_of_both_exclude_each_other(root):
    with open_backend(root) as one:
        with open_backend(root) as other:
            assert isinstance(one, EmbeddedBackend)
            member = one.join("g", {"events": 1})
            peer = other.join("g", {"events": 1})
            assert member.poll().owned == {TP}
            assert peer.poll().owned == frozenset()
            with pytest.raises(GroupActive):
                other.reset("g", lambda known: known)
            first = Producer(one, transactional_id="x")
            with Producer(other, transactional_id="x") as second:
                with pytest.raises(ProducerFenced), first.transaction() as transaction:
                    transaction.send("events", b"of the one that is fenced")
                    first.flush()
                with second.transaction() as transaction:
                    transaction.send("events", b"good")
            first.close()
        assert member.poll().owned == {TP}, "the other's leaving takes nothing"
        with pytest.raises(Fenced):
            peer.check()
        with Producer(one, transactional_id="x") as third, third.transaction() as transaction:
            transaction.send("events", b"good")
    assert check(root, now=0).clean


SHARED = ["control", "wake", "maintenance", "events-0/control", "events-0/cleaner"]


@pytest.mark.parametrize("lost", [*SHARED, "events-0/leader-epoch-checkpoint"])
def test_a_file_that_both_share_can_be_lost_under_them(root, logs, everything, lost):
    one, other = logs
    for log in logs:
        log.partition(TP).append([value()])
        log.maintain()
    (root / lost).unlink(missing_ok=True)
    for number, log in enumerate(logs * 2):
        assert log.partition(TP).append([value()]) == 2 + number
        log.create_topic(f"made-{number}")
        assert log.maintain().problems == ()
        assert log.wait(lambda: True, 1.0)
        log.partition(TP).sync()
    third = Log.open(root, fsync="never", maintenance=False)
    assert third.partition(TP).append([value()]) == 6
    third.create_topic("made-by-third")
    for log in (*logs, third):
        assert len(everything(log.partition(TP))) == 7
        assert len(log.topics()) == 6
    third.close()
    one.close()
    other.close()
    assert [one for one in check(root, now=0).findings if one.severity == "error"] == []
