"""What is said of functions that are waited for: what goes together, what they are given."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import polars
import pyarrow
import pyarrow.compute
import pytest
from msgspec import Struct

from streamkit import App, Context, ListState, State
from streamkit.errors import FunctionError, TopologyError, UsageError


class Order(Struct):
    n: int
    at: datetime | None = None


def orders_of(app: App):
    return app.stream("orders", Order)


async def waits(order: Order) -> int:
    return order.n


def plain(order: Order) -> int:
    return order.n


def batched(orders: list[Order]) -> list[int]:
    return [order.n for order in orders]


async def counts(order: Order, seen: State[int]) -> int:
    return 0


def lists(orders: list[Order], seen: ListState[int]) -> list[int]:
    return []


def one(orders: Order) -> list[int]:
    return []


@pytest.mark.parametrize(
    ("function", "options", "told"),
    [
        (plain, {"concurrency": 3}, "concurrency= is for functions that are waited for"),
        (plain, {"order": "key"}, "order= is for functions that are waited for"),
        (plain, {"timeout": "1s"}, "timeout= is for functions"),
        (plain, {"within": "1s"}, "within= is for how long a batch="),
        (plain, {"workers": 2, "concurrency": 3}, "workers= says how many"),
        (waits, {"workers": 2}, "waits .* is async, and workers= are processes"),
        (waits, {"concurrency": 0}, "concurrency=0: from 1"),
        (waits, {"order": "any"}, "order='any'"),
        (batched, {"batch": 3, "order": "key"}, "a batch has many keys"),
        (batched, {"batch": 0}, "batch=0: from 1"),
        (one, {"batch": 3}, "annotate 'orders' with a list of events"),
        (counts, {}, "'seen' is a State.*keep state in a step before it or after it"),
        (lists, {"batch": 3}, "'seen' is a State"),
    ],
)
def test_what_does_not_go_together_is_refused(function, options, told) -> None:
    with pytest.raises(TopologyError, match=told):
        orders_of(App("shop")).process(**options)(function)


@pytest.mark.parametrize("operation", ["map", "filter", "flat_map"])
def test_only_process_takes_coroutines(operation) -> None:
    with pytest.raises(TopologyError, match=r"waits .* is async; only a function of"):
        getattr(orders_of(App("shop")), operation)(waits)


def test_events_that_wait_are_kept_so_what_they_are_has_to_be_known() -> None:
    nobody_knows = orders_of(App("shop")).map(lambda order: order.n)
    with pytest.raises(TopologyError, match="the type of the values of 'orders' is unknown"):
        nobody_knows.process()(waits)


def results(process, values) -> list:
    app = App("shop")
    process(orders_of(app)).to("out")
    with app.test(partitions=1) as t:
        for value in values:
            t.send("orders", value, key="k")
        t.run()
        return t.values("out")


def test_batches_are_given_as_they_are_asked_for() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    rows = [Order(1, noon), Order(2), Order(3, noon)]
    schemas = []

    def arrow(batch: pyarrow.RecordBatch) -> pyarrow.RecordBatch:
        schemas.append(batch.schema)
        doubled = pyarrow.compute.multiply(batch["n"], 2)
        return pyarrow.RecordBatch.from_arrays([doubled], ["n"])

    def frame(batch: polars.DataFrame) -> polars.DataFrame:
        return batch.select(polars.col("n").sum())

    taken = results(lambda orders: orders.process(batch=2, name="f")(arrow), rows)
    assert taken == [{"n": 2}, {"n": 4}, {"n": 6}]
    assert schemas[0] == schemas[1], "also of the batch in which all times are there"
    assert results(lambda orders: orders.process(batch=2, name="f")(frame), rows) == [
        {"n": 3},
        {"n": 3},
    ]


def test_as_many_results_as_events_are_theirs_and_others_the_last_ones() -> None:
    app = App("shop")
    orders = orders_of(app)

    @orders.process(batch=3, to="same")
    def same(orders: list[Order]) -> list[int | None]:
        return [order.n if order.n != 2 else None for order in orders]

    @orders.process(batch=3, to="fewer")
    def fewer(orders: list[Order]) -> Iterator[int]:
        yield sum(order.n for order in orders)

    @orders.process(batch=3, to="none")
    def none(orders: list[Order]) -> None: ...

    with app.test(partitions=1) as t:
        for n in (1, 2, 3, 4):
            t.send("orders", Order(n), key=f"k{n}", timestamp=n)
        t.run()
        same_rows = [(r.key, r.value, r.timestamp) for r in t.topic("same")]
        assert same_rows == [("k1", 1, 1), ("k3", 3, 3), ("k4", 4, 4)]
        assert [(r.key, r.value, r.timestamp) for r in t.topic("fewer")] == [
            ("k3", 6, 3),
            ("k4", 4, 4),
        ]
        assert t.topic("none") == []


def test_a_context_is_of_its_event_whatever_is_under_way_beside_it() -> None:
    app = App("shop")
    drawn: dict[int, set] = {}

    @orders_of(app).flat_map(lambda order: [order.n, order.n]).process(name="pairs")
    def pairs(n: int) -> int:
        return n

    @pairs.process(to="out", concurrency=10)
    async def of_its_own(n: int, context: Context) -> str:
        before = (context.offset, context.timestamp)
        await asyncio.sleep(5 - n)
        assert before == (context.offset, context.timestamp) == (n, n)
        drawn.setdefault(n, set()).add(context.uuid())
        context.send("sent", n)
        return str(context.uuid())

    with app.test(partitions=1) as t:
        t.create_topic("sent")
        for n in range(5):
            t.send("orders", Order(n), timestamp=n)
        t.run()
        assert t.values("sent") == [b"%d" % n for n in (0, 0, 1, 1, 2, 2, 3, 3, 4, 4)]
        out = t.values("out")
        assert len(set(out)) == 10 and all(len(ids) == 2 for ids in drawn.values())


def test_a_test_is_told_of_a_coroutine_that_nothing_can_wake() -> None:
    async def stuck(order: Order) -> AsyncIterator[int]:
        await asyncio.get_running_loop().create_future()
        yield 1

    with pytest.raises(UsageError, match=r"stuck .* waits for what never comes"):
        results(lambda orders: orders.process()(stuck), [Order(1)])


def test_a_batch_that_fails_is_told_by_its_first_and_last_record() -> None:
    def fails(orders: list[Order]) -> list[int]:
        raise ValueError("no")

    with pytest.raises(FunctionError, match=r"fails .*batch of 3, made of the records orders-0@0"):
        results(lambda orders: orders.process(batch=3)(fails), [Order(n) for n in range(3)])
