"""An app as a tree for the terminal and as a flowchart: small ones, whole."""

import re
from textwrap import dedent

import pytest
from msgspec import Struct

from streamkit.app import App
from streamkit.dsl.context import Context
from streamkit.dsl.durations import milliseconds, shortest
from streamkit.dsl.mermaid import mermaid
from streamkit.dsl.outline import outline
from streamkit.dsl.state import State
from streamkit.dsl.ticks import Tick
from streamkit.dsl.timers import Timer
from streamkit.dsl.tree import tree
from streamkit.dsl.windows import every, hopping, session, sliding, tumbling


class Order(Struct):
    customer: str
    amount: float


class Customer(Struct):
    name: str


def heavy(order: Order) -> Order:
    return order


def shop() -> App:
    app = App("shop")
    orders = app.stream("orders", Order, out_of_order="90s")
    customers = app.table("customers", Customer)

    @orders.process(to="big")
    def large(order: Order, seen: State[int]) -> Order | None:
        return order

    @orders.join(customers, on="customer", how="left", to="named")
    def named(order: Order, customer: Customer | None) -> str:
        return customer.name if customer else "?"

    window = orders.by("customer").window(tumbling("5m", grace="1m"))

    @window.aggregate(to="spent", emit="update")
    def spent(total: float | None, order: Order) -> float:
        return (total or 0.0) + order.amount

    return app


def without_lines(text: str) -> str:
    return re.sub(r"\.py:\d+", ".py", text)


def test_a_tree_has_what_each_sub_topology_reads_does_keeps_and_writes() -> None:
    assert without_lines(tree(outline(shop().topology()))) == dedent("""\
        app shop

        sub-topology orders
          orders: Order, out of order 1m30s
          ├─ process large  [large (test_drawing.py)]
          │  ├─ store large-seen ⇄ shop-large-seen-changelog
          │  └─ → big: Order
          └─ by orders-by-customer
             └─ → shop-orders-by-customer-repartition: Order
          journal → shop-orders-journal

        sub-topology shop-orders-by-customer-repartition
          table customers: Customer
          shop-orders-by-customer-repartition: Order
          ├─ join named, with table customers, left  [named (test_drawing.py)]
          │  └─ → named: str
          └─ window spent, tumbling 5m, grace 1m, emit update  [spent (test_drawing.py)]
             ├─ store spent ⇄ shop-spent-changelog
             ├─ → shop-spent-late: Order
             └─ → spent: float
          journal → shop-orders-by-customer-repartition-journal
        """)


def test_a_flowchart_has_topics_steps_and_stores_once_and_all_that_goes_between_them() -> None:
    assert mermaid(outline(shop().topology())) == dedent("""\
        flowchart LR
            topic0(["orders"])
            topic1(["big"])
            topic2(["shop-orders-by-customer-repartition"])
            topic3(["customers"])
            topic4(["named"])
            topic5(["shop-spent-late"])
            topic6(["spent"])
            subgraph sub0["orders"]
                step1["process large"]
                store1x0[("large-seen")]
                step3["by orders-by-customer"]
            end
            subgraph sub1["shop-orders-by-customer-repartition"]
                step6["join named, with table customers, left"]
                step8["window spent, tumbling 5m, grace 1m, emit update"]
                store8x0[("spent")]
            end
            topic0 --> step1
            step1 <--> store1x0
            step1 --> topic1
            topic0 --> step3
            step3 --> topic2
            topic2 --> step6
            topic3 -.-> step6
            step6 --> topic4
            topic2 --> step8
            step8 --> topic5
            step8 <--> store8x0
            step8 --> topic6
        """)


def test_text_that_a_flowchart_would_take_for_its_own_is_escaped() -> None:
    app = App("shop")
    app.stream("orders", Order).map(lambda order: order.amount).to("amounts")
    text = mermaid(outline(app.topology()))
    assert '"map #lt;lambda#gt;"' in text
    labels = re.findall(r'"([^"]*)"', text)
    assert labels and not any(set(label) & set('<>"') for label in labels)


@pytest.mark.parametrize(
    ("window", "emit", "said"),
    [
        (hopping("1h", "5m"), "final", "hopping 1h, every 5m, emit final"),
        (sliding("10s", grace="1s"), every("1m"), "sliding 10s, grace 1s, emit every 1m"),
        (session("30m"), "final", "session 30m, emit final"),
    ],
)
def test_windows_are_written_as_users_write_them(window, emit, said) -> None:
    app = App("shop")
    app.stream("orders", Order).window(window).count(name="n", emit=emit)
    assert f"window n, {said}" in tree(outline(app.topology()))


@pytest.mark.parametrize(
    ("duration", "text"),
    [(0, "0s"), (250, "250ms"), (90_000, "1m30s"), (86_400_000, "1d"), (3_601_001, "1h1s1ms")],
)
def test_durations_are_written_so_that_they_can_be_read(duration: int, text: str) -> None:
    assert shortest(duration) == text
    assert milliseconds(text) == duration


def test_joins_are_written_as_users_write_them() -> None:
    app = App("shop")
    orders = app.stream("orders", Order)
    customers = app.table("customers", Customer)

    @orders.join(customers, history="1h", to="named")
    def named(order: Order, customer: Customer) -> str:
        return customer.name

    @orders.join(app.stream("paid", Order), within="1h", how="left", to="both")
    def both(order: Order, paid: Order | None) -> str:
        return ""

    text = tree(outline(app.topology()))
    assert "join named, with table customers, inner, history 1h" in text
    assert "join both, with paid, within 1h, left  [" in text
    assert "right side of both\n" in text
    assert text.count("sub-topology") == 1


def test_what_waits_is_written_as_users_write_it() -> None:
    app = App("shop")

    @app.stream("orders", Order).process(concurrency=8, order="key", on_error="skip")
    async def asked(order: Order) -> Order:
        return order

    @asked.process(batch=100, within="50ms")
    def scored(orders: list[Order]) -> list[Order]:
        return orders

    scored.process(workers=2, timeout="5s")(heavy)
    text = tree(outline(app.topology()))
    assert "process asked, async, concurrency 8, order key, on error skip  [" in text
    assert "process scored, batch 100, within 50ms  [" in text
    assert "process heavy, workers 2, timeout 5s  [" in text


def test_timers_and_ticks_are_steps_as_others() -> None:
    app = App("shop")
    orders = app.stream("orders", Order)

    @orders.process
    def waiting(order: Order, seen: State[int], context: Context) -> None: ...

    @waiting.on_timer(to="reminders")
    def reminder(timer: Timer, seen: State[int]) -> str:
        return ""

    @app.cron("0 3 * * *", tz="Europe/Berlin", to="nights")
    def nightly(tick: Tick, seen: State[int]) -> str:
        return ""

    assert without_lines(tree(outline(app.topology()))) == dedent("""\
        app shop

        sub-topology orders
          orders: Order
          └─ process waiting  [waiting (test_drawing.py)]
             ├─ store waiting-seen ⇄ shop-waiting-seen-changelog
             └─ timer reminder  [reminder (test_drawing.py)]
                ├─ store waiting-timers ⇄ shop-waiting-timers-changelog
                └─ → reminders: str

        sub-topology shop-nightly-ticks
          shop-nightly-ticks: Tick, ticks cron 0 3 * * * Europe/Berlin, missed last
          └─ process nightly  [nightly (test_drawing.py)]
             ├─ store nightly-seen ⇄ shop-nightly-seen-changelog
             └─ → nights: str
        """)
    drawn = mermaid(outline(app.topology()))
    assert '["timer reminder"]' in drawn
    assert '(["shop-nightly-ticks"])' in drawn
