"""An app as data: sub-topologies, their stores and topics, and how many tasks each has.

A sub-topology is what one task can do without another: everything that hangs together through
streams and tables. Sub-topologies are cut where events get another key that something keyed
depends on (a window, a table, a State); there they hand events over in a repartition topic.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streamkit.dsl.connectors import AppConnector
from streamkit.dsl.nodes.folds import RunningFold
from streamkit.dsl.nodes.joins import Join
from streamkit.dsl.nodes.merges import Merge
from streamkit.dsl.nodes.node import Node
from streamkit.dsl.nodes.outputs import Repartition, To
from streamkit.dsl.nodes.sources import Source, StreamSource, TableSource
from streamkit.dsl.nodes.steps import FlatMap, Map, Process
from streamkit.dsl.nodes.stream_joins import StreamJoin
from streamkit.dsl.nodes.tables import TableChanges
from streamkit.dsl.nodes.windows import WindowFold
from streamkit.dsl.resources import Resource
from streamkit.dsl.stores import StoreSpec
from streamkit.errors import TopologyError, counted
from streamkit.serde import Serde, Untyped

CHANGELOG = {"cleanup.policy": "compact"}
KEPT = {"retention.ms": "-1"}
"""A repartitioned event bears the time of its origin, which may be long ago."""
COMPACT = {"cleanup.policy": "compact"}
MAX_UPSTREAM_TASKS = 128
"""Tasks that may write one repartition topic: what a reader has heard of each must fit into the
4096 characters that are committed with an offset."""


@dataclass(frozen=True, slots=True)
class Store:
    """A keyed store of each task of a sub-topology, and the topic that its changes are kept in.

    `keeper` are the functions that say what is in it, as messages print them.
    """

    name: str
    changelog: str
    spec: StoreSpec
    keeper: str = ""


@dataclass(frozen=True, slots=True)
class Output:
    """A topic that a sub-topology writes to, and how; to `internal` ones functions do not send.

    `compact`, `kept`: as of an OutputSpec.
    """

    topic: str
    key: Serde
    value: Serde
    internal: bool = False
    compact: bool = False
    kept: bool = False

    @property
    def config(self) -> Mapping[str, str]:
        """Of its topic, where there is none yet."""
        return KEPT if self.internal or self.kept else COMPACT if self.compact else {}


@dataclass(frozen=True, slots=True, eq=False)
class SubTopology:
    """What one kind of task does. Task number `p` reads partition `p` of `streams` and `tables`,
    and all partitions of `global_tables`; it writes its stores' changes to partition `p`.

    `nodes` are in the order in which events meet them; `children` says who follows whom. `journal`
    is the topic of what the wall clock decides, where it may. `retries` has the topics that steps
    are given events from again, which they failed for: their partition `p` is read, too.
    """

    name: str
    streams: tuple[StreamSource, ...]
    tables: tuple[TableSource, ...]
    global_tables: tuple[TableSource, ...]
    nodes: tuple[Node, ...]
    children: Mapping[Node, tuple[Node, ...]]
    stores: tuple[Store, ...]
    outputs: tuple[Output, ...]
    journal: str | None = None
    retries: Mapping[Node, str] = field(default_factory=dict)

    @property
    def sources(self) -> tuple[Source, ...]:
        """All that it reads."""
        return (*self.streams, *self.tables, *self.global_tables)

    @property
    def moving(self) -> tuple[StreamSource, ...]:
        """The streams whose events move event time: not those behind which nothing goes by it, as
        behind one that is only kept as a table; of such alone all do."""
        moving = tuple(one for one in self.streams if not self._is_timeless(one))
        return moving or self.streams

    def _is_timeless(self, node: Node) -> bool:
        """Whether all that follows it is."""
        others = (one for one in self.nodes if node in one.also_after())
        after = (*self.children.get(node, ()), *others)
        return all(one.is_timeless and self._is_timeless(one) for one in after)

    @property
    def sinks(self) -> tuple[str, ...]:
        """The topics it writes to that are also for others to read."""
        return tuple(dict.fromkeys(one.topic for one in self.outputs if not one.internal))

    @property
    def together(self) -> str:
        """What is in its tasks together, for who has it in topics that do not fit."""
        if not any(isinstance(node, Merge) for node in self.nodes):
            return "streams and tables that are joined"
        joined = any(isinstance(node, Join | StreamJoin | TableChanges) for node in self.nodes)
        return "streams and tables that are joined or merged" if joined else "merged streams"

    @property
    def apart(self) -> str:
        """What to do where they cannot be made to fit."""
        ways = []
        merged = any(isinstance(node, Merge) for node in self.nodes)
        if not merged or any(isinstance(node, Join | StreamJoin) for node in self.nodes):
            ways.append("join on a field (on=...) so that events are repartitioned")
        if merged:
            ways.append("merge what .by(...) gives, for which events are repartitioned")
        if self.tables:
            ways.append(f"use app.global_table({self.tables[0].topic!r}, ...)")
        return ", or ".join(ways)

    @property
    def repartitions(self) -> tuple[str, ...]:
        """The repartition topics it writes to."""
        return tuple(n.topic for n in self.nodes if isinstance(n, Repartition))

    @property
    def unused(self) -> tuple[str, ...]:
        """The steps that say what they give, and are followed by nothing that takes it."""
        giving = (RunningFold, WindowFold, Join, StreamJoin, Process, Map, FlatMap)
        return tuple(
            node.name
            for node in self.nodes
            if isinstance(node, giving) and not self.children.get(node)
            if node.gives.type is not Untyped
        )

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic to create when there is none."""

    partitions: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Layout:
    """A topology over topics of known sizes.

    `tasks` is the number of tasks per sub-topology name; `create` the topics that the app writes
    to, keeps changes in or repartitions through and that do not exist yet; `partitions` the number
    of partitions of every topic of the app, created or not.
    """

    tasks: Mapping[str, int]
    create: Mapping[str, TopicSpec]
    partitions: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Topology:
    """An app's declarations, complete and checked."""

    app: str
    subtopologies: tuple[SubTopology, ...]
    connectors: tuple[AppConnector, ...] = ()
    resources: tuple[Resource[Any], ...] = ()

    @property
    def imported(self) -> tuple[str, ...]:
        """Topics that the app's own connectors fill."""
        return tuple(one.topic for one in self.connectors if one.kind == "source")

    @property
    def sources(self) -> tuple[str, ...]:
        """Topics the app's steps read and others write, or its connectors. Those of others have to
        exist before it can run."""
        read: dict[str, None] = {}
        for sub in self.subtopologies:
            for source in sub.sources:
                read[source.topic] = None
        written = {t for sub in self.subtopologies for t in (*sub.sinks, *sub.repartitions)}
        written |= set(self.ticks)
        return tuple(topic for topic in read if topic not in written)

    @property
    def ticks(self) -> tuple[str, ...]:
        """Topics that the app writes ticks of the wall clock to, and reads."""
        streams = (stream for sub in self.subtopologies for stream in sub.streams)
        return tuple(stream.topic for stream in streams if stream.ticks is not None)

    @property
    def sinks(self) -> tuple[str, ...]:
        """Topics the app writes results and late events to."""
        return tuple(dict.fromkeys(t for sub in self.subtopologies for t in sub.sinks))

    @property
    def dead_letters(self) -> tuple[str, ...]:
        """Topics that events are set aside in."""
        outputs = (output for sub in self.subtopologies for output in sub.outputs)
        return tuple(dict.fromkeys(output.topic for output in outputs if output.kept))

    @property
    def ahead(self) -> tuple[str, ...]:
        """Topics that events go to that are too far ahead of the clock."""
        streams = (stream for sub in self.subtopologies for stream in sub.streams)
        return tuple(s.ahead.name(self.app) for s in streams if s.max_ahead is not None)

    @property
    def internal(self) -> tuple[str, ...]:
        """Repartition topics and changelogs: nobody's but the app's."""
        topics: dict[str, None] = {}
        for sub in self.subtopologies:
            topics |= dict.fromkeys(sub.repartitions)
            topics |= dict.fromkeys(one.topic for one in sub.outputs if one.internal)
            topics |= dict.fromkeys(store.changelog for store in sub.stores)
            if sub.journal is not None:
                topics[sub.journal] = None
        return tuple(topics)

    @property
    def mixed(self) -> dict[str, list[str]]:
        """Of the tables the topics to which several windows' results are written, and the names of
        these: of one key the latest result of any of them is the row."""
        tables = {t.topic for sub in self.subtopologies for t in (*sub.tables, *sub.global_tables)}
        found: dict[str, dict[str, None]] = {}
        for node in (node for sub in self.subtopologies for node in sub.nodes):
            window = _window_before(node) if isinstance(node, To) and node.topic in tables else None
            if window is not None:
                found.setdefault(node.name, {})[window] = None
        return {topic: list(windows) for topic, windows in found.items() if len(windows) > 1}

    def types(self) -> dict[str, tuple[Serde, Serde]]:
        """How the keys and values of the topics are encoded that the app names."""
        types: dict[str, tuple[Serde, Serde]] = {}
        for sub in self.subtopologies:
            for stream in sub.streams:
                types.setdefault(stream.topic, (stream.key, stream.value))
            for output in sub.outputs:
                types.setdefault(output.topic, (output.key, output.value))
            for table in (*sub.tables, *sub.global_tables):
                types[table.topic] = (table.key, table.value)
        return types

    def subtopology(self, name: str) -> SubTopology:
        """Raises KeyError."""
        for sub in self.subtopologies:
            if sub.name == name:
                return sub
        raise KeyError(name)

    def layout(self, partitions: Mapping[str, int]) -> Layout:
        """Lay the topology over topics that exist, given as name → number of partitions.

        Topics that do not exist get as many partitions as the largest topic their sub-topology
        reads; a repartition topic as many as the table it is joined with. Raises TopologyError
        when a topic of `sources` is missing, or when topics that are joined differ in partitions.
        """
        sizes = dict(partitions)
        tasks: dict[str, int] = {}
        create: dict[str, TopicSpec] = {}
        imported = self.imported
        missing = [topic for topic in self.sources if topic not in {*sizes, *imported}]
        if missing:
            raise TopologyError(
                f"app {self.app!r} reads topics that are not there yet; write to them or create "
                f"them: streamkit topics create {' '.join(missing)}"
            )

        def need(topic: str, count: int, config: Mapping[str, str]) -> None:
            if topic not in sizes:
                sizes[topic] = count
                create[topic] = TopicSpec(count, config)

        for one in self.connectors:
            if one.kind == "source":
                need(one.topic, one.partitions, one.settings)
        for topic in self.ticks:
            need(topic, 1, KEPT)
            if sizes[topic] != 1:
                raise TopologyError(
                    f"{topic} has {sizes[topic]} partitions; ticks are in one, so that each is "
                    "given once: delete the topic, or give the function another name="
                )
        waiting = list(self.subtopologies)
        while waiting:
            ready = [sub for sub in waiting if self._known(sub, sizes)]
            if not ready:
                # Only topics that are written from each other's results are left.
                fed_back = self._fed_back(waiting, sizes)
                for topic, (count, config) in fed_back.items():
                    need(topic, count, config)
                if fed_back:
                    continue
                names = ", ".join(sub.name for sub in waiting)
                raise TopologyError(
                    f"app {self.app!r}: {names} read only what they themselves write, so nothing "
                    "says how many partitions; create one of the topics first"
                )
            for sub in ready:
                waiting.remove(sub)
                tasks[sub.name] = count = _task_count(self.app, sub, sizes)
                for output in sub.outputs:
                    need(output.topic, count, output.config)
                for store in sub.stores:
                    if sizes.get(store.changelog, count) != count:
                        raise TopologyError(
                            f"{store.changelog} has "
                            f"{counted(sizes[store.changelog], 'partition')}, but "
                            f"{sub.name} has {count} now; the state of store {store.name!r} would "
                            "be read by the wrong tasks: give the store another name= or take "
                            "back the change of partitions"
                        )
                    need(store.changelog, count, CHANGELOG)
                if sub.journal is not None:
                    need(sub.journal, count, KEPT)
                for topic in sub.repartitions:
                    if count > MAX_UPSTREAM_TASKS:
                        raise TopologyError(
                            f"{sub.name} has {count} partitions and hands events over through "
                            f"{topic}; at most {MAX_UPSTREAM_TASKS} partitions can be: use fewer"
                        )
                    need(topic, self._repartition_size(topic, count, sizes), KEPT)
        used = {t: n for t, n in sizes.items() if t in self._topics()}
        return Layout(tasks, create, used)

    def _topics(self) -> set[str]:
        return {*self.sources, *self.sinks, *self.internal} | {
            source.topic for sub in self.subtopologies for source in sub.streams
        }

    def _known(self, sub: SubTopology, sizes: Mapping[str, int]) -> bool:
        return all(source.topic in sizes for source in sub.sources)

    def _fed_back(
        self, waiting: Sequence[SubTopology], sizes: Mapping[str, int]
    ) -> dict[str, tuple[int, Mapping[str, str]]]:
        """What comes back to a task that also reads what is there: how many partitions it needs,
        as it is read together with that, and its config."""
        written = {output.topic: output.config for sub in waiting for output in sub.outputs}
        written |= {topic: KEPT for sub in waiting for topic in sub.repartitions}
        for sub in waiting:
            read = {s.topic for s in sub.streams} | {t.topic for t in sub.tables}
            known = [sizes[topic] for topic in read if topic in sizes]
            missing = {source.topic for source in sub.sources if source.topic not in sizes}
            if known and missing <= written.keys():
                return {topic: (max(known), written[topic]) for topic in missing}
        return {}

    def _repartition_size(self, topic: str, default: int, sizes: Mapping[str, int]) -> int:
        for sub in self.subtopologies:
            if any(source.topic == topic for source in sub.streams):
                joined = [t.topic for t in sub.tables] + [s.topic for s in sub.streams]
                return max((sizes[t] for t in joined if t in sizes), default=default)
        return default


def _window_before(node: Node) -> str | None:
    """The name of the window whose results come to a node, as they are or as others of them."""
    above = node.above
    while above is not None and not isinstance(above, WindowFold):
        if isinstance(above, StreamJoin | RunningFold):
            return None
        above = above.above
    return None if above is None else above.name


def _task_count(app: str, sub: SubTopology, sizes: Mapping[str, int]) -> int:
    read = [*(s.topic for s in sub.streams), *(t.topic for t in sub.tables)]
    counts = {topic: sizes[topic] for topic in read}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{topic} has {count}" for topic, count in counts.items())
        raise TopologyError(
            f"app {app!r}: {sub.together} need the same number of partitions, but {told}; recreate "
            f"one of them with as many, or {sub.apart}"
        )
    return max(counts.values())
