"""Hand events over to the tasks of another sub-topology."""

from streamkit.dsl.nodes.outputs import Repartition
from streamkit.engine.outlets import Forward, repartitioner
from streamkit.engine.site import Site
from streamkit.serde import Serde


def build(node: Repartition, key: Serde, site: Site) -> Forward:
    return repartitioner(
        site.outlet(node.topic), node.key, node.value, site.cursor, site.delays[node]
    )
