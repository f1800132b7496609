"""Hand events over to the tasks of another sub-topology."""

from streamkit.dsl.nodes.in_order import place_of
from streamkit.dsl.nodes.outputs import Repartition
from streamkit.engine.hot.steps import Forward, HandOver, HandOverFrom
from streamkit.engine.site import Site
from streamkit.serde import Serde


def build(node: Repartition, key: Serde, site: Site) -> Forward:
    outlet, delay = site.outlet(node.topic), site.delays[node]
    to = (outlet, node.key, node.value, site.cursor, delay, node.drawn)
    if not node.placed:
        return HandOver(*to).give
    return HandOverFrom(*to, site.number, place_of(node, site.nodes)).give
