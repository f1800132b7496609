"""Whether topics that are joined fit each other: looked at once, when an app starts."""

from collections.abc import Callable, Iterator, Mapping
from zlib import crc32

from streamkit.backends.base import Backend
from streamkit.clients.topic_config import is_compacted
from streamkit.codec import partition_for
from streamkit.dsl.durations import shortest
from streamkit.dsl.nodes.joins import Join
from streamkit.dsl.topology import Layout, SubTopology, Topology
from streamkit.errors import LogError, TopologyError
from streamkit.records import TopicPartition

_SAMPLE = 100
"""Keys of each partition that are looked at, at most."""
_SAMPLE_BYTES = 1 << 14
_PARTITIONERS: Mapping[str, Callable[[bytes, int], int]] = {
    "murmur2": partition_for,
    "crc32": lambda key, partitions: crc32(key) % partitions,
}
_CALLED = {
    "murmur2": "murmur2, as streamkit and Kafka's own clients do it",
    "crc32": "CRC-32, which is librdkafka's default",
}


def check_joined(topology: Topology, layout: Layout, backend: Backend) -> None:
    """Raises TopologyError when topics that are joined by key are partitioned in two ways, or when
    one does not keep as much history as a join asks for."""
    known = backend.topics()
    for sub in topology.subtopologies:
        for node in sub.nodes:
            if isinstance(node, Join) and node.history is not None:
                for table in node.tables():
                    config = known[table.topic].config if table.topic in known else {}
                    _check_history(node.name, table.topic, node.history, config)
        if any(node.together() for node in sub.nodes):
            own = {name for each in topology.subtopologies for name in each.repartitions}
            topics = [*(each.topic for each in sub.streams), *(each.topic for each in sub.tables)]
            topics = [topic for topic in topics if topic in known or topic in own]
            _check_partitioners(topology, sub, topics, own, layout, backend)


def _check_history(join: str, topic: str, history: int, config: Mapping[str, str]) -> None:
    kept = int(config.get("min.compaction.lag.ms", 0))
    if is_compacted(config) and kept < history:
        raise TopologyError(
            f"join {join!r} asks for the rows of the last {shortest(history)} of {topic}, which is "
            "compacted, and may have lost all of a key but the last: streamkit topics alter "
            f"{topic} --config min.compaction.lag.ms={history}"
        )


def _check_partitioners(
    topology: Topology,
    sub: SubTopology,
    topics: list[str],
    own: set[str],
    layout: Layout,
    backend: Backend,
) -> None:
    fits: dict[str, set[str]] = {}
    odd: dict[str, str] = {}
    for topic in topics:
        if topic in own:
            fits[topic] = {"murmur2"}
            continue
        found, odd[topic] = _partitioners(topic, layout.partitions[topic], backend)
        if found is not None:
            fits[topic] = found
    if not fits or set.intersection(*fits.values()) or not any(fits.values()):
        return
    told = [
        f"{topic} by {_CALLED[sorted(names)[-1]]}"
        if names
        else f"{topic} by neither ({odd[topic]})"
        for topic, names in fits.items()
    ]
    raise TopologyError(
        f"app {topology.app!r}: {sub.together} have to have a key in the same partition, "
        f"but keys are spread over {'; '.join(told)}. Write all with one partitioner (librdkafka: "
        f"partitioner=murmur2_random), or {sub.apart}"
    )


def _partitioners(topic: str, count: int, backend: Backend) -> tuple[set[str] | None, str]:
    """Those that put the first keys of each partition where they are, and a key that is not where
    murmur2 would have it. None: there is nothing to tell by."""
    fits, looked, odd = set(_PARTITIONERS), False, ""
    if count == 1:
        return None, odd
    for partition in range(count):
        for key in _keys(TopicPartition(topic, partition), backend):
            looked = True
            fits = {name for name in fits if _PARTITIONERS[name](key, count) == partition}
            if not odd and partition_for(key, count) != partition:
                odd = f"key {key!r} is in partition {partition}"
    return fits if looked else None, odd


def _keys(at: TopicPartition, backend: Backend) -> Iterator[bytes]:
    try:
        batches = backend.fetch({at: backend.offsets(at).start}, max_bytes=_SAMPLE_BYTES)
        keys = [key for batch in batches for key in batch.columns().keys if key is not None]
    except LogError:
        # Removed meanwhile, or damaged: whoever has to read it, which is perhaps nobody, will say.
        return
    yield from keys[:_SAMPLE]
