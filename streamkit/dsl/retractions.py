"""What sessions give before they are final, and have to take back when two of them become one.

A null value takes the place of what was given. It is written where results are written under their
own key, past the functions in between. Some steps it cannot pass: what they give later would be
written after it, and stay.
"""

from collections.abc import Iterator, Sequence

from streamkit.dsl.nodes.joins import Join
from streamkit.dsl.nodes.node import Node
from streamkit.dsl.nodes.outputs import To
from streamkit.dsl.nodes.steps import Filter, FlatMap, Map, Process
from streamkit.dsl.nodes.waiting import Waiting
from streamkit.dsl.nodes.windows import WindowFold
from streamkit.dsl.topology import Topology
from streamkit.dsl.windows import Session
from streamkit.errors import TopologyError
from streamkit.serde import type_name

PASSED = (Map, FlatMap, Filter, Process, Join)
"""Steps that retractions pass."""


def check_retractions(topology: Topology, nodes: Sequence[Node]) -> None:
    """Raises TopologyError when what a session takes back would not come to where it was written.

    Steps that give results another key are let through: nothing tells whose these are. So are
    windows and joins of streams: for them each result is an event.
    """
    together = {
        (above, node)
        for sub in topology.subtopologies
        for above, children in sub.children.items()
        for node in children
    }
    for window in nodes:
        if not isinstance(window, WindowFold) or not isinstance(window.window, Session):
            continue
        if window.emit == "final":
            continue
        for way in _ways(window, nodes):
            for above, step in zip((window, *way), way, strict=False):
                held = isinstance(step, Waiting)
                if held or (above, step) not in together:
                    raise _not_passed(window, step, way[-1], held)


def _ways(node: Node, nodes: Sequence[Node]) -> Iterator[tuple[Node, ...]]:
    """The steps from a node to where its results are written under their own key."""
    for after in nodes:
        if after.above is not node:
            continue
        if isinstance(after, To) and after.rekey is None:
            yield (after,)
        elif isinstance(after, (*PASSED, Waiting)):
            for rest in _ways(after, nodes):
                yield (after, *rest)


def _not_passed(window: WindowFold, step: Node, end: Node, held: bool) -> TopologyError:
    (function,) = step.functions
    why = "which is waited for" if held else "which is given events through a topic"
    return TopologyError(
        f"the sessions of {window.name!r} give results before they are final, and take them back "
        f"when two become one; but {function.described} stands between them and {end.name!r}, "
        f'{why}, so nothing could be taken back there. Say emit="final"; or write the sessions '
        f"to a topic, to=..., and read that: app.stream(topic, {type_name(window.value.type)} | "
        "None), where None comes of what is taken back"
    )
