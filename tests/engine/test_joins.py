"""Streams joined with tables, through whole apps."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.app import App
from streamkit.dsl.context import Context
from streamkit.errors import UnknownTopic
from streamkit.testing import TestRun


class Order(msgspec.Struct):
    id: int
    customer: str | None


class Customer(msgspec.Struct):
    name: str


def _app(how: Any, everywhere: bool = False) -> App:
    app = App("shop")
    orders = app.stream("orders", Order)
    declare = app.global_table if everywhere else app.table
    customers: Any = declare("customers", Customer)

    @orders.join(customers, on="customer", how=how, to="named")
    def named(order: Order, customer: Customer | None, context: Context) -> tuple[int, Any, Any]:
        return (order.id, customer.name if customer else None, context.key)

    return app


def _named(t: TestRun) -> list[Any]:
    return sorted(t.values("named"))


@pytest.mark.parametrize("everywhere", [False, True])
def test_inner_and_left_joins_differ_where_there_is_no_row(everywhere: bool) -> None:
    key = {False: lambda order: order.customer, True: lambda order: str(order.id)}[everywhere]
    orders = [Order(1, "a"), Order(2, "b"), Order(3, None)]
    for how, expected in (
        ("inner", [[1, "Ada", key(orders[0])]]),
        (
            "left",
            [[1, "Ada", key(orders[0])], [2, None, key(orders[1])], [3, None, key(orders[2])]],
        ),
    ):
        with _app(how, everywhere).test(partitions=3) as t:
            t.send("customers", Customer("Ada"), key="a")
            for order in orders:
                t.send("orders", order, key=str(order.id))
            t.run()
            assert [list(each) for each in _named(t)] == expected


def test_a_changed_or_deleted_row_counts_for_later_events_only() -> None:
    with _app("left").test() as t:
        for number, value in enumerate([Customer("Ada"), Customer("Bea"), None]):
            t.send("customers", value, key="a")
            t.run()
            t.send("orders", Order(number, "a"), key="x")
            t.run()
        assert [name for _, name, _ in _named(t)] == ["Ada", "Bea", None]


def test_tables_are_loaded_again_after_a_crash() -> None:
    for everywhere in (False, True):
        with _app("inner", everywhere).test() as t:
            t.send("customers", Customer("Ada"), key="a")
            t.run()
            t.crash()
            t.send("orders", Order(1, "a"), key="1")
            t.run()
            assert [name for _, name, _ in _named(t)] == ["Ada"]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.dictionaries(st.sampled_from("abcdef"), st.text(max_size=3), max_size=6),
    orders=st.lists(st.sampled_from([*"abcdef", None]), max_size=20),
    partitions=st.integers(1, 4),
    batch=st.integers(1, 5),
)
def test_a_left_join_gives_every_order_once_with_its_row(
    rows: dict[str, str], orders: list[str | None], partitions: int, batch: int
) -> None:
    for everywhere in (False, True):
        t = TestRun(_app("left", everywhere).topology(), partitions, batch=batch)
        for key, name in rows.items():
            t.send("customers", Customer(name), key=key)
        for number, customer in enumerate(orders):
            t.send("orders", Order(number, customer), key=str(number))
        t.run()
        assert [(number, name) for number, name, _ in _named(t)] == [
            (number, rows.get(customer or "")) for number, customer in enumerate(orders)
        ]


def test_an_unknown_topic_of_a_test_names_the_nearest() -> None:
    with _app("left").test() as t, pytest.raises(UnknownTopic, match="did you mean 'orders'"):
        t.send("order", Order(1, "a"))


def test_the_smallest_app_splits_lines_into_words() -> None:
    app = App("hello")

    @app.stream("lines", str).process(to="words")
    def words(line: str):  # type: ignore[no-untyped-def]
        yield from line.lower().split()

    with app.test(partitions=1) as t:
        t.send("lines", "To be or")
        t.run()
        assert t.values("words") == ["to", "be", "or"]
    assert list(words("Not To")) == ["not", "to"]
