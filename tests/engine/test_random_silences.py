"""Windows and joins whose inputs fall silent now and then give what a naive model gives that is
told when the clock had enough of waiting."""

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import join_model
import msgspec
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from random_apps import WINDOWS, WITHIN, Item
from random_runs import END, KEYS, Bell, Interrupted, act, batches, end, examples
from silence_model import EVER, Inputs, Times
from window_model import Arrival, windows

from streamkit import App
from streamkit.codec import partition_for
from streamkit.dsl.nodes.stream_joins import Within
from streamkit.dsl.topology import SubTopology
from streamkit.dsl.windows import WindowKind
from streamkit.engine.headers import WATERMARK, window_of
from streamkit.engine.journal import Silence, decode
from streamkit.records import Record, TopicPartition

Shape = Literal["one", "merged", "handed", "both handed"]

moves = st.lists(
    st.one_of(
        st.tuples(st.sampled_from("ab"), st.sampled_from(KEYS), st.integers(0, 60)),
        st.tuples(st.sampled_from("ab"), st.sampled_from(KEYS), st.integers(0, 60)),
        st.tuples(
            st.sampled_from(["run", "step", "commit", "crash", "rebalance", "advance"]),
            st.integers(0, 3),
        ),
        st.tuples(st.just("advance"), st.integers(1, 3)),
        st.tuples(
            st.just("stop"), st.sampled_from("ab"), st.sampled_from(KEYS), st.integers(0, 60)
        ),
    ),
    min_size=5,
    max_size=40,
)


def build(shape: Shape, kind: WindowKind | Within, late: int, idle: str | None, bell: Bell) -> App:
    app = App("r")
    a, b = (app.stream(name, Item, out_of_order=f"{late}ms") for name in "ab")
    if isinstance(kind, Within):
        lefts, rights = (a.by("k"), b.by("k")) if "handed" in shape else (a, b)
        near = {"before": f"{kind.before}ms", "after": f"{kind.after}ms"}
        grace = f"{kind.grace}ms"
        options: Any = {"how": kind.how, "grace": grace, "close_after_idle": idle, **near}

        @lefts.join(rights, to="out", name="w", **options)
        def meet(one: Item | None, other: Item | None) -> list[int]:
            bell.slow()
            return [-1 if each is None else each.n for each in (one, other)]

        return app
    match shape:
        case "one":
            stream = a
        case "merged":
            stream = a.merge(b)
        case "handed":
            stream = a.merge(b).by("k")
        case "both handed":
            stream = a.by("k").merge(b.by("k"))

    def together(one: list[int], other: list[int]) -> list[int]:
        return sorted(one + other)

    @stream.window(kind, close_after_idle=idle).aggregate(
        to="out", name="w", merge=together, any_order=True
    )
    def gather(sofar: list[int] | None, item: Item) -> list[int]:
        bell.slow()
        return sorted([*(sofar or ()), item.n])

    return app


def records(t: Interrupted, at: TopicPartition) -> list[Record[Any]]:
    found: list[Record[Any]] = []
    for batch in batches(t, at):
        found += [
            Record(*at, r.offset, r.timestamp, r.key, r.value, r.headers) for r in batch.records()
        ]
    return found


@contextmanager
def stopped(t: Interrupted, number: int) -> Iterator[None]:
    """One of the members stands still meanwhile, and keeps its tasks."""
    one = t._started()[number % t.members]
    t._workers.remove(one)
    t._members -= 1
    yield
    t._workers.append(one)
    t._members += 1


def check(silence: Silence, inputs: Inputs, sent: list[int]) -> None:
    """There was one: nothing was `sent` for so long, in ms, after what is before it."""
    before, after = {}, {}
    for name, all_ in inputs.items():
        at = silence.at.get(name, 0)
        events = [(one.offset, json(one).n) for one in all_ if WATERMARK not in dict(one.headers)]
        before[name] = max((sent[n] for offset, n in events if offset < at), default=sent[0])
        after[name] = min((sent[n] for offset, n in events if offset >= at), default=EVER)
        if name in silence.idle:
            assert after[name] - before[name] >= 5_000
    if silence.closed:
        event("closed")
        assert min(after.values()) - max(before.values()) >= 8_000


def json(record: Record[Any]) -> Item:
    return msgspec.json.decode(record.value, type=Item)


def model(
    t: Interrupted, sub: SubTopology, kind: WindowKind | Within, late: int, sent: list[int]
) -> tuple[Counter[Any], Counter[Any]]:
    """What windows, or a join, gave and what was late, of the tasks of `sub`."""
    given, missed = Counter[Any](), Counter[Any]()
    for number in range(t._layout.tasks[sub.name]):
        read = {source: TopicPartition(source.topic, number) for source in sub.streams}
        inputs = {str(at): records(t, at) for at in read.values()}
        handed = [str(at) for source, at in read.items() if source.upstream is not None]
        assert sub.journal is not None
        entries = records(t, TopicPartition(sub.journal, number))
        journal = [decode(one.value, sub.journal) for one in entries]
        for one in journal:
            if isinstance(one, Silence):
                check(one, inputs, sent)
        came = Came(kind)
        for record, frontier in Times(late, handed).go(inputs, journal, came.last):
            came.take(record, frontier)
        given += came.given()
        missed += came.late()
    return given, missed


class Came:
    """The events of a task, and what a window or a join makes of them."""

    def __init__(self, kind: WindowKind | Within) -> None:
        self._kind = kind
        self._items: list[Item] = []
        self._sides: tuple[list[Arrival], list[Arrival]] = [], []

    def take(self, record: Record[Any], frontier: int) -> None:
        key = (record.key or b"").decode()
        side = isinstance(self._kind, Within) and record.topic in ("b", "r-b-by-k-repartition")
        self._sides[side].append(Arrival(len(self._items), key, record.timestamp, frontier))
        self._items.append(json(record))

    def last(self, watermark: int) -> int:
        """When all would be closed that is open at a time."""
        kind = self._kind
        if isinstance(kind, Within):
            ends = [
                each.time + keep + 1
                for keep, side in zip((kind.after, kind.before), self._sides, strict=True)
                for each in join_model.in_time(side, kind.grace)
            ]
        else:
            ends = [end for _, _, end in windows(kind, self._sides[0])[0]]
        return max([watermark, *(end + kind.grace for end in ends)])

    def given(self) -> Counter[Any]:
        if isinstance(self._kind, Within):
            pairs = join_model.within(self._kind, *self._sides)
            return Counter(tuple(map(self._number, pair)) for pair in pairs)
        found, _ = windows(self._kind, self._sides[0])
        numbers = ((of, [self._items[id].n for id in ids]) for of, ids in found.items())
        return Counter((*of, *sorted(some)) for of, some in numbers)

    def late(self) -> Counter[Any]:
        if not isinstance(self._kind, Within):
            _, ids = windows(self._kind, self._sides[0])
            return Counter(self._items[id].n for id in ids)
        every_one = {each.id for side in self._sides for each in side}
        for side in self._sides:
            every_one -= {each.id for each in join_model.in_time(side, self._kind.grace)}
        return Counter(self._items[id].n for id in every_one)

    def _number(self, one: Arrival | None) -> int:
        return -1 if one is None else self._items[one.id].n


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "streamkit")


@examples(40)
@given(
    shape=st.sampled_from(["one", "merged", "handed", "both handed"]),
    kind=st.sampled_from(WINDOWS) | st.sampled_from(WITHIN),
    late=st.integers(0, 4),
    idle=st.sampled_from(["8s", "8s", None]),
    chosen=moves,
    partitions=st.integers(1, 3),
    members=st.integers(1, 3),
    batch=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_what_is_late_and_what_closes_is_what_the_silences_in_the_journal_say(
    shape: Shape,
    kind: WindowKind | Within,
    late: int,
    idle: str | None,
    chosen: list[Any],
    partitions: int,
    members: int,
    batch: int,
    seed: int,
) -> None:
    bell = Bell(seed)
    topology = build(shape, kind, late, idle, bell).topology()
    with Interrupted(topology, partitions, members=members, batch=batch) as t:
        t.bell = bell
        t.shuffle(seed)
        sent = []
        for number, one in enumerate(chosen):
            sent.append(t.clock.now())
            if len(one) == 2:
                act(t, one)
                continue
            *is_stopped, topic, key, at = one
            if topic in topology.sources:
                item = Item(number, KEYS[(number * 7) % 3])
                where = partition_for(key.encode(), partitions)
                if is_stopped and t.members > 1:
                    with stopped(t, number):
                        t.send(topic, item, key=key, partition=where, timestamp=at)
                        t.advance("9s")
                else:
                    t.send(topic, item, key=key, partition=where, timestamp=at)
        end(t, lambda: t.finish(END))
        (sub,) = (one for one in topology.subtopologies if "out" in one.sinks)
        given, missed = model(t, sub, kind, late, sent)
        event(f"late: {bool(missed)}")
        assert Counter(map(told, t.topic("out"))) == given
        topics = [topic for topic in sub.sinks if topic.endswith("-late")]
        assert Counter(one.value.n for topic in topics for one in t.topic(topic)) == missed


def told(record: Record[Any]) -> tuple[Any, ...]:
    note = window_of(record.headers)
    return (*record.value,) if note is None else (record.key, note.start, note.end, *record.value)
