"""Apps made by chance give what a naive model gives, however they are run."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import assume, event, example, given, reject
from hypothesis import strategies as st
from on_disk import on_disk
from random_apps import (
    AS_OF,
    LOOKS,
    NULL,
    SENT,
    SOURCES,
    TICK,
    WINDOWS,
    WITHIN,
    Fails,
    Item,
    Spec,
    Step,
    Torn,
    Waits,
    build,
    specs,
)
from random_connectors import Beside, World
from random_model import Event, Found, Model
from random_runs import (
    FAR,
    Bell,
    Gap,
    Interrupted,
    Sent,
    act,
    batches,
    end,
    examples,
    fill,
    finish,
    is_told_alike,
    moves,
    planned,
    retry,
    send,
    table_rows,
)
from window_model import BEFORE_ALL

from streamkit import App
from streamkit.dsl.nodes.in_order import InOrder, comes_in_order
from streamkit.dsl.nodes.stream_joins import Within
from streamkit.dsl.topology import Topology
from streamkit.engine.headers import WATERMARK
from streamkit.engine.journal import decode
from streamkit.engine.rows import Position
from streamkit.engine.task import Task
from streamkit.engine.trial_calls import TrialCallers
from streamkit.errors import TopologyError
from streamkit.records import TopicPartition
from streamkit.testing import TestRun


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "streamkit")


def expected(
    spec: Spec, plan: list[Any], partitions: int, table: list[Any], topology: Topology
) -> Found:
    handed = cut_off(topology)
    # What is cut off has a place of its own among those that wait for their turn.
    assume(not handed or all(step.op != "kept" for step in spec.steps))
    sources, dead = [], {}
    for topic in SOURCES:
        events = []
        fails = spec.reads(topic)
        aside = dead[f"dead{topic}"] = Counter[tuple[Any, ...]]()
        ahead = dead[f"r-{topic}-ahead"] = Counter[tuple[Any, ...]]()
        for partition in range(partitions):
            frontier = BEFORE_ALL
            behind: set[str] = set()
            for sent in plan:
                if not isinstance(sent, Sent) or (sent.topic, sent.partition) != (topic, partition):
                    continue
                it = NULL if sent.value is None else sent.value
                torn = it is NULL and not spec.nullable(topic)
                if torn or isinstance(it, Torn) or sent.key in behind:
                    aside[sent.key, int(it.n), sent.time] += 1
                    if fails is not None and fails.then == "key" and sent.key is not None:
                        behind.add(sent.key)
                    continue
                if sent.time >= FAR:
                    ahead[sent.key, it.n, sent.time] += 1
                    continue
                frontier = max(frontier, sent.time - spec.out_of_order)
                events.append(Event(sent.key, it.n, it.k, sent.time, frontier))
        if topic not in topology.sources or fails is None or fails.then == "skip":
            del dead[f"dead{topic}"]
        if topic not in topology.sources or not spec.ahead:
            del dead[f"r-{topic}-ahead"]
        sources.append(events)
    nodes = [(node, sub.children) for sub in topology.subtopologies for node in sub.nodes]
    ordered = [node.step.name for node, _ in nodes if isinstance(node, InOrder)]
    ordered += [node.name for node, all_ in nodes if comes_in_order(node, all_)]
    return Model(spec, sources, table, partitions, handed, ordered).found | dead


def cut_off(topology: Topology) -> list[str]:
    """The steps that are given events through a topic although these keep their key."""
    topics = [topic for sub in topology.subtopologies for topic in sub.repartitions]
    names = [topic.removeprefix("r-").removesuffix("-repartition") for topic in topics]
    return [name for name in names if name.endswith(("-left", "-right", "-events"))]


def possible(app: App) -> Topology:
    """What is refused is not looked at: joins with one table under two keys."""
    try:
        return app.topology()
    except TopologyError:
        reject()


def written(t: TestRun, topics: Found) -> Found:
    there = t._backend.topics()
    found: Found = {}
    for topic in topics:
        assert topic in there or not topics[topic], f"there is no {topic}"
        records = t.topic(topic) if topic in there else []
        found[topic] = Counter((text(r.key), item(r.value).n, r.timestamp) for r in records)
    return found


def item(value: Any) -> Item:
    if value is None or isinstance(value, int):
        return NULL if value is None else Item(value, "")  # a row, or no value
    if isinstance(value, Item):
        return value
    try:
        return msgspec.json.decode(value, type=Item)
    except msgspec.ValidationError:
        return Item(int(msgspec.json.decode(value, type=Torn).n), "")


def text(key: Any) -> Any:
    return key.decode() if isinstance(key, bytes) else key


def ids(t: TestRun) -> Counter[tuple[Any, ...]]:
    """What was sent by functions that drew for it."""
    sent = [(record, item(record.value)) for record in t.topic(SENT)]
    return Counter((text(r.key), it.n, it.k, r.timestamp) for r, it in sent)


def check_ticks(t: TestRun, spec: Spec, began: int) -> None:
    """Each tick was given once, since the app first ran."""
    if spec.ticks:
        due = range(began // TICK * TICK + TICK, t.clock.now() + 1, TICK)
        beats = [(record.value.n, record.timestamp) for record in t.topic("beats")]
        assert beats == list(enumerate(due, 1))


def same(found: Found, want: Found, spec: Spec, *, exactly: bool = True) -> None:
    several = spec.set_aside_again() if exactly else want.keys()
    for topic, there in want.items():
        if topic in several and set(found[topic]) == set(there) and found[topic] >= there:
            continue
        more, missing = found[topic] - there, there - found[topic]
        assert found[topic] == there, f"{topic}: {dict(more)} should be {dict(missing)}"


def crowded() -> list[Any]:
    """Many events of one time and key, from several partitions, that are handed over in turns."""
    chosen: list[Any] = []
    for n in range(40):
        chosen.append(("ab"[n % 2], "abcdefgh"[n * 5 % 8], n, "xy"[n // 3 % 2]))
        if n % 3 == 0:
            chosen.append((["run", "step", "step", "crash"][n % 4], n % 4))
    return chosen


@examples(90)
@given(
    spec=specs(),
    chosen=moves,
    table=table_rows,
    partitions=st.integers(1, 3),
    members=st.integers(1, 3),
    batch=st.integers(1, 6),
    seed=st.integers(0, 99),
    by_itself=st.booleans(),
    guarantee=st.sampled_from(["exactly_once", "exactly_once", "at_least_once"]),
)
@example(  # results that come later than the times they bear, handed over
    spec=Spec(
        (Step("window", 0, kind=WINDOWS[0]), Step("by", 2), Step("window", 3, kind=WINDOWS[1])),
        out_of_order=0,
        apart=False,
        nulls=False,
    ),
    chosen=[("a", "a", 1, "x"), ("a", "a", 13, "x"), ("run", 0), ("a", "a", 16, "x"), ("run", 0)],
    table=[],
    partitions=1,
    members=1,
    batch=6,
    seed=0,
    by_itself=False,
    guarantee="exactly_once",
)
@example(  # a stream that meets its own events under another key, and what comes of it again
    spec=Spec(
        (
            Step("by", 0),
            Step("within", 0, 2, kind=WITHIN[2]),
            Step("by", 3),
            Step("within", 4, 0, kind=WITHIN[1]),
            Step("window", 3, kind=WINDOWS[0]),
            Step("left_table", 6, kind=LOOKS[0]),
            Step("left_table", 4, kind=LOOKS[0]),
        ),
        out_of_order=2,
        apart=False,
        nulls=False,
    ),
    chosen=[("a", "abc"[n % 3], n, "xya"[n % 2]) for n in range(9)],
    table=[("t", "a", 5, 0), ("t", "x", 7, 3)],
    partitions=2,
    members=2,
    batch=2,
    seed=1,
    by_itself=True,
    guarantee="at_least_once",
)
@example(  # of several of one time the last is met, although answers come as they do
    spec=Spec(
        (
            Step("by", 0),
            Step("by", 1),
            Step("async", 3, kind=Waits("key", 3, False)),
            Step("as_of", 2, 4, kind=AS_OF[0]),
            Step("window", 5, 1, kind=WINDOWS[0]),
        ),
        out_of_order=2,
        apart=False,
        nulls=False,
        grain=12,
    ),
    chosen=crowded(),
    table=[],
    partitions=3,
    members=2,
    batch=2,
    seed=0,
    by_itself=True,
    guarantee="exactly_once",
)
@example(  # keys overtake each other, and what is tried again is overtaken
    spec=Spec(
        (
            Step("async", 0, kind=Waits("key", 3, False)),
            Step("by", 2),
            Step("process", 3, kind="value", fails=Fails("skip", "partition")),
            Step("window", 4, 1, kind=WINDOWS[0]),
        ),
        out_of_order=2,
        apart=False,
        nulls=False,
        grain=12,
    ),
    chosen=crowded(),
    table=[],
    partitions=3,
    members=2,
    batch=2,
    seed=0,
    by_itself=True,
    guarantee="exactly_once",
)
@example(  # what cannot be read, and what of its key is behind it
    spec=Spec(
        (Step("window", 0, kind=WINDOWS[0]), Step("by", 1), Step("window", 3, kind=WINDOWS[4])),
        out_of_order=2,
        apart=False,
        nulls=False,
        torn=(Fails("key"), Fails("record")),
    ),
    chosen=[("aba"[n % 3], "adgw"[n % 4], n, "x") for n in range(40)],
    table=[],
    partitions=1,
    members=1,
    batch=6,
    seed=0,
    by_itself=False,
    guarantee="exactly_once",
)
@example(  # what was closed before results began to wait stays so over two restarts
    spec=Spec(
        (
            Step("window", 1, kind=WINDOWS[0]),
            Step("batch", 2),
            Step("window", 3, kind=WINDOWS[3]),
        ),
        out_of_order=0,
        apart=False,
        nulls=False,
        trips=frozenset([4]),
    ),
    chosen=[*[("a", "a", 0, "x")] * 8, ("b", "a", 10, "x"), ("b", "a", 29, "x")],
    table=[],
    partitions=1,
    members=1,
    batch=1,
    seed=0,
    by_itself=False,
    guarantee="exactly_once",
)
def test_the_output_is_that_of_the_model_at_once_and_in_pieces_with_crashes(
    spec: Spec,
    chosen: list[Any],
    table: list[Any],
    partitions: int,
    members: int,
    batch: int,
    seed: int,
    by_itself: bool,
    guarantee: str,
) -> None:
    for step in spec.steps:
        event(step.op)
    if spec.reads_back:
        guarantee = "exactly_once"  # what is there twice is read twice
    plan = planned(spec, chosen, partitions)
    mended: set[int] = set()
    topology = possible(build(spec, mended=mended))
    if any(cut_off(topology)):
        event("cut off")
    want = expected(spec, plan, partitions, table, topology)
    with TestRun(topology, partitions) as t:
        fill(t, table, partitions)
        for one in plan:
            if isinstance(one, Sent | Gap):
                send(t, one)
        end(t, finish(t, spec, not by_itself))
        retry(t, spec, mended)
        same(written(t, want), want, spec)
        at_once = ids(t)
    options: Any = {"members": members, "batch": batch, "guarantee": guarantee}
    bell, world = Bell(seed), World()
    mended.clear()
    topology = build(spec, slow=bell.slow, world=world, mended=mended).topology()
    with Interrupted(topology, partitions, **options) as t:
        t.bell = bell
        beside = Beside(t, topology, world, seed)
        began = t.clock.now()
        t.shuffle(seed)
        fill(t, table, partitions)
        t.run()  # its ticks begin
        for one in plan:
            if isinstance(one, Sent) and one.topic in spec.sourced:
                world.there[one.topic].append(one)
            elif not isinstance(one, Sent | Gap) and one[0] in ("source", "sink"):
                beside.turn(one[0], [None, 2, 4, 7][one[1]])
            elif is_told_alike(one):
                act(t, one)
        beside.finish()
        end(t, lambda: t.advance("2s" if spec.ticks else "1ms"))
        t.crash()
        end(t, finish(t, spec, by_itself))
        retry(t, spec, mended, Random(seed))
        same(written(t, want), want, spec, exactly=guarantee == "exactly_once")
        beside.check()
        if guarantee == "exactly_once":
            check_ticks(t, spec, began)
            found = ids(t)
            assert len({k for _, _, k, _ in found}) == found.total()
            if not spec.sourced and not spec.reads_back:  # where offsets are others
                assert found == at_once, f"{found - at_once} should be {at_once - found}"


@examples(40)
@given(
    spec=specs(),
    chosen=moves,
    table=table_rows,
    partitions=st.integers(1, 2),
    members=st.integers(1, 2),
    batch=st.integers(1, 6),
    memory=st.sampled_from([1, 20_000]),
    seed=st.integers(0, 99),
)
def test_the_output_is_that_of_the_model_where_nearly_all_state_is_on_disk(
    spec: Spec,
    chosen: list[Any],
    table: list[Any],
    partitions: int,
    members: int,
    batch: int,
    memory: int,
    seed: int,
) -> None:
    """Windows, sessions, buffers of joins, tables: without memory, and with disks that are lost."""
    spec = replace(spec, retried=False)
    plan = planned(spec, chosen, partitions)
    topology = possible(build(spec))
    want = expected(spec, plan, partitions, table, topology)
    with on_disk(topology, partitions, memory=memory, members=members, batch=batch) as here:
        t = here.run
        t.shuffle(seed)
        fill(t, table, partitions)
        for number, one in enumerate(plan):
            if isinstance(one, Sent | Gap):
                act(t, one)
            elif one[0] == "crash":
                (here.lose if number % 4 == 0 else here.kill)()
            elif is_told_alike(one):
                act(t, one)
        end(t, lambda: None)
        here.kill()
        end(t, finish(t, spec, by_itself=False))
        same(written(t, want), want, spec)


Bytes = dict[str, list[tuple[Any, ...]]]
"""Topic → (key, value, timestamp, headers) of what is in it, without markers of time."""


def lived(t: TestRun, topics: Iterable[str]) -> Bytes:
    found: Bytes = {}
    for topic in topics:
        found[topic] = [
            (record.key, record.value, record.timestamp, record.headers)
            for number in range(t._backend.topic(topic).partitions)
            for batch in batches(t, TopicPartition(topic, number))
            for record in batch.records()
            if WATERMARK not in dict(record.headers)
        ]
    return found


def replayed(t: TestRun, topology: Topology) -> Bytes:
    """Each task by itself over what its inputs and its journal hold."""
    found: Bytes = defaultdict(list)
    callers = TrialCallers()
    for sub in topology.subtopologies:
        for number in range(t._layout.tasks[sub.name]):
            entries = []
            if sub.journal is not None:
                for batch in batches(t, TopicPartition(sub.journal, number)):
                    entries += [decode(value, sub.journal) for value in batch.columns().values]
            calls = callers.of_task()
            task = Task(topology, t._layout, sub, number, journal=entries, calls=calls)
            task.resume(dict.fromkeys(task.inputs, Position(0)))
            every_one = (*task.inputs, *task.tables)
            for one in every_one:
                for batch in batches(t, one):
                    task.feed(one, batch.columns())
            for one in task.ahead:
                for batch in batches(t, one):
                    task.feed_ahead(one, batch.columns())
            left = (-1, -1)
            while left != (left := (task.buffered, task.answers.waiting)) or goes_on(task, callers):
                task.caught_up(task.hungry)
                task.caught_up_ahead(task.ahead)
                task.run()
            assert left == (0, 0)
            for topic, rows in task.drain().rows.items():
                headers = rows.headers or [()] * len(rows)
                found[topic] += zip(rows.keys, rows.values, rows.timestamps, headers, strict=True)
    callers.close()
    return found


def goes_on(task: Task, callers: TrialCallers) -> bool:
    """Whether something can come of it yet: an answer, or what comes behind an end."""
    if any(calls.withheld for calls in callers.tasks) or callers.proceed():
        return True
    if task.paused_at is None:
        return False
    task.go_on()
    return True


@examples(100)
@given(
    spec=specs(wild=True),
    chosen=moves,
    table=table_rows,
    partitions=st.integers(1, 3),
    members=st.integers(1, 3),
    batch=st.integers(1, 6),
    seed=st.integers(0, 99),
)
@example(  # what waits at an end leaves before the next record, behind which there is no end
    spec=Spec(
        (
            Step("as_of", 1, kind=AS_OF[0]),
            Step("by", 2),
            Step("batch", 3),
            Step("window", 4, kind=WINDOWS[0]),
        ),
        out_of_order=0,
        apart=False,
        nulls=False,
    ),
    chosen=[("a", "a", 0, "x"), ("b", "a", 0, "x"), ("finish", 0), ("a", "a", 0, "x")],
    table=[],
    partitions=1,
    members=1,
    batch=1,
    seed=0,
)
@example(  # a step that is given one record's events past a step that may skip, and through it
    spec=Spec(
        (
            Step("filter", 1, fails=Fails("skip", None)),
            Step("within", 1, 2, kind=Within(3, 5, "inner", 0)),
            Step("async", 3, kind=Waits("key", 1, False)),
        ),
        out_of_order=0,
        apart=False,
        nulls=False,
    ),
    chosen=[("b", "a", 0, "x"), ("b", "a", 0, "x"), ("b", "a", 0, "x")],
    table=[],
    partitions=1,
    members=1,
    batch=1,
    seed=0,
)
@example(  # timers that are due before an event of its turn, others have theirs in between
    spec=Spec(
        (
            Step("by", 0),
            Step("by", 1),
            Step("filter", 3),
            Step("timer", 2, kind=40),
            Step("filter", 5),
            Step("filter", 6, fails=Fails("record")),
        ),
        out_of_order=1,
        apart=False,
        nulls=False,
        grain=20,
    ),
    chosen=[
        *[("a", "a", 0, "x")] * 3,
        *[("a", "a", 40, "x"), ("run", 0), ("a", "a", 0, "x")],
        *[("run", 0), ("run", 0), ("run", 0), ("a", "a", 0, "x")],
    ],
    table=[],
    partitions=1,
    members=1,
    batch=1,
    seed=0,
)
def test_a_replay_with_the_journal_gives_the_same_bytes_whatever_the_clock_decided(
    spec: Spec,
    chosen: list[Any],
    table: list[Any],
    partitions: int,
    members: int,
    batch: int,
    seed: int,
) -> None:
    """With rows that come in between, and silences that close windows."""
    plan = planned(spec, chosen, partitions)
    bell = Bell(seed)
    topology = possible(build(spec, close_after_idle="8s", slow=bell.slow))
    with Interrupted(topology, partitions, members=members, batch=batch) as t:
        t.bell = bell
        t.shuffle(seed)
        fill(t, [], partitions)
        for number, one in enumerate(plan):
            if table and number % 3 == 0:
                fill(t, [table[number // 3 % len(table)]], partitions)
            act(t, one)
        end(t, lambda: t.advance("20s"))
        topology = build(spec, close_after_idle="8s", passing=False).topology()
        topics = [output.topic for sub in topology.subtopologies for output in sub.outputs]
        topics.append(SENT)
        live, again = lived(t, topics), replayed(t, topology)
        for topic in topics:
            mine, theirs = Counter(again[topic]), Counter(live[topic])
            assert mine == theirs, f"{topic}: {mine - theirs} should be {theirs - mine}"
            if partitions == 1 and topic != SENT:  # each topic is of one task
                assert again[topic] == live[topic]
