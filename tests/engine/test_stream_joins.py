"""Joins of two streams give what a naive model gives that sees all input at once."""

from collections.abc import Iterator
from typing import Any

import join_model
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from window_model import Arrival, arrivals

from streamkit.app import App
from streamkit.dsl.nodes.stream_joins import AsOf, Within
from streamkit.dsl.windows import tumbling
from streamkit.engine.operators import join_side
from streamkit.errors import DataError, TopologyError
from streamkit.records import Record
from streamkit.testing import TestRun

OUT_OF_ORDER = 3
END = 10_000
"""After all events."""


@pytest.fixture(autouse=True, scope="module")
def few_at_once() -> Iterator[None]:
    """What is decided a few at a time is what is decided at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(join_side, "_AT_ONCE", 3)
        yield


class Event(msgspec.Struct):
    id: int
    user: str
    time: int


Result = tuple[str, int, int | None, int | None]
"""Key, time, and the ids of both."""


def _ms(time: int) -> str:
    return f"{time}ms"


def _app(kind: Within | AsOf, *, on: str | None = None, same: bool = False) -> App:
    app = App("j")
    left = app.stream("left", Event, time="time", out_of_order=_ms(OUT_OF_ORDER))
    right = left
    if not same:
        right = app.stream("right", Event, time="time", out_of_order=_ms(OUT_OF_ORDER))
    grace = _ms(kind.grace)
    joining: Any
    if isinstance(kind, Within):
        joining = left.join(
            right,
            before=_ms(kind.before),
            after=_ms(kind.after),
            how=kind.how,
            grace=grace,
            on=on,
            to="out",
        )
    else:
        joining = left.join_as_of(
            right,
            tolerance=_ms(kind.tolerance),
            direction=kind.direction,
            allow_exact_matches=kind.exact,
            how=kind.how,
            grace=grace,
            on=on,
            to="out",
        )

    @joining
    def pair(one: Event | None, other: Event | None) -> tuple[Event | None, Event | None]:
        return one, other

    return app


withins = st.builds(
    Within,
    before=st.integers(0, 12),
    after=st.integers(0, 12),
    how=st.sampled_from(["inner", "left", "outer"]),
    grace=st.sampled_from([0, 4]),
)
as_ofs = st.builds(
    AsOf,
    tolerance=st.integers(0, 12),
    direction=st.sampled_from(["backward", "forward", "nearest"]),
    exact=st.booleans(),
    how=st.sampled_from(["inner", "left"]),
    grace=st.sampled_from([0, 4]),
)
kinds = st.one_of(withins, as_ofs)
sent_events = st.lists(
    st.tuples(st.sampled_from(["left", "right"]), st.sampled_from("ab"), st.integers(0, 30)),
    min_size=15,  # else few of them ever meet
    max_size=40,
)
disturbances = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 5), st.integers(1, 6)),
        st.just(("step", 0, 0)),
        st.tuples(st.sampled_from(["commit", "crash"]), st.integers(0, 9), st.just(0)),
    ),
    max_size=30,
)


class Sent:
    """Events per topic and partition, in the order in which they are there."""

    def __init__(
        self, t: TestRun, chosen: list[tuple[str, str, int]], partitions: int, spread: bool
    ) -> None:
        """`spread`: over all partitions, whatever their key."""
        self._t = t
        self._queues: dict[tuple[str, int], list[Event]] = {}
        self.logs: dict[tuple[str, int], list[Event]] = {}
        for number, (topic, user, time) in enumerate(chosen):
            partition = number % partitions if spread else ord(user) % partitions
            log = self.logs.setdefault((topic, partition), [])
            log.append(Event(number, user, time))
        self._queues = {place: list(reversed(log)) for place, log in self.logs.items()}

    def send(self, number: int, count: int) -> None:
        if not self._queues:
            return
        topic, partition = sorted(self._queues)[number % len(self._queues)]
        queue = self._queues[topic, partition]
        for _ in range(min(count, len(queue))):
            event = queue.pop()
            self._t.send(topic, event, key=event.user, partition=partition)

    def play(self, plays: list[tuple[Any, ...]]) -> None:
        for play, number, count in plays:
            if play == "send":
                self.send(number, count)
            elif play == "step":
                self._t.step()
            else:
                getattr(self._t, play)(number if number < self._t.members else None)
        for number in range(len(self._queues)):
            self.send(number, END)
        self._t.run()
        self._t.finish(END)

    def arrivals(self, topic: str) -> list[Arrival]:
        return [
            arrival
            for (of, _), log in sorted(self.logs.items())
            if of == topic
            for arrival in arrivals([(e.id, e.user, e.time) for e in log], OUT_OF_ORDER)
        ]


def _expected(kind: Within | AsOf, lefts: list[Arrival], rights: list[Arrival]) -> list[Any]:
    if isinstance(kind, Within):
        return join_model.within(kind, lefts, rights)
    return join_model.as_of(kind, lefts, rights)


def _results(pairs: list[Any]) -> list[Result]:
    return [
        (
            (one or other).key,
            max(each.time for each in (one, other) if each),
            one and one.id,
            other and other.id,
        )
        for one, other in pairs
    ]


def _sorted(results: Any) -> list[Result]:
    def order(each: Any) -> Any:
        return each[0], [-1 if part is None else part for part in each[1:]]

    return sorted(results, key=order)


def _found(t: TestRun, plays: list[tuple[Any, ...]]) -> list[Result]:
    """What came out; what a crash makes come twice, once."""
    found = [
        (record.key, record.timestamp, one and one["id"], other and other["id"])
        for record in t.topic("out")
        for one, other in [[part and msgspec.to_builtins(part) for part in record.value]]
    ]
    return list(set(found)) if any(play == "crash" for play, _, _ in plays) else found


def _late(t: TestRun, side: str) -> set[int]:
    return {event.id for event in t.values(f"j-pair-{side}-late")}


def _too_late(kind: Within | AsOf, events: list[Arrival]) -> set[int]:
    kept = {event.id for event in join_model.in_time(events, kind.grace)}
    return {event.id for event in events} - kept


@settings(max_examples=120, deadline=None)
@given(kinds, sent_events, st.integers(1, 2), disturbances, st.integers(1, 7))
def test_a_join_of_two_streams_gives_what_the_model_gives(
    kind: Within | AsOf,
    chosen: list[tuple[str, str, int]],
    partitions: int,
    plays: list[tuple[Any, ...]],
    batch: int,
) -> None:
    t = TestRun(_app(kind).topology(), partitions, batch=batch)
    sent = Sent(t, chosen, partitions, spread=False)
    sent.play(plays)
    lefts, rights = sent.arrivals("left"), sent.arrivals("right")
    assert _sorted(_found(t, plays)) == _sorted(_results(_expected(kind, lefts, rights)))
    assert _late(t, "left") == _too_late(kind, lefts)
    assert _late(t, "right") == _too_late(kind, rights)


@settings(max_examples=60, deadline=None)
@given(kinds, sent_events, disturbances, st.integers(1, 7))
def test_brought_together_by_a_field_they_join_as_if_they_had_been_in_one_partition(
    kind: Within | AsOf, chosen: list[tuple[str, str, int]], plays: list[Any], batch: int
) -> None:
    t = TestRun(_app(kind, on="user").topology(), 2, batch=batch)
    sent = Sent(t, chosen, 2, spread=True)
    sent.play(plays)
    pairs = _expected(kind, sent.arrivals("left"), sent.arrivals("right"))
    # Of events of one time, that come from two partitions, either may be the last to come.
    times = {number: time for number, (_, _, time) in enumerate(chosen)}
    rank = {None: None} | (times if isinstance(kind, AsOf) else {n: n for n in times})
    found = [(*each[:3], rank[each[3]]) for each in _found(t, plays)]
    if any(play == "crash" for play, _, _ in plays):
        found = list(set(found))
    assert _sorted(found) == _sorted((*each[:3], rank[each[3]]) for each in _results(pairs))


@settings(max_examples=60, deadline=None)
@given(kinds, sent_events, disturbances, st.integers(1, 7))
def test_a_stream_can_be_joined_with_itself(
    kind: Within | AsOf, chosen: list[tuple[str, str, int]], plays: list[Any], batch: int
) -> None:
    t = TestRun(_app(kind, same=True).topology(), 1, batch=batch)
    sent = Sent(t, [("left", user, time) for _, user, time in chosen], 1, spread=False)
    sent.play(plays)
    events = sent.arrivals("left")
    assert _sorted(_found(t, plays)) == _sorted(_results(_expected(kind, events, events)))


@settings(max_examples=60, deadline=None)
@given(kinds, sent_events, st.integers(1, 7))
def test_what_is_given_late_by_a_join_is_not_late_for_a_window_after_it(
    kind: Within | AsOf, chosen: list[tuple[str, str, int]], batch: int
) -> None:
    app = _app(kind)
    joined: Any = next(n for n in app._graph.nodes if n.name == "pair" and n.above is not None)
    t = TestRun(_counted(app, joined).topology(), 1, batch=batch)
    sent = Sent(t, chosen, 1, spread=False)
    sent.play([("send", n, 1) for n in range(len(chosen))])
    pairs = _expected(kind, sent.arrivals("left"), sent.arrivals("right"))
    counts: dict[tuple[str, int], int] = {}
    for key, time, _, _ in _results(pairs):
        end = time - time % 5 + 4
        counts[key, end] = counts.get((key, end), 0) + 1
    assert {(r.key, r.timestamp): r.value for r in t.topic("counts")} == counts
    assert t.topic("j-n-late") == []


def _counted(app: App, joined: Any) -> App:
    """The app, with windows over what the join gives."""
    from streamkit.dsl.stream import Stream

    stream: Stream[Any] = Stream(app._graph, joined, joined.keys, joined.value)
    stream.window(tumbling("5ms", grace="0ms")).count(name="n", to="counts")
    return app


@settings(max_examples=60, deadline=None)
@given(sent_events, st.sampled_from(["inner", "left", "outer"]), st.integers(1, 7))
def test_results_of_windows_meet_although_they_come_after_their_time(
    chosen: list[tuple[str, str, int]], how: Any, batch: int
) -> None:
    app = App("j")
    counts = {}
    for topic, size in (("left", 5), ("right", 10)):
        stream = app.stream(topic, Event, time="time", out_of_order=_ms(OUT_OF_ORDER))
        counts[topic] = stream.window(tumbling(_ms(size), grace="7ms")).count(name=f"n-{topic}")

    @counts["right"].join(counts["left"], before="5ms", after="0ms", how=how, to="out")
    def pair(wide: int | None, narrow: int | None) -> tuple[int | None, int | None]:
        return wide, narrow

    t = TestRun(app.topology(), 1, batch=batch)
    sent = Sent(t, chosen, 1, spread=False)
    sent.play([("send", n, 1) for n in range(len(chosen))])
    wide, narrow = (
        _windows(sent.arrivals(*of), size) for of, size in ((["right"], 10), (["left"], 5))
    )
    expected: list[Any] = [
        (key, end, count, other)
        for (key, end), count in wide.items()
        for (user, at), other in narrow.items()
        if user == key and end - 5 <= at <= end
    ]
    met = {(key, end) for key, end, _, _ in expected}
    near = {(key, at) for key, at in narrow if any((key, at + d) in wide for d in range(6))}
    if how != "inner":
        expected += [(*each, n, None) for each, n in wide.items() if each not in met]
    if how == "outer":
        expected += [(*each, None, n) for each, n in narrow.items() if each not in near]
    found = [(r.key, r.timestamp, *r.value) for r in t.topic("out")]
    assert _sorted(found) == _sorted(expected)
    assert t.topic("j-pair-left-late") == t.topic("j-pair-right-late") == []


def _windows(events: list[Arrival], size: int) -> dict[tuple[str, int], int]:
    """Key and last ms of each window, and how many events are in it."""
    counts: dict[tuple[str, int], int] = {}
    for event in events:
        end = event.time - event.time % size + size
        if end + 7 > event.frontier:
            counts[event.key, end - 1] = counts.get((event.key, end - 1), 0) + 1
    return counts


def test_what_met_nothing_is_given_when_nothing_can_come_and_not_before() -> None:
    kind = Within(before=5, after=10, how="outer", grace=2)
    with _app(kind).test(partitions=1) as t:

        def after(topic: str, user: str, time: int) -> list[Any]:
            t.send(topic, Event(0, user, time), key=user)
            t.run()
            return [(r.key, r.timestamp) for r in t.topic("out")]

        after("left", "a", 100)
        after("right", "b", 105)
        # Time is the slower stream's. An event alone at 100 goes when 100 + 10 + 2 has passed.
        assert after("left", "x", 1000) == []
        assert after("right", "x", 100 + 10 + 2 + OUT_OF_ORDER) == []
        assert after("right", "x", 100 + 10 + 2 + OUT_OF_ORDER + 1) == [("a", 100), ("b", 105)]


@pytest.mark.parametrize("how", ["inner", "left"])
@pytest.mark.parametrize(
    ("direction", "pairs"),
    [
        ("backward", [("- -", 1), ("2 -", 5)]),
        ("forward", [("- -", 1), ("2 -", 6), ("3 -", 9)]),
        ("nearest", [("- -", 1), ("2 -", 6), ("3 -", 9)]),
    ],
)
def test_a_null_value_is_an_event_that_others_meet(
    how: Any, direction: Any, pairs: list[tuple[str, int]]
) -> None:
    app = App("j")
    lefts, rights = app.stream("lefts", int | None), app.stream("rights", int | None)

    @lefts.join_as_of(rights, tolerance="4ms", direction=direction, how=how, to="out")
    def pair(left: int | None, right: int | None) -> str:
        return f"{left or '-'} {right or '-'}"

    with app.test(partitions=1) as t:
        for topic, value, at in (("lefts", None, 1), ("rights", None, 1), ("lefts", 2, 5)):
            t.send(topic, value, key="a", timestamp=at)
        t.send("rights", None, key="a", timestamp=6)
        if direction != "backward":
            t.send("lefts", 3, key="a", timestamp=9)
            t.send("rights", None, key="a", timestamp=9)
        t.run()
        t.crash()
        t.finish()
        assert [(record.value, record.timestamp) for record in t.topic("out")] == pairs


def test_nothing_stays_of_events_that_nothing_can_meet() -> None:
    for kind in (
        Within(before=50, after=100, how="inner", grace=0),
        Within(before=50, after=100, how="outer", grace=0),
        *(AsOf(100, way, True, "left", 0) for way in ("backward", "forward", "nearest")),  # type: ignore[arg-type]
    ):
        with _app(kind).test(partitions=1) as t:
            most = 0
            for time in range(0, 4000, 4):
                for topic in ("left", "right"):
                    t.send(topic, Event(time, "a", time), key="a")
                if time % 200 == 0:
                    t.run()
                    kept = [len(list(store.scan(b""))) for store in t.tasks[0]._stores.values()]  # type: ignore[attr-defined]
                    most = max(most, *kept)
            assert most < 4 * 250 / 4 + 20, kind
            t.finish(END)
            assert [list(store.scan(b"")) for store in t.tasks[0]._stores.values()] == [[], []]  # type: ignore[attr-defined]


def test_silence_can_close_a_join() -> None:
    app = App("j")
    left = app.stream("left", Event, time="time")
    right = app.stream("right", Event, time="time")

    @left.join(right, within="1m", how="left", close_after_idle="10s", to="out")
    def pair(one: Event, other: Event | None) -> int:
        return one.id

    with app.test(partitions=1) as t:
        t.send("left", Event(7, "a", 100), key="a")
        t.advance("9s")
        assert t.topic("out") == []
        t.advance("2s")
        assert t.values("out") == [7]
        t.send("right", Event(8, "a", 100), key="a")
        t.run()
        assert t.values("out") == [7]
        assert [event.id for event in t.values("j-pair-right-late")] == [8]


def test_an_event_without_a_key_or_a_time_is_refused_with_its_place() -> None:
    for topic, key, stamp, told in (
        ("right", None, 5, "right-0@0: the join of pair-right needs a key"),
        ("left", "a", -1, "left-0@0: the join of pair-left needs an event time"),
    ):
        app = App("j")
        left, right = app.stream("left", str), app.stream("right", str)
        left.join(right, within="1s", name="pair")(lambda one, other: one + other)
        with app.test(partitions=1) as t:
            t.send(topic, "x", key=key, timestamp=stamp)
            with pytest.raises(DataError, match=told):
                t.run()


def test_what_cannot_work_is_refused_when_it_is_declared() -> None:
    app = App("j")
    left, right = app.stream("left", Event), app.stream("right", Event)
    numbers = app.stream("numbers", Event, key=int)
    said = [
        (lambda: left.join(right), "within="),
        (lambda: left.join(right, within="1s", before="1s"), "within="),
        (lambda: left.join(right, within="1s", how="full"), "'outer'"),  # type: ignore[call-overload]
        (lambda: left.join(numbers, within="1s"), "the keys are str here and int there"),
        (lambda: left.join(right, within="1s", on="usr"), "did you mean 'user'"),
        (lambda: left.join(App("k").stream("right", Event), within="1s"), "two apps"),
        (lambda: left.join(right.map(lambda e: e), within="1s"), "type of the values"),
        (lambda: left.join_as_of(right, tolerance="1s", direction="up"), "'nearest'"),  # type: ignore[call-overload]
        (lambda: left.join_as_of(right, tolerance="1s", how="outer"), "'left'"),  # type: ignore[call-overload]
    ]
    for declare, told in said:
        with pytest.raises(TopologyError, match=told):
            declare()


def test_a_record_cannot_be_had_of_events_that_were_kept() -> None:
    app = App("j")
    left, right = app.stream("left", Event), app.stream("right", Event)
    with pytest.raises(TopologyError, match="take the value instead of the Record"):

        @left.join(right, within="1s")  # type: ignore[arg-type]
        def pair(one: Record[Event], other: Event) -> None: ...


def test_a_join_that_feeds_one_of_its_sides_is_a_circle() -> None:
    app = App("j")
    left, right = app.stream("left", Event), app.stream("right", Event)

    @left.join(right, within="1s", to="right")
    def pair(one: Event, other: Event) -> Event:
        return one

    with pytest.raises(TopologyError, match="endless loop"):
        app.topology()


def test_streams_that_are_joined_have_as_many_partitions() -> None:
    topology = _app(Within(5, 5, "inner", 0)).topology()
    with pytest.raises(TopologyError, match=r"left has 3, right has 4; .* join on a field"):
        topology.layout({"left": 3, "right": 4})
    by_field = _app(Within(5, 5, "inner", 0), on="user").topology()
    sizes = by_field.layout({"left": 3, "right": 4}).partitions
    assert sizes["j-left-by-user-repartition"] == sizes["j-right-by-user-repartition"]
