"""What sessions give before they are final, and have to take back when two of them become one.

A null value takes the place of what was given. It is written where results are written under their
own key, past the functions in between. Some steps it cannot pass: behind those what was given would
stay, as if there were a session more.
"""

from collections.abc import Iterator, Sequence

from streamkit.dsl.nodes.joins import Join
from streamkit.dsl.nodes.merges import Merge, MergedSide
from streamkit.dsl.nodes.node import Node
from streamkit.dsl.nodes.outputs import To
from streamkit.dsl.nodes.sources import StreamSource
from streamkit.dsl.nodes.steps import By, Filter, FlatMap, Map, Process
from streamkit.dsl.nodes.stream_joins import RightSide, StreamJoin
from streamkit.dsl.nodes.tables import KeptTable
from streamkit.dsl.nodes.waiting import Waiting
from streamkit.dsl.nodes.windows import WindowFold
from streamkit.dsl.topology import Topology
from streamkit.dsl.windows import Session
from streamkit.errors import TopologyError
from streamkit.serde import type_name

PASSED = (Map, FlatMap, Filter, Process, Join)
"""Steps that retractions pass."""


def check_retractions(topology: Topology, nodes: Sequence[Node]) -> None:
    """Raises TopologyError when what a session takes back would not come to where it was written,
    or could not be read there.

    Windows and running aggregates are let through: for them each result is an event.
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
                why = _why(step, way[-1], (above, step) in together)
                if why is not None:
                    raise _not_passed(window, why)
            for node in nodes:
                if isinstance(node, StreamSource) and _stops_at_null(node, way[-1]):
                    raise _unreadable(window, node)


def _ways(node: Node, nodes: Sequence[Node]) -> Iterator[tuple[Node, ...]]:
    """The steps from a node to where its results are written or kept."""
    for after in nodes:
        if isinstance(after, StreamJoin | Merge) and after.right is node:
            yield from ((after, *rest) for rest in _ways(after, nodes))
        elif after.above is not node:
            continue
        elif isinstance(after, (To, KeptTable)):
            yield (after,)
        elif isinstance(after, (*PASSED, Waiting, By, StreamJoin, RightSide, Merge, MergedSide)):
            yield from ((after, *rest) for rest in _ways(after, nodes))


def _why(step: Node, end: Node, together: bool) -> str | None:
    """Why a null value cannot pass a step on its way to an end; None: it can."""
    if isinstance(step, To) and step.rekey is not None:
        return f"to({step.topic!r}, key={step.rekey.described}) makes the keys of values"
    where = f"between them and {end.name!r}"
    if isinstance(step, By):
        return f"{step.function.described} stands {where}, which makes the keys of values"
    if isinstance(step, StreamJoin):
        return f"{step.function.described} stands {where}, which is given pairs"
    if isinstance(step, Merge):
        return f"merge {step.name!r} stands {where}, where events of others come between"
    if isinstance(end, KeptTable):
        return None  # what it has of a key is replaced by the session that there is now
    if isinstance(step, Waiting):
        return f"{step.functions[0].described} stands {where}, which is waited for"
    if isinstance(step, PASSED) and not together:
        return f"{step.functions[0].described} stands {where}, which is given events later"
    return None


def _stops_at_null(source: StreamSource, end: Node) -> bool:
    written = isinstance(end, To) and end.topic == source.topic
    return written and not source.value.nullable and source.failure is None


def _unreadable(window: WindowFold, source: StreamSource) -> TopologyError:
    read = type_name(source.value.type)
    return TopologyError(
        f"the sessions of {window.name!r} give results before they are final, and take them back "
        f"when two become one: {source.topic} has null values then, and app.stream("
        f"{source.topic!r}, {read}) takes none. Declare it with {read} | None, where None comes of "
        'what is taken back, or say emit="final" of the sessions'
    )


def _not_passed(window: WindowFold, why: str) -> TopologyError:
    return TopologyError(
        f"the sessions of {window.name!r} give results before they are final, and take them back "
        f"when two become one; but {why}, so nothing could be taken back there. Say "
        'emit="final"; or write the sessions to a topic, to=..., and read that: '
        f"app.stream(topic, {type_name(window.value.type)} | None), where None comes of what is "
        "taken back"
    )
