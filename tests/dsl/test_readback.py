"""What an app writes to a topic and could not read there itself is refused before it runs."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar

import msgspec
import pytest

from streamkit.app import App
from streamkit.dsl.readback import unreadable
from streamkit.dsl.windows import tumbling
from streamkit.errors import SerdeError, TopologyError
from streamkit.serde import serde_for


class Order(msgspec.Struct):
    customer: str
    amount: int


class Big(Order):
    reason: str


class Bigger(Order):
    note: str = ""


class Reason(msgspec.Struct):
    reason: str


class Amount(msgspec.Struct):
    amount: int


class Customer(msgspec.Struct):
    name: str


class Exactly(msgspec.Struct, forbid_unknown_fields=True):
    amount: int


class Packed(Amount, array_like=True):
    pass


T = TypeVar("T")


class Box(msgspec.Struct, Generic[T]):
    held: T


class Crate(Box[int]):
    name: str


class Kind(msgspec.Struct):
    type: str


class OtherField(msgspec.Struct, tag="order", tag_field="kind"):
    customer: str


class Loose(msgspec.Struct):
    name: str = ""


class Tagged(msgspec.Struct, tag=True):
    customer: str


class OtherTag(msgspec.Struct, tag=True):
    customer: str


class Renamed(msgspec.Struct, rename="camel"):
    customer_name: str


class Listed(msgspec.Struct, array_like=True):
    amount: int


@dataclass
class Data:
    customer: str


class Row(TypedDict):
    amount: int


class Long(Row):
    customer: str


class Pair(NamedTuple):
    one: int


ORDER = Order("ada", 1)


@pytest.mark.parametrize(
    ("written", "read", "value", "why"),
    [
        (Order, Customer, ORDER, "Order has no 'name', which Customer needs"),
        (Order | None, Customer | None, ORDER, "has no 'name'"),
        (Order, int, ORDER, "the one is an object in JSON, the other a number"),
        (Order, list[int], ORDER, "the other an array"),
        (Order, bool, ORDER, "true or false"),
        (int, Order, 1, "the one is a number"),
        (int, dict[str, int], 1, "the one is a number"),
        (Box[int], Reason, Box(1), "no 'reason'"),
        (Order, Exactly, ORDER, "Order has 'customer', which Exactly forbids"),
        (Tagged, OtherTag, Tagged("ada"), "tag 'Tagged', OtherTag has 'OtherTag'"),
        (Renamed, Data, Renamed("ada"), "no 'customer'"),
        (Data, Row, Data("ada"), "Data has no 'amount'"),
        (Pair, Order, Pair(1), "the one is an array"),
        (Listed, Amount, Listed(1), "the one is an array"),
    ],
)
def test_what_is_refused_cannot_be_read(written: Any, read: Any, value: Any, why: str) -> None:
    with pytest.raises(SerdeError):
        serde_for(read).decode(serde_for(written).encode(value))
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(unreadable(written, read))


@pytest.mark.parametrize(
    ("written", "read", "value"),
    [
        (Order, Order, ORDER),
        (Order, Amount, ORDER),
        (Order, Data, ORDER),
        (Order, Row, ORDER),
        (Order, Loose, ORDER),
        (Order, Big, Big("ada", 1, "why")),
        (Order, Reason, Big("ada", 1, "why")),  # of a subclass
        (Order, Order | int, ORDER),
        (Tagged, Tagged | OtherTag, Tagged("ada")),
        (Tagged | OtherTag, OtherTag, OtherTag("ada")),
        (Order, dict[str, Any], ORDER),
        (dict, Order, {"customer": "ada", "amount": 1}),
        (Order, Any, ORDER),
        (Any, Order, ORDER),
        (Order, str, ORDER),
        (Order, bytes, ORDER),
        (bytes, Order, b'{"customer": "ada", "amount": 1}'),
        (str, int, "42"),
        (str, datetime, '"2026-01-31T00:00:00Z"'),
        (int, float, 1),
        (int | str, str, "1"),
        (Tagged, Data, Tagged("ada")),
        (Data, Tagged, Data("ada")),
        (list[int], Pair, [1]),
        (Listed, Pair, Listed(1)),
        (str, Order, '{"customer": "ada", "amount": 1}'),
        (str, list[int], "[1]"),
        (Row, Order, Long(amount=1, customer="ada")),
        (Box[int], Customer, Crate(1, "ada")),
        (Amount, list[int], Packed(1)),
        (Tagged, Kind, Tagged("ada")),
        (Tagged, OtherField, Tagged("ada")),
    ],
)
def test_what_may_be_read_passes(written: Any, read: Any, value: Any) -> None:
    serde_for(read).decode(serde_for(written).encode(value))
    assert unreadable(written, read) is None


def big(order: Order) -> Order | None:
    return order


def wrong(app: App, what: str) -> None:
    orders = app.stream("orders", Order)
    if what == "stream":
        orders.process(big).to("big")
        app.stream("big", Customer).to("out")
    elif what == "table":
        orders.to("latest")
        app.table("latest", Customer)
    elif what == "global":
        orders.process(to="latest")(big)
        app.global_table("latest", Customer)
    elif what == "late":
        orders.window(tumbling("1m", grace="0s")).count(name="n")
        app.stream("shop-n-late", Customer).to("out")
    elif what == "key":
        orders.to("numbered", key="amount")
        app.stream("numbered", Order, key=Customer).to("out")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (
            "stream",
            r"^big: big \(test_readback.py:\d+\) writes values of type Order there, and "
            r"app.stream\('big', Customer\) \(test_readback.py:\d+\) reads Customer: "
            "Order has no 'name', which Customer needs. "
            "Declare it with Order, or write to another topic$",
        ),
        (
            "table",
            r"stream 'orders' writes .* app.table\('latest', Customer\) \(test_.*:\d+\) reads",
        ),
        ("global", r"big \(test_readback.py:\d+\) writes .* app.global_table\('latest', Customer"),
        ("late", r"'n' writes values of type Order there"),
        (
            "key",
            r"^numbered: stream 'orders' writes keys of type int there, and "
            r"app.stream\('numbered', Order\) \(test_readback.py:\d+\) reads Customer: "
            ".* Declare it with key=int, or",
        ),
    ],
)
def test_an_app_that_could_not_read_what_it_writes_is_refused(what: str, message: str) -> None:
    app = App("shop")
    wrong(app, what)
    with pytest.raises(TopologyError, match=message):
        app.test()


def test_records_that_are_meant_to_be_skipped_are_not_refused() -> None:
    app = App("shop")
    app.stream("orders", Order).to("all")
    app.stream("all", Customer, on_error="skip").to("out")
    app.topology()
