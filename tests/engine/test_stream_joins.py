"""Joins of two streams give what a naive model gives that sees all input at once."""

from typing import Any

import join_model
import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from window_model import Arrival, arrivals

from streamkit.app import App
from streamkit.dsl.nodes.stream_joins import AsOf, Within
from streamkit.testing import TestRun

OUT_OF_ORDER = 3
END = 10_000
"""After all events."""


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
    st.tuples(st.sampled_from(["left", "right"]), st.sampled_from("abc"), st.integers(0, 60)),
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
                getattr(self._t, play)(number if number < len(self._t.tasks) else None)
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
    return sorted(results, key=lambda each: [(-1 if part is None else part) for part in each[1:]])


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


@settings(max_examples=200, deadline=None)
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
