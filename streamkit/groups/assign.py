"""Who takes what: sticky, balanced, and the same from whoever computes it.

Every member computes the assignment from the same list of members, so the result depends on its
arguments only: no clock, no chance, no order of dictionaries.
"""

from collections import Counter
from collections.abc import Mapping
from typing import TypeAlias

from streamkit.records import TopicPartition


def assign(
    members: Mapping[str, Mapping[str, int]], previous: Mapping[TopicPartition, str]
) -> dict[str, frozenset[TopicPartition]]:
    """Give every unit to one member.

    `members` says, by member id, the names each subscribes to and how many units (0 … count-1) it
    knows of each; where members differ the larger count holds. `previous`: each unit's last owner.

    Every unit goes to exactly one of the members that subscribe to its name, and the loads are as
    equal as they can be: the sum of their squares is the least there is. Of all such assignments
    it is one with the fewest units that a member has had and loses.
    """
    subscribers: dict[str, list[str]] = {}
    counts: dict[str, int] = {}
    for member in sorted(members):
        for name, count in members[member].items():
            subscribers.setdefault(name, []).append(member)
            counts[name] = max(counts.get(name, 0), count)

    loads = _Loads(members, previous)
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
    if any(members[member].keys() != counts.keys() for member in members):
        # Else every member can take every unit, and single moves are all it needs.
        while path := _better(loads, subscribers):
            for moved, giver, taker in path:
                loads.take(giver, moved)
                loads.give(taker, moved)
    return {member: frozenset(units) for member, units in loads.units.items()}


class _Loads:
    """What every member has so far, in all and of each name."""

    def __init__(
        self, members: Mapping[str, Mapping[str, int]], previous: Mapping[TopicPartition, str]
    ) -> None:
        self.previous = previous
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


_Step: TypeAlias = tuple[TopicPartition, str, str]
"""One unit from one member to another."""

_Cost: TypeAlias = tuple[int, int]
"""What a chain of steps adds to the sum of the loads' squares, and to the units that moved."""


def _better(loads: _Loads, subscribers: Mapping[str, list[str]]) -> list[_Step]:
    """Steps, one after the other, that make the assignment better as a whole; [] if it is best.

    With different subscriptions a single move may not do: what a full member has, only a less full
    one may be able to take, which can hand something else on to an empty one. Each such chain, and
    each exchange in a ring, is a cycle of negative cost in a graph of the members and one more node
    ("") that stands for a load growing or shrinking; while there is none, the assignment is the
    cheapest. (Min-cost flow by cancelling cycles; each is found as Bellman and Ford did.)
    """
    nodes = ["", *loads.units]
    edges: list[tuple[str, str, _Cost, TopicPartition | None]] = []
    for member, units in loads.units.items():
        load = len(units)
        edges.append((member, "", (2 * load + 1, 0), None))  # the chain ends here
        if load:
            edges.append(("", member, (1 - 2 * load, 0), None))  # and begins here
        cheapest: dict[str, tuple[int, TopicPartition]] = {}
        for unit in sorted(units):
            had = loads.previous.get(unit)
            for taker in subscribers[unit.topic]:
                if taker != member:
                    moves = (had == member) - (had == taker)
                    if taker not in cheapest or moves < cheapest[taker][0]:
                        cheapest[taker] = moves, unit
        edges.extend((member, to, (0, moves), unit) for to, (moves, unit) in cheapest.items())

    cost: dict[str, _Cost] = dict.fromkeys(nodes, (0, 0))
    came: dict[str, tuple[str, TopicPartition | None]] = {}
    changed = None
    for _ in nodes:
        changed = None
        for giver, taker, (squares, moves), passed in edges:
            reached = cost[giver][0] + squares, cost[giver][1] + moves
            if reached < cost[taker]:
                cost[taker], came[taker], changed = reached, (giver, passed), taker
        if changed is None:
            return []
    assert changed is not None
    for _ in nodes:  # whoever is reached by so many steps back is on the cycle itself
        changed = came[changed][0]
    steps: list[_Step] = []
    taker = changed
    while True:
        giver, moved = came[taker]
        if moved is not None:
            steps.append((moved, giver, taker))
        taker = giver
        if taker == changed:
            return steps
