"""Bytewax's engine, from a list in memory to a list in memory.

That flatters it: it reads no log, writes none, and keeps no state on disk. The user's functions use
msgspec, as streamkit does. Batches of 1,000, the default of its Kafka source (one by one is about
ten times slower).
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

import bytewax.operators as op
import msgspec
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.operators.windowing import (
    EventClock,
    SessionWindower,
    TumblingWindower,
    count_window,
    fold_window,
)
from bytewax.outputs import Sink
from bytewax.testing import TestingSink, TestingSource, run_main

from benchmarks.engines.process import Job, main
from benchmarks.events import GAP, LARGE, NET, START, WINDOW, Count, Event, Invoice, Order, users

BATCH = 1_000

SLACK = timedelta(seconds=5)
"""Its watermark moves with the wall clock too: without slack, a pause of the process makes events
late and drops them. The closing orders come later than this."""

Raw: TypeAlias = tuple[bytes, bytes]
Out: TypeAlias = tuple[str, bytes]
"""The user and the encoded value."""

Flow: TypeAlias = Callable[[Source[Raw], Sink[Out]], Dataflow]


def filter_map(source: Source[Raw], sink: Sink[Out]) -> Dataflow:
    encode = msgspec.json.Encoder().encode

    def invoice(item: tuple[str, Order]) -> Out:
        key, order = item
        net = order.amount * NET
        return key, encode(Invoice(order.id, order.user, net, order.amount - net))

    flow = Dataflow("bench")
    orders = op.map("parse", op.input("orders", flow, source), _parser())
    large = op.filter("large", orders, lambda item: item[1].amount >= LARGE)
    op.output("out", op.map("invoice", large, invoice), sink)
    return flow


def windowed_count(source: Source[Raw], sink: Sink[Out]) -> Dataflow:
    encode = msgspec.json.Encoder().encode
    epoch = datetime.fromtimestamp(START / 1_000, UTC)
    second = timedelta(milliseconds=WINDOW)

    def at(item: tuple[str, Order]) -> datetime:
        return datetime.fromtimestamp(item[1].at / 1_000, UTC)

    def count(item: tuple[str, tuple[int, int]]) -> Out:
        key, (window, orders) = item
        return key, encode(Count(key, START + window * WINDOW, orders))

    flow = Dataflow("bench")
    orders = op.map("parse", op.input("orders", flow, source), _parser())
    windows = count_window(
        "count",
        orders,
        EventClock(at, wait_for_system_duration=SLACK),
        TumblingWindower(length=second, align_to=epoch),
        key=lambda item: item[0],
    )
    op.output("out", op.map("encode", windows.down, count), sink)
    return flow


def keyed_count(source: Source[Raw], sink: Sink[Out]) -> Dataflow:
    encode = msgspec.json.Encoder().encode

    def count(sofar: int | None, order: Order) -> tuple[int, int]:
        orders = (sofar or 0) + 1
        return orders, orders

    flow = Dataflow("bench")
    orders = op.map("parse", op.input("orders", flow, source), _parser())
    counts = op.stateful_map("count", orders, count)
    op.output("out", op.map("encode", counts, lambda item: (item[0], encode(item[1]))), sink)
    return flow


def sessions(source: Source[Raw], sink: Sink[Out]) -> Dataflow:
    encode = msgspec.json.Encoder().encode
    # Its sessions are what is up to a gap apart, ours what is less than one apart.
    gap = timedelta(milliseconds=GAP - 1)

    def at(item: tuple[str, Order]) -> datetime:
        return datetime.fromtimestamp(item[1].at / 1_000, UTC)

    def fold(sofar: tuple[int, int], item: tuple[str, Order]) -> tuple[int, int]:
        return max(sofar[0], item[1].at), sofar[1] + 1

    def merge(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
        return max(one[0], other[0]), one[1] + other[1]

    def count(item: tuple[str, tuple[int, tuple[int, int]]]) -> Out:
        key, (_, (last, orders)) = item
        return key, encode(Count(key, last, orders))

    flow = Dataflow("bench")
    orders = op.map("parse", op.input("orders", flow, source), _parser())
    windows = fold_window(
        "sessions",
        op.key_on("user", orders, lambda item: item[0]),
        EventClock(at, wait_for_system_duration=SLACK),
        SessionWindower(gap),
        lambda: (0, 0),
        fold,
        merge,
    )
    op.output("out", op.map("encode", windows.down, count), sink)
    return flow


def table_join(source: Source[Raw], sink: Sink[Out]) -> Dataflow:
    """The table is a dictionary, which is there before: its joins keep one of events alone."""
    encode, rows = msgspec.json.Encoder().encode, users()

    def invoice(item: tuple[str, Order]) -> Out | None:
        key, order = item
        user = rows.get(key)
        if user is None:
            return None
        net = order.amount * user.share
        return key, encode(Invoice(order.id, user.name, net, order.amount - net))

    flow = Dataflow("bench")
    orders = op.map("parse", op.input("orders", flow, source), _parser())
    op.output("out", op.filter_map("join", orders, invoice), sink)
    return flow


def _parser() -> Callable[[Raw], tuple[str, Order]]:
    decode = msgspec.json.Decoder(Order).decode

    def parse(item: Raw) -> tuple[str, Order]:
        return item[0].decode(), decode(item[1])

    return parse


def in_memory(flow: Flow, events: list[Event], directory: Path) -> Job:
    written: list[Out] = []
    source = TestingSource([(event.key, event.value) for event in events], BATCH)
    ready = flow(source, TestingSink(written))
    return Job(lambda: run_main(ready), lambda: [value for _, value in written])


FLOWS: dict[str, Flow] = {
    "filter-map": filter_map,
    "windowed-count": windowed_count,
    "keyed-count": keyed_count,
    "sessions": sessions,
    "table-join": table_join,
}

if __name__ == "__main__":
    main(in_memory, FLOWS)
