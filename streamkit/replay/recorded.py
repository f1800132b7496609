"""What the wall clock decided live, for a replay that reads the same records."""

from streamkit.backends.base import Backend
from streamkit.dsl.topology import SubTopology, Topology
from streamkit.engine.journal import Entry, Finish, decode
from streamkit.engine.script import what_counts
from streamkit.records import TopicPartition


def is_whole(topology: Topology, sub: SubTopology) -> bool:
    """Whether a replay can follow all of a journal: whether it reads what the live task read."""
    outside = {*topology.sources, *topology.ticks}
    return all(source.topic in outside for source in sub.sources)


def recorded(
    topology: Topology, backend: Backend, sub: SubTopology, number: int
) -> list[Entry] | None:
    """The journal of the app's live task; None where a replay has to decide itself.

    That is where nothing was kept. Where inputs are made anew in the replay, what the live task
    decided it decided at records that have other offsets now; what is left then is when it was told
    that nothing more comes, by its other inputs. Raises DataError.
    """
    outside = {*topology.sources, *topology.ticks}
    known = backend.topics()
    # Of an input that has grown live may have had fewer tasks.
    if sub.journal not in known or number >= known[sub.journal].partitions:
        return None
    at = TopicPartition(sub.journal, number)
    end = backend.end(at)
    position = backend.offsets(at).start
    entries: list[Entry] = []
    while position < end:
        for batch in backend.fetch({at: position}):
            entries += [decode(record.value, f"{at}@{record.offset}") for record in batch.records()]
            position = batch.next_offset
    if not is_whole(topology, sub):
        streams = {str(TopicPartition(s.topic, number)) for s in sub.streams if s.topic in outside}
        # Others of its streams are ended by who writes them: by markers, or else when they have.
        at_rest = any(s.topic not in outside and s.upstream is None for s in sub.streams)
        return [
            Finish(
                {name: to for name, to in entry.at.items() if name in streams},
                entry.number,
                at_rest,
            )
            for entry in what_counts(entries)
            if isinstance(entry, Finish)
        ] or None
    return entries or None
