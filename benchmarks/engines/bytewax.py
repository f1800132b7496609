"""Bytewax's engine, from a list in memory to a list in memory.

That flatters it: it reads no log, writes none, and keeps no state on disk. The user's functions use
msgspec, as streamkit does. Batches of 1,000 (the default of one is about ten times slower).
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import bytewax.operators as op
import msgspec
from bytewax.dataflow import Dataflow, Stream
from bytewax.operators.windowing import EventClock, TumblingWindower, count_window
from bytewax.testing import TestingSink, TestingSource, run_main

from benchmarks.engines.process import Job, main
from benchmarks.events import LARGE, NET, START, WINDOW, Count, Event, Invoice, Order

BATCH = 1_000

SLACK = timedelta(seconds=5)
"""Its watermark moves with the wall clock too: without slack, a pause of the process makes events
late and drops them. The closing orders come later than this."""


def _flow(events: list[Event]) -> tuple[Dataflow, Stream[tuple[str, Order]]]:
    decode = msgspec.json.Decoder(Order).decode

    def parse(item: tuple[bytes, bytes]) -> tuple[str, Order]:
        return item[0].decode(), decode(item[1])

    flow = Dataflow("bench")
    source = TestingSource([(event.key, event.value) for event in events], BATCH)
    return flow, op.map("parse", op.input("orders", flow, source), parse)


def _job(flow: Dataflow, stream: Stream[tuple[str, bytes]]) -> Job:
    written: list[tuple[str, bytes]] = []
    op.output("out", stream, TestingSink(written))
    return Job(lambda: run_main(flow), lambda: [value for _, value in written])


def filter_map(events: list[Event], directory: Path) -> Job:
    encode = msgspec.json.Encoder().encode

    def invoice(item: tuple[str, Order]) -> tuple[str, bytes]:
        key, order = item
        net = order.amount * NET
        return key, encode(Invoice(order.id, order.user, net, order.amount - net))

    flow, orders = _flow(events)
    large = op.filter("large", orders, lambda item: item[1].amount >= LARGE)
    return _job(flow, op.map("invoice", large, invoice))


def windowed_count(events: list[Event], directory: Path) -> Job:
    encode = msgspec.json.Encoder().encode
    epoch = datetime.fromtimestamp(START / 1_000, UTC)
    second = timedelta(milliseconds=WINDOW)

    def at(item: tuple[str, Order]) -> datetime:
        return datetime.fromtimestamp(item[1].at / 1_000, UTC)

    def count(item: tuple[str, tuple[int, int]]) -> tuple[str, bytes]:
        key, (window, orders) = item
        return key, encode(Count(key, START + window * WINDOW, orders))

    flow, orders = _flow(events)
    windows = count_window(
        "count",
        orders,
        EventClock(at, wait_for_system_duration=SLACK),
        TumblingWindower(length=second, align_to=epoch),
        key=lambda item: item[0],
    )
    return _job(flow, op.map("encode", windows.down, count))


if __name__ == "__main__":
    main({"filter-map": filter_map, "windowed-count": windowed_count})
