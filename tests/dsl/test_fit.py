"""Functions are held to the types of what they are given, where both are known."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any, NewType, Protocol, TypedDict, TypeVar

import msgspec
import pytest

from streamkit.app import App
from streamkit.dsl.fit import can_fit
from streamkit.dsl.windows import tumbling
from streamkit.errors import TopologyError
from streamkit.records import Record

T = TypeVar("T")
Id = NewType("Id", str)


class Order(msgspec.Struct):
    customer: str
    amount: int


class Paid(Order):
    when: datetime


class Customer(msgspec.Struct):
    name: str


@dataclass
class Line:
    text: str


class Row(TypedDict):
    text: str


class Named(Protocol):
    name: str


@pytest.mark.parametrize(
    ("given", "annotated"),
    [
        (Order, Order),
        (Order, Any),
        (Order, object),
        (Order, T),
        (Any, Order),
        (Order, Paid),
        (Paid, Order),
        (Order, Order | None),
        (Order | None, Order),
        (Order | Customer, Customer),
        (Order, Customer | Order),
        (Order, Annotated[Order, "note"]),
        (Customer, Named),
        (Row, dict),
        (dict[str, Any], Row),
        (dict[str, int], Mapping[str, Any]),
        (list[int], Iterable[str]),
        (int, float),
        (float, int),
        (bool, int),
        (str, Id),
        (Id, str),
        (datetime, date),
        (int | None, int),
    ],
)
def test_what_may_fit_passes(given: Any, annotated: Any) -> None:
    assert can_fit(given, annotated)


@pytest.mark.parametrize(
    ("given", "annotated"),
    [
        (Order, int),
        (int, Order),
        (Order, Customer),
        (Order, Line),
        (dict, Order),
        (Row, Order),
        (Order, dict),
        (str, bytes),
        (str, int),
        (Order | None, Customer | None),
        (Order, Customer | Line),
        (Order | Line, int | None),
        (list[int], dict[str, int]),
        (Id, int),
    ],
)
def test_what_cannot_fit_does_not(given: Any, annotated: Any) -> None:
    assert not can_fit(given, annotated)


def of_number(number: int) -> int:
    return number


def of_record(record: Record[Customer]) -> int:
    return record.offset


def of_row(order: Order, row: int) -> int:
    return row


def fold_other_event(sofar: int | None, event: Customer) -> int:
    return 1


def fold_other_value(sofar: str | None, order: Order) -> int:
    return 1


def declare(app: App, what: str) -> object:
    # Any: what follows is what a type checker would refuse.
    orders: Any = app.stream("orders", Order)
    rows: Any = app.table("customers", Customer)
    window = orders.window(tumbling("1m", grace="0s"))
    declarations: dict[str, Callable[[], object]] = {
        "process": lambda: orders.process(of_number),
        "process to": lambda: orders.process(to="out")(of_number),
        "record": lambda: orders.process(of_record),
        "map": lambda: orders.map(of_number),
        "flat_map": lambda: orders.flat_map(of_number),
        "filter": lambda: orders.filter(of_number),
        "by": lambda: orders.by(of_number),
        "to": lambda: orders.to("out", key=of_number),
        "row": lambda: orders.join(rows)(of_row),
        "event": lambda: window.aggregate()(fold_other_event),
        "value": lambda: window.aggregate()(fold_other_value),
    }
    return declarations[what]()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        *(
            (what, r"of_number \(test_fit.py:\d+\): parameter 'number' is annotated int, but is "
            "given the values of 'orders', Order")
            for what in ("process", "process to", "map", "flat_map", "filter", "by", "to")
        ),
        ("record", "parameter 'record' is annotated Customer, .* values of 'orders', Order"),
        ("row", "parameter 'row' is annotated int, .* a row of table 'customers', Customer"),
        ("event", "parameter 'event' is annotated Customer, .* values of 'orders', Order"),
        ("value", r"parameter 'sofar' is annotated str \| None, .* returned before, int"),
    ],
)  # fmt: skip
def test_a_function_for_other_values_is_refused_where_it_is_declared(
    what: str, message: str
) -> None:
    with pytest.raises(TopologyError, match=message):
        declare(App("shop"), what)


def test_a_class_is_called_with_what_its_constructor_takes() -> None:
    @dataclass(init=False)
    class Shouted:
        text: bytes

        def __init__(self, text: str) -> None:
            self.text = text.encode()

    App("shop").stream("words", str).map(Shouted)
