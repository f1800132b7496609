"""A topology in words: every step with what it reads, keeps and writes, to be drawn or printed."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from types import MappingProxyType
from typing import Any

from streamkit.dsl.connectors import AppConnector
from streamkit.dsl.durations import shortest
from streamkit.dsl.nodes.merges import Merge, MergedSide
from streamkit.dsl.nodes.node import Node
from streamkit.dsl.nodes.sources import StreamSource
from streamkit.dsl.nodes.stream_joins import RightSide, StreamJoin, Within
from streamkit.dsl.nodes.tables import name_of
from streamkit.dsl.nodes.waiting import Waiting, Waits
from streamkit.dsl.topology import SubTopology, Topology
from streamkit.dsl.windows import Every, Hopping
from streamkit.serde import type_name

_TIMES = frozenset(
    {
        "after",
        "before",
        "close_after_idle",
        "every",
        "gap",
        "grace",
        "history",
        "max_ahead",
        "out_of_order",
        "size",
        "tolerance",
        "ttl",
    }
)
"""Parameters that are in ms."""

_KINDS = {
    "window fold": "window",
    "running fold": "total",
    "stream source": "stream",
    "on timer": "timer",
}
"""Words for kinds whose classes are called otherwise than what users write."""

_DRAWN = {
    "kept table": "table",
    "merged side": "part of",
    "right side": "right side of",
    "stream join": "join",
    "waiting": "process",
}
"""Words for kinds that state is told apart by, and users do not tell apart."""

_SETTINGS = ("how", "history", "emit", "close_after_idle", "out_of_order", "max_ahead", "ticks")
"""Fields of a node that say how it does what it does, beside its `window` or `kind`."""


@dataclass(frozen=True, slots=True)
class Step:
    """One node. `number` is its own within the app; `after` are those of the nodes that it follows.

    `kind` is a word for what it does, `settings` how, as users write it; `function` the user's, and
    where it is. `joins` are the topics of tables, `stores` (name, changelog); `writes` are topics.
    """

    number: int
    kind: str
    name: str
    function: str | None
    settings: Mapping[str, str]
    after: tuple[int, ...]
    reads: tuple[str, ...]
    joins: tuple[str, ...]
    stores: tuple[tuple[str, str], ...]
    writes: tuple[str, ...]

    @property
    def described(self) -> str:
        """The step in a few words: `window spent, tumbling 5m, emit update`."""
        name = "" if self.kind in ("to", "repartition") else f" {self.name}"
        said = (f"{key} {value}".strip() for key, value in self.settings.items())
        return ", ".join([f"{self.kind}{name}", *said])


@dataclass(frozen=True, slots=True)
class Part:
    """A sub-topology: its steps, each after those that it follows."""

    name: str
    steps: tuple[Step, ...]
    journal: str | None

    def first(self) -> tuple[Step, ...]:
        """Those that follow no other."""
        return tuple(step for step in self.steps if not step.after)

    def follow(self, step: Step) -> tuple[Step, ...]:
        """The steps after one: each is listed after the last of those that it follows."""
        return tuple(other for other in self.steps if other.after and other.after[0] == step.number)


@dataclass(frozen=True, slots=True)
class Outline:
    """An app. `types` says of topics how keys and values are typed, where that is known."""

    app: str
    parts: tuple[Part, ...]
    sources: tuple[str, ...]
    sinks: tuple[str, ...]
    types: Mapping[str, tuple[str, str]]
    connectors: tuple[AppConnector, ...]


def outline(topology: Topology) -> Outline:
    """A topology in words."""
    numbers: dict[Node, int] = {}
    for sub in topology.subtopologies:
        for node in sub.nodes:
            numbers[node] = len(numbers)
    return Outline(
        topology.app,
        tuple(
            Part(sub.name, tuple(_steps(topology.app, sub, numbers)), sub.journal)
            for sub in topology.subtopologies
        ),
        topology.sources,
        topology.sinks,
        MappingProxyType(
            {
                topic: (type_name(key.type), type_name(value.type))
                for topic, (key, value) in topology.types().items()
            }
        ),
        topology.connectors,
    )


def _steps(app: str, sub: SubTopology, numbers: Mapping[Node, int]) -> Iterator[Step]:
    changelogs = {store.name: store.changelog for store in sub.stores}
    above: dict[Node, list[int]] = {node: [] for node in sub.nodes}
    for node in sub.nodes:
        for child in sub.children[node]:
            above[child].append(numbers[node])
    for node in sub.nodes:
        function = getattr(node, "function", None)
        where = getattr(function, "where", "no source")
        yield Step(
            numbers[node],
            _DRAWN.get(kind_of(node), kind_of(node)),
            node.name,
            None if ".py:" not in where else f"{getattr(function, 'name', '')} ({where})",
            MappingProxyType(_drawn(node)),
            (*above[node], *(numbers[other] for other in node.also_after())),
            (node.topic,) if isinstance(node, StreamSource) else (),
            tuple(dict.fromkeys(table.topic for table in node.tables())),
            tuple((spec.name, changelogs[spec.name]) for spec in node.stores()),
            _writes(app, node),
        )


def _drawn(node: Node) -> dict[str, str]:
    """How a node does what it does: what its state depends on, and what it does not."""
    match node:
        case RightSide() | MergedSide():
            return {}
        case Merge(right=right):
            return {"with": right.parent.name}
        case StreamJoin(kind=kind):
            said = settings_of(node)
            if isinstance(kind, Within):
                del said["within"]
                if kind.before == kind.after:
                    within = shortest(kind.before)
                    said = {"within": within, kind.how: ""} | {
                        key: value for key, value in said.items() if key not in ("before", "after")
                    }
            return {"with": node.right.parent.name} | said
        case Waiting(waits=waits):
            return _waits(waits) | settings_of(node)
        case _:
            return settings_of(node)


def _waits(waits: Waits) -> dict[str, str]:
    said: dict[str, str] = {}
    if waits.workers is not None:
        said["workers"] = str(waits.workers)
    elif waits.where == "loop":
        said |= {"async": "", "concurrency": str(waits.concurrency)}
    if waits.batch is not None:
        said["batch"] = str(waits.batch)
    for name, ms in (("within", waits.within), ("timeout", waits.timeout)):
        if ms is not None:
            said[name] = shortest(ms)
    if waits.where != "here" and waits.order == "key":
        said["order"] = "key"
    return said


def _writes(app: str, node: Node) -> tuple[str, ...]:
    topics = [output.name(app) for output in node.outputs() if not output.internal]
    if kind_of(node) == "repartition":
        topics.append(node.name)
    return tuple(topics)


def kind_of(node: Node) -> str:
    """A word for what a node does: its class, as `stream join`."""
    words = " ".join(re.findall(r"[A-Z][a-z]*", type(node).__name__)).lower()
    return _KINDS.get(words, words)


def settings_of(node: Node) -> dict[str, str]:
    """How a node does what it does, as people write it. A word by itself has an empty value."""
    said: dict[str, str] = {}
    for name in ("window", "kind"):
        setting = getattr(node, name, None)
        if is_dataclass(setting) and not isinstance(setting, type):
            said |= _fields(setting)
    table = getattr(node, "table", None)
    if table is not None:
        said["with global table" if table.everywhere else "with table"] = name_of(table)
    if node.on_error is not None:
        said["on error"] = str(node.on_error)
    for name in _SETTINGS:
        value = getattr(node, name, None)
        if name == "how" and value is not None:
            said[value] = ""
        elif value not in (None, 0):
            said[name.replace("_", " ")] = _text(name, value)
    return said


def _fields(setting: Any) -> dict[str, str]:
    values = {one.name: getattr(setting, one.name) for one in fields(setting)}
    word = " ".join(re.findall(r"[A-Z][a-z]*", type(setting).__name__)).lower()
    if isinstance(setting, Hopping) and setting.size == setting.every:
        word = "tumbling"
        del values["every"]
    first = "size" if "size" in values else "gap" if "gap" in values else None
    said = {word: "" if first is None else _text(first, values.pop(first))}
    for name, value in values.items():
        if name in ("how", "direction"):
            said[value] = ""
        elif value is True:
            said[name] = ""
        elif value not in (None, 0):
            said[name.replace("_", " ")] = _text(name, value)
    return said


def _text(name: str, value: object) -> str:
    if isinstance(value, Every):
        return f"every {shortest(value.every)}"
    if name in _TIMES and isinstance(value, int):
        return shortest(value)
    return str(value)
