"""What is on its way to a task through other tasks of its app, in whatever processes these are."""

from streamkit.dsl.topology import Layout, Topology
from streamkit.engine.place import Place
from streamkit.records import TopicPartition


class Upstream:
    """Of the topics that tasks hand events over in.

    Tasks tell each other that they are idle by markers, and what a task said last stands: also
    while its process is stopped, or gone and its state not yet restored elsewhere. What came for it
    since then is no silence for those behind it.
    """

    def __init__(self, topology: Topology, layout: Layout, place: Place) -> None:
        self._app = topology.app
        self._place = place
        writers = {
            topic: [sub for sub in topology.subtopologies if topic in sub.repartitions]
            for topic in topology.internal
        }
        self._before: dict[str, list[TopicPartition]] = {}
        for topic in (each for sub in topology.subtopologies for each in sub.repartitions):
            found: dict[str, None] = {}
            waiting = [topic]
            while waiting:
                for sub in writers.get(waiting.pop(), ()):
                    new = [one.topic for one in sub.moving if one.topic not in found]
                    found |= dict.fromkeys(new)
                    waiting += new
            self._before[topic] = [
                TopicPartition(one, number)
                for one in found
                for number in range(layout.partitions[one])
            ]

    def has_more(self, topic: str) -> bool:
        """Whether there is something that tasks have not processed and committed, and of which
        events in this topic may come. Never so of a topic that others write."""
        before = self._before.get(topic)
        if not before:
            return False
        committed = self._place.backend.committed(self._app)
        return any(
            at not in committed or committed[at].offset < self._place.end_so_far(at)
            for at in before
        )
