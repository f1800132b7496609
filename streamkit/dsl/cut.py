"""Cut an app's nodes into sub-topologies, and refuse what does not fit together.

Nodes form trees under their sources. A tree is cut at every `By` that something keyed depends on;
what follows it becomes a tree of its own under a repartition topic. Trees that read one
partitioned table belong to one sub-topology, because each of its partitions is in one task. Where
that would make a circle, a tree is cut before a step as well (see `circles`).
"""

from collections.abc import Iterator
from typing import Any

from streamkit.dsl.circles import steps_to_cut_off
from streamkit.dsl.nodes.drawn import drawn_behind
from streamkit.dsl.nodes.in_order import (
    InOrder,
    chooses,
    comes_as_read,
    comes_in_order,
    comes_mixed,
    goes_by_order,
    goes_by_time,
    is_asked_for,
    is_of_one,
)
from streamkit.dsl.nodes.merges import Merge, MergedSide
from streamkit.dsl.nodes.node import Node, OutputSpec, StreamNode, all_before, retry_topic
from streamkit.dsl.nodes.outputs import Repartition
from streamkit.dsl.nodes.sources import StreamSource, TableSource
from streamkit.dsl.nodes.steps import By, Filter
from streamkit.dsl.nodes.stream_joins import RightSide, StreamJoin
from streamkit.dsl.nodes.tables import TableNode, name_of
from streamkit.dsl.topology import Output, Store, SubTopology, Topology
from streamkit.errors import TopologyError
from streamkit.serde import Serde, Untyped, type_name, without_none


def build(app: str, nodes: tuple[Node, ...], tables: tuple[TableSource, ...]) -> Topology:
    """Cut an app's nodes into sub-topologies. Raises TopologyError."""
    _check_orders(nodes)
    trees = _trees(nodes, _hand_overs(app, nodes))
    groups = _together([tree for tree in trees if len(tree) > 1])
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
    _check_dead_letters(subs)
    _refuse_circles(app, nodes)
    topology = Topology(app, subs)
    for topic in (*topology.internal, *topology.ticks):
        if topic in (*topology.sources, *topology.sinks):
            raise TopologyError(
                f"app {app!r} reads or writes {topic}, where it keeps what it needs itself; use "
                "another topic, or give what is kept there another name with name="
            )
    return topology


def _children_of(node: Node, nodes: tuple[Node, ...]) -> list[Node]:
    return [n for n in nodes if n.above is node]


def _keyed_behind(by: By, nodes: tuple[Node, ...]) -> Iterator[Node]:
    """The first nodes on each way from it that depend on its keys."""
    pending = _children_of(by, nodes)
    while pending:
        node = pending.pop()
        if node.is_keyed:
            yield node
        elif not isinstance(node, By):  # a later By gives another key again
            pending += _children_of(node, nodes)


def _check_orders(nodes: tuple[Node, ...]) -> None:
    """Raises TopologyError when events are to be in an order that nothing would go by."""
    for by in nodes:
        if not isinstance(by, By) or not by.in_order:
            continue
        keyed = list(_keyed_behind(by, nodes))
        where = f"{by.name!r}: in_order=True"
        if not keyed:
            raise TopologyError(
                f"{where} has no effect, as nothing behind it keeps anything (a State, a fold, a "
                "window, a table): events go on as they come, and no task has all of a key. Leave "
                "it out"
            )
        if all(isinstance(node, StreamJoin | RightSide | Merge | MergedSide) for node in keyed):
            name = keyed[0].name
            raise TopologyError(
                f"{where} would not reach behind {name!r}, where two streams meet: what they give "
                "comes as it comes of both. Leave it out here; who needs that in order says "
                ".by(..., in_order=True) behind it"
            )


def _hand_overs(app: str, nodes: tuple[Node, ...]) -> dict[Node, Repartition]:
    """Where trees are cut: after each By of it, and before each other step of it."""
    cut = {by for by in nodes if isinstance(by, By) and any(_keyed_behind(by, nodes))}
    found: dict[Node, Repartition] = {}
    placed, drawn = _placed(nodes), drawn_behind(nodes)

    def hand_over(at: Node, node: StreamNode, name: str, where: str) -> None:
        found[at] = _hand_over(node, f"{app}-{name}", where, at in placed, at in drawn)

    for by in nodes:
        if isinstance(by, By) and by in cut:
            hand_over(by, by, by.name, f"by {by.function.described}")
    rights = {right for node in nodes for right in node.also_after()}
    taken = {node.name for node in nodes if isinstance(node, By)}
    for node in steps_to_cut_off(app, nodes, cut):
        assert node.above is not None, "a source is not cut off"
        side = "right" if node in rights else "left" if node.also_after() else "events"
        name = f"{node.name}-{side}"
        if name in taken:
            raise TopologyError(
                f"two repartition topics of app {app!r} would be called {name!r}; give "
                f"{node.name!r} another name with name="
            )
        taken.add(name)
        hand_over(node, node.above, name, repr(node.name))
    return found


def _placed(nodes: tuple[Node, ...]) -> set[Node]:
    """Behind which, or before which, order matters if trees are cut there: steps that go by it come
    to know it of nothing else."""
    ends: list[Node] = [
        step for node in nodes if (step := goes_by_time(node) or goes_by_order(node)) is not None
    ]
    for join in filter(None, map(chooses, nodes)):
        ends.append(join.right)
        # In the order of the left events it gives what it does: who keeps something may go by that.
        if any(node.stores() and join in all_before(node) for node in nodes):
            ends.append(join)
    ends += filter(is_asked_for, nodes)
    found = set(ends)
    while ends:
        node = ends.pop().above
        while node is not None and (is_of_one(node) or isinstance(node, Merge)):
            found.add(node)
            if isinstance(node, Merge):  # where both sides of it come from
                found.add(node.right)
                ends.append(node.right)
            node = node.above
    return found


def _hand_over(node: StreamNode, name: str, where: str, placed: bool, drawn: bool) -> Repartition:
    for what, serde in (("key", node.keys), ("values", node.gives)):
        if serde.type is Untyped:
            raise TopologyError(
                f"{where}: events change partition here, but the type of their {what} is unknown; "
                "annotate what the function before it returns"
            )
    return Repartition(node, f"{name}-repartition", node.keys, node.gives, placed, drawn)


_Tree = dict[Node, tuple[Node, ...]]
"""A source and all that follows it, up to where events change partition."""


def _trees(nodes: tuple[Node, ...], hand_overs: dict[Node, Repartition]) -> list[_Tree]:
    """Those of the sources, then those of the repartition topics."""

    def tree(source: StreamSource, first: list[Node]) -> _Tree:
        tree: _Tree = {}

        def grow(node: Node, after: list[Node]) -> None:
            tree[node] = tuple(after)  # before those: a parent stands before them
            for child in after:
                grow(child, following(child))

        grow(source, first)
        return tree

    def following(node: Node) -> list[Node]:
        cut_here = isinstance(node, By) and node in hand_overs
        return [hand_overs[node]] if cut_here else given_to(node)

    def given_to(node: Node) -> list[Node]:
        return [
            child if isinstance(child, By) else hand_overs.get(child, child)
            for child in _children_of(node, nodes)
        ]

    trees = [tree(node, given_to(node)) for node in nodes if isinstance(node, StreamSource)]
    for node, written in hand_overs.items():
        source = StreamSource(written.topic, written.key, written.value)
        grown = tree(source, given_to(node) if isinstance(node, By) else [node])
        if is_asked_for(node):
            held = InOrder(written.parent, node, asked=True)
            grown = {source: (held,), held: grown.pop(source), **grown}
        trees.append(grown)
    return trees


def _tables(tree: _Tree) -> list[TableSource]:
    return list(dict.fromkeys(table for node in tree for table in node.tables()))


def _shared(tree: _Tree) -> set[Any]:
    return {shared for node in tree for shared in node.together()}


def _together(trees: list[_Tree]) -> list[list[_Tree]]:
    """Trees that share something, such as a partitioned table, are one sub-topology."""
    groups: list[list[_Tree]] = []
    for tree in trees:
        mine = _shared(tree)
        touching = [g for g in groups if any(mine & _shared(other) for other in g)]
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
    _put_in_order(streams, renamed)
    tables = list(dict.fromkeys(t for tree in group for t in _tables(tree)))
    for stream in streams:
        if stream.topic in (table.topic for table in tables):
            raise TopologyError(
                f"{stream.topic}: a task would have to read it as a table and, for the changes of "
                "a table that is made of it, as a stream; write those changes in an app of their "
                "own"
            )
    name = _name(group)
    clocked = len(streams) + len(tables) > 1 or any(node.is_clocked for node in renamed)
    return SubTopology(
        name=name,
        streams=tuple(streams),
        tables=tuple(t for t in tables if not t.everywhere),
        global_tables=tuple(t for t in tables if t.everywhere),
        nodes=_in_order(streams, renamed),
        children=renamed,
        stores=tuple(
            Store(
                spec.name,
                f"{app}-{spec.name}-changelog",
                spec,
                " or ".join(one.described for one in node.functions),
            )
            for node in renamed
            for spec in node.stores()
        ),
        outputs=tuple(_output(app, node, spec) for node in renamed for spec in node.outputs()),
        journal=f"{app}-{name.removeprefix(f'{app}-')}-journal" if clocked else None,
        retries={node: retry_topic(node.name).name(app) for node in renamed if node.dead_letters},
    )


_ORDERLESS = ", or, of an aggregate that comes to the same in any order, say any_order=True"


def _put_in_order(streams: list[StreamSource], children: _Tree) -> None:
    """Have steps that go by time be given their events in that order, and those that go by the
    order of events if that is another one in every run.

    One stream as it is read from outside brings time with its events: there is nothing to wait for.
    """
    alone = len(streams) == 1
    timed = [step for step in map(goes_by_time, children) if step is not None]
    steps = [
        step
        for step in timed
        if not (alone and comes_as_read(step, children)) and not comes_in_order(step, children)
    ]
    folds = [fold for fold in map(goes_by_order, children) if fold is not None]
    steps += [fold for fold in folds if comes_mixed(fold, children)]
    for step in steps:
        if step.parent.gives.type is Untyped:
            raise TopologyError(
                f"{step.name}: events are kept until they are given to it in order of time, but "
                f"the type of their values is unknown; annotate what the function before it returns"
                f"{_ORDERLESS if goes_by_order(step) is not None else ''}"
            )
        before = next(node for node, after in children.items() if step in after)
        held = InOrder(step.parent, step)
        children[before] = tuple(held if node is step else node for node in children[before])
        children[held] = (step,)


def _in_order(streams: list[StreamSource], children: _Tree) -> tuple[Node, ...]:
    """The nodes, each after all that give it events."""
    placed: dict[Node, None] = {}
    waiting: list[Node] = []

    def place(node: Node) -> None:
        if any(other not in placed for other in node.also_after()):
            waiting.append(node)
            return
        placed[node] = None
        for child in children[node]:
            place(child)

    for source in streams:
        place(source)
    while waiting:  # a step is made after those that it follows, so that one of them has its turn
        again, waiting = waiting, []
        for node in again:
            place(node)
    return tuple(placed)


def _output(app: str, node: Node, spec: OutputSpec) -> Output:
    key = spec.key
    if key is None:
        assert node.above is not None, "a source says which keys"
        key = node.above.keys
    return Output(spec.name(app), key, spec.value, spec.internal, spec.compact, spec.kept)


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


def _check_dead_letters(subs: tuple[SubTopology, ...]) -> None:
    """Raises TopologyError when events would be set aside among other records."""
    retries = [topic for sub in subs for topic in sub.retries.values()]
    for topic in retries:
        if retries.count(topic) > 1:
            raise TopologyError(
                f"two steps with on_error would take events again from {topic}; give one of them "
                "another name with name="
            )
    outputs = [output for sub in subs for output in sub.outputs]
    others = {output.topic for output in outputs if not output.kept}
    others |= {source.topic for sub in subs for source in sub.sources}
    for output in outputs:
        if output.kept and output.topic in others:
            raise TopologyError(
                f"{output.topic}: events that fail would go there, among those that the app reads "
                "or writes there otherwise; give them a topic of their own: dlq(...)"
            )


def _refuse_circles(app: str, nodes: tuple[Node, ...]) -> None:
    """Raises TopologyError when a step gives events to a stream that it is fed by itself."""
    writes: dict[str, dict[str, Node]] = {}  # topic that is read → topics written of it
    for node in nodes:
        for source in _sources_of(node):
            for output in node.outputs():
                writes.setdefault(source.name, {}).setdefault(output.name(app), node)

    def follow(path: list[str]) -> None:
        for topic, node in writes.get(path[-1], {}).items():
            if topic in path:
                way = " -> ".join([*path[path.index(topic) :], topic])
                raise TopologyError(
                    f"{described(node)} writes to {topic}, of which it is made: {way} is an "
                    "endless loop; write to another topic, or, where the loop is meant and ends, "
                    "with Context.send"
                )
            follow([*path, topic])

    for topic in writes:
        follow([topic])


def _sources_of(node: Node) -> list[Node]:
    """The streams that a node is given events of."""
    above = [each for each in (node.above, *node.also_after()) if each is not None]
    return [source for each in above for source in _sources_of(each)] if above else [node]


def described(node: Node) -> str:
    """The step whose events are written, as messages print it."""
    if isinstance(node, StreamNode):
        return repr(node.name)
    parent = node.above
    while isinstance(parent, Filter | By):
        parent = parent.parent
    assert parent is not None, "a source writes nothing"
    function = getattr(parent, "function", None)
    return f"stream {parent.name!r}" if function is None else str(function.described)


def check_keys(stream: Serde, table: TableNode, where: str) -> None:
    """Raises TopologyError when a stream's keys can never equal a table's."""
    if _plain(stream.type) != _plain(table.key.type):
        raise TopologyError(
            f"{where}: the stream's keys are {type_name(stream.type)}, those of table "
            f"{name_of(table)!r} {type_name(table.key.type)}; keys are text unless key= says "
            "otherwise, as in app.table(..., key=int), or on= gives others"
        )


def _plain(type_: Any) -> Any:
    return without_none(type_)[0]
