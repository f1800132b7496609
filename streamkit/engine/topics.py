"""The topics of an app: wait for those it reads, create those it writes."""

from collections.abc import Callable
from contextlib import suppress
from threading import Event

from streamkit.backends.base import Backend
from streamkit.dsl.topology import Layout, Topology
from streamkit.engine.joined_topics import check_joined
from streamkit.errors import InvalidPartitions, TopicExists, TopologyError

_LOOK = 0.2
"""Seconds between two looks at whether a topic has appeared, or somebody asked to stop."""


def wait_for_sources(
    topology: Topology, backend: Backend, stop: Event, on_note: Callable[[str], None]
) -> bool:
    """Wait until every topic the app reads is there; False when it was stopped before.

    An app can so be started before whatever fills its topics, which knows best how many
    partitions they should have.
    """
    told: list[str] = []
    while not stop.is_set():
        known = backend.topics()
        missing = [t for t in topology.sources if t not in {*known, *topology.imported}]
        if not missing:
            return True
        if missing != told:
            on_note(
                f"app {topology.app!r} waits for {', '.join(missing)} in log {backend.url}; it "
                "begins when something writes there, or after: streamkit topics create "
                f"{' '.join(missing)}"
            )
            told = missing
        backend.wait({}, _LOOK)
    return False


def create_topics(topology: Topology, backend: Backend) -> Layout:
    """Create what the app writes and does not find. Raises TopologyError if parts do not fit."""
    refuse_others(topology, backend)
    sizes = partition_counts(backend)
    try:
        layout = topology.layout(sizes)
    except TopologyError as error:
        if sizes:
            raise
        raise TopologyError(
            f"{error} (there is no topic in log {backend.url}; another is named "
            "by --log, STREAMKIT_LOG, or the folder where the command is run)"
        ) from None
    check_joined(topology, layout, backend)
    for name, spec in layout.create.items():
        try:
            backend.create_topic(name, spec.partitions, spec.config)
        except TopicExists:
            # Another process of the same app was faster; its sizes hold for all.
            return create_topics(topology, backend)
    if _extend_journals(topology, layout, backend):
        return create_topics(topology, backend)
    return layout


def _extend_journals(topology: Topology, layout: Layout, backend: Backend) -> bool:
    """Have each task keep its decisions in a partition of its own; True where one was missing.

    An input without state may have got more partitions since the app last ran.
    """
    missing = {
        sub.journal: layout.tasks[sub.name]
        for sub in topology.subtopologies
        if sub.journal is not None and layout.partitions[sub.journal] < layout.tasks[sub.name]
    }
    for journal, count in missing.items():
        with suppress(InvalidPartitions):  # another process of the same app was faster
            backend.add_partitions(journal, count)
    return bool(missing)


def refuse_others(topology: Topology, backend: Backend) -> None:
    """Raises TopologyError when another app keeps state where this one would.

    App `a` with a store `b-c` and app `a-b` with a store `c` both call its changelog
    `a-b-c-changelog`. Whose it is, the committed ends tell.
    """
    for topic in topology.internal:
        for group in backend.groups():
            if group == topology.app or not topic.startswith(f"{group}-"):
                continue
            if any(partition.topic == topic for partition in backend.committed(group)):
                raise TopologyError(
                    f"{topic} belongs to app {group!r}; give what app {topology.app!r} would keep "
                    "there another name with name=, or rename the app"
                )


def partition_counts(backend: Backend) -> dict[str, int]:
    return {name: topic.partitions for name, topic in backend.topics().items()}
