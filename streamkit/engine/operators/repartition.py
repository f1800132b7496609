"""Hand events over to the tasks of another sub-topology."""

from streamkit.dsl.nodes.outputs import Repartition
from streamkit.engine.hot.steps import Forward, HandOver
from streamkit.engine.site import Site
from streamkit.serde import Serde


def build(node: Repartition, key: Serde, site: Site) -> Forward:
    outlet, delay = site.outlet(node.topic), site.delays[node]
    return HandOver(outlet, node.key, node.value, site.cursor, delay).give
