"""What an app keeps, in a form that outlives its code: to be held against later code of it."""

import json
from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from streamkit._version import __version__
from streamkit.dsl.durations import shortest
from streamkit.dsl.nodes.folds import RunningFold
from streamkit.dsl.nodes.node import Node
from streamkit.dsl.nodes.steps import By
from streamkit.dsl.nodes.windows import WindowFold
from streamkit.dsl.outline import kind_of, settings_of
from streamkit.dsl.stores import StoreSpec, state_name
from streamkit.dsl.topology import Topology
from streamkit.serde import Serde, type_name, without_none


class TypeMark(msgspec.Struct, frozen=True):
    """A type as messages print it, and a mark that is the same for types that JSON cannot tell
    apart."""

    name: str
    mark: str


class KeptStore(msgspec.Struct, frozen=True):
    """A store. `kind` and `settings` in words, as of `streamkit.dsl.outline`.

    `keyed_by` says what its keys are, `step` is the name of the function or step, and `parameter`
    that of a State.
    """

    changelog: str
    partitions: int
    kind: str
    settings: dict[str, str]
    key: TypeMark
    value: TypeMark
    keyed_by: str
    step: str
    parameter: str | None = None


class KeptConnector(msgspec.Struct, frozen=True):
    """A source or a sink: what it is one of, and the topic that it fills or writes out."""

    kind: str
    what: str
    topic: str


class Manifest(msgspec.Struct, frozen=True):
    """An app as it was when it ran. `topics` are those it read and wrote, with their partitions.

    `dead_letters`: those that events are set aside in. `left`: changelogs and repartition topics of
    older code that somebody has said to leave alone.
    """

    app: str
    streamkit: str
    subtopologies: dict[str, list[str]]
    stores: dict[str, KeptStore]
    topics: dict[str, int]
    left: list[str] = []
    dead_letters: list[str] = []
    connectors: dict[str, KeptConnector] = {}


def manifest(
    topology: Topology,
    tasks: Mapping[str, int],
    partitions: Mapping[str, int],
    left: list[str] | None = None,
) -> Manifest:
    """An app's manifest. `tasks` per sub-topology and `partitions` per topic, as of a Layout."""
    return Manifest(
        app=topology.app,
        streamkit=__version__,
        subtopologies={
            sub.name: [source.topic for source in sub.sources] for sub in topology.subtopologies
        },
        stores=dict(_stores(topology, tasks)),
        topics=dict(sorted(partitions.items())),
        left=sorted(left or []),
        dead_letters=sorted(topology.dead_letters),
        connectors={
            one.name: KeptConnector(one.kind, one.what, one.topic) for one in topology.connectors
        },
    )


def serdes(topology: Topology) -> dict[str, Serde]:
    """How the values of each store are encoded."""
    return {store.name: store.spec.value for sub in topology.subtopologies for store in sub.stores}


def _stores(topology: Topology, tasks: Mapping[str, int]) -> Iterator[tuple[str, KeptStore]]:
    for sub in topology.subtopologies:
        changelogs = {store.name: store.changelog for store in sub.stores}
        for node in sub.nodes:
            for spec in node.stores():
                yield spec.name, _store(node, spec, changelogs[spec.name], tasks.get(sub.name, 0))


def _store(node: Node, spec: StoreSpec, changelog: str, partitions: int) -> KeptStore:
    kind, settings, parameter = kind_of(node), settings_of(node), None
    for function in node.functions:
        for kept in function.states:
            if state_name(function.name, kept.parameter) == spec.name:
                # How its function is used does not matter to what it keeps.
                kind, settings, parameter = kept.kind.__name__, {}, kept.parameter
    if isinstance(node, WindowFold | RunningFold) and node.fold.kept:
        settings["aggregate"] = node.fold.kept
    if spec.ttl is not None:
        settings["ttl"] = shortest(spec.ttl)
    return KeptStore(
        changelog=changelog,
        partitions=partitions,
        kind=kind,
        settings=settings,
        key=type_mark((node.above or node).keys.type),  # type: ignore[attr-defined]
        value=type_mark(spec.value.type),
        keyed_by=_keyed_by(node),
        step=node.name,
        parameter=parameter,
    )


def _keyed_by(node: Node) -> str:
    """What the keys of a node's events are: a field, a function's result, those of a topic."""
    above = node.above
    while above is not None:
        if isinstance(above, By):
            name = above.function.name
            return above.name if name == "<lambda>" else name
        if above.above is None:
            return f"the key of {above.name}"
        above = above.above
    return "its own key"


def type_mark(type_: Any) -> TypeMark:
    """A type's name and mark. Names and docstrings of classes do not change the mark."""
    plain = without_none(type_)[0]
    try:
        schema: Any = _bare(msgspec.json.schema(plain))
    except TypeError:
        schema = type_name(plain)
    text = json.dumps(schema, sort_keys=True)
    return TypeMark(type_name(type_), blake2b(text.encode(), digest_size=8).hexdigest())


def _bare(schema: dict[str, Any]) -> list[Any]:
    """A JSON schema without the names and docstrings of classes: the type, then those it is of."""
    classes = schema.get("$defs", {})
    numbers: dict[str, int] = {}
    bare: list[Any] = [None]

    def walk(part: Any) -> Any:
        if isinstance(part, list):
            return [walk(each) for each in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            name = part["$ref"].rpartition("/")[2]
            if name not in numbers:
                numbers[name] = len(bare)
                bare.append(None)
                bare[numbers[name]] = walk(classes[name])
            return numbers[name]
        if part.get("type") == "object" and "properties" in part:
            # Its fields may be called title or description.
            fields = {name: walk(each) for name, each in part["properties"].items()}
            return {**_plain(part, walk), "properties": fields}
        return _plain(part, walk)

    bare[0] = walk(schema)
    return bare


def _plain(part: dict[str, Any], walk: Callable[[Any], Any]) -> dict[str, Any]:
    without = ("$defs", "title", "description", "properties")
    return {key: walk(each) for key, each in part.items() if key not in without}
