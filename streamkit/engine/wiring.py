"""Make the parts of one task, once, and connect them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from streamkit.dsl.nodes import Aggregate, By, Node, StreamSource, TableSource
from streamkit.dsl.topology import Layout, SubTopology, Topology, state_name
from streamkit.engine.calls import Calls
from streamkit.engine.cursor import Cursor
from streamkit.engine.inputs import Input
from streamkit.engine.limits import Limits
from streamkit.engine.outlets import Outlets
from streamkit.engine.readers import Seen, repartition_reader, source_reader
from streamkit.engine.state.store import Store
from streamkit.engine.steps import Steps
from streamkit.engine.stores import TableRows
from streamkit.engine.watermarks import Clock, EventFrontier, UpstreamFrontier
from streamkit.engine.windows import WindowStore
from streamkit.records import Columns, TopicPartition
from streamkit.serde import Serde, serde_for


@dataclass(slots=True)
class Parts:
    """What a task works with.

    `frontiers` has the inputs read as streams, in order; `inputs` those and the tables. `seen` has
    the repartition inputs. `delays` says per node how much later than their time, in ms, events may
    come to it: the grace of the windows before it. `windows` are in the order of the nodes.
    """

    clock: Clock
    cursor: Cursor
    outlets: Outlets
    states: dict[str, Store] = field(default_factory=dict)
    windows: dict[Aggregate, WindowStore] = field(default_factory=dict)
    delays: dict[Node, int] = field(default_factory=dict)
    tables: dict[str, TableRows] = field(default_factory=dict)
    inputs: dict[TopicPartition, Input] = field(default_factory=dict)
    frontiers: dict[TopicPartition, EventFrontier | UpstreamFrontier] = field(default_factory=dict)
    seen: dict[TopicPartition, Seen] = field(default_factory=dict)

    def by_changelog(self) -> dict[str, Store | WindowStore]:
        stores: list[Store | WindowStore] = [*self.states.values(), *self.windows.values()]
        return {store.changelog: store for store in stores}


def wire(
    topology: Topology,
    layout: Layout,
    sub: SubTopology,
    number: int,
    moved: Callable[[], None],
    limits: Mapping[str, Limits],
) -> Parts:
    """The parts of task `number`; `moved` is called when the time of an input has."""
    cursor = Cursor()
    outlets = Outlets(topology.types(), topology.internal, cursor, limits)
    parts = Parts(Clock(), cursor, outlets)
    for source in sub.streams:
        _make_stores(parts, sub, source, source.key, 0)
    for table in (*sub.tables, *sub.global_tables):
        parts.tables[table.topic] = TableRows(table.key, table.value)
    steps = Steps(
        sub.children.__getitem__,
        Calls(cursor, parts.states, parts.outlets.send),
        cursor,
        parts.outlets.of,
        parts.tables,
        parts.windows,
    )
    for source in sub.streams:
        _make_stream(parts, steps, source, number, moved, alone=len(sub.streams) == 1)
    for table in sub.tables:
        _make_table(parts, table, number)
    for table in sub.global_tables:
        for each in range(layout.partitions[table.topic]):
            _make_table(parts, table, each)
    return parts


def _make_stores(parts: Parts, sub: SubTopology, node: Node, key: Serde, delay: int) -> None:
    """The stores of a node, whose events have keys of serde `key`, and of those that follow it."""
    parts.delays[node] = delay
    stores = {store.name: store for store in sub.stores}
    if isinstance(node, Aggregate):
        store = stores[node.name]
        assert store.late is not None
        parts.windows[node] = WindowStore(
            node,
            key,
            store.changelog,
            parts.outlets.of(store.late),
            delay,
            parts.clock,
            parts.cursor,
        )
        delay += node.window.grace
    function = getattr(node, "function", None)
    if function is not None:
        for parameter, type_ in function.states:
            name = state_name(function.name, parameter)
            changelog = stores[name].changelog
            parts.states[name] = Store(changelog, serde_for(type_), parts.cursor)
    if isinstance(node, By):
        key = node.key
    for child in sub.children[node]:
        _make_stores(parts, sub, child, key, delay)


def _make_stream(
    parts: Parts,
    steps: Steps,
    source: StreamSource,
    number: int,
    moved: Callable[[], None],
    alone: bool,
) -> None:
    partition = TopicPartition(source.topic, number)
    forward = steps.after(source, source.key)
    if source.upstream is None:
        events = parts.frontiers[partition] = EventFrontier(source.out_of_order)
        read = source_reader(source, forward, events, parts.clock, parts.cursor, moved, alone)
    else:
        upstream = parts.frontiers[partition] = UpstreamFrontier()
        seen = parts.seen[partition] = Seen()
        read = repartition_reader(source, forward, upstream, parts.cursor, moved, seen)
    parts.inputs[partition] = Input(partition, read)


def _make_table(parts: Parts, table: TableSource, number: int) -> None:
    partition, rows = TopicPartition(table.topic, number), parts.tables[table.topic]

    def read(columns: Columns, start: int, stop: int) -> None:
        rows.load(partition, columns, start, stop)

    parts.inputs[partition] = Input(partition, read)
