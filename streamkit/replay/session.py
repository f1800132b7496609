"""A replay session: its name, its frozen bounds, and where they are kept.

Sessions are records of the compacted topic `__streamkit_replays`: the key is `<app>/<name>`, the
value this module's `Session` as JSON, and a tombstone forgets it.
"""

import re
from collections.abc import Mapping
from contextlib import suppress

import msgspec

from streamkit.backends.base import Backend
from streamkit.errors import ConfigError, TopicExists
from streamkit.records import TopicPartition

TOPIC = "__streamkit_replays"

Bounds = dict[str, list[tuple[int, int]]]
"""Of each topic, by partition: the first offset to read and the one after the last."""

_NAME = re.compile(r"[a-zA-Z0-9._-]{1,100}")


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One replay of one app. When it begins, all is fixed but how it ends."""

    app: str
    name: str
    from_text: str
    to_text: str
    start: int | None
    """The first timestamp (ms) that is replayed; None: from the earliest record."""
    end: int | None
    """The timestamp (ms) before which it stops; None: all that there was at the start."""
    created: int
    """When it began, in ms."""
    streams: Bounds
    tables: Bounds
    results: list[str]
    """The topics of the app that results go to: their shadows belong to this session."""
    internal: list[str]
    """Its repartition topics and changelogs; so do theirs."""
    ids: dict[str, str] = {}
    """The ids of the topics that are read: bounds mean nothing in another one of the same name."""
    code: str = ""
    """The fingerprint of the app that began it."""
    finished: bool = False
    ended: int | None = None
    """When it was finished, in ms."""

    @property
    def shadows(self) -> list[str]:
        """The topics that belong to this session alone."""
        return [self.shadow(topic) for topic in sorted({*self.results, *self.internal})]

    @property
    def group(self) -> str:
        return f"{self.app}.replay.{self.name}"

    def shadow(self, topic: str) -> str:
        """Where a topic that the app writes is written by this session."""
        return f"{topic}.replay.{self.name}"


def session_name(from_text: str, to_text: str) -> str:
    """The name of a session that was given none: the same command finds it again."""
    return re.sub(r"[^a-zA-Z0-9._-]+", "-", f"{from_text}.to.{to_text}").strip("-.")


def check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"--name {name!r}: a name has 1 to 100 of the characters a-z A-Z 0-9 . _ -"
        )


def sessions(backend: Backend) -> Mapping[tuple[str, str], Session]:
    """All sessions of a log, by app and name."""
    if TOPIC not in backend.topics():
        return {}
    found: dict[tuple[str, str], Session] = {}
    partition = TopicPartition(TOPIC, 0)
    bounds = backend.offsets(partition)
    position = bounds.start
    while position < bounds.end:
        for batch in backend.fetch({partition: position}):
            for record in batch.records():
                app, _, name = record.key.decode().rpartition("/")
                if record.value is None:
                    found.pop((app, name), None)
                else:
                    found[app, name] = msgspec.json.decode(record.value, type=Session)
            position = batch.next_offset
    return found


def store(backend: Backend, session: Session) -> None:
    """Write a session down; it is on stable storage when this returns."""
    with suppress(TopicExists):
        backend.create_topic(TOPIC, 1, {"cleanup.policy": "compact"})
    _put(backend, session, msgspec.json.encode(session))


def forget(backend: Backend, session: Session) -> None:
    """Delete a session with its topics and its group; nothing else is touched."""
    topics = backend.topics()
    for topic in session.shadows:
        if topic in topics:
            backend.delete_topic(topic)
    if session.group in backend.groups():
        backend.delete_group(session.group)
    # Last, so that a delete that was stopped halfway can be asked for again.
    _put(backend, session, None)


def _put(backend: Backend, session: Session, value: bytes | None) -> None:
    key = f"{session.app}/{session.name}".encode()
    backend.append(TopicPartition(TOPIC, 0), [value], keys=[key], acks="all")
