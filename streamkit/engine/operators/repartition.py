"""Hand events over to the tasks of another sub-topology."""

from typing import Literal

from streamkit.dsl.nodes.in_order import first_before, meets
from streamkit.dsl.nodes.outputs import Repartition
from streamkit.dsl.nodes.sources import StreamSource
from streamkit.engine.hot.steps import Forward, HandOver, HandOverFrom
from streamkit.engine.site import Site
from streamkit.serde import Serde


def build(node: Repartition, key: Serde, site: Site) -> Forward:
    outlet, delay = site.outlet(node.topic), site.delays[node]
    to = (outlet, node.key, node.value, site.cursor, delay, node.drawn)
    if not node.placed:
        return HandOver(*to).give
    return HandOverFrom(*to, site.number, _of(node, site)).give


def _of(node: Repartition, site: Site) -> Literal["read", "handed", "met", "made"]:
    """What it hands over."""
    first = first_before(node, site.nodes)
    if first is None:
        return "handed"
    if meets(first):
        return "met"
    return "read" if isinstance(first, StreamSource) else "made"
