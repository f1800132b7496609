"""What is late, and what is in which window, is the same however partitions are interleaved."""

import random
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.app import App
from streamkit.dsl.windows import every, tumbling
from streamkit.testing import TestRun

SIZE, GRACE, LONG, OUT_OF_ORDER = 10, 4, 30, 3
END = 10_000
"""After all events."""


class Event(msgspec.Struct):
    id: int
    user: str
    time: int


def collect(sofar: list[int] | None, event: Event) -> list[int]:
    return sorted([*(sofar or []), event.id])


def _collected(*, by: bool) -> App:
    """Events in windows per user; each partition has all users."""
    app = App("w")
    events = app.stream("events", Event, time="time", out_of_order=f"{OUT_OF_ORDER}ms")
    stream = events.by("user") if by else events
    stream.window(tumbling(f"{SIZE}ms", grace=f"{GRACE}ms")).aggregate(to="out")(collect)
    return app


@dataclass
class Model:
    """Sees all events of each partition at once; knows no tasks, batches or watermarks."""

    windows: dict[tuple[str, int], list[int]] = field(default_factory=lambda: defaultdict(list))
    late: dict[int, list[int]] = field(default_factory=dict)
    """Of each late event its window, and how far time had come in its partition."""

    def read(self, events: list[Event], delay: int = 0) -> None:
        reached = -END
        for event in events:
            start = event.time - event.time % SIZE
            if start + SIZE + GRACE <= reached - delay:
                self.late[event.id] = [start, start + SIZE, reached - delay]
            else:
                self.windows[event.user, start].append(event.id)
            reached = max(reached, event.time - OUT_OF_ORDER)


partitions_of_events = st.lists(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 100)), max_size=25),
    min_size=1,
    max_size=3,
)
disturbances = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 2), st.integers(1, 6)),
        st.just(("step", 0, 0)),
        st.tuples(st.sampled_from(["commit", "crash"]), st.integers(0, 6), st.just(0)),
    ),
    max_size=30,
)


def _events(chosen: list[list[tuple[str, int]]]) -> list[list[Event]]:
    numbers = iter(range(1000))
    return [[Event(next(numbers), *each) for each in events] for events in chosen]


def _play(t: TestRun, events: list[list[Event]], plays: list[tuple[Any, ...]]) -> None:
    """Send the events of each partition in order, with whatever happens in between."""
    left = [list(reversed(one)) for one in events]
    for play, number, count in plays:
        if play == "send":
            _send(t, left, number % len(left), count)
        elif play == "step":
            t.step()
        else:
            getattr(t, play)(None if number == 6 else number % t.members)
    for number in range(len(left)):
        _send(t, left, number, END)
    t.run()
    t.finish(END)


def _send(t: TestRun, left: list[list[Event]], number: int, count: int) -> None:
    for _ in range(min(count, len(left[number]))):
        event = left[number].pop()
        t.send("events", event, key=event.user, partition=number)


def _late(t: TestRun, topic: str) -> dict[int, list[int]]:
    """Id of each late event, and what its header says; said twice, it says the same."""
    found: dict[int, list[int]] = {}
    for record in t.topic(topic):
        (_, *told) = msgspec.json.decode(dict(record.headers)["__streamkit.late"] or b"")
        assert found.setdefault(record.value.id, told) == told
    return found


@settings(max_examples=150, deadline=None)
@given(partitions_of_events, disturbances, st.integers(1, 7))
def test_after_a_repartition_windows_and_late_events_are_what_each_partition_alone_says(
    chosen: list[list[tuple[str, int]]], plays: list[tuple[Any, ...]], batch: int
) -> None:
    events, model = _events(chosen), Model()
    for one in events:
        model.read(one)
    t = TestRun(_collected(by=True).topology(), len(events), batch=batch)
    _play(t, events, plays)
    found: dict[tuple[str, int], list[int]] = {}
    for record in t.topic("out"):
        window = (record.key, record.timestamp + 1 - SIZE)
        assert found.setdefault(window, record.value) == record.value
    assert found == {window: sorted(ids) for window, ids in model.windows.items()}
    assert _late(t, "w-collect-late") == model.late


@settings(max_examples=100, deadline=None)
@given(partitions_of_events, disturbances, st.integers(1, 7))
def test_a_window_over_windows_after_a_repartition_misses_no_result(
    chosen: list[list[tuple[str, int]]], plays: list[tuple[Any, ...]], batch: int
) -> None:
    app = App("w")
    events_ = app.stream("events", Event, time="time", out_of_order=f"{OUT_OF_ORDER}ms")
    short = events_.window(tumbling(f"{SIZE}ms", grace=f"{GRACE}ms")).aggregate(name="short")
    all_ = short(collect).by(lambda ids: "all", name="all")

    @all_.window(tumbling(f"{LONG}ms", grace="0s")).aggregate(to="out")
    def union(sofar: list[int] | None, ids: list[int]) -> list[int]:
        return sorted({*(sofar or []), *ids})

    events, model = _events(chosen), Model()
    for one in events:
        model.read(one)
    t = TestRun(app.topology(), len(events), batch=batch)
    _play(t, events, plays)
    expected: dict[int, list[int]] = defaultdict(list)
    for (_, start), ids in model.windows.items():
        expected[start - start % LONG] += ids
    found = {record.timestamp + 1 - LONG: record.value for record in t.topic("out")}
    assert found == {start: sorted(ids) for start, ids in expected.items()}
    assert t.topic("w-union-late") == []
    assert _late(t, "w-short-late") == model.late


@settings(max_examples=100, deadline=None)
@given(partitions_of_events, disturbances, st.integers(1, 7))
def test_updates_handed_over_are_late_only_with_their_events(
    chosen: list[list[tuple[str, int]]], plays: list[tuple[Any, ...]], batch: int
) -> None:
    app = App("w")
    events_ = app.stream("events", Event, time="time", out_of_order=f"{OUT_OF_ORDER}ms")
    short = events_.window(tumbling(f"{SIZE}ms", grace=f"{GRACE}ms"))
    all_ = short.aggregate(name="short", emit="update")(collect).by(lambda ids: "all", name="all")

    @all_.window(tumbling(f"{LONG}ms", grace="0s")).aggregate(to="out")
    def union(sofar: list[int] | None, ids: list[int]) -> list[int]:
        return sorted({*(sofar or []), *ids})

    events, model = _events(chosen), Model()
    for one in events:
        model.read(one)
    t = TestRun(app.topology(), len(events), batch=batch)
    _play(t, events, plays)
    assert t.topic("w-union-late") == []
    found = {number for record in t.topic("out") for number in record.value}
    assert found == {number for ids in model.windows.values() for number in ids}


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["left", "right"]), st.sampled_from("ab"), st.integers(0, 90)),
        max_size=40,
    ),
    st.integers(1, 5),
)
def test_two_streams_in_one_task_do_not_make_each_other_late(
    sent: list[tuple[str, str, int]], batch: int
) -> None:
    app = App("w")
    names = app.table("names", str)
    for topic in ("left", "right"):
        stream = app.stream(topic, Event, time="time", out_of_order=f"{OUT_OF_ORDER}ms")

        @stream.join(names, how="left", name=f"joined-{topic}")
        def joined(event: Event, name: str | None) -> Event:
            return event

        windows = joined.window(tumbling(f"{SIZE}ms", grace=f"{GRACE}ms"))
        windows.aggregate(name=f"n-{topic}", to=f"out-{topic}")(collect)
    t = TestRun(app.topology(), 1, batch=batch)
    models = {"left": Model(), "right": Model()}
    events: dict[str, list[Event]] = {"left": [], "right": []}
    for number, (topic, user, time) in enumerate(sent):
        event = Event(number, user, time)
        t.send(topic, event, key=user)
        events[topic].append(event)
        if number % 3 == 0:
            t.step()
    t.run()
    t.finish(END)
    for topic, model in models.items():
        model.read(events[topic])
        found = {(r.key, r.timestamp + 1 - SIZE): r.value for r in t.topic(f"out-{topic}")}
        assert found == {window: sorted(ids) for window, ids in model.windows.items()}
        assert _late(t, f"w-n-{topic}-late") == model.late


def test_what_is_given_every_so_often_does_not_depend_on_where_time_is_told() -> None:
    app = App("w")
    events = app.stream("events", Event, time="time", out_of_order=f"{OUT_OF_ORDER}ms").by("user")
    events.window(tumbling("20ms")).aggregate(to="out", emit=every("4ms"))(collect)
    draws = random.Random(5)
    sent = [Event(n, draws.choice("ab"), n + draws.randrange(9)) for n in range(150)]
    found = []
    for often in (1, 9, 1000):
        with app.test(partitions=3) as t:
            for number, event in enumerate(sent):
                t.send("events", event, partition=number * 7 % 3)
                if number % often == 0:
                    t.run()
                if number == 80 and often == 9:
                    t.crash()
            t.finish(END)
            found.append([(r.key, r.value, r.timestamp, r.headers) for r in t.topic("out")])
    assert len(found[0]) > 40
    assert found[0] == found[1] == found[2]


def test_results_of_one_closing_come_by_the_end_of_their_window_and_then_by_key() -> None:
    with _collected(by=False).test(partitions=1) as t:
        for number, (user, time) in enumerate([("b", 15), ("b", 5), ("a", 16), ("c", 2)]):
            t.send("events", Event(number, user, time), key=user)
        t.send("events", Event(9, "z", 100), key="z")
        t.run()
        found = [(record.timestamp, record.key) for record in t.topic("out")]
    assert found == [(9, "b"), (9, "c"), (19, "a"), (19, "b")]


@pytest.mark.parametrize("latest", [SIZE + GRACE + OUT_OF_ORDER, 100])
def test_an_event_in_time_by_its_own_partition_is_late_when_that_was_held_to_be_idle(
    latest: int,
) -> None:
    with _collected(by=True).test(partitions=2) as t:
        t.send("events", Event(0, "a", 5), key="a", partition=0)
        t.send("events", Event(1, "a", latest), key="a", partition=0)
        t.run()
        assert t.topic("out") == []  # partition 1 may have something before
        t.advance("10s")
        assert [record.value for record in t.topic("out")] == [[0]]
        t.send("events", Event(2, "a", 7), key="a", partition=1)
        t.run()
        assert _late(t, "w-collect-late") == {2: [0, 10, latest - OUT_OF_ORDER]}


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("by", [True, False])
def test_partitions_that_were_empty_and_are_filled_at_once_do_not_make_each_other_late(
    by: bool, restarts: bool
) -> None:
    app = _collected(by=True) if by else _merged()
    with app.test(partitions=3) as t:
        t.run()
        t.advance("10s")  # all are idle
        if restarts:
            t.crash()
        for number, topic in enumerate(app.topology().sources * (3 if by else 1)):
            for at in range(5):
                event = Event(10 * number + at, "abc"[number if by else 0], 20 * at)
                place = number if by else 0
                t.send(topic, event, key=event.user, partition=place, timestamp=10 * number + at)
        t.run()
        assert len(t.values("w-collect-late")) == 0
        t.finish()
        assert len(t.values("out")) == (15 if by else 5)


def _merged() -> App:
    """Events of two topics in windows together."""
    app = App("w")
    left, right = (app.stream(name, Event, time="time") for name in ("left", "right"))
    left.merge(right).window(tumbling(f"{SIZE}ms")).aggregate(to="out")(collect)
    return app


@pytest.mark.parametrize("moved", [False, True])
def test_an_update_made_within_grace_is_not_late_for_a_window_over_it(moved: bool) -> None:
    app = App("w")
    events = app.stream("events", Event, time="time", out_of_order=f"{OUT_OF_ORDER}ms")
    short = events.window(tumbling(f"{SIZE}ms", grace=f"{GRACE}ms"))
    updates = short.aggregate(name="short", emit="update")(collect)
    if moved:
        updates = updates.by(lambda ids: "all", name="all")
    updates.window(tumbling(f"{LONG}ms", grace="0s")).count(name="long", to="out")
    with app.test(partitions=1) as t:
        for number, time in enumerate([25, 36, 28, 100]):
            t.send("events", Event(number, "a", time), key="a")
            t.run()
        assert t.topic("w-long-late") == []
        assert t.values("out") == [2, 1]


def test_late_events_are_told_while_the_app_runs_the_first_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with _collected(by=False).test(1) as run:

        def send(*times: int) -> None:
            for time in times:
                run.send("events", Event(time, "a", time), key="a")
            run.run()

        send(100, 1, 2)
        (said,) = caplog.messages
        assert said.startswith("step collect: 2 events came too late, the first events-0@1 of 1970")
        assert said.endswith(
            "when time there had come to 1970-01-01T00:00:00.097Z; in w-collect-late"
        )
        send(3)
        send(4, 5)
        run.advance("29s")
        run.run()
        assert len(caplog.messages) == 1
        run.advance("1s")
        run.run()
        assert len(caplog.messages) == 2
        assert "3 more events came too late, the first events-0@3 " in caplog.messages[1]
        run.advance("1h")
        send(6)
        assert "1 more event came too late, the first events-0@6 " in caplog.messages[2]
        send(7)
        send(100)
        assert len(caplog.messages) == 3
