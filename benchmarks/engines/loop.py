"""The limit: the same log, codec and functions in a plain loop. No engine, no state on disk.

Nothing here could go on after a crash: there is no commit and no changelog.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import msgspec

from benchmarks.engines.orders_log import ORDERS, OUT, PARTITIONS, fill, outputs
from benchmarks.engines.process import Job, main
from benchmarks.events import (
    GAP,
    LARGE,
    NEAR,
    NET,
    WINDOW,
    Count,
    Event,
    Invoice,
    Order,
    Pair,
    users,
)
from streamkit.records import Columns, TopicPartition

Written: TypeAlias = tuple[list[bytes | None], list[bytes | None], list[int]]
"""Keys, values, timestamps."""


Step: TypeAlias = Callable[[Columns], Written]


def log_to_log(path: Callable[[], Step], events: list[Event], directory: Path) -> Job:
    backend = fill(directory, events)
    steps = [path() for _ in range(PARTITIONS)]

    def work() -> None:
        positions = {TopicPartition(ORDERS, number): 0 for number in range(PARTITIONS)}
        while batches := backend.fetch(positions):
            for batch in batches:
                number = batch.partition.partition
                keys, values, timestamps = steps[number](batch.columns())
                if values:
                    target = TopicPartition(OUT, number)
                    backend.append(target, values, keys=keys, timestamps=timestamps)
                positions[batch.partition] = batch.next_offset
        backend.sync(TopicPartition(OUT, number) for number in range(PARTITIONS))

    return Job(work, lambda: outputs(backend))


def filter_map() -> Step:
    decode, encode = msgspec.json.Decoder(Order).decode, msgspec.json.Encoder().encode

    def step(columns: Columns) -> Written:
        keys: list[bytes | None] = []
        values: list[bytes | None] = []
        timestamps: list[int] = []
        for key, value, at in zip(columns.keys, columns.values, columns.timestamps, strict=True):
            assert value is not None
            order = decode(value)
            if order.amount >= LARGE:
                net = order.amount * NET
                values.append(encode(Invoice(order.id, order.user, net, order.amount - net)))
                keys.append(key)
                timestamps.append(at)
        return keys, values, timestamps

    return step


def windowed_count() -> Step:
    """Counts of one partition: windows close as soon as its latest event time is at their end."""
    decode, encode = msgspec.json.Decoder(Order).decode, msgspec.json.Encoder().encode
    open_windows: dict[int, dict[str, int]] = {}
    due = 0

    def step(columns: Columns) -> Written:
        nonlocal due
        keys: list[bytes | None] = []
        values: list[bytes | None] = []
        timestamps: list[int] = []
        for value in columns.values:
            assert value is not None
            order = decode(value)
            at = order.at
            start = at - at % WINDOW
            counts = open_windows.get(start)
            if counts is None:
                counts = open_windows[start] = {}
            counts[order.user] = counts.get(order.user, 0) + 1
            if at >= due:
                for closed in [each for each in open_windows if each + WINDOW <= at]:
                    for user, count in open_windows.pop(closed).items():
                        values.append(encode(Count(user, closed, count)))
                        keys.append(user.encode())
                        timestamps.append(closed + WINDOW - 1)
                due = min(open_windows) + WINDOW
        return keys, values, timestamps

    return step


def keyed_count() -> Step:
    decode, encode = msgspec.json.Decoder(Order).decode, msgspec.json.Encoder().encode
    counts: dict[str, int] = {}

    def step(columns: Columns) -> Written:
        values: list[bytes | None] = []
        timestamps: list[int] = []
        for value in columns.values:
            assert value is not None
            order = decode(value)
            counts[order.user] = count = counts.get(order.user, 0) + 1
            values.append(encode(count))
            timestamps.append(order.at)
        return list(columns.keys), values, timestamps

    return step


def sessions() -> Step:
    """Sessions of one partition: they close with the next order of their user."""
    decode, encode = msgspec.json.Decoder(Order).decode, msgspec.json.Encoder().encode
    last: dict[str, int] = {}
    counts: dict[str, int] = {}

    def step(columns: Columns) -> Written:
        keys: list[bytes | None] = []
        values: list[bytes | None] = []
        timestamps: list[int] = []
        for value in columns.values:
            assert value is not None
            order = decode(value)
            user, at = order.user, order.at
            count = counts.get(user, 0)
            if count and at >= last[user] + GAP:
                values.append(encode(Count(user, last[user], count)))
                keys.append(user.encode())
                timestamps.append(last[user] + GAP - 1)
                count = 0
            last[user] = at
            counts[user] = count + 1
        return keys, values, timestamps

    return step


def table_join() -> Step:
    decode, encode = msgspec.json.Decoder(Order).decode, msgspec.json.Encoder().encode
    rows = users()

    def step(columns: Columns) -> Written:
        values: list[bytes | None] = []
        for value in columns.values:
            assert value is not None
            order = decode(value)
            user = rows.get(order.user)
            if user is not None:
                net = order.amount * user.share
                values.append(encode(Invoice(order.id, user.name, net, order.amount - net)))
        return list(columns.keys), values, list(columns.timestamps)

    return step


def interval_join() -> Step:
    """Pairs of one partition, whose orders are in order of time."""
    decode, encode = msgspec.json.Decoder(Order).decode, msgspec.json.Encoder().encode
    near: dict[str, list[Order]] = {}

    def step(columns: Columns) -> Written:
        keys: list[bytes | None] = []
        values: list[bytes | None] = []
        timestamps: list[int] = []
        for key, value in zip(columns.keys, columns.values, strict=True):
            assert value is not None
            order = decode(value)
            others = near[order.user] = [
                other for other in near.get(order.user, ()) if order.at - other.at <= NEAR
            ]
            for other in others:
                if other.paid != order.paid:
                    one, two = (other, order) if order.paid else (order, other)
                    values.append(encode(Pair(one.id, two.id)))
                    keys.append(key)
                    timestamps.append(order.at)
            others.append(order)
        return keys, values, timestamps

    return step


def as_of_join() -> Step:
    """Each unpaid order and the last paid one before it, of one partition in order of time."""
    decode, encode = msgspec.json.Decoder(Order).decode, msgspec.json.Encoder().encode
    paid: dict[str, Order] = {}
    waiting: list[Order] = []

    def step(columns: Columns) -> Written:
        keys: list[bytes | None] = []
        values: list[bytes | None] = []
        timestamps: list[int] = []

        def decide() -> None:
            for order in waiting:
                other = paid.get(order.user)
                if other is not None and order.at - other.at <= GAP:
                    values.append(encode(Pair(order.id, other.id)))
                    keys.append(order.user.encode())
                    timestamps.append(order.at)
            waiting.clear()

        for value in columns.values:
            assert value is not None
            order = decode(value)
            if waiting and order.at > waiting[0].at:
                decide()  # before: one of the same time may still come
            if order.paid:
                paid[order.user] = order
            else:
                waiting.append(order)
        return keys, values, timestamps

    return step


if __name__ == "__main__":
    paths = {
        "filter-map": filter_map,
        "windowed-count": windowed_count,
        "keyed-count": keyed_count,
        "sessions": sessions,
        "table-join": table_join,
        "interval-join": interval_join,
        "as-of-join": as_of_join,
    }
    main(log_to_log, paths)
