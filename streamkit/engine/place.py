"""Where an app runs: which log, which topics there, and how much of them is read."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from streamkit.backends.base import Backend
from streamkit.engine.columns import before, within
from streamkit.engine.limits import Limits, limits_of
from streamkit.errors import UnknownTopic
from streamkit.records import Columns, TopicPartition


@dataclass(frozen=True, slots=True)
class Span:
    """What a replay reads of a partition: offsets [start, end), timestamps [since, until) in ms."""

    start: int
    end: int
    since: int
    until: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where an app runs: the log, its group there, and which topic stands for which.

    Tasks know the app's own topic names. `topics` has those that another topic stands for (the
    shadows of a replay). `spans` limits the partitions it names; others have no end. `ids` are
    those of the topics at the start, by their place in the log.
    """

    backend: Backend
    group: str
    topics: Mapping[str, str] = field(default_factory=dict)
    spans: Mapping[TopicPartition, Span] = field(default_factory=dict)
    ids: Mapping[str, str] = field(default_factory=dict)

    def refuse_successors(self) -> None:
        """Raises UnknownTopic when a topic is another one than at the start.

        Positions in the old one mean nothing in the one of its name: what stands before them there
        would never be read.
        """
        known = self.backend.topics()
        for name, topic_id in self.ids.items():
            if name not in known or known[name].topic_id != topic_id:
                raise UnknownTopic(
                    f"{name} was deleted{' and made anew' if name in known else ''} while "
                    f"{self.group} ran; start it again, and it begins with what is there then"
                )

    def topic(self, name: str) -> str:
        return self.topics.get(name, name)

    def partition(self, partition: TopicPartition) -> TopicPartition:
        return TopicPartition(self.topic(partition.topic), partition.partition)

    def start(self, partition: TopicPartition) -> int:
        """Where reading begins when nothing is committed."""
        span = self.spans.get(partition)
        return self.backend.offsets(partition).start if span is None else span.start

    def end(self, partition: TopicPartition) -> int:
        """Where reading ends, or would at this moment."""
        span = self.spans.get(partition)
        return self.backend.end(partition) if span is None else span.end

    def end_so_far(self, partition: TopicPartition) -> int:
        """The same for who goes on to read there: cheap also while a transaction is open."""
        span = self.spans.get(partition)
        return self.backend.offsets(partition).end if span is None else span.end

    def limits(self) -> dict[str, Limits]:
        """What the topics take that are there, by the app's names for them."""
        known = self.backend.topics()
        places = {name: self.topic(name) for name in (*known, *self.topics)}
        return {name: limits_of(known[at].config) for name, at in places.items() if at in known}

    def cut(self, partition: TopicPartition, columns: Columns) -> Columns:
        """The part of some records that the partition's span lets through."""
        span = self.spans.get(partition)
        if span is None:
            return columns
        return within(before(columns, span.end), span.since, span.until)
