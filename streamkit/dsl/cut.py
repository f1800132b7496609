"""Cut an app's nodes into sub-topologies, and refuse what does not fit together.

Nodes form trees under their sources. A tree is cut at every `By` that something keyed depends on;
what follows it becomes a tree of its own under a repartition topic. Trees that read one
partitioned table belong to one sub-topology, because each of its partitions is in one task.
"""

from typing import Any

from streamkit.dsl.nodes import (
    Aggregate,
    By,
    Filter,
    Join,
    Node,
    Repartition,
    StreamSource,
    TableSource,
    To,
)
from streamkit.dsl.topology import Store, SubTopology, Topology, state_name
from streamkit.errors import TopologyError
from streamkit.serde import Serde, Untyped, type_name, without_none


def build(app: str, nodes: tuple[Node, ...], tables: tuple[TableSource, ...]) -> Topology:
    """Cut an app's nodes into sub-topologies. Raises TopologyError."""
    cut = {by for by in nodes if isinstance(by, By) and _feeds_keyed(by, nodes)}
    roots: list[tuple[StreamSource, Node | None]] = []  # source, and the By it stands for
    roots += [(n, None) for n in nodes if isinstance(n, StreamSource)]
    for by in nodes:
        if isinstance(by, By) and by in cut:
            value = value_serde(by)
            if value.type is Untyped or by.key.type is Untyped:
                raise TopologyError(
                    f"by {by.function.described}: events change partition here, but the type of "
                    f"their {'key' if by.key.type is Untyped else 'values'} is unknown; annotate "
                    "what the function before it returns"
                )
            topic = f"{app}-{by.name}-repartition"
            roots.append((StreamSource(topic, by.key, value), by))

    trees = [_tree(app, source, by, nodes, cut) for source, by in roots]
    groups = _joined_by_tables([tree for tree in trees if len(tree) > 1])
    owner = {  # which sub-topology writes a repartition topic
        node.topic: _name(group)
        for group in groups
        for node in _flat(group)
        if isinstance(node, Repartition)
    }
    subs = tuple(_subtopology(app, group, owner) for group in groups)
    if not subs:
        raise TopologyError(
            f"app {app!r} does nothing: give it a stream with app.stream(...) and a step, "
            "@stream.process"
        )
    _check_stores(app, subs)
    _refuse_circles(nodes)
    topology = Topology(app, subs)
    for topic in topology.internal:
        if topic in (*topology.sources, *topology.sinks):
            raise TopologyError(
                f"app {app!r} reads or writes {topic}, where it keeps what it needs itself; use "
                "another topic, or give what is kept there another name with name="
            )
    return topology


def _children_of(node: Node, nodes: tuple[Node, ...]) -> list[Node]:
    return [n for n in nodes if not isinstance(n, StreamSource) and n.parent is node]


def _is_keyed(node: Node) -> bool:
    """Whether what a node does depends on all events of a key being in one task."""
    if isinstance(node, Aggregate):
        return True
    if isinstance(node, Join):
        return not node.table.everywhere or bool(node.function.states)
    function = getattr(node, "function", None)
    return function is not None and bool(function.states)


def _feeds_keyed(by: By, nodes: tuple[Node, ...]) -> bool:
    pending = _children_of(by, nodes)
    while pending:
        node = pending.pop()
        if _is_keyed(node):
            return True
        if not isinstance(node, By):  # a later By gives another key again
            pending += _children_of(node, nodes)
    return False


_Tree = dict[Node, tuple[Node, ...]]
"""A source and all that follows it, up to where events change partition."""


def _tree(
    app: str, source: StreamSource, by: Node | None, nodes: tuple[Node, ...], cut: set[By]
) -> _Tree:
    tree: _Tree = {}

    def grow(node: Node, origin: Node) -> None:
        children: list[Node] = []
        tree[node] = ()  # before its children: a parent stands before them
        if isinstance(node, By) and node in cut:
            children = [
                Repartition(node, f"{app}-{node.name}-repartition", node.key, value_serde(node))
            ]
        else:
            children = _children_of(origin, nodes)
        for child in children:
            grow(child, child)
        tree[node] = tuple(children)

    grow(source, source if by is None else by)
    return tree


def _tables(tree: _Tree) -> list[TableSource]:
    return list(dict.fromkeys(n.table for n in tree if isinstance(n, Join)))


def _joined_by_tables(trees: list[_Tree]) -> list[list[_Tree]]:
    """Trees that share a partitioned table are one sub-topology."""
    groups: list[list[_Tree]] = []
    for tree in trees:
        mine = {t for t in _tables(tree) if not t.everywhere}
        touching = [g for g in groups if mine & {t for other in g for t in _tables(other)}]
        merged = [other for group in touching for other in group] + [tree]
        groups = [g for g in groups if g not in touching] + [merged]
    return groups


def _flat(group: list[_Tree]) -> list[Node]:
    return [node for tree in group for node in tree]


def _name(group: list[_Tree]) -> str:
    """A sub-topology is called after the first topic it reads."""
    return next(n.topic for n in _flat(group) if isinstance(n, StreamSource))


def _subtopology(app: str, group: list[_Tree], owner: dict[str, str]) -> SubTopology:
    children: _Tree = {node: after for tree in group for node, after in tree.items()}
    streams: list[StreamSource] = []
    renamed: _Tree = {}
    for node, after in children.items():
        if isinstance(node, StreamSource):
            if node.topic in owner:
                node = StreamSource(node.topic, node.key, node.value, upstream=owner[node.topic])
            streams.append(node)
        renamed[node] = after
    tables = list(dict.fromkeys(t for tree in group for t in _tables(tree)))
    return SubTopology(
        name=_name(group),
        streams=tuple(streams),
        tables=tuple(t for t in tables if not t.everywhere),
        global_tables=tuple(t for t in tables if t.everywhere),
        nodes=tuple(renamed),
        children=renamed,
        stores=tuple(_stores(app, renamed)),
    )


def _stores(app: str, tree: _Tree) -> list[Store]:
    stores = []
    for node in tree:
        if isinstance(node, Aggregate):
            late = f"{app}-{node.name}-late"
            stores.append(Store(node.name, f"{app}-{node.name}-changelog", late))
        function = getattr(node, "function", None)
        if function is not None:
            for parameter, _ in function.states:
                name = state_name(function.name, parameter)
                stores.append(Store(name, f"{app}-{name}-changelog"))
    return stores


def _check_stores(app: str, subs: tuple[SubTopology, ...]) -> None:
    seen: set[str] = set()
    for sub in subs:
        for store in sub.stores:
            if store.name in seen:
                raise TopologyError(
                    f"two stores of app {app!r} would be called {store.name!r}; give one of the "
                    "functions another name with name="
                )
            seen.add(store.name)


def _refuse_circles(nodes: tuple[Node, ...]) -> None:
    """Raises TopologyError when a step gives events to a stream that it is fed by itself."""
    writes: dict[str, dict[str, To]] = {}  # topic that is read → topics written of it
    for node in nodes:
        if isinstance(node, To):
            source: Node = node
            while not isinstance(source, StreamSource):
                source = source.parent
            writes.setdefault(source.topic, {}).setdefault(node.topic, node)

    def follow(path: list[str]) -> None:
        for topic, to in writes.get(path[-1], {}).items():
            if topic in path:
                way = " -> ".join([*path[path.index(topic) :], topic])
                raise TopologyError(
                    f"{_described(to)} writes to {topic}, of which it is made: {way} is an endless "
                    "loop; write to another topic, or, where the loop is meant and ends, with "
                    "Context.send"
                )
            follow([*path, topic])

    for topic in writes:
        follow([topic])


def _described(to: To) -> str:
    """The step whose events are written, as messages print it."""
    parent = to.parent
    while isinstance(parent, Filter | By):
        parent = parent.parent
    function = getattr(parent, "function", None)
    return f"stream {parent.name!r}" if function is None else str(function.described)


def value_serde(node: Node) -> Serde:
    """The serde of the values that a node gives."""
    while isinstance(node, Filter | By):
        node = node.parent
    return node.value


def check_keys(stream: Serde, table: TableSource, where: str) -> None:
    """Raises TopologyError when a stream's keys can never equal a table's."""
    if _plain(stream.type) != _plain(table.key.type):
        raise TopologyError(
            f"{where}: the stream's keys are {type_name(stream.type)}, those of table "
            f"{table.topic!r} {type_name(table.key.type)}; say on= or declare the key with key="
        )


def _plain(type_: Any) -> Any:
    return without_none(type_)[0]
