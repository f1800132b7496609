"""What the wall clock decided live, for a replay that reads the same records."""

from streamkit.backends.base import Backend
from streamkit.dsl.topology import SubTopology, Topology
from streamkit.engine.journal import Entry, decode
from streamkit.records import TopicPartition


def recorded(
    topology: Topology, backend: Backend, sub: SubTopology, number: int
) -> list[Entry] | None:
    """The journal of the app's live task; None where a replay has to decide itself.

    That is where nothing was kept, and where the inputs are made anew in the replay: what the live
    task decided, it decided at records that have other offsets now. Raises DataError.
    """
    outside = {*topology.sources, *topology.ticks}
    if sub.journal is None or any(source.topic not in outside for source in sub.sources):
        return None
    at = TopicPartition(sub.journal, number)
    if sub.journal not in backend.topics():
        return None
    bounds = backend.offsets(at)
    position, end = bounds.start, bounds.end
    entries: list[Entry] = []
    while position < end:
        for batch in backend.fetch({at: position}):
            entries += [decode(record.value, f"{at}@{record.offset}") for record in batch.records()]
            position = batch.next_offset
    return entries or None
