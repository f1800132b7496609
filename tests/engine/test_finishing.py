"""The end of what an app is given: what is open closes, once, and what comes later is late."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from streamkit import App, session, sliding, tumbling
from streamkit.engine.headers import Marker
from streamkit.engine.watermarks import UpstreamFrontier
from streamkit.testing import TestRun

MINUTE = 60_000


class Order(Struct):
    customer: str
    amount: int


def send(t: TestRun, *orders: tuple[str, int], topic: str = "orders") -> None:
    for customer, minute in orders:
        at = minute * MINUTE
        t.send(topic, Order(customer, 1), key=customer, timestamp=at, partition=minute % 2)


def given_to(t: TestRun, topic: str) -> list[tuple[str, object]]:
    return sorted((record.key, record.value) for record in t.topic(topic))


def test_windows_of_each_kind_give_what_they_have() -> None:
    app = App("shop")
    orders = app.stream("orders", Order)
    orders.window(tumbling("1h")).count(to="hours", name="hours")
    orders.window(session("5m")).count(to="visits", name="visits")
    orders.window(sliding("3m")).count(to="bursts", name="bursts")
    with app.test(partitions=1) as t:
        for minute in (0, 2, 10):
            t.send("orders", Order("ada", 1), key="ada", timestamp=minute * MINUTE)
        t.run()
        assert t.values("hours") == []
        assert t.values("visits") == [2]
        assert {(o.count, o.what) for task in t.tasks for o in task.open.values()} == {
            (1, "windows"),
            (1, "sessions"),
        }
        t.finish()
        assert t.values("hours") == [3]
        assert t.values("visits") == [2, 1]
        assert t.values("bursts") == [1, 2, 1]
        assert not any(task.open for task in t.tasks)


def test_it_is_done_once_and_stays_done_over_crashes_and_other_members() -> None:
    app = App("shop")
    app.stream("orders", Order).window(tumbling("1h")).count(to="hours")
    with app.test(partitions=2, members=2) as t:
        send(t, ("ada", 0), ("bob", 1))
        t.finish()
        t.crash()
        t.finish()
        t.rebalance(1)
        t.finish()
        assert given_to(t, "hours") == [("ada", 1), ("bob", 1)]
        assert all(task.is_finished for task in t.tasks)


def test_what_comes_later_is_late_for_what_was_closed_and_for_nothing_else() -> None:
    app = App("shop")
    app.stream("orders", Order).window(tumbling("1h")).count(to="hours", name="hours")
    with app.test(partitions=1) as t:
        t.send("orders", Order("ada", 1), key="ada", timestamp=0)
        t.finish()
        t.send("orders", Order("ada", 2), key="ada", timestamp=MINUTE)
        t.send("orders", Order("ada", 3), key="ada", timestamp=70 * MINUTE)
        t.finish()
        assert [order.amount for order in t.values("shop-hours-late")] == [2]
        assert t.values("hours") == [1, 1]


def test_joins_give_events_that_would_have_waited_and_go_on_with_what_they_have() -> None:
    app = App("shop")
    orders = app.stream("orders", Order)
    prices = app.stream("prices", Order)

    @orders.join_as_of(prices, tolerance="1d", how="left", to="priced")
    def priced(order: Order, price: Order | None) -> str:
        return f"{order.amount} at {None if price is None else price.amount}"

    @orders.join(prices, within="1h", how="left", to="near")
    def near(order: Order, price: Order | None) -> str:
        return f"{order.amount} by {None if price is None else price.amount}"

    with app.test(partitions=1) as t:
        t.send("prices", Order("ada", 7), key="ada", timestamp=0)
        t.send("orders", Order("ada", 1), key="ada", timestamp=10)
        t.send("orders", Order("bob", 2), key="bob", timestamp=20)
        t.run()
        assert t.values("priced") == []
        t.finish()
        assert t.values("priced") == ["1 at 7", "2 at None"]
        assert t.values("near") == ["1 by 7", "2 by None"]
        t.send("orders", Order("ada", 3), key="ada", timestamp=MINUTE)
        t.finish()
        assert t.values("priced")[2:] == ["3 at 7"]


def two_stages() -> App:
    app = App("shop")
    orders = app.stream("orders", Order)
    hours = orders.by("customer").window(tumbling("10m")).count(name="hours")
    by_length = hours.by(lambda n: n % 3, type_=int, name="by-length")
    by_length.window(tumbling("1h")).sum(to="days", name="days")
    hours.to("hours")
    # Its own results, by way of a topic that is like any other.
    app.stream("hours", int).window(tumbling("1h")).count(to="again", name="again")
    return app


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 300)), max_size=25),
    st.integers(1, 3),
    st.integers(0, 1 << 16),
    st.lists(st.sampled_from(["crash", "finish", "run", "step"]), max_size=4),
)
def test_every_event_is_in_one_result_of_each_stage(
    orders: list[tuple[str, int]], members: int, seed: int, moves: list[str]
) -> None:
    orders = sorted(orders, key=lambda each: each[1])
    with two_stages().test(partitions=2, members=members) as t:
        t.shuffle(seed)
        for move in moves:
            getattr(t, move)() if move != "finish" else t.step()
        send(t, *orders)
        for move in moves:
            getattr(t, move)()
        t.finish()
        wanted = Counter((customer, minute // 10) for customer, minute in orders)
        assert given_to(t, "hours") == sorted((key, n) for (key, _), n in wanted.items())
        assert sum(t.values("days")) == len(orders)
        assert sum(t.values("again")) == len(wanted)
        assert not any(task.open for task in t.tasks)
        assert all(task.is_finished for task in t.tasks)


def test_what_waits_for_answers_leaves_before_what_it_may_be_in_closes() -> None:
    app = App("shop")
    orders = app.stream("orders", Order)
    hours = orders.window(tumbling("1h")).count(name="hours")

    @hours.process()
    async def slow(n: int) -> int:
        await asyncio.sleep(1)
        return n

    slow.window(tumbling("1d")).sum(to="days", name="days")
    with app.test(partitions=2) as t:
        send(t, ("ada", 0), ("ada", 70), ("ada", 72))
        t.finish()
        assert given_to(t, "days") == [("ada", 3)]


def test_a_function_that_fails_then_is_asked_again_at_the_next_end() -> None:
    app = App("shop")
    broken = [True]

    @app.stream("orders", Order).window(tumbling("1h")).count(name="hours").process(to="out")
    def told(n: int) -> int:
        if broken[0]:
            raise ValueError("not today")
        return n

    with app.test(partitions=1) as t:
        t.send("orders", Order("ada", 1), key="ada", timestamp=0)
        t.run()
        with pytest.raises(Exception, match="not today"):
            t.finish()
        broken[0] = False
        t.finish()
        assert t.values("out") == [1]


def test_an_upstream_has_finished_when_every_task_of_it_says_so() -> None:
    frontier = UpstreamFrontier()
    assert not frontier.finished
    for task, end, both in ((0, 1, 0), (1, 1, 1), (0, 0, 0), (0, 2, 0), (1, 2, 2)):
        marker = Marker(task, 2, None, False, end)
        frontier.take(Marker.read(marker.headers()[0][1] or b""))
        assert frontier.finished == both
