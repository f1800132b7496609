"""What an event finds in a table depends on the log alone, and not on who was stopped when."""

from collections import defaultdict
from typing import Any

import msgspec
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from on_disk import OnDisk, on_disk
from window_model import arrivals

from streamkit import App
from streamkit.testing import TestRun

OUT_OF_ORDER = 3


class Order(msgspec.Struct):
    id: int
    user: str
    time: int


def app(history: int = 20) -> App:
    """Every kind of table, and some of them twice."""
    app = App("j")
    orders = app.stream("orders", Order, time="time", out_of_order=f"{OUT_OF_ORDER}ms")
    rows, world = app.table("rows", str), app.global_table("world", str)
    both = rows.join(world, how="left", name="both")(joined)
    for name, table in (("rows", rows), ("world", world), ("both", both)):
        for kind, past in (("now", None), ("then", f"{history}ms")):
            on = None if table is not world else "user"
            join = orders.join(
                table, how="left", history=past, on=on, name=f"{name}-{kind}", to=f"{name}-{kind}"
            )
            join(out)
    return app


def joined(row: str, other: str | None) -> str:
    return f"{row}{other}"


def out(order: Order, row: str | None) -> tuple[int, str | None]:
    return order.id, row


TOPICS = [f"{name}-{kind}" for name in ("rows", "world", "both") for kind in ("now", "then")]
KEYS = st.sampled_from("abcd")
TIMES = st.integers(0, 60)
DAY = 24 * 3600 * 1000
ROWS = st.tuples(
    st.sampled_from(["rows", "rows", "world"]), KEYS, TIMES | st.just(2 * DAY), st.booleans()
)
ORDERS = st.tuples(st.just("orders"), KEYS, TIMES | st.just(2 * DAY), st.none())
STOPS = st.sampled_from(["crash", "kill", "lose", "rebalance", "members"])


def send(t: TestRun, number: int, what: str, key: str, time: int, deletes: bool | None) -> None:
    value: Any = Order(number, key, time) if what == "orders" else None if deletes else str(number)
    # Each of two keys has a partition of its own.
    t.send(what, value, key=key, timestamp=time, partition=ord(key) % 2)


def stop(here: OnDisk, what: str) -> None:
    if what == "members":
        here.run.rebalance(2 if here.run.members == 1 else 1)
    elif what in ("kill", "lose"):
        getattr(here, what)()
    else:
        getattr(here.run, what)()


def given_by(t: TestRun) -> dict[tuple[str, Any], list[Any]]:
    """Of each topic and key, in order: those of one key come from one task."""
    found: dict[tuple[str, Any], list[Any]] = defaultdict(list)
    for topic in TOPICS:
        for record in t.topic(topic):
            found[topic, record.key].append((record.value, record.timestamp))
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    plan=st.lists(ROWS | ROWS | ORDERS | ORDERS | st.just("run") | STOPS, max_size=40),
    history=st.sampled_from([0, 5, 20, 1000]),
    memory=st.sampled_from([1, 1 << 20]),
    batch=st.integers(1, 5),
)
def test_results_are_the_same_whoever_was_stopped_and_lost_its_disk(
    plan: list[Any], history: int, memory: int, batch: int
) -> None:
    """Rows come while events do; where a member is stopped is all that differs."""
    topology = app(history).topology()
    with TestRun(topology, 2) as t:
        for number, one in enumerate(plan):
            if one == "run":
                t.run()
            elif not isinstance(one, str):
                send(t, number, *one)
        t.run()
        want = given_by(t)
    with on_disk(topology, 2, memory=memory, batch=batch) as here:
        for number, one in enumerate(plan):
            if one == "run":
                here.run.run()
            elif isinstance(one, str):
                stop(here, one)
            else:
                send(here.run, number, *one)
        here.run.run()
        assert given_by(here.run) == want


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(ROWS, max_size=30),
    orders=st.lists(ORDERS, max_size=20),
    plays=st.lists(st.sampled_from(["step", "commit", "run"]) | STOPS, max_size=12),
    history=st.sampled_from([0, 5, 20, 1000]),
    batch=st.integers(1, 5),
)
@example(  # deleted over a day ago, and there again since, when an older row comes
    rows=[("rows", "a", 2 * DAY, False), ("rows", "a", 1, True), ("rows", "a", 0, False)],
    orders=[("orders", "a", 2 * DAY, None), ("orders", "a", 0, None)],
    plays=[],
    history=0,
    batch=1,
)
def test_what_was_there_before_is_found_as_of_its_time_wherever_work_was_broken_off(
    rows: list[Any], orders: list[Any], plays: list[str], history: int, batch: int
) -> None:
    with on_disk(app(history).topology(), 2, memory=1, batch=batch) as here:
        t = here.run
        for number, row in enumerate(rows):
            send(t, number, *row)
        for number, order in enumerate(orders):
            send(t, number, *order)
        for play in plays:
            if play in ("step", "commit", "run"):
                getattr(t, play)()
            else:
                stop(here, play)
        t.run()
        found = {topic: dict(map(tuple, t.values(topic))) for topic in TOPICS}
    expected: dict[str, dict[int, str | None]] = {topic: {} for topic in TOPICS}
    for number in (0, 1):
        mine = [(at, each) for at, each in enumerate(orders) if ord(each[1]) % 2 == number]
        sent = [(at, key, time) for at, (_, key, time, _) in mine]
        for event in arrivals(sent, OUT_OF_ORDER):
            past = max(event.frontier - history, event.time)
            for kind, at in (("now", None), ("then", past)):
                one, other = (latest(rows, name, event.key, at) for name in ("rows", "world"))
                expected[f"rows-{kind}"][event.id] = one
                expected[f"world-{kind}"][event.id] = other
                expected[f"both-{kind}"][event.id] = one and joined(one, other)
    assert found == expected


def latest(rows: list[Any], table: str, key: str, time: int | None) -> str | None:
    """The row now, or as of a time."""
    now, then, reached = None, dict[int, int](), -1
    for number, (which, of, at, _) in enumerate(rows):
        if which != table or ord(of) % 2 != ord(key) % 2:
            continue
        if of == key:
            deleted = [time for time, one in then.items() if rows[one][3]]
            forgotten = [time for time in deleted if at < time <= reached - DAY]
            for past in [time for time in then if forgotten and time <= max(forgotten)]:
                del then[past]  # that it was deleted is forgotten after a day
            now = then[at] = number
        reached = max(reached, at)
    if time is not None:
        now = then.get(max((at for at in then if at <= time), default=-1))
    return None if now is None or rows[now][3] else str(now)
