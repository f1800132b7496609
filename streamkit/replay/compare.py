"""What a replay session wrote, and how it differs from what the app published."""

from collections.abc import Iterator

from msgspec.structs import replace

from streamkit.backends.base import Backend
from streamkit.dsl.topology import Topology
from streamkit.engine.headers import WINDOW
from streamkit.errors import ConfigError, nearest
from streamkit.records import Record, TopicPartition
from streamkit.replay.diff import Difference, compare
from streamkit.replay.session import Session


def check_diff(topology: Topology, topic: str) -> None:
    """Raises ConfigError when the app does not write the topic."""
    if topic not in topology.sinks:
        raise ConfigError(
            f"--diff {topic!r}: app {topology.app!r} does not write it"
            f"{nearest(topic, topology.sinks)}"
        )


def difference(backend: Backend, session: Session, topic: str) -> Difference:
    """Compare the shadow of a topic with what is published there in the session's time.

    Both sides are the records whose own timestamp is in the span. A result has its event's time:
    where `time=` takes that from the value, it may be outside though the record is inside.
    """
    shadow = session.shadow(topic)
    found = compare(_span(backend, shadow, session), _span(backend, topic, session), WINDOW)
    if session.start is None and session.end is None:
        return found
    outside = sum(not _inside(each.timestamp, session) for each in _records(backend, shadow))
    return replace(found, outside=outside)


def sizes(backend: Backend, session: Session) -> dict[str, int]:
    """How many records each result topic of a session has, by its shadow's name."""
    return {
        topic: sum(1 for _ in _records(backend, topic))
        for topic in map(session.shadow, session.results)
    }


def _span(backend: Backend, topic: str, session: Session) -> Iterator[Record[bytes | None]]:
    if topic not in backend.topics():
        return  # never published: everything is only in the replay
    for record in _records(backend, topic):
        if _inside(record.timestamp, session):
            yield record


def _records(backend: Backend, topic: str) -> Iterator[Record[bytes | None]]:
    for number in range(backend.topic(topic).partitions):
        partition = TopicPartition(topic, number)
        end = backend.end(partition)
        position = backend.offsets(partition).start
        while position < end:
            for batch in backend.fetch({partition: position}):
                yield from batch.records()
                position = batch.next_offset


def _inside(timestamp: int, session: Session) -> bool:
    return (session.start is None or timestamp >= session.start) and (
        session.end is None or timestamp < session.end
    )
