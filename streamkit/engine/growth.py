"""Topics that an app reads and that grow while it runs."""

from streamkit.backends.base import Backend
from streamkit.dsl.topology import Layout, Topology
from streamkit.errors import TopologyError


def refuse_growth(topology: Topology, layout: Layout, backend: Backend) -> None:
    """Raises TopologyError when a topic that is read has other partitions than at the start.

    The tasks read only those of the start, and a key's state is where its records were then.
    """
    known = backend.topics()
    for sub in topology.subtopologies:
        for name in dict.fromkeys(source.topic for source in sub.sources):
            was = layout.partitions[name]
            if name not in known or known[name].partitions == was:
                continue
            todo = "start it again"
            if sub.stores:
                stores = ", ".join(repr(store.name) for store in sub.stores)
                todo += (
                    f". The records of a key may now be in another partition than what {sub} "
                    f"knows of it in {stores}: give the stores other names with name=, so that "
                    "they begin empty; to have them made of all events again, and the results too, "
                    f"`streamkit groups reset {topology.app} --to earliest` before"
                )
            raise TopologyError(
                f"topic {name} has {known[name].partitions} partitions by now, and had {was} "
                f"when app {topology.app!r} started, which reads no others. What it has "
                f"done is committed: {todo}"
            )
