"""Windows against a model so plain that it is right by inspection, whatever happens in between."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.app import App
from streamkit.dsl.state import State
from streamkit.dsl.stream import Stream
from streamkit.dsl.windows import Window, tumbling
from streamkit.engine.journal import decode
from streamkit.engine.rows import Position
from streamkit.engine.task import Task
from streamkit.records import Record, TopicPartition
from streamkit.testing import TestRun

SIZE, GRACE, OUT_OF_ORDER = 10, 5, 3


Play = tuple[Any, ...]
"""("send", user, time, partition), ("step",), or ("commit" or "crash", task or None for all)."""


class Event(msgspec.Struct):
    id: int
    user: str
    time: int


class Result(msgspec.Struct, frozen=True):
    user: str
    start: int
    ids: tuple[int, ...]


def _app(*, by: bool, emit: str = "final", out_of_order: int = OUT_OF_ORDER) -> App:
    app = App("w")
    events = app.stream("events", Event, time="time", out_of_order=f"{out_of_order}ms")
    stream = events.by("user") if by else events

    @stream.window(tumbling(f"{SIZE}ms", grace=f"{GRACE}ms")).aggregate(to="out", emit=emit)  # type: ignore[arg-type]
    def collected(sofar: Result | None, event: Event, window: Window) -> Result:
        return Result(event.user, window.start, (*(sofar.ids if sofar else ()), event.id))

    return app


@dataclass
class Naive:
    """One partition: what is in which window, and what is late, event by event."""

    out_of_order: int = OUT_OF_ORDER

    def fold(self, events: list[Event]) -> tuple[dict[tuple[str, int], list[int]], list[int]]:
        windows: dict[tuple[str, int], list[int]] = defaultdict(list)
        late = []
        watermark = -(10**9)
        for event in events:
            start = event.time // SIZE * SIZE
            if start + SIZE + GRACE <= watermark:
                late.append(event.id)
            else:
                windows[event.user, start].append(event.id)
            watermark = max(watermark, event.time - self.out_of_order)
        return windows, late


times = st.integers(0, 120)
users = st.sampled_from("abcd")
moves = st.lists(
    st.one_of(
        st.tuples(st.just("send"), users, times, st.integers(0, 2)),
        st.sampled_from([("step",), ("commit", None), ("crash", None)]),
        st.tuples(st.sampled_from(["commit", "crash"]), st.integers(0, 5)),
    ),
    max_size=60,
)


def _play(t: TestRun, plays: list[Play], partitions: int) -> list[list[Event]]:
    """Send and disturb; what was sent, per partition."""
    sent: list[list[Event]] = [[] for _ in range(partitions)]
    for number, (play, *more) in enumerate(plays):
        if play == "send":
            user, time, partition = more
            event = Event(number, user, time)
            sent[partition % partitions].append(event)
            t.send("events", event, key=user, partition=partition % partitions)
        elif play == "step":
            t.step()
        else:
            (task,) = more
            getattr(t, play)(None if task is None else task % t.members)
    return sent


def _unique(records: list[Record[Result]]) -> dict[tuple[Any, ...], Result]:
    """Results by identity: each is there once, whatever crashed."""
    found: dict[tuple[Any, ...], Result] = {}
    for record in records:
        identity = (record.key, dict(record.headers)["__streamkit.window"])
        assert identity not in found
        found[identity] = record.value
    return found


@settings(max_examples=150, deadline=None)
@given(plays=moves, partitions=st.integers(1, 3), batch=st.integers(1, 7))
def test_windows_hold_what_the_model_says_whatever_the_batches_and_crashes(
    plays: list[Play],
    partitions: int,
    batch: int,
) -> None:
    t = TestRun(_app(by=False).topology(), partitions, batch=batch)
    sent = _play(t, plays, partitions)
    t.run()
    t.finish(10_000)
    got: dict[tuple[str, int, int], list[int]] = {}
    late: dict[int, set[int]] = defaultdict(set)
    for record in t.topic("out"):
        got[record.value.user, record.value.start, 0] = list(record.value.ids)
    for record in t.topic("w-collected-late"):
        late[0].add(record.value.id)
    expected_late = set()
    merged: dict[tuple[str, int], list[list[int]]] = defaultdict(list)
    for events in sent:
        windows, missed = Naive().fold(events)
        expected_late |= set(missed)
        for (user, start), ids in windows.items():
            merged[user, start].append(ids)
    # A user's events went into partitions at will, and each partition has its own windows.
    expected = sorted((u, s, tuple(ids)) for (u, s), parts in merged.items() for ids in parts)
    values = [(r.user, r.start, r.ids) for r in (record.value for record in t.topic("out"))]
    assert sorted(values) == expected
    assert late[0] == expected_late
    assert t.topic("out") == [] or all(
        record.timestamp == record.value.start + SIZE - 1 for record in t.topic("out")
    )


@settings(max_examples=150, deadline=None)
@given(plays=moves, partitions=st.integers(1, 3), batch=st.integers(1, 7))
def test_after_a_repartition_every_event_is_in_one_window_once_or_late_in_spite_of_crashes(
    plays: list[Play],
    partitions: int,
    batch: int,
) -> None:
    t = TestRun(_app(by=True).topology(), partitions, batch=batch)
    sent = _play(t, plays, partitions)
    t.run()
    t.finish(10_000)
    results = _unique(t.topic("out"))
    counted = [number for result in results.values() for number in result.ids]
    late = {record.value.id for record in t.topic("w-collected-late")}
    everything = {event.id for events in sent for event in events}
    assert len(counted) == len(set(counted)), "an event was counted twice"
    assert set(counted) | late == everything
    assert not set(counted) & late
    for result in results.values():
        for event in (e for events in sent for e in events if e.id in result.ids):
            assert event.user == result.user
            assert event.time // SIZE * SIZE == result.start
    # Nothing is late that is not late in its own partition: a slow one holds the others back.
    assert late <= {n for events in sent for n in Naive().fold(events)[1]}


@settings(max_examples=60, deadline=None)
@given(plays=moves, partitions=st.integers(1, 3))
def test_updates_end_with_what_final_results_say(plays: list[Play], partitions: int) -> None:
    last: list[dict[tuple[Any, ...], Result]] = []
    for emit in ("update", "final"):
        t = TestRun(_app(by=False, emit=emit).topology(), partitions)
        _play(t, plays, partitions)
        t.run()
        t.finish(10_000)
        last.append({
            (record.partition, record.key, record.value.start, record.value.ids[0]): record.value
            for record in t.topic("out")
        })  # fmt: skip
    assert last[0] == last[1]


@settings(max_examples=60, deadline=None)
@given(plays=moves, batch=st.integers(1, 9))
def test_the_bytes_that_come_out_do_not_depend_on_how_the_input_was_cut(
    plays: list[Play],
    batch: int,
) -> None:
    written = []
    for size in (batch, 500):
        t = TestRun(_app(by=False, emit="update").topology(), 1, batch=size)
        _play(t, [play for play in plays if play[0] == "send"], 1)
        t.run()
        written.append([(r.key, r.value, r.timestamp, r.headers) for r in t.topic("out")])
    assert written[0] == written[1]


def _times(t: TestRun, *times: int, user: str = "a", partition: int = 0) -> None:
    for time in times:
        t.send("events", Event(time, user, time), key=user, partition=partition)
    t.run()


def test_a_window_closes_when_the_watermark_reaches_its_end_and_grace() -> None:
    with _app(by=False).test(partitions=1) as t:
        _times(t, 0, 9, SIZE + GRACE + OUT_OF_ORDER - 1)
        assert t.topic("out") == []
        _times(t, SIZE + GRACE + OUT_OF_ORDER)
        (closed,) = t.topic("out")
    assert closed.value == Result("a", 0, (0, 9))
    assert closed.timestamp == SIZE - 1
    assert closed.headers == (("__streamkit.window", b'["collected",0,10,2]'),)


def test_a_late_event_goes_to_the_late_topic_as_it_is_with_the_reason() -> None:
    with _app(by=False).test(partitions=1) as t:
        _times(t, 5, 100, 6)
        (late,) = t.topic("w-collected-late")
        assert t.tasks[0].stats.late == {"collected": 1}
    assert (late.value, late.key, late.timestamp) == (Event(6, "a", 6), "a", 6)
    assert late.headers == (("__streamkit.late", b'["collected",0,10,97]'),)


def test_late_stays_late_over_a_restart() -> None:
    with _app(by=False).test(partitions=1) as t:
        _times(t, 5, 100)
        t.crash()
        _times(t, 6)
        assert [record.value.id for record in t.topic("w-collected-late")] == [6]


def test_one_slow_upstream_task_holds_time_back_instead_of_making_its_events_late() -> None:
    with _app(by=True).test(partitions=2) as t:
        _times(t, *range(0, 200, 10), partition=0)
        assert t.topic("out") == []  # nobody has heard of partition 1
        _times(t, 5, 15, partition=1)
        _times(t, 25, 500, partition=1)
        assert t.topic("w-collected-late") == []
        first = next(r.value for r in t.topic("out") if r.value.start == 0)
        assert set(first.ids) == {0, 5}


def test_an_idle_upstream_task_holds_time_back_no_longer_and_speaks_up_when_it_has_events() -> None:
    with _app(by=True).test(partitions=2) as t:
        _times(t, *range(0, 200, 10), partition=0)
        t.advance("10s")
        assert len(t.topic("out")) > 10
        before = len(t.topic("out"))
        _times(t, 300, partition=1)  # active again, at 300: partition 0 is idle and does not count
        assert len(t.topic("out")) > before
        _times(t, 1, partition=1)
        assert [record.value.id for record in t.topic("w-collected-late")] == [1]


def test_after_a_restart_an_idle_upstream_task_counts_again_until_it_is_idle() -> None:
    with _app(by=True).test(partitions=2) as t:
        _times(t, 0, 50, partition=0)
        _times(t, 0, partition=1)
        t.advance("10s")
        t.crash()
        t.run()
        had = len(t.topic("out"))
        _times(t, 60, 90, partition=0)
        assert len(t.topic("out")) == had
        t.advance("10s")
        assert len(t.topic("out")) > had


@pytest.mark.parametrize("happens", ["nothing", "crash", "rebalance"])
def test_after_a_silence_none_is_late_who_comes_in_time_in_whatever_order_tasks_hand_over(
    happens: str,
) -> None:
    for seed in range(4):
        with _app(by=True).test(partitions=2, members=2) as t:
            t.shuffle(seed)
            for partition in (0, 1):
                _times(t, 1, 2, partition=partition)
            t.advance("10s")
            if happens != "nothing":
                getattr(t, happens)()
            for time in range(10, 300, 10):
                for partition in (0, 1):
                    t.send("events", Event(time, "a", time), partition=partition)
            t.run()
            assert t.topic("w-collected-late") == []
            assert len(t.topic("out")) == 28  # those that end by 285
            assert [set(r.value.ids) for r in t.topic("out")[1:]] == [
                {n} for n in range(10, 280, 10)
            ]
            topic = "w-events-by-user-repartition"
            assert _replayed(t, topic, "out") == [r.value for r in t.topic("out")]


def _replayed(t: TestRun, subtopology: str, topic: str) -> list[Any]:
    """What its tasks give to a topic of what they read and what is in their journals."""
    sub = t._topology.subtopology(subtopology)
    found = []
    for number in range(t._layout.tasks[subtopology]):
        journal = [
            decode(value, sub.journal)
            for batch in t._backend.fetch({TopicPartition(str(sub.journal), number): 0})
            for value in batch.columns().values
        ]
        task = Task(t._topology, t._layout, sub, number, journal=journal)
        task.resume(dict.fromkeys(task.inputs, Position(0)))
        for batch in t._backend.fetch(dict.fromkeys(task.inputs, 0)):
            task.feed(batch.partition, batch.columns())
        task.caught_up(task.hungry)
        task.run()
        rows = task.drain().rows
        found += rows[topic].values if topic in rows else []
    return [msgspec.json.decode(value, type=Result) for value in found]


def test_time_waits_for_what_an_idle_task_has_to_read_while_its_process_is_stopped() -> None:
    with _app(by=True).test(partitions=2, members=3) as t:
        for partition in (0, 1):
            _times(t, 1, 2, partition=partition)
        t.advance("10s")
        with _stopped(t, "events", 1):
            t.send("events", Event(30, "a", 30), partition=1)
            _times(t, 100, 200, 300)
            t.crash(_member_of(t, "w-events-by-user-repartition", 0))
            _times(t, 400, 500)
            assert [r.value.start for r in t.topic("out")] == []
        t.run()
        assert [set(r.value.ids) for r in t.topic("out")] == [{1, 2}]
        t.advance("10s")
        assert {30} in [set(r.value.ids) for r in t.topic("out")]
        assert t.topic("w-collected-late") == []


def test_time_goes_on_when_an_idle_task_that_was_waited_for_has_nothing_to_read() -> None:
    with _app(by=True).test(partitions=2) as t:
        for partition in (0, 1):
            _times(t, 1, 2, partition=partition)
        t.advance("10s")
        for task in t.tasks:
            for partition in task.inputs:
                if task.counting.idle(partition):
                    task.counting.count(partition, [1])
        _times(t, 100, 200)
        assert t.topic("out") == []
        t.advance("1s")
        assert len(t.topic("out")) == 2


def _idle_app(by: bool) -> App:
    app = App("w")
    events = app.stream("events", Event, time="time")
    stream = events.by("user") if by else events
    stream.window(tumbling("10ms", grace="0s"), close_after_idle="1m").count(to="n", name="n")
    return app


def test_windows_close_when_all_inputs_have_been_silent_for_close_after_idle() -> None:
    for by in (False, True):
        with _idle_app(by).test(partitions=1) as t:
            _times(t, 1, 2, 13)
            assert t.values("n") == [2]
            t.advance("59s")
            assert t.values("n") == [2]
            t.advance("10s")
            assert t.values("n") == [2, 1]
            _times(t, 14, 19, 20)  # the window [10, 20) is closed for good
            assert [r.value.id for r in t.topic("w-n-late")] == [14, 19]
            t.crash()
            _times(t, 15)
            assert [r.value.id for r in t.topic("w-n-late")] == [14, 19, 15]


def test_silence_begins_with_the_last_event_and_not_with_the_first_that_was_waited_for() -> None:
    for by in (False, True):
        with _idle_app(by).test(partitions=1) as t:
            _times(t, 11)
            t.advance("50s")
            _times(t, 12)
            t.advance("50s")
            assert t.values("n") == []
            t.advance("20s")
            assert t.values("n") == [2]


@pytest.mark.parametrize("way", ["by", "by and by", "merge and by"])
def test_a_process_that_is_stopped_before_it_hands_over_what_came_makes_no_silence(
    way: str,
) -> None:
    app = App("w")
    events = app.stream("events", Event, time="time")
    stream: Stream[Event] = events
    if way == "by and by":

        @events.by("id").process(name="same")
        def same(event: Event, seen: State[int]) -> Event:
            return event

        stream = same
    elif way == "merge and by":
        stream = events.merge(app.stream("more", Event, time="time"))
    windows = stream.by("user").window(tumbling("10ms", grace="0s"), close_after_idle="1m")
    windows.count(to="n", name="n")
    with app.test(partitions=1, members=3) as t:
        _times(t, 1)
        t.advance("50s")
        with _stopped(t, "events"):
            t.send("events", Event(2, "a", 2), partition=0)
            t.advance("30s")
        t.run()
        t.advance("50s")
        assert t.values("n") == []
        t.advance("20s")
        assert t.values("n") == [2]


@contextmanager
def _stopped(t: TestRun, subtopology: str, number: int = 0) -> Iterator[None]:
    """Meanwhile the process that has a task does nothing."""
    one = t._workers[_member_of(t, subtopology, number)]
    let = t._let
    t._let = lambda worker, act: worker is not one and let(worker, act)  # type: ignore[method-assign]
    yield
    t._let = let  # type: ignore[method-assign]


def _member_of(t: TestRun, subtopology: str, number: int) -> int:
    found = [
        {(task.subtopology.name, task.number) for task in worker.tasks} for worker in t._workers
    ]
    return next(n for n, tasks in enumerate(found) if (subtopology, number) in tasks)


@pytest.mark.parametrize("busy", ["left", "right"])
def test_windows_stay_open_as_long_as_one_input_of_their_task_has_events(busy: str) -> None:
    app = App("w")
    names = app.table("names", str)
    for topic in ("left", "right"):

        @app.stream(topic, Event, time="time").join(names, how="left", name=f"{topic}-named")
        def named(event: Event, name: str | None) -> Event:
            return event

        windows = named.window(tumbling("10ms"), close_after_idle="1m")
        windows.count(name=f"{topic}-n", to="n")
    with app.test(partitions=1) as t:
        for topic in ("left", "right"):
            t.send(topic, Event(0, "a", 1), key="a")
        t.advance("50s")
        t.send(busy, Event(1, "a", 2), key="a")
        t.advance("50s")
        assert t.values("n") == []
        t.advance("20s")
        assert sorted(t.values("n")) == [1, 2]


def test_the_time_that_a_function_takes_is_no_silence() -> None:
    app = App("w")
    events = app.stream("events", Event, time="time")
    run: list[TestRun] = []

    @events.process(name="slow")
    def slow(event: Event) -> Event:
        run[0].clock.advance(50_000)
        return event

    slow.window(tumbling("10ms"), close_after_idle="1m").count(to="n", name="n")
    with app.test(partitions=1) as t:
        run.append(t)
        _times(t, 1)
        t.advance("50s")
        assert t.values("n") == []
        t.advance("20s")
        assert t.values("n") == [1]


def test_a_window_over_the_results_of_a_window_waits_for_their_grace() -> None:
    app = App("w")
    events = app.stream("events", Event, time="time")
    small = events.window(tumbling("10ms", grace="20ms")).count(to="small", name="small")

    @small.window(tumbling("100ms", grace="0s")).aggregate(to="large")
    def large(sofar: int | None, count: int) -> int:
        return (sofar or 0) + count

    with app.test(partitions=1) as t:
        _times(t, *range(0, 100, 5), 100, 119)
        assert t.values("large") == []
        _times(t, 120)
        assert t.values("large") == [20]
        assert t.topic("w-large-late") == []


def test_a_window_over_repartitioned_results_of_a_window_waits_for_their_grace() -> None:
    app = App("w")
    events = app.stream("events", Event, time="time")

    @events.window(tumbling("10ms", grace="20ms")).aggregate()
    def small(sofar: Result | None, event: Event, window: Window) -> Result:
        return Result("all", window.start, (*(sofar.ids if sofar else ()), event.id))

    large = small.by("user").window(tumbling("100ms", grace="0s"))

    @large.aggregate(to="large")
    def added(sofar: int | None, result: Result) -> int:
        return (sofar or 0) + len(result.ids)

    with app.test(partitions=1) as t:
        for time in (*range(0, 100, 5), 100, 119):
            _times(t, time)
        assert t.values("large") == []
        _times(t, 120)
        assert t.values("large") == [20]
        assert t.topic("w-added-late") == []


def test_results_of_one_window_come_in_order_of_their_keys_also_after_a_restart() -> None:
    order = []
    for crash in (False, True):
        with _app(by=False).test(partitions=1) as t:
            for user in "ba":
                _times(t, 1, user=user)
            _times(t, 2, user="c")
            if crash:
                t.crash()
            _times(t, 100)
            order.append([record.key for record in t.topic("out")])
    assert order[0] == order[1] == ["a", "b", "c"]


def test_time_of_every_input_is_remembered_over_a_restart() -> None:
    app = App("w")
    names = app.table("names", str)
    for topic in ("left", "right"):

        @app.stream(topic, Event, time="time").join(names, how="left", name=f"with-{topic}")
        def named(event: Event, name: str | None) -> Event:
            return event

        named.window(tumbling("10ms", grace="0s")).count(to="out", name=f"n-{topic}")

    with app.test(partitions=1) as t:
        t.send("left", Event(0, "a", 5), key="a")
        t.send("right", Event(0, "a", 50), key="a")
        t.run()
        t.crash()
        t.send("left", Event(1, "a", 30), key="a")
        t.run()
        # The watermark is 30, because right was at 50 before; left's window [0, 10) is over.
        assert [record.timestamp for record in t.topic("out")] == [9]
