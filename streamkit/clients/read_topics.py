"""The topics that a consumer reads."""

from collections.abc import Iterable

from streamkit.backends.base import Backend
from streamkit.backends.values import TopicInfo
from streamkit.errors import UnknownPartition, UnknownTopic
from streamkit.records import TopicPartition


class ReadTopics:
    """Which topics are read, whole (`counts`: of so many partitions) or partitions of them.

    `ids` are those of all topics that something is read of, or was until now.
    """

    def __init__(
        self, backend: Backend, names: Iterable[str], by_hand: Iterable[TopicPartition]
    ) -> None:
        """Raises UnknownTopic, UnknownPartition."""
        self._backend = backend
        self.ids: dict[str, str] = {}
        self.counts: dict[str, int] = {}
        for name in names:
            self.counts[name] = self._know(name).partitions
        self._counts_at_first = dict(self.counts)
        for topic, number in by_hand:
            if not 0 <= number < (count := self._know(topic).partitions):
                raise UnknownPartition(
                    f"topic {topic!r} has no partition {number}: it has 0 to {count - 1}"
                )

    def _know(self, name: str) -> TopicInfo:
        info = self._backend.topic(name)
        self.ids[name] = info.topic_id
        return info

    def partitions(self) -> list[TopicPartition]:
        """All partitions of the topics that are read whole."""
        return [TopicPartition(t, n) for t, count in self.counts.items() for n in range(count)]

    def exists(self, partition: TopicPartition) -> bool:
        """Else a member that has not noticed yet, or is away, knows the topic as it was before it
        was deleted and made anew with fewer."""
        return partition.partition < self._backend.topic(partition.topic).partitions

    def is_added(self, partition: TopicPartition) -> bool:
        """Whether its topic has got this partition since it is read."""
        return partition.partition >= self._counts_at_first.get(partition.topic, 1 << 31)

    def look(self) -> bool:
        """See what the topics are by now; whether one that is read whole has grown.

        Offsets mean nothing in another topic of the same name: UnknownTopic, and what was fetched
        is not to be given out.
        """
        grown = False
        for topic, topic_id in self.ids.items():
            info = self._backend.topic(topic)
            if topic in self.counts and info.partitions > self.counts[topic]:
                self.counts[topic] = info.partitions
                grown = True
            if info.topic_id != topic_id:
                raise UnknownTopic(
                    f"topic {topic!r} was deleted and made anew since this consumer began to read "
                    "it; open a new one to read the new topic"
                )
        return grown

    def change(self, names: Iterable[str]) -> None:
        """Read these topics whole, instead. Raises UnknownTopic, and then nothing changes."""
        infos = {name: self._backend.topic(name) for name in names}
        self.counts = {name: info.partitions for name, info in infos.items()}
        self._counts_at_first = self.counts | {
            name: count for name, count in self._counts_at_first.items() if name in infos
        }
        # Those it leaves are known until their partitions are given up, to commit them.
        self.ids = {n: i.topic_id for n, i in infos.items()} | self.ids

    def keep(self, reading: Iterable[TopicPartition]) -> None:
        """Forget the topics that nothing is read of any more."""
        read = {partition.topic for partition in reading} | self.counts.keys()
        if self.counts:
            self.ids = {name: self.ids[name] for name in read}
