"""What the app of the soak should have written, worked out of all that was sent to it."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import join_model
from window_model import Arrival, arrivals, windows

from streamkit import session
from streamkit.dsl.nodes.stream_joins import Within

OUT_OF_ORDER, GRACE = 5000, 1000


@dataclass(frozen=True)
class Sent:
    """An event as it stands in its topic, or a row of the table (`id` is then its value)."""

    id: str | None
    key: str
    time: int
    item: str = ""


Partitions = list[list[Sent]]
Results = dict[str, Counter[Hashable]]
"""By topic: what there is, and how often."""


def results(orders: Partitions, visits: Partitions, names: Iterable[Sent], far: str) -> Results:
    """Without the events whose key and item begin with `far`, which are there to let time pass.
    What is "charged" is "healed" when what is "refused" was given back, and went well."""
    lefts, rights = _arrived(orders), _arrived(visits)
    by_id = {order.id: order for partition in orders for order in partition}
    all_orders = [
        order for partition in orders for order in partition if not order.key.startswith(far)
    ]
    rows = defaultdict(list)
    for row in names:
        rows[row.key].append(row)
    items = [Arrival(a.id, by_id[a.id].item, a.time, a.frontier) for a in lefts]
    all_visits = [
        visit for partition in visits for visit in partition if not visit.key.startswith(far)
    ]
    stays, _ = windows(session("600ms", grace="1s"), rights)
    refused = _refused(all_orders)
    charged = [order for order in all_orders if order.id not in refused]
    return {
        "charged": _counted(charged),
        "healed": _counted(all_orders),
        "refused": Counter(refused.keys()),
        "asked": _counted(all_visits),
        "scored": Counter((visit.key, visit.id, visit.time) for visit in all_visits),
        "reminded": Counter((visit.key, visit.id, visit.time + 3000) for visit in all_visits),
        "numbered": _numbered((order.key, order.id) for order in all_orders),
        "sold": _numbered((order.item, order.id) for order in all_orders),
        "named": Counter((each.key, each.id, _as_of(rows[each.key], each)) for each in all_orders),
        "met": _met(lefts, rights, far),
        "sales": _sales(items, far),
        "stays": Counter(
            (key, start, end, tuple(sorted(ids)))
            for (key, start, end), ids in stays.items()
            if not key.startswith(far)
        ),
    }


def _arrived(partitions: Partitions) -> list[Arrival]:
    return [
        arrival
        for partition in partitions
        for arrival in arrivals([(e.id, e.key, e.time) for e in partition], OUT_OF_ORDER)
    ]


def _refused(orders: list[Sent]) -> dict[str | None, None]:
    """Those that cannot be charged for good, and all that come behind them of their key."""
    keys = set()
    refused = {}
    for order in orders:
        if order.key in keys or str(order.id).endswith("!"):
            keys.add(order.key)
            refused[order.id] = None
    return refused


def _counted(events: Iterable[Sent]) -> Counter[Hashable]:
    """How many of its key there were with each."""
    counts: Counter[str] = Counter()
    found: Counter[Hashable] = Counter()
    for event in events:
        counts[event.key] += 1
        found[event.key, event.id, counts[event.key]] += 1
    return found


def _numbered(events: Iterable[tuple[str, str | None]]) -> Counter[Hashable]:
    """How many each key has. Who has which number depends on the order of those handed over."""
    found: Counter[Hashable] = Counter()
    counts: Counter[str] = Counter()
    for key, id in events:
        counts[key] += 1
        found[key, "event", id] += 1
        found[key, "number", counts[key]] += 1
    return found


def _as_of(rows: list[Sent], event: Sent) -> str | None:
    chosen = None
    for row in rows:  # in the order of their offsets
        if row.time <= event.time and (chosen is None or row.time >= chosen.time):
            chosen = row
    return chosen and chosen.id


def _met(lefts: list[Arrival], rights: list[Arrival], far: str) -> Counter[Hashable]:
    users: dict[str, tuple[list[Arrival], list[Arrival]]] = defaultdict(lambda: ([], []))
    for side, events in enumerate((lefts, rights)):
        for event in events:
            users[event.key][side].append(event)
    kind = Within(500, 500, "outer", GRACE)
    return Counter(
        (user, left and left.id, right and right.id)
        for user, both in users.items()
        if not user.startswith(far)
        for left, right in join_model.within(kind, *both)
    )


def _sales(items: list[Arrival], far: str) -> Counter[Hashable]:
    found = defaultdict(list)
    for event in items:
        start = event.time - event.time % 2000
        if start + 2000 + GRACE > event.frontier and not event.key.startswith(far):
            found[event.key, start, start + 2000].append(event.id)
    return Counter((*window, tuple(sorted(ids))) for window, ids in found.items())
