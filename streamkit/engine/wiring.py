"""Make the parts of one task, once, and connect them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from streamkit.dsl.nodes.joins import Join
from streamkit.dsl.nodes.sources import StreamSource, TableSource
from streamkit.dsl.topology import Layout, SubTopology, Topology
from streamkit.engine.ahead import ReadAhead
from streamkit.engine.attempt import Attempt
from streamkit.engine.cursor import Cursor
from streamkit.engine.ending import Ending
from streamkit.engine.horizon import Horizon
from streamkit.engine.hot.moment import Clock, EventFrontier
from streamkit.engine.hot.source import HandedOver, Source
from streamkit.engine.inputs import Input, Reader
from streamkit.engine.limits import Limits
from streamkit.engine.merge import Merge
from streamkit.engine.operators.unread import guarded
from streamkit.engine.outlets import Outlets
from streamkit.engine.retried import RetryInput
from streamkit.engine.site import Site
from streamkit.engine.steps import step
from streamkit.engine.tables import AheadRows, MergedRows, new_latest
from streamkit.engine.task_time import TaskTime
from streamkit.engine.ticker import Ticker
from streamkit.engine.waiting import Request
from streamkit.engine.watermarks import RetryFrontier, UpstreamFrontier
from streamkit.records import Columns, TopicPartition


@dataclass(slots=True)
class Parts:
    """What a task works with.

    `frontiers` has the inputs read as streams, in order; `inputs` those and the tables that are
    `merged` with them, by topic, which `merge` has the order of; `ahead` reads tables ahead, and
    `ahead_rows` is what is in these, by topic; `named` is what both read, by name; `horizons` are
    those of the inputs with a `max_ahead`, `tickers` those of ticks; `retries` are the inputs of
    events that steps are given again.
    """

    cursor: Cursor
    outlets: Outlets
    site: Site
    attempt: Attempt
    time: TaskTime
    ending: Ending
    merged: dict[str, MergedRows]
    ahead_rows: dict[str, AheadRows]
    frontiers: dict[TopicPartition, EventFrontier | UpstreamFrontier]
    inputs: dict[TopicPartition, Input] = field(default_factory=dict)
    horizons: list[Horizon] = field(default_factory=list)
    tickers: dict[TopicPartition, Ticker] = field(default_factory=dict)
    retries: list[RetryInput] = field(default_factory=list)
    merge: Merge = field(init=False)
    ahead: ReadAhead = field(init=False)
    named: dict[str, Input] = field(init=False)


def wire(
    topology: Topology,
    layout: Layout,
    sub: SubTopology,
    number: int,
    limits: Mapping[str, Limits],
    start: Callable[[Request], None],
) -> Parts:
    """The parts of task `number`; `start` is called for the calls that others make."""
    cursor, clock = Cursor(), Clock()
    own = {*topology.internal, *topology.ticks}
    outlets = Outlets(topology.types(), own, cursor, limits)
    now, then = _looked_up(sub)
    merged = {
        table.topic: MergedRows(new_latest(table, at_once=False))
        for table in sub.tables
        if table in now
    }
    ahead = {
        table.topic: AheadRows(table, now=table.everywhere and table in now, then=table in then)
        for table in (*sub.tables, *sub.global_tables)
        if table.everywhere or table in then
    }
    site = Site(topology.app, sub, number, step, cursor, clock, outlets, merged, ahead, start)
    frontiers: dict[TopicPartition, EventFrontier | UpstreamFrontier] = {}
    attempt = Attempt(cursor, outlets)
    time = TaskTime(clock, site, frontiers, attempt)
    ending = Ending(sub, time, site)
    parts = Parts(cursor, outlets, site, attempt, time, ending, merged, ahead, frontiers)
    for source in sub.streams:
        _make_stream(parts, source, number, alone=len(sub.streams) == 1)
        if source in sub.moving:
            partition = TopicPartition(source.topic, number)
            site.moving[partition] = frontiers[partition]
    attempt.stores = tuple(site.stores[one.name] for one in sub.stores)
    for topic, rows in merged.items():
        _make_table(parts, TopicPartition(topic, number), rows)
    merging = tuple(parts.inputs.values())
    parts.merge = Merge(merging)
    partitions: list[TopicPartition] = []
    for topic, each in ahead.items():
        numbers = range(layout.partitions[topic]) if each.table.everywhere else (number,)
        partitions += [TopicPartition(topic, one) for one in numbers]
    parts.ahead = ReadAhead(ahead, partitions, merging)
    parts.named = {one.name: one for one in (*merging, *parts.ahead.inputs.values())}
    for failing in site.failing:
        if failing.retries is not None:
            partition = TopicPartition(failing.retries, number)
            parts.frontiers[partition] = RetryFrontier()
            again = RetryInput(partition, failing, cursor, attempt.enter)
            parts.inputs[partition] = again
            parts.retries.append(again)
    return parts


def _make_stream(
    parts: Parts,
    source: StreamSource,
    number: int,
    alone: bool,
) -> None:
    partition = TopicPartition(source.topic, number)
    forward = parts.site.after(source, source.key)
    if source.ticks is not None:
        parts.tickers[partition] = Ticker(source.ticks, parts.site.outlet(source.topic))
    if source.upstream is None:
        events = parts.frontiers[partition] = EventFrontier(source.out_of_order)
        horizon = None
        if source.max_ahead is not None:
            outlet = parts.site.outlet(source.ahead)
            horizon = Horizon(str(partition), source.max_ahead, outlet, parts.cursor)
            parts.horizons.append(horizon)
        time = parts.time
        read: Reader = Source(
            source, forward, events, time.clock, parts.cursor, time.moved, alone, horizon
        ).read
        if source.failure is not None:
            read = guarded(read, source, parts.site)
    else:
        upstream = parts.frontiers[partition] = UpstreamFrontier()
        read = HandedOver(source, forward, upstream, parts.cursor, parts.ending.heard).read
    parts.inputs[partition] = Input(partition, read)


def _make_table(parts: Parts, partition: TopicPartition, rows: MergedRows) -> None:
    def read(columns: Columns, start: int, stop: int) -> None:
        rows.store.take(partition.partition, columns, start, stop)

    parts.inputs[partition] = Input(partition, read)


def _looked_up(sub: SubTopology) -> tuple[set[TableSource], set[TableSource]]:
    """The tables that are looked up as they are, and those that are as of a time."""
    now: set[TableSource] = set()
    then: set[TableSource] = set()
    for node in sub.nodes:
        as_of = isinstance(node, Join) and node.history is not None
        (then if as_of else now).update(node.tables())
    return now, then
