"""The tasks of a process: how they come, go, and get on beside each other."""

import logging
import os
import re

import pytest

from streamkit import App, State, tumbling
from streamkit.backends.locate import open_backend
from streamkit.backends.memory.backend import MemoryBackend
from streamkit.backends.memory.log import MemoryLog
from streamkit.backends.values import CommittedOffset
from streamkit.clock import ManualClock, SystemClock
from streamkit.codec import encode
from streamkit.engine import others, restore, worker
from streamkit.engine.patience import IDLE_AFTER
from streamkit.engine.place import Place
from streamkit.engine.running import Running
from streamkit.engine.settings import Settings
from streamkit.engine.topics import create_topics
from streamkit.engine.transaction import WorkTransaction
from streamkit.engine.worker import Worker
from streamkit.errors import Fenced, OutOfSpace
from streamkit.records import TopicPartition

PARTITIONS = 4


class Ticking(ManualClock):
    """Every look at it takes a while."""

    def monotonic(self):
        self.advance(1)
        return super().monotonic()


@pytest.fixture
def clock():
    return Ticking()


@pytest.fixture
def log(clock):
    with MemoryBackend(MemoryLog(clock)) as log:
        log.create_topic("events", PARTITIONS)
        yield log


def counting():
    app = App("shop")

    @app.stream("events", str).process(to="counts")
    def count(event: str, seen: State[int]) -> int:
        seen.set(seen.get(0) + 1)
        return seen.get(0)

    return app.topology()


@pytest.fixture
def started(log, clock):
    """Begins workers, which are closed in the end."""
    begun = []

    def start(on_progress=None, **settings):
        topology = counting()
        layout = create_topics(topology, log)
        settings = Settings(**{"commit_interval": 0.0, **settings})
        begun.append(Worker(topology, log, layout, settings, clock, on_progress))
        return begun[-1]

    yield start
    for one in begun:
        one.close()


def publish(log, times=1):
    for _ in range(times):
        for number in range(PARTITIONS):
            log.append(TopicPartition("events", number), [b"x"], keys=[b"key-%d" % number])


def work(*workers):
    while [one for one in workers if one.turn()]:
        pass
    for one in workers:
        one.commit()


def highest(log):
    found = {}
    for number in range(PARTITIONS):
        at = TopicPartition("counts", number)
        position = 0
        while batches := log.fetch({at: position}):
            for batch in batches:
                for record in batch.records():
                    found.setdefault(record.key, []).append(int(record.value))
                position = batch.next_offset
    return found


def expected(count):
    return {b"key-%d" % number: [*range(1, count + 1)] for number in range(PARTITIONS)}


def test_who_waits_for_state_does_not_hold_up_those_at_work(log, started, monkeypatch):
    one = started()
    for _ in range(30):
        publish(log)
        work(one)
    monkeypatch.setattr(restore, "FETCH_BYTES", 1)
    monkeypatch.setattr(worker, "RESTORE", 0.0)
    two = started()
    while len(one.running) == PARTITIONS:
        one.turn()
        two.turn()
    publish(log)
    for _ in range(10):
        one.turn()
        two.turn()
        assert not two.running, "it has a lot to read"
    assert sum(len(counts) == 31 for counts in highest(log).values()) == 2
    work(one, two)
    assert len(two.running) == 2
    assert highest(log) == expected(31)


def test_a_task_that_is_taken_away_in_the_middle_of_its_restore_is_whole_elsewhere(
    log, started, monkeypatch
):
    one = started()
    for _ in range(30):
        publish(log)
        work(one)
    monkeypatch.setattr(restore, "FETCH_BYTES", 1)
    monkeypatch.setattr(worker, "RESTORE", 0.0)
    two = started()
    while len(one.running) == PARTITIONS:
        one.turn()
        two.turn()
    for _ in range(5):
        two.turn()
    assert not two.running
    coming, closed, close = list(two._coming._tasks.values()), [], Running.close
    monkeypatch.setattr(Running, "close", lambda one: (closed.append(one), close(one)))
    rest = [one, started(), started()]
    publish(log)
    for _ in range(5):
        for each in (two, *rest):
            each.turn()
    gone = [each for each in coming if each.unit not in two._coming.units]
    assert gone and all(each in closed for each in gone)  # what they had on disk is for others
    two.close()
    work(*rest)
    assert sum(len(each.running) for each in rest) == PARTITIONS
    assert highest(log) == expected(31)


def test_what_was_done_for_a_task_is_committed_before_another_member_gets_it(log, started):
    one = started(commit_interval=3600.0)
    publish(log)
    while one.turn():
        pass
    two = started(commit_interval=3600.0)
    work(one, two)
    assert len(one.running) == len(two.running) == 2
    assert highest(log) == expected(1)


def test_what_was_done_for_a_task_that_is_not_ours_any_more_is_not_committed(log, started):
    one = started(commit_interval=3600.0)
    publish(log)
    while one.turn():
        pass
    lost = one.running[0].unit
    log.log.group("shop").owners[lost] = "somebody else"
    one.commit()
    assert highest(log) == {}, "nothing of it, as it is one transaction"
    log.log.group("shop").owners.pop(lost)
    work(one)
    work(one)
    assert highest(log) == expected(1)


def test_how_far_a_restore_is_is_told(log, started, monkeypatch, caplog):
    one = started()
    for _ in range(30):
        publish(log)
        work(one)
    one.close()
    monkeypatch.setattr(restore, "FETCH_BYTES", 1)
    monkeypatch.setattr(worker, "RESTORE", 0.0)
    told = []
    with caplog.at_level(logging.INFO, "streamkit.engine"):
        two = started(on_progress=told.append)
        while not two.running:
            two.turn()
            two._clock.advance(300)
    restored = [progress.restoring for progress in told if progress.restoring is not None]
    bars = [each.bar for each in restored]
    assert bars == sorted(bars) and {len(bar) for bar in bars} == {16}
    assert restored[0].tasks == PARTITIONS
    assert [each.done for each in restored] == sorted(each.done for each in restored)
    assert restored[-1].total > 100 and restored[-1].rate > 0
    for each in restored:
        assert each.seconds_left == pytest.approx((each.total - each.done) / each.rate)
    lines = [text for text in caplog.messages if "restoring shop-count-seen-changelog" in text]
    assert len(lines) > 1 and "s left" in lines[-1]


def test_a_task_waits_for_offsets_that_an_open_transaction_is_about_to_commit(log, started):
    one = started()
    publish(log)
    work(one)
    at = TopicPartition("events", 0)
    transactions = log.transactions("somebody", timeout=60)
    transactions.begin()
    offset = log.committed("shop")[at]
    transactions.commit_offsets("shop", {at: offset})
    one.close()
    two = started()
    for _ in range(5):
        two.turn()
    assert len(two.running) == PARTITIONS - 1
    transactions.commit()
    two.turn()
    assert len(two.running) == PARTITIONS


def test_who_is_fenced_does_again_what_others_have_not(log, started, caplog):
    one = started(commit_interval=3600.0)
    publish(log)
    while one.turn():
        pass
    log.reset("shop", lambda committed: {}, force=True)
    publish(log)
    work(one)
    work(one)
    assert highest(log) == expected(2)
    assert any("going on from the last commit" in text for text in caplog.messages)


def test_a_fenced_commit_leaves_nothing_that_is_read(log, started):
    one = started(commit_interval=3600.0)
    publish(log)
    while one.turn():
        pass
    log.reset("shop", lambda committed: {}, force=True)
    one.commit()
    assert highest(log) == {}
    work(one)
    assert highest(log) == expected(1)


def test_what_cannot_be_appended_is_given_up_whole(log, started, monkeypatch):
    one = started(commit_interval=3600.0)
    publish(log)
    while one.turn():
        pass
    appended = []
    append = log.append_encoded

    def fails(partition, *batches, acks=1):
        appended.append(partition)
        if len(appended) == 3:
            raise OutOfSpace("no room")
        return append(partition, *batches, acks=acks)

    with monkeypatch.context() as patch:
        patch.setattr(log, "append_encoded", fails)
        with pytest.raises(OutOfSpace):
            one.commit()
    one.close()
    assert highest(log) == {}
    work(started())
    assert highest(log) == expected(1)


def test_the_first_commit_after_a_quiet_time_is_at_once_and_the_next_an_interval_later(
    log, started, monkeypatch
):
    commits = []
    commit = WorkTransaction.commit

    def counted(*arguments, **options):
        commits.append(1)
        commit(*arguments, **options)

    monkeypatch.setattr(WorkTransaction, "commit", counted)
    one = started(commit_interval=10.0)
    while one.turn():
        pass
    one._clock.advance(20_000)
    one.turn()
    one._clock.advance(20_000)
    before = len(commits)
    publish(log)
    one.turn()
    assert len(commits) == before + 1
    publish(log)
    one.turn()
    assert len(commits) == before + 1 and one.uncommitted
    one._clock.advance(10_000)
    one.turn()
    assert len(commits) == before + 2 and not one.uncommitted


def test_nothing_is_committed_where_nothing_is_done(log, started, monkeypatch):
    one = started()
    publish(log)
    work(one)

    def refused(*arguments, **options):
        raise Fenced("there was nothing to commit")

    monkeypatch.setattr(WorkTransaction, "commit", refused)
    for _ in range(5):
        assert not one.turn()
        one.commit()


def counting_words(log, clock):
    """A worker whose tasks hand over to each other."""
    app = App("shop")
    events = app.stream("events", str)
    events.by(str, name="words").window(tumbling("10s", grace="0s")).count(to="counts", name="c")
    topology = app.topology()
    layout = create_topics(topology, log)
    return Worker(topology, log, layout, Settings(commit_interval=0.0), clock, None)


def test_it_is_not_at_its_end_while_another_member_has_something_under_way_to_it(log, clock):
    one = counting_words(log, clock)
    publish(log)
    work(one)
    work(one)
    assert one.at_end()
    for topic, ends in (("shop-words-repartition", False), ("counts", True), ("events", True)):
        at = TopicPartition(topic, 1)
        other = log.transactions("another member", timeout=60)
        other.add([at])
        pid, epoch = other.producer
        batch = encode([None], timestamps=0, producer_id=pid, producer_epoch=epoch,
                       base_sequence=0, transactional=True)  # fmt: skip
        log.append_encoded(at, batch)
        assert one.at_end() == ends, topic
        other.close()
        work(one)
        assert one.at_end()


def test_windows_close_without_a_partition_that_is_silent_for_a_while(log, clock):
    one = counting_words(log, clock)
    for at in (1_000, 2_000, 25_000):
        for number in range(PARTITIONS):
            if number != 3 or at == 1_000:
                log.append(TopicPartition("events", number), [b"x"], timestamps=at)
    work(one)
    assert highest(log) == {}
    for waited in (IDLE_AFTER - 1_000, 1_000):
        assert highest(log) == {}
        log.append(TopicPartition("events", 0), [b"x"], timestamps=25_000)
        clock.advance(waited)
        work(one)
        work(one)  # what was told then
    assert highest(log) == {b"x": [7]}
    one.close()


def test_who_is_stopped_in_a_commit_holds_the_end_back_and_is_told_once(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(others, "PATIENCE", 0.0)
    app = App("shop")
    app.stream("events", str).by(len, name="lengths").count(to="counts")
    topology = app.topology()
    with open_backend(str(tmp_path)) as log:
        log.create_topic("events", 2)
        layout = create_topics(topology, log)
        one = Worker(topology, log, layout, Settings(commit_interval=0.0), SystemClock())
        work(one)
        assert one.at_end()
        handed = "shop-lengths-repartition"
        stopped = WorkTransaction(log, "shop", "another member")
        for number in range(2):
            at = TopicPartition(handed, number)
            stopped.append(log.topic(handed).topic_id, at, encode([b"x"], timestamps=0))
        caplog.clear()
        assert not any(one.at_end() for _ in range(4))
        (line,) = caplog.messages
        at = log.offsets(TopicPartition(handed, 0)).end
        for said in (f"{handed}-0@{at} and 1 more", "'another member'", "is aborted in "):
            assert said in line
        stopped.close()
        work(one)
        assert one.at_end()
        one.close()


def test_whose_tasks_are_taken_over_is_told_with_how_long_it_took(tmp_path, clock, caplog):
    caplog.set_level(logging.INFO, "streamkit.engine")
    with open_backend(tmp_path / "log") as log:
        log.create_topic("events", PARTITIONS)
        topology = counting()
        layout = create_topics(topology, log)
        one, two = (Worker(topology, log, layout, Settings(), clock) for _ in range(2))
        while len(one.running) + len(two.running) < PARTITIONS or not two.running:
            work(one, two)
        publish(log)
        work(one, two)
        assert not caplog.messages, "who lives has only let go of them"
        theirs = [str(running.unit) for running in two.running]
        two.close()
        while len(one.running) < PARTITIONS:
            one.turn()
        (said,) = caplog.messages
        assert re.fullmatch(
            rf"took over from app shop \(process {os.getpid()}\), which has gone: "
            rf"{', '.join(sorted(theirs))}; 2 records of state and tables restored, "
            r"at work after \d+\.\d s",
            said,
        )
        one.close()


def test_others_that_stand_still_before_the_end_are_told_once_each_time(
    log, clock, monkeypatch, caplog
):
    monkeypatch.setattr(others, "STILL", 0.01)
    topology = counting()
    layout = create_topics(topology, log)
    known = others.Others(topology, layout, Place(log, "shop"), clock)
    publish(log)
    for moved in range(2):
        assert not any(known.at_end(()) for _ in range(30))
        assert len(caplog.messages) == moved + 1
        assert "events-0 and 3 more partitions to read" in caplog.messages[-1]
        log.commit("shop", {TopicPartition("events", 1): CommittedOffset(moved)})
