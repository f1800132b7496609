"""Where steps that do something as time passes are given their events in order of time, and what
tells that order."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from streamkit.dsl.nodes.folds import RunningFold
from streamkit.dsl.nodes.joins import Join
from streamkit.dsl.nodes.merges import Merge, MergedSide
from streamkit.dsl.nodes.node import Node, StreamNode, all_before
from streamkit.dsl.nodes.outputs import Repartition
from streamkit.dsl.nodes.sources import StreamSource
from streamkit.dsl.nodes.steps import By, Filter, FlatMap, Map, Process
from streamkit.dsl.nodes.stream_joins import AsOf, RightSide, StreamJoin, Within
from streamkit.dsl.nodes.timers import OnTimer
from streamkit.dsl.nodes.waiting import Waiting, WaitingRow
from streamkit.dsl.nodes.windows import WindowFold
from streamkit.dsl.stores import StoreSpec
from streamkit.dsl.windows import Every
from streamkit.serde import Serde, serde_for


@dataclass(frozen=True, slots=True, eq=False)
class InOrder(StreamNode):
    """Keeps the events of `parent` until time has passed them, and gives them on in order of time.

    It stands before a `step` that goes by time between events, or by their order, if these come
    otherwise; or, `asked` for by a `By`, before all that follows this `step`, or begins with it.
    """

    parent: StreamNode
    step: Node
    asked: bool = False

    @property
    def name(self) -> str:
        """That of the store, too."""
        return f"{self.step.name}-held"

    @property
    def gives(self) -> Serde:
        return self.parent.gives

    @property
    def is_keyed(self) -> bool:
        return True

    @property
    def is_clocked(self) -> bool:
        return True

    def stores(self) -> tuple[StoreSpec, ...]:
        return (StoreSpec(self.name, _ROWS),)


_ROWS = serde_for(WaitingRow)

_SAME_TIME = (Process, Map, FlatMap, Filter, By, Join, RunningFold)
"""Nodes whose results come with their event, and bear its time."""
_OF_ONE = (*_SAME_TIME, Waiting)
"""Nodes whose results are each of one event, and have its place among those of its time."""

Place: TypeAlias = Literal["read", "handed", "met", "merged", "made", "waited"]
"""What tells the place of an event among those of its time: where it was `read`; of one that was
`handed` over, what came with it; of two that have `met`, these; of one of two streams that are
`merged`, of which it is, and its place there; of others that they are `made` in
their order, and where they were `waited` for behind that, and so come in another, what tells that.
"""


def goes_by_time(node: Node) -> Process | WindowFold | None:
    """The step that a node has act between its events, as time passes: one with timers, or one that
    gives what has changed every so often. What it then finds depends on the order of all these."""
    if isinstance(node, OnTimer):
        return node.parent
    return node if isinstance(node, WindowFold) and isinstance(node.emit, Every) else None


def goes_by_order(node: Node) -> WindowFold | None:
    """A node whose results come when time has passed its events, and depend on their order."""
    is_one = isinstance(node, WindowFold) and node.emit == "final" and node.fold.by_order
    return node if is_one else None  # type: ignore[return-value]


Children: TypeAlias = Mapping[Any, tuple[Any, ...]]
"""The nodes of a task, and which are given the events of each."""


def is_asked_for(node: Node) -> bool:
    """Whether somebody wants what a `By` gives, or what is cut off behind one, in order of time.

    That goes as far as streams meet: pairs come as the second of the two does.
    """
    if isinstance(node, By):
        return node.in_order
    if isinstance(node, RightSide | MergedSide) or node.also_after():
        return False
    return node.above is not None and is_asked_for(node.above)


def comes_as_asked(node: Node, children: Children) -> bool:
    """Whether a node is the first that is given events in order of time as it was asked for."""
    ordered = (one for one in children if isinstance(one, InOrder) and one.asked)
    return any(node in children[one] for one in ordered)


def comes_mixed(node: Node, children: Children) -> bool:
    """Whether a node among these is given events that were handed over, or are of two streams, in
    whatever order others came between them."""
    if comes_as_asked(node, children):
        return False
    for above in (node.above, *node.also_after()):
        if above is None:
            continue
        if isinstance(above, Merge):
            return True
        if above not in children or (above.also_after() and _meets_ordered(above, children)):
            return True
        # What comes of time comes in order of time.
        in_order = isinstance(above, OnTimer) or (
            isinstance(above, WindowFold) and above.emit == "final"
        )
        if not in_order and comes_mixed(above, children):
            return True
    return False


def _meets_ordered(node: Node, children: Children) -> bool:
    """Whether one of the streams that meet in a node waits for its turn: the others do not."""
    return any(comes_as_asked(one, children) for one in (node, *all_before(node)))


def comes_in_order(node: Node, children: Children) -> bool:
    """Whether a node is given events in order of time as it was asked for, and time with them."""
    while not comes_as_asked(node, children):
        above = node.above
        if above not in children or not isinstance(above, _SAME_TIME):
            return False
        node = above
    return True


def comes_as_read(node: StreamNode, nodes: Collection[Any]) -> bool:
    """Whether a node among these is given the events of a topic from outside, as they are read and
    of the time they bear."""
    above = node.above
    while above in nodes and isinstance(above, _SAME_TIME):
        above = above.above
    return isinstance(above, StreamSource) and above in nodes and above.upstream is None


def chooses(node: Node) -> StreamJoin | None:
    """A join that takes one of several events of one time, by their order."""
    is_one = isinstance(node, StreamJoin) and isinstance(node.kind, AsOf)
    return node if is_one else None  # type: ignore[return-value]


def is_of_one(node: Node | None) -> bool:
    """Whether what a node gives is each of one event, whose place it has."""
    return isinstance(node, _OF_ONE)


def asks_for_places(node: Node) -> bool:
    """Whether a node wants to know the places of events among those of their time."""
    if isinstance(node, InOrder) or chooses(node) is not None:
        return True
    return isinstance(node, Repartition) and node.placed


def place_of(node: Node, nodes: Collection[Any]) -> Place:
    """What tells the places of the events that a node among these is given."""
    above, waited = node.above, False
    while above in nodes and is_of_one(above):
        waited = waited or isinstance(above, Waiting)
        above = above.above  # type: ignore[union-attr]  # it is a node
    if above not in nodes:
        return "handed"
    if isinstance(above, StreamSource):
        return "read"
    if isinstance(above, StreamJoin) and isinstance(above.kind, Within):
        return "met"  # given as the second of the two comes
    if isinstance(above, Merge):
        return "merged"
    return "waited" if waited else "made"


def bears_its_place(place: Place) -> bool:
    """Whether the `origin` of the event at hand is its place."""
    return place not in ("read", "made")
