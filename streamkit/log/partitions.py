"""The partitions of a log that are in use in this process."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeAlias

from streamkit.errors import ConfigError, UnknownPartition
from streamkit.log.catalog import Catalog
from streamkit.log.config import TopicConfig
from streamkit.log.metadata import Topic
from streamkit.log.partition import Partition
from streamkit.records import TopicPartition

Make: TypeAlias = Callable[[TopicPartition, str, TopicConfig], Partition]
"""Of a partition, its topic's id, and the topic's configs."""


class Partitions:
    """One object for each partition while its topic lives. Used from any thread."""

    def __init__(self, catalog: Catalog, make: Make) -> None:
        self._catalog = catalog
        self._make = make
        self._lock = threading.Lock()
        self._opened: dict[TopicPartition, Partition] = {}
        self._borrowed: set[Partition] = set()
        self._topics: Mapping[str, Topic] | None = None

    def partition(self, tp: TopicPartition) -> Partition:
        """Raises UnknownTopic, UnknownPartition."""
        topics = self._catalog.topics()
        if topics is not self._topics:
            self._follow(topics)
        found = self._opened.get(tp)
        return found if found is not None else self._open(tp)

    def _open(self, tp: TopicPartition) -> Partition:
        topic = self._catalog.topic(tp.topic)
        if not 0 <= tp.partition < topic.partitions:
            raise UnknownPartition(
                f"{tp}: topic {topic.name!r} has partitions 0 to {topic.partitions - 1}"
            )
        with self._lock:
            found = self._opened.get(tp)
            if found is None:
                found = self._make(tp, topic.topic_id, config_of(topic))
                self._opened[tp] = found
            return found

    def _follow(self, topics: Mapping[str, Topic]) -> None:
        """Forget partitions of deleted topics, and give the others the configs of today."""
        with self._lock:
            for tp, partition in list(self._opened.items()):
                topic = topics.get(tp.topic)
                if topic is None or topic.topic_id != partition.topic_id:
                    del self._opened[tp]
                elif topic.config != partition.config.given:
                    try:
                        partition.configure(config_of(topic))
                    except ConfigError:
                        del self._opened[tp]  # who opens it is told what a broker wrote there
            self._topics = topics

    @contextmanager
    def borrow(self, tp: TopicPartition) -> Iterator[Partition]:
        """A partition for a while. If nobody uses it here, its files are not kept open."""
        partition = self._opened.get(tp)
        if partition is not None and self.partition(tp) is partition:
            yield partition
            return
        topic = self._catalog.topic(tp.topic)
        partition = self._make(tp, topic.topic_id, config_of(topic))
        # Kept where a forked child finds it: else that would hold its locks as well.
        self._borrowed.add(partition)
        try:
            yield partition
        finally:
            self._borrowed.discard(partition)
            partition.close()

    def close(self) -> None:
        """Let go of the files. Used again, they are opened again."""
        with self._lock:
            for partition in self._opened.values():
                partition.close()
            self._opened = {}
            self._topics = None

    def forked(self) -> None:
        """In a forked child: let go of locks and files that are the parent's."""
        self._lock = threading.Lock()
        for partition in [*self._opened.values(), *self._borrowed]:
            partition.forked()
        self._borrowed = set()


def config_of(topic: Topic) -> TopicConfig:
    """A topic's configs, parsed. Raises ConfigError for those that a broker has set."""
    try:
        parsed = TopicConfig.parse(topic.config)
    except ConfigError as error:  # refused when set here: a broker has set it
        raise ConfigError(
            f"topic {topic.name!r} is not used, as it was configured by a broker: {error}. Where it"
            f" does not matter: streamkit topics alter {topic.name} --delete-config <the config>"
        ) from None
    return replace(parsed, once_compacted=topic.once_compacted)
