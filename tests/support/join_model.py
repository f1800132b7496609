"""Joins of two streams as one would work them out on paper, with all events on the table."""

from window_model import Arrival

from streamkit.dsl.nodes.stream_joins import AsOf, Within

Pair = tuple[Arrival | None, Arrival | None]


def in_time(events: list[Arrival], grace: int) -> list[Arrival]:
    return [event for event in events if event.time + 1 + grace > event.frontier]


def within(kind: Within, lefts: list[Arrival], rights: list[Arrival]) -> list[Pair]:
    """All pairs there are in the end, and the events that are given alone."""
    lefts, rights = in_time(lefts, kind.grace), in_time(rights, kind.grace)
    pairs: list[Pair] = [
        (left, right)
        for left in lefts
        for right in rights
        if left.key == right.key and left.time - kind.before <= right.time <= left.time + kind.after
    ]
    met = {each.id for pair in pairs for each in pair if each is not None}
    if kind.how != "inner":
        pairs += [(left, None) for left in lefts if left.id not in met]
    if kind.how == "outer":
        pairs += [(None, right) for right in rights if right.id not in met]
    return pairs


def as_of(kind: AsOf, lefts: list[Arrival], rights: list[Arrival]) -> list[Pair]:
    """What each event meets in the end, in the order in which that is decided."""
    pairs: list[Pair] = []
    for left in in_time(lefts, kind.grace):
        chosen = None
        for right in in_time(rights, kind.grace):
            distance = right.time - left.time
            if right.key != left.key or abs(distance) > kind.tolerance:
                continue
            if (distance == 0 and not kind.exact) or (
                (distance > 0 and kind.direction == "backward")
                or (distance < 0 and kind.direction == "forward")
            ):
                continue
            if chosen is None or _rank(left, right) <= _rank(left, chosen):
                chosen = right
        if chosen is not None or kind.how == "left":
            pairs.append((left, chosen))

    def decided(pair: Pair) -> tuple[int, ...]:
        left, right = pair
        assert left is not None
        if kind.direction != "forward":
            return (left.time,)
        if right is None:
            return left.time + kind.tolerance, 1, left.time
        return right.time, 0, left.time

    return sorted(pairs, key=decided)


def _rank(left: Arrival, right: Arrival) -> tuple[int, int]:
    """Nearer before farther; of two as near the earlier; of one time the last (by `<=`)."""
    return abs(right.time - left.time), right.time
