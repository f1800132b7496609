"""The consumer: what it yields, where it goes on, and that nothing is skipped."""

import asyncio
import logging
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.backends.locate import open_backend
from streamkit.backends.values import CommittedOffset, OffsetRange
from streamkit.clients.consumer import Consumer
from streamkit.clients.producer import Producer
from streamkit.clock import ManualClock
from streamkit.errors import (
    Fenced,
    GroupActive,
    LogNotFound,
    OffsetOutOfRange,
    SerdeError,
    UnknownPartition,
    UnknownTopic,
    UsageError,
)
from streamkit.records import TopicPartition

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)


@pytest.fixture
def log():
    with open_backend("memory:") as backend:
        backend.create_topic("t", 2)
        backend.create_topic("one", 1)
        yield backend


def fill(log, count, topic="one"):
    """Values 0 … count-1 with the timestamps 0 … count-1, in several batches."""
    with Producer(log, batch_bytes=1000) as producer:
        for number in range(count):
            producer.send(topic, str(number), timestamp=number)


def numbers(records):
    return [int(r.value) for r in records]


def until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"


ONE = TopicPartition("one", 0)


def test_everything_up_to_the_end_is_yielded_once_and_in_order(log):
    fill(log, 5000)
    with Consumer(log, "one") as consumer:
        assert numbers(consumer.until_end()) == list(range(5000))
        assert numbers(consumer.until_end()) == []
        fill(log, 3)
        assert numbers(consumer.until_end()) == [0, 1, 2]


def test_the_end_is_where_the_log_ended_when_asked(log):
    fill(log, 10)
    with Consumer(log, "one") as consumer:
        seen = []
        for record in consumer.until_end():
            seen.append(int(record.value))
            log.append(ONE, [b"99"])
        assert seen == list(range(10))
        assert numbers(consumer.until_end()) == [99] * 10


def test_what_cannot_be_sought_polled_or_committed_is_refused(log):
    fill(log, 10)
    consumer = Consumer(log, "one", group="g", auto_commit=False)
    for offset in (-1, 1.5, "3", None):
        with pytest.raises(UsageError, match="one-0"):
            consumer.seek(ONE, offset)
    for count in (0, -1):
        with pytest.raises(UsageError, match="max_records"):
            consumer.poll(max_records=count)
    assert numbers(consumer.poll(max_records=2)) == [0, 1]
    consumer.close()
    with pytest.raises(UsageError, match="closed"):
        consumer.commit()


def test_several_topics_are_read_whole(log):
    fill(log, 100, "t")
    fill(log, 100, "one")
    with Consumer(log, ["t", "one"]) as consumer:
        records = list(consumer.until_end())
    assert len(records) == 200
    assert sorted(numbers(r for r in records if r.topic == "t")) == list(range(100))


def test_iterating_waits_for_what_comes(log):
    thread = threading.Timer(0.05, lambda: fill(log, 2))
    thread.start()
    with Consumer(log, "one") as consumer:
        stream = iter(consumer)
        assert [next(stream).value, next(stream).value] == [b"0", b"1"]
    thread.join()


def test_polling_gives_lists_and_an_empty_one_when_the_time_is_over(log):
    fill(log, 10)
    with Consumer(log, "one") as consumer:
        assert numbers(consumer.poll(max_records=4)) == [0, 1, 2, 3]
        assert consumer.position(ONE) == 4
        assert numbers(consumer.poll() + consumer.poll()) == [4, 5, 6, 7, 8, 9]
        assert consumer.poll() == consumer.poll(0.01) == []


@pytest.mark.parametrize(
    ("start", "first"),
    [
        ("earliest", 0),
        ("latest", 100),
        (30, 30),
        (datetime.fromtimestamp(0.05, UTC), 50),
        (1000, 100),
    ],
)
def test_where_to_begin(log, start, first):
    fill(log, 100)
    with Consumer(log, "one", from_=start) as consumer:
        assert consumer.position(ONE) == first
        assert numbers(consumer.until_end()) == list(range(first, 100))
        consumer.seek_to(start)
        assert numbers(consumer.until_end()) == list(range(first, 100))


def test_seeking_is_possible_at_any_moment(log):
    fill(log, 1000)
    with Consumer(log, "one") as consumer:
        seen = []
        for record in consumer.until_end():
            seen.append(int(record.value))
            if len(seen) == 3:
                consumer.seek(ONE, 995)
        assert seen == [0, 1, 2, 995, 996, 997, 998, 999]
        with pytest.raises(UnknownPartition, match="not among"):
            consumer.seek(T0, 0)


def test_partitions_can_be_chosen_by_hand(log):
    log.append(T0, [b"0"])
    log.append(T1, [b"1"])
    with Consumer(log, partitions=[T1]) as consumer:
        assert consumer.assignment == {T1}
        assert numbers(consumer.until_end()) == [1]


def test_what_does_not_make_sense_is_refused(log, tmp_path):
    with pytest.raises(UsageError, match="either"):
        Consumer(log)
    with pytest.raises(UsageError, match="either"):
        Consumer(log, "t", partitions=[T0])
    with pytest.raises(UsageError, match="time zone"):
        Consumer(log, "t", from_=datetime(2026, 1, 1))
    with pytest.raises(UsageError, match="earliest"):
        Consumer(log, "t", from_="first")
    with pytest.raises(UnknownTopic, match="one"):
        Consumer(log, "ones")
    with pytest.raises(UnknownPartition, match="0 to 1"):
        Consumer(log, partitions=[TopicPartition("t", 2)])
    with pytest.raises(LogNotFound):
        Consumer(tmp_path / "nowhere", "t")
    with Consumer(log, "t") as consumer, pytest.raises(UsageError, match="group"):
        consumer.commit()
    with pytest.raises(UsageError, match="closed"):
        consumer.poll()


class Order(msgspec.Struct):
    id: int


def test_values_are_decoded_to_their_type(log):
    log.append(ONE, [b'{"id": 1}', b'{"id": 2}'], keys=[b"k", None])
    with Consumer(log, "one", value_type=Order) as consumer:
        assert [(r.key, r.value) for r in consumer.until_end()] == [
            (b"k", Order(1)),
            (None, Order(2)),
        ]
    with Consumer(log, "one", value_type=str) as consumer:
        assert consumer.poll()[0].value == '{"id": 1}'


def test_a_wrong_value_is_named_and_not_skipped(log):
    log.append(ONE, [b'{"id": 1}', b'{"id": "x"}', b'{"id": 3}'])
    log.append(ONE, [b'{"id": 4}'])
    with Consumer(log, "one", value_type=Order) as consumer:
        seen = []
        for _ in range(2):
            with pytest.raises(SerdeError, match=r"one-0@1: .*Order.*id"):
                for record in consumer.until_end():
                    seen.append(record.value.id)
            assert consumer.position(ONE) == 1
        consumer.seek(ONE, 2)
        seen += [r.value.id for r in consumer.until_end()]
    assert seen == [1, 3, 4]


class Trimmed:
    """A log whose first records have been removed by retention."""

    def __init__(self, log, start):
        self._log = log
        self.start = start

    def offsets(self, partition):
        there = self._log.offsets(partition)
        return OffsetRange(self.start, there.end, there.log_end)

    def fetch(self, positions, **options):
        if any(at < self.start for at in positions.values()):
            raise OffsetOutOfRange("removed")
        return self._log.fetch(positions, **options)

    def __getattr__(self, name):
        return getattr(self._log, name)


@pytest.mark.parametrize(("start", "first"), [("earliest", 40), ("latest", 100), (7, 40)])
def test_a_removed_offset_is_said_aloud(log, caplog, start, first):
    fill(log, 100)
    log.commit("g", {ONE: CommittedOffset(10)})
    trimmed = Trimmed(log, 40)
    with caplog.at_level(logging.WARNING), Consumer(trimmed, "one", group="g", from_=start) as c:
        assert numbers(c.until_end()) == list(range(first, 100))
    assert "one-0: offset 10 was removed by retention" in caplog.text
    assert f"going on at {first}" in caplog.text


def test_a_deleted_topic_ends_the_wait_and_its_successor_is_not_mistaken_for_it(log):
    fill(log, 10)
    with Consumer(log, "one", group="g") as consumer:
        assert len(consumer.poll()) == 10
        thread = threading.Timer(0.05, log.delete_topic, ["one"])
        thread.start()
        with pytest.raises(UnknownTopic, match="one"):
            consumer.poll(30.0)
        thread.join()
        log.create_topic("one")
        fill(log, 20)
        with pytest.raises(UnknownTopic, match="anew"):
            consumer.poll()
    assert log.committed("g") == {}
    with Consumer(log, "one", group="g") as consumer:
        assert numbers(consumer.until_end()) == list(range(20))


# Groups.


def test_what_was_yielded_is_committed_at_the_end(log):
    fill(log, 1000)
    with Consumer(log, "one", group="g") as consumer:
        for record in consumer:
            if record.offset == 449:
                break
    assert log.committed("g")[ONE].offset == 450
    with Consumer(log, "one", group="g") as consumer:
        assert numbers(consumer.until_end()) == list(range(450, 1000))
    assert log.committed("g")[ONE].offset == 1000


def test_a_record_whose_processing_failed_comes_again(log):
    fill(log, 1000)
    with suppress(RuntimeError), Consumer(log, "one", group="g") as consumer:
        for record in consumer:
            if record.offset == 449:
                raise RuntimeError
    assert log.committed("g")[ONE].offset == 449
    consumer = Consumer(log, "one", group="g")
    with suppress(RuntimeError):
        try:
            assert consumer.poll(max_records=10)[0].offset == 449
            assert consumer.poll(max_records=10)[0].offset == 459
            raise RuntimeError
        finally:
            consumer.close()
    assert log.committed("g")[ONE].offset == 459


def test_committing_by_hand(log):
    fill(log, 1000)
    with Consumer(log, "one", group="g", auto_commit=False) as consumer:
        for record in consumer:
            if record.offset == 449:
                consumer.commit()
            if record.offset == 460:
                break
    assert log.committed("g")[ONE].offset == 450


def test_offsets_are_committed_while_it_runs_and_while_nothing_comes(log):
    class Clock:
        """Runs when told to."""

        seconds = 0.0

        def monotonic(self):
            return self.seconds

        def now(self):
            return 0

    clock = Clock()
    fill(log, 10)
    with Consumer(log, "one", group="g", clock=clock) as consumer:
        assert len(consumer.poll()) == 10
        assert consumer.poll() == []
        assert log.committed("g") == {}
        clock.seconds = 1.5
        assert consumer.poll() == []
        assert log.committed("g")[ONE].offset == 10


def test_what_was_committed_by_hand_stays_committed_when_the_next_step_fails(log):
    fill(log, 10)
    with pytest.raises(RuntimeError), Consumer(log, "one", group="g") as consumer:
        for record in consumer:
            if record.offset == 4:
                consumer.commit()
                raise RuntimeError
    assert log.committed("g")[ONE].offset == 5


def test_slow_work_is_committed_and_handed_over_as_it_goes_on(log):
    for partition in (T0, T1):
        log.append(partition, [b"0"] * 1000)
    clock = ManualClock()
    with (
        Consumer(log, "t", group="g", clock=clock) as slow,
        Consumer(log, "t", group="g") as other,
    ):
        for count, record in enumerate(slow, 1):
            clock.advance(2000)  # what this record takes
            assert log.committed("g").keys() >= {(record.topic, record.partition)} or count < 3
            if count > 50:
                break
            time.sleep(0.006)  # a member looks no more often than every 5 ms
            other.poll()
        assert len(other.assignment) == 1


class Then:
    """A backend that does something once, when it is asked where a partition ends."""

    def __init__(self, log):
        self._log = log
        self.then = None

    def end(self, partition):
        found = self._log.end(partition)
        if self.then is not None:
            self.then = self.then()
            time.sleep(0.006)  # a member looks no more often than every 5 ms
        return found

    def __getattr__(self, name):
        return getattr(self._log, name)


def test_partitions_gained_while_reading_to_the_end_are_read_to_theirs(log):
    fill(log, 3000, "t")
    first, backend = Consumer(log, "t", group="g"), Then(log)
    with Consumer(backend, "t", group="g") as second:
        until(lambda: first.poll(0.01, max_records=1) and second.poll() and second.assignment)
        backend.then = first.close
        assert {record.partition for record in second.until_end()} == {0, 1}
    ends = {tp: log.offsets(tp).end for tp in (T0, T1)}
    assert {tp: at.offset for tp, at in log.committed("g").items()} == ends


def test_a_group_that_begins_at_the_end_misses_nothing_after_a_crash(log):
    fill(log, 10)
    consumer = Consumer(log, "one", group="g", from_="latest")
    fill(log, 3)
    consumer._member.leave()  # and no word to the log: as if killed
    with Consumer(log, "one", group="g", from_="latest") as again:
        assert numbers(again.until_end()) == [0, 1, 2]


def test_members_share_partitions_and_hand_them_over_without_repeating(log):
    fill(log, 2000, "t")
    first = Consumer(log, "t", group="g")
    seen = []
    while len(seen) < 1500:  # some of each partition
        seen += [(r.partition, r.offset) for r in first.poll()]
    second = Consumer(log, "t", group="g")
    deadline = time.monotonic() + 30
    while len(seen) < 2000:
        for consumer in (first, second):
            seen += [(r.partition, r.offset) for r in consumer.poll(0.005, max_records=20)]
        assert time.monotonic() < deadline
    assert len(first.assignment) == len(second.assignment) == 1
    first.close()
    fill(log, 100, "t")
    while len(seen) < 2100:
        seen += [(r.partition, r.offset) for r in second.poll(0.005)]
        assert time.monotonic() < deadline
    second.close()
    assert sorted(set(seen)) == sorted(seen) and len(seen) == 2100


def test_a_fenced_member_says_so_and_commits_nothing(tmp_path):
    with open_backend(tmp_path) as log:
        log.create_topic("one")
        fill(log, 10)
        consumer = Consumer(log, "one", group="g")
        assert len(consumer.poll()) == 10
        locks = tmp_path / "__consumer_offsets-0" / "groups" / "g"
        (locks / "members" / consumer._member.member_id).unlink()
        with pytest.raises(Fenced):
            consumer.commit()
        with suppress(Fenced):
            consumer.close()
        assert log.committed("g") == {}


def test_partitions_by_hand_commit_only_while_the_group_has_no_members(log):
    fill(log, 10)
    with Consumer(log, partitions=[ONE], group="g") as consumer:
        assert len(list(consumer.until_end())) == 10
        consumer.commit()
        assert log.committed("g")[ONE].offset == 10
        member = log.join("g", {"one": 1})
        fill(log, 1)
        assert len(list(consumer.until_end())) == 1
        with pytest.raises(GroupActive):
            consumer.commit()
        member.leave()


READER = """
import sys
from streamkit.clients.consumer import Consumer
with Consumer(sys.argv[1], "t", group="g") as consumer:
    for record in consumer:
        print(record.partition, record.offset, flush=True)
"""


def test_killed_members_lose_nothing(tmp_path):
    path = str(tmp_path / "log")
    with open_backend(path) as log:
        log.create_topic("t", 4)
        seen = set()
        lock = threading.Lock()

        def collect(process):
            for line in process.stdout:
                if line.endswith("\n"):  # the last one may be cut short
                    with lock:
                        seen.add(tuple(map(int, line.split())))

        def start():
            process = subprocess.Popen(
                [sys.executable, "-c", READER, path], stdout=subprocess.PIPE, text=True
            )
            thread = threading.Thread(target=collect, args=(process,))
            thread.start()
            return process, thread

        running = [start(), start()]
        everything = []
        expected = 0
        for round_ in range(6):
            fill(log, 500, "t")
            expected += 500
            deadline = time.monotonic() + 30
            while len(seen) < expected - 300:
                time.sleep(0.001)
                assert time.monotonic() < deadline
            victim = running.pop(0)
            everything.append(victim)
            victim[0].send_signal(signal.SIGKILL if round_ % 3 else signal.SIGINT)
            running.append(start())
        deadline = time.monotonic() + 30
        while len(seen) < expected:
            time.sleep(0.005)
            assert time.monotonic() < deadline, f"{expected - len(seen)} records are missing"
        for process, thread in everything + running:
            process.kill()
            process.wait()
            thread.join()
            process.stdout.close()


# Coroutines.


def test_async_for_yields_the_same(log):
    async def main():
        seen = []
        with Consumer(log, "one", group="g") as consumer:
            asyncio.get_running_loop().call_later(0.05, fill, log, 5)
            async for record in consumer:
                seen.append(int(record.value))
                if len(seen) == 5:
                    break
        return seen

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]
    assert log.committed("g")[ONE].offset == 5


def test_a_cancelled_async_for_loses_nothing(log):
    async def main():
        with Consumer(log, "one") as consumer:

            async def read():
                async for _ in consumer:
                    pass

            task = asyncio.create_task(read())
            await asyncio.sleep(0.02)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            fill(log, 3)
            return numbers(consumer.until_end())

    assert asyncio.run(main()) == [0, 1, 2]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["poll", "few", "break", "fail", "commit", "end"]), max_size=12))
def test_whatever_one_does_no_record_is_skipped(actions):
    """Every way of reading, in any order, with restarts: each record comes at least once."""
    with open_backend("memory:") as log:
        log.create_topic("one")
        fill(log, 400)
        seen = []
        consumer = Consumer(log, "one", group="g")

        def restart(failed):
            consumer._close(failed=failed)
            return Consumer(log, "one", group="g")

        for action in actions:
            if action == "poll":
                got = numbers(consumer.poll())
            elif action == "few":
                got = numbers(consumer.poll(max_records=7))
            elif action == "end":
                got = numbers(consumer.until_end())
            elif action == "commit":
                consumer.commit()
                got = []
            else:
                got = []
                for record in consumer.until_end():
                    got.append(int(record.value))
                    if len(got) == 5:
                        break
                if action == "fail" and got:
                    done = got[:-1]
                    consumer = restart(True)
                    seen += done
                    got = []
                else:
                    consumer = restart(False)
            # What comes next is never beyond what has been seen.
            if got:
                assert got[0] <= len(set(seen))
                assert got == list(range(got[0], got[0] + len(got)))
            seen += got
        seen += numbers(consumer.until_end())
        consumer.close()
        assert set(seen) == set(range(400))


# Paused partitions.


def test_a_paused_partition_gives_nothing_until_it_is_resumed_and_then_all_that_is_left(log):
    for number in range(10):
        log.append(T0, [b"%d" % number])
        log.append(T1, [b"%d" % (100 + number)])
    with Consumer(log, "t", group="g") as consumer:
        seen = []
        for record in consumer.until_end():
            seen.append(int(record.value))
            if seen == list(range(4)):
                consumer.pause([T0])
                assert consumer.paused == {T0} and consumer.position(T0) == 4
        assert seen == [0, 1, 2, 3, *range(100, 110)]
        assert consumer.assignment == {T0, T1}
        assert consumer.poll() == []
        assert log.append(T0, [b"10"]) == 10
        consumer.resume([T0])
        assert consumer.paused == frozenset()
        assert numbers(consumer.until_end()) == list(range(4, 11))


def test_what_was_given_out_before_a_pause_comes_again_only_if_its_processing_failed(log):
    fill(log, 10)
    with suppress(RuntimeError), Consumer(log, "one", group="g") as consumer:
        for record in consumer:
            if record.offset == 4:
                consumer.pause([ONE])
                raise RuntimeError
    assert log.committed("g")[ONE].offset == 4
    with Consumer(log, "one", group="g") as consumer:
        assert numbers(consumer.poll(max_records=2)) == [4, 5]
        consumer.pause([ONE])
    assert log.committed("g")[ONE].offset == 6


def test_a_paused_partition_can_be_sought_in(log):
    fill(log, 10)
    with Consumer(log, "one", value_type=int) as consumer:
        assert [r.value for r in consumer.poll(max_records=3)] == [0, 1, 2]
        consumer.pause([ONE])
        consumer.pause([ONE])
        consumer.seek(ONE, 8)
        assert consumer.poll() == []
        consumer.resume([ONE])
        consumer.resume([ONE])
        assert [r.value for r in consumer.until_end()] == [8, 9]
        with pytest.raises(UnknownPartition):
            consumer.pause([T0])


def test_values_fetched_before_a_pause_are_decoded_once(log):
    fill(log, 10)
    with Consumer(log, "one", value_type=int) as consumer:
        seen = [r.value for r in consumer.poll(max_records=3)]
        consumer.pause([ONE])
        consumer.resume([ONE])
        assert seen + [r.value for r in consumer.until_end()] == list(range(10))


# Chosen offsets and their notes.


def test_offsets_are_committed_with_notes_and_read_back(log):
    fill(log, 10)
    with Consumer(log, "one", group="g", auto_commit=False) as consumer:
        consumer.commit({ONE: CommittedOffset(3, "as of today")})
        assert consumer.committed() == {ONE: CommittedOffset(3, "as of today")}
        consumer.commit({ONE: 5})
        assert consumer.committed() == {ONE: CommittedOffset(5)}
        with pytest.raises(Fenced, match="t-0"):
            consumer.commit({ONE: 6, T0: 1})
        assert consumer.committed() == {ONE: CommittedOffset(5)}
    with Consumer(log, "one", group="g") as consumer:
        assert numbers(consumer.until_end()) == [5, 6, 7, 8, 9]
    with Consumer(log, "one") as consumer, pytest.raises(UsageError, match="name a group"):
        consumer.committed()
    with Consumer(log, partitions=[ONE], group="h", auto_commit=False) as consumer:
        consumer.commit({ONE: 2})
        with pytest.raises(UnknownPartition):
            consumer.commit({T0: 2})
    assert log.committed("h") == {ONE: CommittedOffset(2)}


def test_the_offset_committed_by_hand_is_where_it_goes_on_after_a_failure(log):
    fill(log, 10)
    with pytest.raises(RuntimeError), Consumer(log, "one", group="g") as consumer:
        for record in consumer:
            if record.offset == 6:
                consumer.commit({ONE: 2})
                raise RuntimeError
    assert log.committed("g")[ONE].offset == 2


# Topics that grow, and other topics.


@pytest.mark.parametrize("group", [None, "g"])
@pytest.mark.parametrize("start", ["earliest", "latest"])
def test_partitions_added_to_a_topic_are_read_from_their_beginning(log, group, start):
    fill(log, 10)
    with Consumer(log, "one", group=group, from_=start) as consumer:
        list(consumer.until_end())
        log.add_partitions("one", 3)
        new = TopicPartition("one", 2)
        log.append(new, [b"77"])
        assert numbers(consumer.poll(20.0)) == [77]
        assert consumer.assignment == {TopicPartition("one", n) for n in range(3)}


def test_members_share_the_partitions_added_to_a_topic(log):
    with Consumer(log, "t", group="g") as one, Consumer(log, "t", group="g") as other:
        until(lambda: one.poll() == [] and other.poll() == [] and len(other.assignment) == 1)
        log.add_partitions("t", 6)
        every = {TopicPartition("t", n) for n in range(6)}
        until(
            lambda: (
                one.poll() == []
                and other.poll() == []
                and len(one.assignment) == 3
                and one.assignment | other.assignment == every
            )
        )


@pytest.mark.parametrize("group", [None, "g"])
def test_other_topics_can_be_read_without_a_new_consumer(log, group):
    fill(log, 10, "one")
    fill(log, 10, "t")
    with Consumer(log, "one", group=group) as consumer:
        assert numbers(consumer.poll(max_records=4)) == [0, 1, 2, 3]
        consumer.subscribe(["one", "t"])
        assert len(list(consumer.until_end())) == 16
        consumer.subscribe("t")
        assert consumer.assignment == {T0, T1}
        fill(log, 5, "one")
        assert list(consumer.until_end()) == []
        with pytest.raises(UnknownTopic):
            consumer.subscribe("nope")
        assert consumer.assignment == {T0, T1}
        consumer.subscribe("one")
        assert numbers(consumer.until_end()) == list(range(5) if group else [*range(10), *range(5)])
        assert consumer.assignment == {ONE}
        with pytest.raises(UsageError, match="at least one"):
            consumer.subscribe([])
    with Consumer(log, partitions=[ONE]) as consumer, pytest.raises(UsageError, match="by hand"):
        consumer.subscribe("t")


# Static members.


def test_a_static_member_that_comes_back_goes_on_where_it_was_and_others_are_left_alone(log):
    fill(log, 100, "t")
    other = Consumer(log, "t", group="g")
    static = Consumer(log, "t", group="g", instance_id="a", session_timeout=600)
    until(lambda: other.poll() == [] and len(static.assignment | set(static.poll())) > 0)
    mine, others = static.assignment, other.assignment
    assert len(mine) == len(others) == 1
    static.close()
    for _ in range(20):
        other.poll()
        assert other.assignment == others
    with Consumer(log, "t", group="g", instance_id="a", session_timeout=600) as static:
        until(lambda: static.poll() == [] and static.assignment == mine)
        other.poll()
        assert other.assignment == others
    other.close()


def test_what_a_static_member_left_is_given_away_when_its_time_is_over(log):
    other = Consumer(log, "t", group="g")
    static = Consumer(log, "t", group="g", instance_id="a", session_timeout=0.05)
    until(lambda: other.poll() == [] and len(static.assignment | set(static.poll())) > 0)
    static.close()
    until(lambda: other.poll() == [] and other.assignment == {T0, T1})
    other.close()


def test_instance_ids_that_make_no_sense_are_refused(log):
    for options in (
        {"instance_id": "a"},
        {"session_timeout": 3.0, "group": "g"},
        {"session_timeout": 0, "instance_id": "a", "group": "g"},
        {"session_timeout": 1e9, "instance_id": "a", "group": "g"},
        {"instance_id": "", "group": "g"},
    ):
        with pytest.raises(UsageError, match=r"instance|session_timeout"):
            Consumer(log, "t", **options)
