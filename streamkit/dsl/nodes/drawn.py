"""Which steps draw ids and random numbers, so that what they are given is to be told apart in the
same way in every run."""

from collections.abc import Collection

from streamkit.dsl.nodes.node import Node, all_before
from streamkit.dsl.nodes.outputs import Repartition

_FUNCTIONS = ("function", "on", "rekey")


def draws(node: Node) -> bool:
    """Whether a node may draw, or hands over to one that may."""
    if isinstance(node, Repartition):
        return node.drawn
    functions = (getattr(node, name, None) for name in _FUNCTIONS)
    return any(one is not None and "context" in one.extras for one in functions)


def drawn_behind(nodes: Collection[Node]) -> set[Node]:
    """Those that draw, and all that these are given events by."""
    found = {node for node in nodes if draws(node)}
    return found.union(*map(all_before, found))
