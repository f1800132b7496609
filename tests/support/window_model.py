"""Windows as one would work them out on paper, with all events on the table at once."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from streamkit.dsl.windows import Hopping, Session, Sliding, WindowKind

BEFORE_ALL = -(10**9)


@dataclass(frozen=True)
class Arrival:
    """An event, and how far event time had come in its partition when it came."""

    id: int
    key: str
    time: int
    frontier: int


def arrivals(events: Iterable[tuple[int, str, int]], out_of_order: int) -> list[Arrival]:
    """(id, key, time) of one partition, in order."""
    frontier, found = BEFORE_ALL, []
    for number, key, time in events:
        found.append(Arrival(number, key, time, frontier))
        frontier = max(frontier, time - out_of_order)
    return found


Windows = dict[tuple[str, int, int], list[int]]
"""(key, start, end) → ids of the events in it, in order of time and arrival."""


def windows(kind: WindowKind, events: list[Arrival]) -> tuple[Windows, set[int]]:
    """All windows that there are in the end, and which events are late for one of theirs."""
    match kind:
        case Hopping():
            return _fixed(kind, events)
        case Sliding():
            return _sliding(kind, events)
        case Session():
            return _sessions(kind, events)


def _fixed(kind: Hopping, events: list[Arrival]) -> tuple[Windows, set[int]]:
    found: dict[tuple[str, int, int], list[Arrival]] = defaultdict(list)
    late = set()
    for event in events:
        for start in range(-kind.size * 2, event.time + 1):
            if start % kind.every == 0 and start <= event.time < start + kind.size:
                if start + kind.size + kind.grace <= event.frontier:
                    late.add(event.id)
                else:
                    found[event.key, start, start + kind.size].append(event)
    return _ids(found), late


def _sliding(kind: Sliding, events: list[Arrival]) -> tuple[Windows, set[int]]:
    late = {event.id for event in events if event.time + 1 + kind.grace <= event.frontier}
    found = {}
    for key, end in {(event.key, event.time) for event in events if event.id not in late}:
        found[key, end - kind.size + 1, end + 1] = [
            event
            for event in events
            if event.key == key
            and end - kind.size < event.time <= end
            and end + 1 + kind.grace > event.frontier
        ]
    return _ids(found), late


def _sessions(kind: Session, events: list[Arrival]) -> tuple[Windows, set[int]]:
    late = {event.id for event in events if event.time + 1 + kind.grace <= event.frontier}
    open_: dict[str, list[list[Arrival]]] = defaultdict(list)
    for event in sorted((e for e in events if e.id not in late), key=lambda e: e.time):
        mine = open_[event.key]
        if mine and event.time - mine[-1][-1].time < kind.gap:
            mine[-1].append(event)
        else:
            mine.append([event])
    found = {
        (key, members[0].time, members[-1].time + kind.gap): members
        for key, sessions in open_.items()
        for members in sessions
    }
    return _ids(found), late


def _ids(found: dict[tuple[str, int, int], list[Arrival]]) -> Windows:
    return {
        window: [event.id for event in sorted(members, key=lambda event: event.time)]
        for window, members in found.items()
    }
