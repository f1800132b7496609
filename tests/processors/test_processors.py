"""Each ready-made step, in an app at work."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from msgspec import Struct

from streamkit import App, FunctionError, Stream, TopologyError, session
from streamkit.processors import (
    Moving,
    Ranked,
    Session,
    dedupe,
    enrich,
    flatten,
    mask,
    moving_average,
    rate,
    sample,
    sessionize,
    throttle,
    top_k,
    z_score,
)

SECOND = 1000


class Order(Struct):
    id: str
    customer: str
    amount: float = 1.0
    note: str | None = None


@dataclass
class Reading:
    sensor: str
    celsius: float


@pytest.fixture
def app() -> App:
    return App("shop")


def results(app: App, events: list[tuple[Any, str, int]], topic: str = "out") -> list[Any]:
    """What `topic` has after (value, key, seconds) were sent to "in", all in one partition."""
    with app.test(partitions=1) as t:
        for value, key, seconds in events:
            t.send("in", value, key=key, timestamp=seconds * SECOND)
        t.run()
        return [(record.key, record.value) for record in t.topic(topic)]


def test_dedupe_gives_the_first_of_each_identity_and_forgets_it_in_time(app: App) -> None:
    dedupe(app.stream("in", Order), "id", within="10s").to("out")
    sent = [("a", 1, 0), ("a", 2, 1), ("b", 3, 8), ("a", 4, 9), ("c", 5, 12)]
    sent += [("a", 6, 9), ("a", 7, 30), ("a", 8, 31), ("a", 9, 40)]  # the first of these is behind
    events = [(Order(id, "c", float(n)), "k", at) for id, n, at in sent]
    assert [value.amount for _, value in results(app, events)] == [1, 3, 5, 7, 9]


def test_dedupe_keeps_keys_apart_and_lets_through_what_has_no_identity(app: App) -> None:
    dedupe(app.stream("in", Order), lambda order: order.note, within="1h").to("out")
    events = [
        (Order("1", "c", note="x"), "a", 0),
        (Order("2", "c", note="x"), "b", 0),
        (Order("3", "c", note="x"), "a", 1),
        (Order("4", "c"), "a", 1),
        (Order("5", "c"), "a", 1),
    ]
    assert [value.id for _, value in results(app, events)] == ["1", "2", "4", "5"]


def test_dedupe_keeps_its_memory_over_a_crash_under_its_own_name(app: App) -> None:
    dedupe(app.stream("in", str), lambda value: value, within="1h").to("out")
    assert app.topology().internal == ("shop-in-dedupe-seen-changelog",)
    with app.test(partitions=1) as t:
        t.send("in", "x", key="k", timestamp=0)
        t.run()
        t.crash()
        t.send("in", "x", key="k", timestamp=1)
        t.run()
        assert t.values("out") == ["x"]


def test_throttle_lets_n_events_of_a_key_through_in_any_span(app: App) -> None:
    throttle(app.stream("in", int), 2, per="10s").to("out")
    times = [0, 1, 2, 9, 10, 11, 12, 30]
    assert [v for _, v in results(app, [(at, "k", at) for at in times])] == [0, 1, 10, 11, 30]


def test_throttle_counts_an_event_out_of_order_with_those_since_its_time(app: App) -> None:
    throttle(app.stream("in", int), 1, per="10s").to("out")
    assert [v for _, v in results(app, [(100, "k", 100), (50, "k", 50), (60, "j", 60)])] == [
        100,
        60,
    ]


def test_sessionize_gives_a_session_when_it_is_over_and_merges_what_is_joined(app: App) -> None:
    events = app.stream("in", str, out_of_order="5s")
    sessionize(events, "10s").to("out")
    sent = [("a", "k", 0), ("b", "k", 12), ("c", "k", 8), ("d", "k", 100), ("e", "k", 200)]
    found = results(app, sent)
    assert [(key, value.events, value.start.timestamp()) for key, value in found] == [
        ("k", 3, 0),
        ("k", 1, 100),
    ]
    assert [value.seconds for _, value in found] == [12, 0]
    assert all(isinstance(value, Session) for _, value in found)


def test_top_k_ranks_what_comes_up_most_in_each_window_over_all_partitions(app: App) -> None:
    top_k(app.stream("in", Order), 2, "customer", every="1m").to("out")
    with app.test(partitions=3) as t:
        for n, customer in enumerate(["ada", "bob", "ada", "eve", "bob", "ada", "zoe"]):
            t.send("in", Order(str(n), customer), key=str(n), timestamp=n * SECOND, partition=n % 3)
        for partition in range(3):
            t.send("in", Order("x", "late"), timestamp=120 * SECOND, partition=partition)
        t.run()
        t.advance("1m")
        assert t.values("out")[0] == [Ranked("ada", 3), Ranked("bob", 2)]


def test_top_k_ranks_what_comes_up_as_often_by_name(app: App) -> None:
    top_k(app.stream("in", Order), 5, "customer", every="1m").to("out")
    with app.test(partitions=3) as t:
        for n, customer in enumerate("gfedcba"):
            t.send("in", Order(str(n), customer), key=str(n), timestamp=n, partition=n % 3)
        t.run()
        t.finish()
        assert [one.item for one in t.values("out")[0]] == ["a", "b", "c", "d", "e"]


def test_top_k_may_weigh_instead_of_counting(app: App) -> None:
    top_k(app.stream("in", Order), 1, "customer", every="1m", weight="amount").to("out")
    events = [(Order("1", "ada", 1.0), "k", 0), (Order("2", "ada", 1.0), "k", 1)]
    events += [(Order("3", "bob", 5.0), "k", 2), (Order("4", "eve"), "k", 500)]
    assert results(app, events)[0] == ("all", [Ranked("bob", 5.0)])


def test_top_k_leaves_out_what_is_about_nothing(app: App) -> None:
    top_k(app.stream("in", Order), 2, "note", every="1m").to("out")
    events = [(Order("1", "ada", note=note), "k", 0) for note in (None, "x", None)]
    assert results(app, [*events, (Order("2", "eve", note="y"), "k", 500)]) == [
        ("all", [Ranked("x", 1.0)])
    ]


def test_rate_is_events_per_second_of_each_window(app: App) -> None:
    rate(app.stream("in", str), over="10s").to("out")
    assert results(app, [("x", "k", at) for at in (0, 1, 2, 3, 9, 10, 25)])[:2] == [
        ("k", 0.5),
        ("k", 0.1),
    ]


def test_a_moving_average_is_of_the_last_values_of_its_key(app: App) -> None:
    moving_average(app.stream("in", Reading), "celsius", last=2).to("out")
    sent = [("a", 1.0), ("a", 3.0), ("b", 100.0), ("a", 5.0)]
    found = results(app, [(Reading(key, value), key, 0) for key, value in sent])
    assert found == [("a", 1.0), ("a", 2.0), ("b", 100.0), ("a", 4.0)]


def test_a_z_score_is_against_the_values_before(app: App) -> None:
    z_score(app.stream("in", float), lambda value: value, last=3).to("out")
    found = [value for _, value in results(app, [(v, "k", 0) for v in (1.0, 1.0, 3.0, 5.0)])]
    assert found[0] == Moving(1.0, None, None, None)
    assert found[1] == Moving(1.0, 1.0, 0.0, None)
    assert found[2].z is None
    assert found[3].mean == pytest.approx(5 / 3)
    assert found[3].z == pytest.approx((5 - 5 / 3) / 0.942809, rel=1e-5)


@pytest.mark.parametrize("step", [moving_average, z_score])
def test_what_was_moving_forgets_keys_that_have_no_events(app: App, step: Any) -> None:
    step(app.stream("in", Order, out_of_order="15s"), "amount", last=3, forget="10s").to("out")
    with app.test(partitions=1) as t:
        sent = [("a", 1, 0), ("a", 3, 9), ("a", 5, 8), ("a", 7, 18), ("a", 9, 28), ("b", 1, 70)]
        for key, amount, at in [*sent, ("c", 1, 71)]:
            t.send("in", Order("1", key, amount), key=key, timestamp=at * SECOND)
        t.run()
        # What is 1 s behind belongs to the others, and lets none of them go earlier.
        means: list[float | None] = [1.0, 2.0, 3.0, 5.0, 9.0, 1.0, 1.0]
        if step is z_score:
            means = [None, 1.0, 2.0, 3.0, None, None, None]
        found = t.values("out")
        assert [each.mean if step is z_score else each for each in found] == means
        (changelog,) = app.topology().internal
        assert {record.key for record in t.topic(changelog)} == {"b", "c"}


class Customer(Struct):
    name: str
    customer: str = "not this one"


class Named(Struct):
    id: str
    customer: str
    name: str = "?"


@pytest.mark.parametrize(
    ("how", "names"), [("left", [("ada", "Ada"), ("bob", "?")]), ("inner", [("ada", "Ada")])]
)
@pytest.mark.parametrize("kind", ["table", "global_table"])
def test_enrich_adds_fields_of_the_row_and_the_event_is_stronger(
    app: App, how: Any, kind: str, names: list[tuple[str, str]]
) -> None:
    customers = getattr(app, kind)("customers", Customer)
    orders = app.stream("in", Order)
    enrich(orders, customers, Named, on="customer", how=how).to("out")
    with app.test(partitions=2) as t:
        t.send("customers", Customer("Ada"), key="ada")
        t.send("in", Order("1", "ada"), timestamp=1)
        t.send("in", Order("2", "bob"), timestamp=2)
        t.run()
        t.advance("1m")
        assert sorted((each.customer, each.name) for each in t.values("out")) == names


def test_enrich_refuses_a_field_that_neither_has_when_it_is_declared(app: App) -> None:
    class Wrong(Struct):
        id: str
        nmae: str

    with pytest.raises(TopologyError, match=r"rows of 'customers' have 'nmae'; .* the rows name"):
        enrich(app.stream("in", Order), app.table("customers", Customer), Wrong)


@pytest.mark.parametrize("type_", [Order, dict])
def test_mask_hides_fields_and_keeps_the_type(app: App, type_: Any) -> None:
    mask(app.stream("in", type_), "customer", "note", keep=2).to("out")
    order: Any = Order("1", "ada lovelace")
    if type_ is dict:
        order = {"id": "1", "customer": "ada lovelace", "note": None}
    ((_, found),) = results(app, [(order, "k", 0)])
    if type_ is dict:
        assert found == {"id": "1", "customer": "***ce", "note": None}
    else:
        assert found == Order("1", "***ce")


def test_mask_with_a_secret_gives_equal_values_equal_marks(app: App) -> None:
    mask(app.stream("in", Reading), "sensor", secret="s").to("out")
    found = results(app, [(Reading(name, 1.0), "k", 0) for name in ("a", "b", "a")])
    first, second, third = (value.sensor for _, value in found)
    assert first == third != second
    assert len(first) == 16 and first != "a"
    other = App("other")
    mask(other.stream("in", Reading), "sensor", secret="t").to("out")
    assert results(other, [(Reading("a", 1.0), "k", 0)])[0][1].sensor != first


def test_mask_of_something_short_shows_none_of_it_and_a_wrong_field_is_an_error(app: App) -> None:
    mask(app.stream("in", Order), "id", keep=4).to("out")
    assert results(app, [(Order("1234", "c"), "k", 0)])[0][1].id == "***"
    wrong = App("wrong")
    mask(wrong.stream("in", Order), "amount").to("out")
    with pytest.raises(FunctionError, match="'amount' is of type float; text can be masked"):
        results(wrong, [(Order("1", "c"), "k", 0)])
    with pytest.raises(ValueError, match="name the fields"):
        mask(wrong.stream("other", Order))


def test_flatten_has_one_level_of_fields_and_loses_none(app: App) -> None:
    flatten(app.stream("in", dict), separator=".").to("out")
    nested = {"a": {"b": 1, "c": {"d": [1, {"e": 2}]}}, "f": {}, "g": None}
    ((_, found),) = results(app, [(nested, "k", 0)])
    assert found == {"a.b": 1, "a.c.d": [1, {"e": 2}], "f": {}, "g": None}
    assert results(app, [({}, "k", 0)])[0][1] == {}
    with pytest.raises(FunctionError, match=r"two fields would be called 'a\.b'"):
        results(app, [({"a": {"b": 1}, "a.b": 2}, "k", 0)])


def test_sample_chooses_about_its_part_and_always_the_same(app: App) -> None:
    sample(app.stream("in", int), 0.25).to("out")
    events = [(n, str(n), 0) for n in range(400)]
    first = results(app, events)
    assert 60 < len(first) < 140
    assert results(app, events) == first


def test_sample_of_whole_keys_has_all_events_of_some_and_more_keys_for_a_larger_part() -> None:
    chosen = []
    for part in (0.2, 0.6, 1.0):
        app = App("shop")
        sample(app.stream("in", int), part, whole_keys=True).to("out")
        found = results(app, [(n, f"key-{n % 50}", 0) for n in range(200)])
        keys = {key for key, _ in found}
        assert len(found) == 4 * len(keys)
        chosen.append(keys)
    assert chosen[0] < chosen[1] < chosen[2]
    assert len(chosen[2]) == 50
    with pytest.raises(ValueError, match="from 0 to 1"):
        sample(app.stream("more", int), 2)


@pytest.mark.parametrize("type_", [Order, Reading])
def test_a_field_that_there_is_not_is_told_where_the_step_is_declared(app: App, type_: Any) -> None:
    events = app.stream("in", type_)
    steps: list[Callable[[str], object]] = [
        lambda field: dedupe(events, field, within="1h"),
        lambda field: mask(events, field),
        lambda field: moving_average(events, field, last=2),
        lambda field: top_k(events, 2, field, every="1m"),
    ]
    for step in steps:
        with pytest.raises(TopologyError, match=f"{type_.__name__} has no field 'celsus'"):
            step("celsus")
    for nothing in (
        lambda: top_k(events, 0, len, every="1m"),
        lambda: z_score(events, len, last=0),
    ):
        with pytest.raises(ValueError, match="at least one"):
            nothing()


Declare = Callable[[App, Stream[Order]], Stream[Any]]
STEPS: dict[str, Declare] = {
    "dedupe": lambda _, orders: dedupe(orders, "id", within="40s"),
    "enrich": lambda app, orders: enrich(orders, app.table("customers", Customer), Named),
    "flatten": lambda _, orders: flatten(orders),
    "mask": lambda _, orders: mask(orders, "customer", keep=1),
    "moving_average": lambda _, orders: moving_average(orders, "amount", last=3, forget="9s"),
    "rate": lambda _, orders: rate(orders, over="20s", every="10s", grace="5s"),
    "sample": lambda _, orders: sample(orders, 0.5, whole_keys=True),
    "sessionize": lambda _, orders: sessionize(orders, "9s", grace="3s"),
    "throttle": lambda _, orders: throttle(orders, 2, per="15s"),
    "top_k": lambda _, orders: top_k(orders, 2, "customer", every="30s"),
    "z_score": lambda _, orders: z_score(orders, "amount", last=3, forget="9s"),
}


@pytest.mark.parametrize("step", STEPS)
def test_behind_a_key_and_with_events_that_are_behind_it_gives_the_same_however_it_is_run(
    step: str,
) -> None:
    found = []
    for seed in (None, 1, 2):
        app = App("shop")
        orders = app.stream("in", Order, out_of_order="5s").by("customer")
        STEPS[step](app, orders).to("out")
        with app.test(partitions=3, members=1 if seed is None else 2) as t:
            if seed is not None:
                t.shuffle(seed)
            chance = Random(7)
            for name in "abcdef" if step == "enrich" else "":
                t.send("customers", Customer(name.upper()), key=name)
            for n in range(90):
                # Each customer in one partition; one in six events is late.
                customer = chance.choice("abcdef")
                at = n * SECOND - (chance.randrange(20) * SECOND if n % 6 == 5 else 0)
                order = Order(str(chance.randrange(30)), customer, float(n % 11))
                partition = ord(customer) % 3
                t.send("in", order, key=customer, timestamp=max(at, 0), partition=partition)
                if seed is not None and n % 9 == seed:
                    t.step()
                    t.crash() if n % 2 else t.rebalance(1 + n % 3)
            t.finish()
            out = [(record.key, record.timestamp, str(record.value)) for record in t.topic("out")]
            found.append(sorted(out))
    assert found[0] and found[0] == found[1] == found[2]


def test_two_of_a_kind_on_one_stream_need_names_of_their_own(app: App) -> None:
    events = app.stream("in", str)
    dedupe(events, len, within="1h").to("a")
    dedupe(events, len, within="1h", name="again").to("b")
    assert len(app.topology().internal) == 2


def test_they_chain(app: App) -> None:
    orders = dedupe(app.stream("in", Order), "id", within="1h")
    masked = mask(orders, "note", name="hidden")
    masked.by("customer").window(session("1m")).sum("amount").to("out")
    events = [(Order("1", "ada", 2.0), "k", 0), (Order("1", "ada", 2.0), "k", 1)]
    events += [(Order("2", "ada", 3.0), "k", 2), (Order("3", "bob"), "k", 500)]
    assert results(app, events)[0] == ("ada", 5.0)
