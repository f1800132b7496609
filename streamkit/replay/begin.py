"""Begin a replay session, or find the one to go on with: this is where its bounds are frozen."""

from collections.abc import Mapping

from streamkit.backends.base import Backend
from streamkit.dsl.topology import Layout, Topology
from streamkit.errors import ConfigError, TopicExists, TopologyError
from streamkit.records import TopicPartition
from streamkit.replay.fingerprint import fingerprint
from streamkit.replay.session import (
    Bounds,
    Session,
    check_name,
    forget,
    sessions,
    store,
)
from streamkit.replay.times import parse_time


def begin(
    topology: Topology,
    backend: Backend,
    *,
    name: str,
    from_text: str,
    to_text: str,
    now: int,
    restart: bool = False,
) -> Session:
    """The session of this name, made when there is none; `restart` forgets the old one first.

    Raises ConfigError when it exists with other bounds or was begun by other code, or when a bound
    is no time; TopologyError when a topic the app reads is missing; TopicExists when a shadow topic
    belongs to another app's session.
    """
    check_name(name)
    known = sessions(backend).get((topology.app, name))
    if known is not None and not restart:
        if (known.from_text, known.to_text) != (from_text, to_text):
            raise ConfigError(
                f"replay {name!r} of app {topology.app!r} exists, from {known.from_text} to "
                f"{known.to_text}; give this one another --name, or --restart to replace it"
            )
        _refuse_other_code(known, fingerprint(topology))
        if not known.finished:
            _refuse_successors(backend, known)
        _create_shadows(topology, backend, known)
        return known
    start, end = _span(from_text, to_text, now)
    if known is not None:
        forget(backend, known)
    session = _freeze(topology, backend, name, from_text, to_text, start, end, now)
    existing = backend.topics()
    for shadow in session.shadows:
        if shadow in existing:
            raise TopicExists(
                f"{shadow} exists, and does not belong to a replay of app {topology.app!r}; "
                "give this one another --name"
            )
    # Written before the topics are made: whoever finds the session makes those that are missing.
    store(backend, session)
    _create_shadows(topology, backend, session)
    return session


def _refuse_other_code(session: Session, code: str) -> None:
    if session.code == code:
        return
    if session.finished:
        what = "finished with other code of the app, and has its results"
    else:
        what = "was begun by other code of the app, and stopped halfway"
    raise ConfigError(
        f"replay {session.name!r} of app {session.app!r} {what}; --restart begins it anew with "
        "this one, and another --name keeps both"
    )


def _refuse_successors(backend: Backend, session: Session) -> None:
    existing = backend.topics()
    for topic, topic_id in session.ids.items():
        if topic not in existing or existing[topic].topic_id != topic_id:
            raise ConfigError(
                f"replay {session.name!r} of app {session.app!r}: {topic} was deleted"
                f"{' and made anew' if topic in existing else ''} since it began; --restart begins "
                "with what is there now"
            )


def _span(from_text: str, to_text: str, now: int) -> tuple[int | None, int | None]:
    start = parse_time(from_text, now, key="--from")
    end = parse_time(to_text, now, key="--to")
    if start == "latest":
        raise ConfigError("--from latest: there is nothing to replay after the latest record")
    if end == "earliest":
        raise ConfigError("--to earliest: there is nothing to replay before the earliest record")
    if isinstance(start, int) and isinstance(end, int) and start >= end:
        raise ConfigError(f"--from {from_text} is not before --to {to_text}")
    return (
        None if isinstance(start, str) else start,
        None if isinstance(end, str) else end,
    )


def written(topology: Topology) -> frozenset[str]:
    """The topics of an app that a replay has to write elsewhere."""
    return frozenset((*topology.sinks, *topology.internal))


def _freeze(
    topology: Topology,
    backend: Backend,
    name: str,
    from_text: str,
    to_text: str,
    start: int | None,
    end: int | None,
    now: int,
) -> Session:
    existing = backend.topics()
    for topic in (*topology.sources, *topology.ticks):
        if topic not in existing:
            raise TopologyError(
                f"app {topology.app!r} reads {topic}, which does not exist: there is no history of "
                f"it in {backend.url}; another log is named by --log or STREAMKIT_LOG"
            )
    own = written(topology)
    streams: Bounds = {}
    tables: Bounds = {}
    for sub in topology.subtopologies:
        for source in sub.streams:
            if source.topic not in own:
                # To the end and no less: a record of the span may stand behind later ones.
                streams[source.topic] = [
                    (_first(backend, partition, start), backend.end(partition))
                    for partition in _partitions(backend, source.topic)
                ]
        for table in (*sub.tables, *sub.global_tables):
            if table.topic not in own:
                tables[table.topic] = [
                    (_first(backend, partition, None), backend.end(partition))
                    for partition in _partitions(backend, table.topic)
                ]
    return Session(
        app=topology.app,
        name=name,
        from_text=from_text,
        to_text=to_text,
        start=start,
        end=end,
        created=now,
        streams=streams,
        tables=tables,
        results=sorted(topology.sinks),
        internal=sorted(topology.internal),
        ids={topic: existing[topic].topic_id for topic in (*streams, *tables)},
        code=fingerprint(topology),
    )


def _partitions(backend: Backend, topic: str) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for number in range(backend.topic(topic).partitions)]


def _first(backend: Backend, partition: TopicPartition, start: int | None) -> int:
    """The first offset whose record is in the span; all before it are earlier than the span."""
    if start is None:
        return backend.offsets(partition).start
    end = backend.end(partition)
    found = backend.offset_at(partition, start)
    return end if found is None else found


def replay_layout(topology: Topology, backend: Backend, session: Session) -> Layout:
    """The app laid over the frozen topics, with shadows for all that it writes.

    Results get as many partitions as the published ones have, or the app would need; a shadow
    that exists keeps its size.
    """
    existing = backend.topics()
    sizes = {topic: len(bounds) for topic, bounds in (session.streams | session.tables).items()}
    for topic in written(topology):
        for candidate in (session.shadow(topic), topic):
            # An internal topic of the live app says nothing about the replay's.
            if candidate in existing and (candidate != topic or topic in topology.sinks):
                sizes[topic] = existing[candidate].partitions
                break
    return topology.layout(sizes)


def _create_shadows(topology: Topology, backend: Backend, session: Session) -> None:
    existing = backend.topics()
    layout = replay_layout(topology, backend, session)
    for topic in written(topology):
        if session.shadow(topic) not in existing:
            if topic in layout.create:
                config = layout.create[topic].config
            else:
                config = existing[topic].config
            create_shadow(backend, session, topic, layout.partitions[topic], config)


def create_shadow(
    backend: Backend, session: Session, topic: str, partitions: int, config: Mapping[str, str]
) -> None:
    """Make one shadow topic. It is kept until the session is deleted, as history is old."""
    if "compact" not in config.get("cleanup.policy", "delete"):
        config = {**config, "retention.ms": "-1"}
    backend.create_topic(session.shadow(topic), partitions, config)
