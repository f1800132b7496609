"""What is on its way to a task through other tasks of its app, in whatever processes these are."""

from collections.abc import Iterable

from streamkit.dsl.topology import Layout, SubTopology, Topology
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
        self._layout = layout
        self._place = place
        self._writers = {topic: sub for sub in topology.subtopologies for topic in sub.repartitions}
        self._before = {
            topic: [self._read(sub, number) for number in range(layout.tasks[sub.name])]
            for topic, sub in self._writers.items()
        }
        """By topic, and by the task that writes it: what that reads, and others hand over to it."""
        self._committed: dict[TopicPartition, int] = {}

    def _read(self, sub: SubTopology, number: int) -> frozenset[TopicPartition]:
        found = {TopicPartition(one.topic, number) for one in sub.moving}
        waiting, seen = [one.topic for one in sub.moving], set()
        while waiting:
            topic = waiting.pop()
            writer = self._writers.get(topic)
            if writer is None or topic in seen:
                continue
            seen.add(topic)
            for one in writer.moving:
                tasks = range(self._layout.tasks[writer.name])
                found |= {TopicPartition(one.topic, each) for each in tasks}
                waiting.append(one.topic)
        return frozenset(found)

    def tasks(self, topic: str) -> range:
        """Those that hand over in a topic: none in one that others write."""
        return range(len(self._before.get(topic, ())))

    def unread(self, topic: str, tasks: Iterable[int]) -> set[int]:
        """Those of some tasks for which there is something that has not been processed and
        committed, and of which events of theirs in this topic may come."""
        known = self._before.get(topic, ())  # there may have been more of them once
        before = {task: known[task] for task in tasks if task < len(known)}
        # Each is looked at once, though many may read behind it.
        partitions: frozenset[TopicPartition] = frozenset().union(*before.values())
        ends = {at: self._place.end_so_far(at) for at in partitions}
        if all(self._committed.get(at) == end for at, end in ends.items()):
            return set()
        committed = self._place.backend.committed(self._app)
        self._committed |= {at: committed[at].offset for at in ends if at in committed}
        behind = frozenset(at for at, end in ends.items() if self._committed.get(at, -1) < end)
        return {task for task, each in before.items() if not each.isdisjoint(behind)}
