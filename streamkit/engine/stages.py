"""In which order the sub-topologies of an app come to their end."""

from streamkit.dsl.topology import SubTopology, Topology


def stages(topology: Topology) -> list[list[SubTopology]]:
    """Those that write what others read before these; circles come last, at once."""
    waiting = list(topology.subtopologies)
    found = []
    while waiting:
        unwritten = {t for sub in waiting for t in (*sub.sinks, *sub.repartitions)}
        ready = [sub for sub in waiting if unwritten.isdisjoint(_read(sub))] or waiting
        waiting = [sub for sub in waiting if sub not in ready]
        found.append(ready)
    return found


def _read(sub: SubTopology) -> set[str]:
    tables = {table.topic for table in (*sub.tables, *sub.global_tables)}
    return tables | {stream.topic for stream in sub.streams}
