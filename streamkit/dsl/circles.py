"""Steps that are to be given their events through a topic, although these keep their key.

Trees that share something are one sub-topology, and a tree is cut where events get another key. So
a sub-topology may come to read what it writes itself, if only through others, and its tasks would
wait for each other's time in a circle. As when a stream meets its own events under another key:

    flights ──┬────────────────────── join        flights ──┬──────────── topic ── join
              └── by dest ── topic ────┘                     └── by dest ── topic ────┘

The join on the left is in one sub-topology with what writes the topic. That on the right is not.
"""

from collections.abc import Hashable
from typing import Any, TypeAlias

from streamkit.dsl.nodes.node import Node
from streamkit.dsl.nodes.sources import TableSource
from streamkit.dsl.nodes.steps import By
from streamkit.errors import TopologyError

_Root: TypeAlias = Hashable
"""Of a tree: a source, a By; `(step,)` for one that begins with a step that was cut off."""


def steps_to_cut_off(app: str, nodes: tuple[Node, ...], cut: set[By]) -> list[Node]:
    """The steps, in the order of `nodes`, without which there are no circles.

    `nodes` are in the order of their declaration, and `cut` are those of them after which trees are
    cut in any case. Raises TopologyError when there is no way without a circle.
    """
    apart: set[Node] = set()
    while more := _first_circle(app, nodes, cut, apart):
        apart |= more
    return [node for node in nodes if node in apart]


def _first_circle(
    app: str, nodes: tuple[Node, ...], cut: set[By], apart: set[Node]
) -> frozenset[Node]:
    """Before which steps the first circle is to be cut; nothing when there is none."""
    trees = _Trees(nodes, cut, apart)
    sharing: dict[Any, list[Node]] = {}
    for node in nodes:
        for shared in node.together():
            others = sharing.setdefault(shared, [])
            mine, theirs = trees.of(node), trees.of(others[0] if others else node)
            if trees.lead(mine, theirs):
                upper = frozenset([node])
            elif trees.lead(theirs, mine):
                upper = frozenset(others)
            else:
                trees.join(mine, theirs)
                others.append(node)
                continue
            if upper <= apart:
                raise _no_way(app, shared, node, others[0])
            return upper - apart
    return frozenset()


class _Trees:
    """Which tree a node is in, which are together, and which give events to which."""

    def __init__(self, nodes: tuple[Node, ...], cut: set[By], apart: set[Node]) -> None:
        self._cut = cut
        self._apart = apart
        self._groups: dict[_Root, set[_Root]] = {}
        self._below: dict[_Root, list[_Root]] = {}
        for node in nodes:
            if isinstance(node, By) and node in cut:
                self._below.setdefault(self.of(node), []).append(node)
            elif node in apart and node.above is not None:
                self._below.setdefault(self._after(node.above), []).append((node,))

    def of(self, node: Node) -> _Root:
        """The root of the tree that a node is in."""
        if node in self._apart:
            return (node,)
        return node if node.above is None else self._after(node.above)

    def _after(self, node: Node) -> _Root:
        """The root of the tree that what follows a node is in, unless it was cut off."""
        return node if node in self._cut else self.of(node)

    def _group(self, root: _Root) -> set[_Root]:
        return self._groups.get(root, {root})

    def join(self, one: _Root, other: _Root) -> None:
        """They are together, with all that they are together with."""
        both = self._group(one) | self._group(other)
        self._groups |= dict.fromkeys(both, both)

    def lead(self, one: _Root, other: _Root) -> bool:
        """Whether events go from one to the other, which is not together with it."""
        end, seen = self._group(other), self._group(one)
        pending = [] if one in end else list(seen)
        while pending:
            reached = {
                each for root in self._below.get(pending.pop(), ()) for each in self._group(root)
            }
            if reached & end:
                return True
            pending += reached - seen
            seen = seen | reached
        return False


def _no_way(app: str, shared: Any, node: Node, other: Node) -> TopologyError:
    if isinstance(shared, TableSource):
        table = shared.topic
        instead = f"use app.global_table({table!r}, ...), of which every task has all rows"
    else:
        table = shared.name
        instead = "write its rows to a topic with .to(...), and read that with app.global_table"
    return TopologyError(
        f"app {app!r}: {other.name!r} and {node.name!r} are joins with {table}, of which each task "
        f"has a part; but the events of {node.name!r} are made by {other.name!r} and change "
        f"partition on the way, so that tasks would wait for each other in a circle; {instead}"
    )
