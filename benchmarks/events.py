"""The events every engine is given: the same bytes, in the same order, whoever asks.

Orders of 1,000 users, 10,000 a second by their own clock, in JSON of about 90 bytes with a key
of 8. A last order per user ten seconds later closes every window before it, so that all
engines have the same windows to count.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from random import Random

import msgspec

USERS = 1_000
PER_MS = 10
START = 1_700_000_000_000
"""The first order's time, ms; a whole second, so that windows begin with it."""

SEED = 20_231_114
CLOSING = 10_000
"""How long after the last order the closing ones come, ms."""

WINDOW = 1_000
"""The tumbling window's size, ms."""

GAP = 200
"""Sessions end with so much silence of a user, ms: twice the mean time between a user's orders, so
that a session has seven of them, and the seventh part of all orders begins one."""

NEAR = 20
"""A user's paid and unpaid orders are a pair when they are so far apart at most, ms."""

LARGE = 50.0
"""Amounts go evenly from 0 to 100: a filter at 50 keeps half."""

NET = 0.8
"""An invoice's share of the amount that is not tax."""


class Order(msgspec.Struct):
    id: int
    user: str
    item: str
    amount: float
    at: int
    paid: bool


class User(msgspec.Struct):
    """A row of the table that orders are joined with."""

    name: str
    share: float
    """What is net of an amount."""


class Invoice(msgspec.Struct):
    """What filter + map makes of a large order, and a join of any."""

    id: int
    user: str
    net: float
    tax: float


class Pair(msgspec.Struct):
    """A user's unpaid order, and a paid one that is near it in time."""

    unpaid: int
    paid: int


class Count(msgspec.Struct):
    """What a windowed count makes: a user's orders in the second from `start`.

    Of sessions: in the one whose last order was at `start`.
    """

    user: str
    start: int
    count: int


def users() -> dict[str, User]:
    """The table."""
    names = (f"user{number:04d}" for number in range(USERS))
    return {name: User(name, 0.5 + number % 50 / 100) for number, name in enumerate(names)}


@dataclass(frozen=True, slots=True)
class Event:
    key: bytes
    value: bytes
    timestamp: int


def orders(count: int) -> Iterator[Order]:
    """The first `count` orders."""
    random = Random(SEED)
    names = [f"user{number:04d}" for number in range(USERS)]
    for number in range(count):
        name = names[int(random.random() * USERS)]
        item = f"p{int(random.random() * 100_000):05d}"
        amount = int(random.random() * 10_000) / 100
        yield Order(number, name, item, amount, START + number // PER_MS, number % 3 != 0)


def closing_orders(count: int) -> Iterator[Order]:
    """One per user, `CLOSING` ms after the first `count`; their amount is nothing."""
    end = _end(count) + CLOSING
    for user in range(USERS):
        yield Order(count + user, f"user{user:04d}", "none", 0.0, end, True)


def events(count: int) -> Iterator[Event]:
    """The first `count` orders, then the closing ones, as they stand in a log."""
    encode = msgspec.json.Encoder().encode
    for order in chain(orders(count), closing_orders(count)):
        yield Event(order.user.encode(), encode(order), order.at)


def _end(count: int) -> int:
    return START + count // PER_MS


class Summary(msgspec.Struct, frozen=True):
    """What came out, in numbers that do not depend on its order: engines that agree did the same.

    `outputs` counts records; `total` adds the cents of their amounts, the orders they counted, or
    the distances of pairs.
    """

    outputs: int
    total: int


@lru_cache
def expected(path: str, count: int) -> Summary:
    """The summary of what must come out for the first `count` orders."""
    if path == "filter-map":
        nets = [order.amount * NET for order in orders(count) if order.amount >= LARGE]
        return Summary(len(nets), sum(round(net * 100) for net in nets))
    if path == "table-join":
        rows = users()
        nets = [order.amount * rows[order.user].share for order in orders(count)]
        return Summary(len(nets) + USERS, sum(round(net * 100) for net in nets))
    if path == "interval-join":
        return _pairs(count)
    if path == "as-of-join":
        return _as_of(count)
    if path == "keyed-count":
        return _running(count)
    if path == "sessions":
        return Summary(_sessions(count), count)
    windows = {(order.user, order.at // WINDOW) for order in orders(count)}
    return Summary(len(windows), count)


def _running(count: int) -> Summary:
    counts: dict[str, int] = {}
    total = 0
    for order in chain(orders(count), closing_orders(count)):
        counts[order.user] = so_far = counts.get(order.user, 0) + 1
        total += so_far
    return Summary(count + USERS, total)


def _as_of(count: int) -> Summary:
    """What is paid last, and no later than an order, is met by it: of one time, all that are."""
    paid: dict[str, list[Order]] = {}
    for order in orders(count):
        if order.paid:
            paid.setdefault(order.user, []).append(order)
    pairs = distances = 0
    for order in orders(count):
        before = paid.get(order.user, [])
        at = bisect_right(before, order.at, key=lambda other: other.at)
        if not order.paid and at and order.at - before[at - 1].at <= GAP:
            pairs += 1
            distances += abs(order.id - before[at - 1].id)
    return Summary(pairs, distances)


def _pairs(count: int) -> Summary:
    near: dict[str, list[Order]] = {}
    pairs = distances = 0
    for order in orders(count):
        others = near.setdefault(order.user, [])
        others[:] = [other for other in others if order.at - other.at <= NEAR]
        met = [other for other in others if other.paid != order.paid]
        pairs += len(met)
        distances += sum(order.id - other.id for other in met)
        others.append(order)
    return Summary(pairs, distances)


def _sessions(count: int) -> int:
    last: dict[str, int] = {}
    sessions = 0
    for order in orders(count):
        sessions += order.at >= last.get(order.user, 0) + GAP
        last[order.user] = order.at
    return sessions


def summary(path: str, values: list[bytes], count: int) -> Summary:
    """The summary of what did come out: JSON of a `Pair`, `Invoice`, running count or `Count`."""
    if path in ("interval-join", "as-of-join"):
        pairs = [msgspec.json.decode(value, type=Pair) for value in values]
        return Summary(len(pairs), sum(abs(each.paid - each.unpaid) for each in pairs))
    if path in ("filter-map", "table-join"):
        nets = [msgspec.json.decode(value, type=Invoice).net for value in values]
        return Summary(len(nets), sum(round(net * 100) for net in nets))
    if path == "keyed-count":
        running = [msgspec.json.decode(value, type=int) for value in values]
        return Summary(len(running), sum(running))
    counts = [msgspec.json.decode(value, type=Count) for value in values]
    # Some engines close the closing orders' windows at the end of the input, some do not.
    closed = [each.count for each in counts if each.start <= _end(count)]
    return Summary(len(closed), sum(closed))
