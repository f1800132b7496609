"""Each aggregate against what it says it is, also when it was merged of parts."""

import math
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

import ddsketch
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.dsl.aggregates import (
    Aggregate,
    Fold,
    collect,
    count,
    first,
    folded,
    last,
    max_,
    mean,
    min_,
    quantile,
    reduced,
    sum_,
    top_k,
)
from streamkit.dsl.context import Context
from streamkit.dsl.together import together
from streamkit.errors import TopologyError
from streamkit.serde import Untyped, serde_for


class Order(msgspec.Struct, frozen=True):
    id: int
    amount: int | None = None


def _values(orders: list[Order]) -> list[int]:
    return [order.amount for order in orders if order.amount is not None]


def _nearest(orders: list[Order], part: float) -> float | None:
    values = sorted(_values(orders))
    return values[math.floor(part * (len(values) - 1))] if values else None


def _top(orders: list[Order]) -> list[Order]:
    known = [order for order in orders if order.amount is not None]
    return sorted(known, key=lambda order: order.amount or 0, reverse=True)[:3]


def _amount(order: Order) -> int | None:
    return order.amount


def _time(order: Order) -> int:
    return order.id * 7 % 5


def _known(orders: list[Order]) -> list[Order]:
    """Those with an amount, in order of time."""
    return sorted((order for order in orders if order.amount is not None), key=_time)


SAID: dict[str, tuple[Aggregate[Any], Callable[[list[Order]], Any]]] = {
    "count": (count(), len),
    "sum": (sum_("amount"), lambda orders: sum(_values(orders))),
    "mean": (
        mean("amount"),
        lambda orders: sum(v) / len(v) if (v := _values(orders)) else None,
    ),
    "min": (min_("amount"), lambda orders: min(_values(orders), default=None)),
    "max": (max_("amount"), lambda orders: max(_values(orders), default=None)),
    "median": (quantile(0.5, "amount"), lambda orders: _nearest(orders, 0.5)),
    "high": (quantile(0.9, "amount"), lambda orders: _nearest(orders, 0.9)),
    "top": (top_k(3, "amount"), _top),
    "first": (first("amount"), lambda orders: next(map(_amount, _known(orders)), None)),
    "last": (last("amount"), lambda orders: next(map(_amount, _known(orders)[::-1]), None)),
    "last_event": (last(), lambda orders: sorted(orders, key=_time)[-1]),
    "collect": (collect(4, "amount"), lambda orders: _values(orders)[:4]),
    "collect_events": (collect(3), lambda orders: orders[:3]),
}

amounts = st.lists(st.none() | st.integers(-1000, 100_000), min_size=1, max_size=30)


def run(fold: Fold, parts: list[list[Any]]) -> Any:
    """Fold each part, with its state written and read in between, merge them, and tell."""
    serde = serde_for(fold.state)
    states = []
    for part in parts:
        state = None
        for event in part:
            time = (_time(event),) if fold.function.is_timed else ()
            state = fold.function.call(state, event, *time)
            data = serde.encode(state)
            state = None if data is None else serde.decode(data)
        states.append(state)
    whole = states[0]
    for state in states[1:]:
        assert fold.merge is not None
        whole = fold.merge(whole, state)
    return whole if fold.result is None else fold.result(whole)


@pytest.mark.parametrize("name", SAID)
@settings(max_examples=40, deadline=None)
@given(amounts=amounts, cut=st.integers(0, 30))
def test_an_aggregate_gives_what_it_says_in_one_go_and_merged(
    name: str, amounts: list[int | None], cut: int
) -> None:
    aggregate, said = SAID[name]
    orders = [Order(number, amount) for number, amount in enumerate(amounts)]
    fold = aggregate.fold(Order, "orders")
    cut = cut % len(orders)
    parts = [orders] if not cut else [orders[:cut], orders[cut:]]
    result, expected = run(fold, parts), said(orders)
    if name in ("median", "high") and expected is not None:
        assert result == pytest.approx(expected, rel=0.0101)
    else:
        assert result == expected
    assert result is None or serde_for(fold.returns).encode(result) is not None


@settings(max_examples=40, deadline=None)
@given(amounts=amounts)
def test_several_aggregates_in_one_pass_give_what_each_gives(amounts: list[int | None]) -> None:
    orders = [Order(number, amount) for number, amount in enumerate(amounts)]
    parts = {name: aggregate for name, (aggregate, _) in SAID.items()}
    fold = together(parts, Order, "orders", None)
    cut = len(orders) // 2
    result = run(fold, [orders[:cut], orders[cut:]] if cut else [orders])
    for name, (aggregate, _) in SAID.items():
        assert getattr(result, name) == run(aggregate.fold(Order, "orders"), [orders])


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(-1e300, 1e300) | st.just(0.0), min_size=1, max_size=50),
    part=st.floats(0, 1),
)
def test_quantiles_are_those_of_the_package_whose_bins_they_use(
    values: list[float], part: float
) -> None:
    theirs = ddsketch.DDSketch(0.02)
    for value in values:
        theirs.add(value)
    fold = quantile(part, accuracy=0.02).fold(float, "numbers")
    assert run(fold, [values]) == theirs.get_quantile_value(part)


def test_a_quantile_depends_only_on_the_values_and_not_on_their_order() -> None:
    fold = quantile(0.9).fold(float, "numbers")
    values = [float(value) for value in range(1, 100)]
    halves = [values[::2], values[1::2]]
    assert run(fold, [values]) == run(fold, [values[::-1]]) == run(fold, halves)


def test_a_number_that_is_none_is_refused_by_a_quantile() -> None:
    fold = quantile(0.9).fold(float, "numbers")
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="no place among"):
            fold.function.call(None, value)


def test_sums_and_means_keep_the_type_of_what_they_add() -> None:
    for values, total, average in (
        ([1, 2], 3, 1.5),
        ([0.5, 1.0], 1.5, 0.75),
        ([Decimal("0.10"), Decimal("0.20")], Decimal("0.30"), Decimal("0.15")),
        ([True, True, False], 2, 2 / 3),
    ):
        type_ = type(values[0])
        added, halved = sum_().fold(type_, "numbers"), mean().fold(type_, "numbers")
        assert run(added, [values]) == total
        assert run(halved, [values]) == pytest.approx(average)
        assert type(run(added, [values])) is type(total)
        assert serde_for(added.returns).encode(total) is not None


def test_nothing_added_is_zero() -> None:
    assert run(sum_("amount").fold(Order, "orders"), [[Order(1)]]) == 0


def test_a_function_may_say_what_of_an_event_is_aggregated() -> None:
    def doubled(order: Order) -> float:
        return 2.0 * (order.amount or 0)

    aggregate = sum_(doubled)
    assert aggregate.label == "sum-doubled"
    fold = aggregate.fold(Order, "orders")
    assert fold.returns is float
    assert run(fold, [[Order(1, 2), Order(2, 3)]]) == 10.0


def test_the_events_of_a_reduction_are_merged_by_it() -> None:
    def longer(one: str, other: str) -> str:
        return other if len(other) > len(one) else one

    fold = reduced(longer, str)
    assert run(fold, [["a", "bb"], ["ccc", "d"]]) == "ccc"
    assert fold.returns is str


def test_an_own_struct_may_take_what_several_aggregates_give() -> None:
    class Total(msgspec.Struct, frozen=True):
        n: int
        total: int
        note: str = ""

    parts = {"n": count(), "total": sum_("amount")}
    fold = together(parts, Order, "orders", Total)
    assert run(fold, [[Order(1, 5), Order(2, 6)]]) == Total(2, 11)
    with pytest.raises(TopologyError, match="it has no 'most'"):
        together({**parts, "most": max_("amount")}, Order, "orders", Total)
    with pytest.raises(TopologyError, match="its 'total' is not computed"):
        together({"n": count()}, Order, "orders", Total)
    with pytest.raises(TopologyError, match="no typed fields"):
        together({"n": count()}, Order, "orders", int)


def test_fields_of_another_type_than_what_aggregates_give_are_refused_when_declared() -> None:
    class Odd(msgspec.Struct):
        n: str
        average: int
        best: list[str]

    odd = {"n": count(), "average": mean("amount"), "best": top_k(2, "amount")}
    with pytest.raises(TopologyError) as caught:
        together(odd, Order, "orders", Odd)
    for text in ("'n' is str, but is given int", "'average' is int", "'best' is list[str]"):
        assert text in str(caught.value)

    class Fine(msgspec.Struct):
        n: float
        average: float
        best: list[Order]
        least: int | str | None

    fine = {**odd, "least": min_("amount")}
    assert together(fine, Order, "orders", Fine).returns is Fine


def unannotated(sofar, event):  # type: ignore[no-untyped-def]
    return event


def with_more(sofar: int, other: int, context: Context) -> int:
    return sofar + other


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda: sum_("amuont").fold(Order, "orders"), "did you mean 'amount'"),
        (lambda: sum_(7).fold(Order, "orders"), "neither a field's name nor a function"),  # type: ignore[arg-type]
        (lambda: quantile(95), "between 0 and 1"),
        (lambda: quantile(0.5, accuracy=1), "accuracy"),
        (lambda: top_k(0), "at least one"),
        (lambda: collect(0), "at least one"),
        (lambda: first().fold(Untyped, "orders"), "type of the values is unknown"),
        (lambda: collect(9).fold(Untyped, "orders"), "type of the values is unknown"),
        (lambda: together({}, Order, "orders", None), "name what to compute"),
        (lambda: together({"n": len}, Order, "orders", None), "is no aggregate"),  # type: ignore[dict-item]
        (lambda: folded(unannotated), "annotate what it returns"),
        (lambda: reduced(with_more, int), "two values and nothing else"),
        (lambda: folded(unannotated, merge=with_more), "annotate|two states"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_declared(
    declare: Callable[[], object], said: str
) -> None:
    with pytest.raises(TopologyError, match=said):
        declare()


@pytest.mark.parametrize("aggregate", [sum_, mean, min_, max_, partial(quantile, 0.5)])
def test_what_turns_out_to_be_no_number_is_told_with_what_to_do(aggregate: Any) -> None:
    add = aggregate(lambda event: event["v"]).fold(dict, "orders").function.call
    assert add(add(None, {"v": None}), {"v": 1}) is not None
    with pytest.raises(
        TypeError, match=r"of orders: 'lambda' gives '1\.5', of type str.*on_error="
    ):
        add(None, {"v": "1.5"})
    by_tuple = top_k(1, lambda event: (event["v"], 1)).fold(dict, "orders").function.call
    assert by_tuple(None, {"v": "x"})
