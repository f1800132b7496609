"""Who takes what: sticky, balanced, and the same from whoever computes it.

Every member computes the assignment from the same list of members, so the result depends on its
arguments only: no clock, no chance, no order of dictionaries.
"""

from collections import Counter
from collections.abc import Mapping

from streamkit.records import TopicPartition


def assign(
    members: Mapping[str, Mapping[str, int]], previous: Mapping[TopicPartition, str]
) -> dict[str, frozenset[TopicPartition]]:
    """Give every unit to one member.

    `members` says, by member id, the names each subscribes to and how many units (0 … count-1) it
    knows of each; where members differ the larger count holds. `previous`: each unit's last owner.

    Every unit goes to exactly one of the members that subscribe to its name. When all subscribe
    to the same, their loads differ by one at most and no more units change owner than that needs.
    When they don't, no single move would make two members' loads more equal.
    """
    subscribers: dict[str, list[str]] = {}
    counts: dict[str, int] = {}
    for member in sorted(members):
        for name, count in members[member].items():
            subscribers.setdefault(name, []).append(member)
            counts[name] = max(counts.get(name, 0), count)

    loads = _Loads(members)
    free: list[TopicPartition] = []
    for name in sorted(counts):
        for number in range(counts[name]):
            unit = TopicPartition(name, number)
            owner = previous.get(unit)
            if owner in subscribers[name]:
                loads.give(owner, unit)
            else:
                free.append(unit)
    for unit in free:
        loads.give(loads.least(subscribers[unit.topic], unit.topic), unit)
    while _move_one(loads, subscribers):
        pass
    return {member: frozenset(units) for member, units in loads.units.items()}


class _Loads:
    """What every member has so far, in all and of each name."""

    def __init__(self, members: Mapping[str, Mapping[str, int]]) -> None:
        self.units: dict[str, set[TopicPartition]] = {member: set() for member in sorted(members)}
        self.of_name: dict[str, Counter[str]] = {member: Counter() for member in self.units}

    def give(self, member: str, unit: TopicPartition) -> None:
        self.units[member].add(unit)
        self.of_name[member][unit.topic] += 1

    def take(self, member: str, unit: TopicPartition) -> None:
        self.units[member].remove(unit)
        self.of_name[member][unit.topic] -= 1

    def least(self, candidates: list[str], name: str) -> str:
        """The member with the fewest units; among equals, the one with the fewest of that name."""
        return min(candidates, key=lambda m: (len(self.units[m]), self.of_name[m][name], m))


def _move_one(loads: _Loads, subscribers: Mapping[str, list[str]]) -> bool:
    """Move one unit from a fuller to an emptier member; False when no move would help.

    A move must lessen the difference of two loads, so the sum of their squares falls each time,
    and the moves come to an end.
    """
    for giver in sorted(loads.units, key=lambda m: (-len(loads.units[m]), m)):
        # Of the names it could part with, the one it has most of: names stay spread, too.
        by_name = sorted(loads.of_name[giver].items(), key=lambda item: (-item[1], item[0]))
        for name, count in by_name:
            if not count:
                continue
            taker = loads.least(subscribers[name], name)
            if len(loads.units[giver]) - len(loads.units[taker]) >= 2:
                unit = max(unit for unit in loads.units[giver] if unit.topic == name)
                loads.take(giver, unit)
                loads.give(taker, unit)
                return True
    return False
