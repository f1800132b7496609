"""streamkit, log to log, as `streamkit run` does it: commits, changelog and all."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from benchmarks.engines.orders_log import ORDERS, OUT, USERS, fill, fill_users, outputs
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
    User,
)
from streamkit.app import App
from streamkit.dsl.stream import Stream
from streamkit.dsl.windows import session, tumbling
from streamkit.engine.live import run
from streamkit.records import Record

Declare: TypeAlias = Callable[[App, Stream[Order]], object]


def filter_map(app: App, orders: Stream[Order]) -> object:
    large = orders.filter(lambda order: order.amount >= LARGE)

    @large.process(to=OUT)
    def invoice(order: Order) -> Invoice:
        net = order.amount * NET
        return Invoice(order.id, order.user, net, order.amount - net)

    return invoice


def windowed_count(app: App, orders: Stream[Order]) -> object:
    counts = orders.window(tumbling(f"{WINDOW}ms", grace="0ms")).count()

    @counts.process(to=OUT)
    def named(count: Record[int]) -> Count:
        return Count(count.key, count.timestamp + 1 - WINDOW, count.value)

    return named


def keyed_count(app: App, orders: Stream[Order]) -> object:
    return orders.count(to=OUT)


def sessions(app: App, orders: Stream[Order]) -> object:
    counts = orders.window(session(f"{GAP}ms")).count()

    @counts.process(to=OUT)
    def named(count: Record[int]) -> Count:
        return Count(count.key, count.timestamp + 1 - GAP, count.value)

    return named


def table_join(app: App, orders: Stream[Order]) -> object:
    @orders.join(app.table(USERS, User), to=OUT)
    def invoice(order: Order, user: User) -> Invoice:
        net = order.amount * user.share
        return Invoice(order.id, user.name, net, order.amount - net)

    return invoice


def interval_join(app: App, orders: Stream[Order]) -> object:
    paid = orders.filter(lambda order: order.paid)

    @orders.filter(lambda order: not order.paid).join(paid, within=f"{NEAR}ms", to=OUT)
    def pair(one: Order, other: Order) -> Pair:
        return Pair(one.id, other.id)

    return pair


def log_to_log(declare: Declare, events: list[Event], directory: Path) -> Job:
    backend = fill(directory, events)
    app = App("bench", log=str(directory))
    declare(app, app.stream(ORDERS, Order, key=str, time="at", out_of_order="0ms"))
    topology = app.topology()
    if USERS in topology.sources:
        fill_users(backend)
    return Job(lambda: run(topology, backend, until_end=True), lambda: outputs(backend))


def as_of_join(app: App, orders: Stream[Order]) -> object:
    paid = orders.filter(lambda order: order.paid)
    unpaid = orders.filter(lambda order: not order.paid)

    @unpaid.join_as_of(paid, tolerance=f"{GAP}ms", to=OUT)
    def pair(one: Order, other: Order) -> Pair:
        return Pair(one.id, other.id)

    return pair


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
