"""Rows as of an event's time, tables that are made of others, and tables kept of streams."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from window_model import arrivals

from streamkit.app import App
from streamkit.dsl.windows import tumbling
from streamkit.errors import DataError, FunctionError, TopologyError
from streamkit.testing import TestRun

OUT_OF_ORDER = 3


class Order(msgspec.Struct):
    id: int
    user: str
    time: int


class Row(msgspec.Struct):
    name: str


# As of the event's time.


def _as_of(history: int, everywhere: bool) -> App:
    app = App("j")
    orders = app.stream("orders", Order, time="time", out_of_order=f"{OUT_OF_ORDER}ms")
    rows: Any = (app.global_table if everywhere else app.table)("rows", Row)

    @orders.join(rows, how="left", history=f"{history}ms", to="out")
    def out(order: Order, row: Row | None) -> tuple[int, str | None]:
        return order.id, row and row.name

    return app


changes = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 60), st.booleans()), max_size=30)
"""Key, time, whether it deletes."""
events = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 60)), max_size=30)


@settings(max_examples=150, deadline=None)
@given(
    changes,
    events,
    st.sampled_from([0, 5, 20, 1000]),
    st.booleans(),
    st.lists(st.sampled_from(["step", "commit", "crash", "run"]), max_size=10),
    st.integers(1, 7),
)
def test_the_row_is_the_one_of_the_events_time(
    rows: list[tuple[str, int, bool]],
    sent: list[tuple[str, int]],
    history: int,
    everywhere: bool,
    plays: list[str],
    batch: int,
) -> None:
    t = TestRun(_as_of(history, everywhere).topology(), 2, batch=batch)
    for number, (key, time, deletes) in enumerate(rows):
        row = None if deletes else Row(str(number))
        t.send("rows", row, key=key, timestamp=time, partition=ord(key) % 2)
    logs: dict[str, list[tuple[int, str, int]]] = {"a": [], "b": []}
    for number, (user, time) in enumerate(sent):
        # Each of the two keys has a partition of its own, and so a time of its own.
        order = Order(number, user, time)
        t.send("orders", order, key=user, timestamp=time, partition=ord(user) % 2)
        logs[user].append((number, user, time))
    for play in plays:
        getattr(t, play)()
    t.run()
    expected = {}
    for log in logs.values():
        for event in arrivals(log, OUT_OF_ORDER):
            at = (
                max(event.time, event.frontier - history)
                if event.time < event.frontier
                else event.time
            )
            past = [
                (time, number)
                for number, (key, time, _) in enumerate(rows)
                if key == event.key and time <= at
            ]
            number = max(past)[1] if past else None
            gone = number is None or rows[number][2]
            expected[event.id] = None if gone else str(number)
    assert dict(map(tuple, t.values("out"))) == expected


def test_changes_that_come_while_events_do_take_their_place_in_time() -> None:
    with _as_of(10, False).test(partitions=1) as t:
        names = []
        for number in range(200):
            t.send("rows", Row(str(number)), key="a", timestamp=number * 4)
            t.send("orders", Order(number, "a", number * 4 + 3), key="a", timestamp=number * 4 + 3)
            names.append(str(number))
        t.run()
        assert [name for _, name in t.values("out")] == names
        # Time has come to 796, and what was there 10 before that stays when more comes.
        t.send("rows", Row("later"), key="a", timestamp=1000)
        t.run()
        for time, name in [(795, "198"), (787, "196"), (786, "196"), (700, "196")]:
            t.send("orders", Order(1, "a", time), key="a", timestamp=time)
            t.run()
            assert t.values("out")[-1] == (1, name)


def test_no_more_versions_are_kept_than_history_needs() -> None:
    with _as_of(100, False).test(partitions=1) as t:
        for number in range(5000):
            name = None if number % 50 == 49 else Row("x")
            t.send("rows", name, key=str(number // 50 % 7), timestamp=number)
            t.send("orders", Order(number, "a", number), key="a", timestamp=number)
            if number % 100 == 0:
                t.run()
        t.run()
        for _ in range(3):  # some is dropped with each commit
            t.send("orders", Order(0, "a", 5000), key="a", timestamp=5000)
            t.run()
        (versions,) = t.tasks[0].ahead_rows["rows"].stores
        assert len(list(versions.scan(b""))) < 100 + 7 + 100


def test_history_needs_a_time_and_a_topic() -> None:
    app = App("j")
    lines = app.stream("lines", str)
    table = app.table("rows", Row)
    lines.join(table, history="1s")(lambda line, row: line)
    with app.test() as t:
        t.send("lines", "x", key="a", timestamp=-1)
        with pytest.raises(DataError, match=r"lines-.@0: .* needs an event time"):
            t.run()
    with pytest.raises(TopologyError, match="has no history; write the stream to a topic"):
        lines.join(lines.to_table(), history="1s")
    with pytest.raises(TopologyError, match="history= is for a join with a table"):
        lines.join(lines, history="1s", within="1s")  # type: ignore[call-overload]
    with pytest.raises(TopologyError, match="are for a join with a stream"):
        lines.join(table, within="1s")  # type: ignore[call-overload]


# Of two tables.

table_changes = st.lists(
    st.tuples(
        st.sampled_from(["left", "right"]),
        st.sampled_from("abc"),
        st.sampled_from(["1", "2", None]),
    ),
    max_size=30,
)


def _joined(how: Any) -> App:
    app = App("j")
    left, right = app.table("left", Row), app.table("right", Row)

    @left.join(right, how=how, to="both")
    def both(one: Row | None, other: Row | None) -> Row | None:
        name = f"{one and one.name}{other and other.name}"
        return None if name == "22" else Row(name)

    @app.stream("keys", str).join(both, how="left", to="found")
    def found(key: str, row: Row | None) -> tuple[str, str | None]:
        return key, row and row.name

    return app


def _row(how: str, one: str | None, other: str | None) -> str | None:
    missing = {"inner": one is None or other is None, "left": one is None}
    if missing.get(how, one is None and other is None) or one == other == "2":
        return None
    return f"{one}{other}"


@settings(max_examples=100, deadline=None)
@given(
    table_changes,
    st.sampled_from(["inner", "left", "outer"]),
    st.lists(st.sampled_from(["run", "step", "commit", "crash"]), max_size=30),
    st.integers(1, 7),
)
def test_a_table_made_of_two_has_the_rows_they_make(
    changes: list[tuple[str, str, str | None]], how: str, plays: list[str], batch: int
) -> None:
    t = TestRun(_joined(how).topology(), 2, batch=batch)
    now: dict[str, dict[str, str | None]] = {"left": {}, "right": {}}
    for number, (table, key, name) in enumerate(changes):
        t.send(table, None if name is None else Row(name), key=key, timestamp=number)
        now[table][key] = name
        if number < len(plays):
            getattr(t, plays[number])()
    t.run()
    made = {key: _row(how, now["left"].get(key), now["right"].get(key)) for key in "abc"}
    latest = {r.key: r.value and r.value.name for r in t.topic("both")}
    assert {key: name for key, name in latest.items() if name} == {
        key: name for key, name in made.items() if name
    }
    for key in "abc":
        t.send("keys", key, key=key, timestamp=1000)
    t.run()
    assert dict(map(tuple, t.values("found"))) == made


def test_each_change_of_a_made_row_is_written_once_and_a_tombstone_only_for_a_row() -> None:
    with _joined("inner").test(partitions=1) as t:
        for table, name in [
            ("left", "1"), ("left", None), ("left", "1"), ("right", "1"), ("right", "2"),
            ("left", "2"), ("right", "2"), ("right", "1"), ("left", None), ("right", None),
        ]:  # fmt: skip
            t.send(table, name and Row(name), key="a")
            t.run()
        written = [record.value and record.value.name for record in t.topic("both")]
        assert written == ["11", "12", None, "21", None]
        assert [len(list(s.scan(b""))) for s in t.tasks[0]._stores.values()] == [0]  # type: ignore[attr-defined]


def test_tables_of_tables() -> None:
    app = App("j")
    one, two, three = (app.table(name, Row) for name in ("one", "two", "three"))

    @one.join(two, how="left")
    def first(a: Row, b: Row | None) -> Row:
        return Row(a.name + (b.name if b else "-"))

    @first.join(three, to="all")
    def second(ab: Row, c: Row) -> Row:
        return Row(ab.name + c.name)

    assert second(Row("x"), Row("y")) == Row("xy")

    @app.stream("keys", str).join(second, to="found")
    def found(key: str, row: Row) -> str:
        return row.name

    with app.test() as t:
        t.send("one", Row("1"), key="k")
        t.send("three", Row("3"), key="k")
        t.run()
        t.send("two", Row("2"), key="k")
        t.run()
        t.send("keys", "k", key="k")
        t.run()
        assert [row.name for row in t.values("all")] == ["1-3", "123"]
        assert t.values("found") == ["123"]


def test_a_function_of_rows_that_fails_names_the_event_that_asked() -> None:
    app = App("j")
    left, right = app.table("left", Row), app.table("right", Row)

    @left.join(right, how="left")
    def both(one: Row, other: Row | None) -> Row:
        return other.name  # type: ignore[return-value, union-attr]

    app.stream("keys", str).join(both)(lambda key, row: key)
    with app.test() as t:
        t.send("left", Row("x"), key="k")
        t.send("keys", "k", key="k", partition=0)
        for partition in range(4):
            t.send("keys", "k", key="k", partition=partition)
        with pytest.raises(
            FunctionError, match=r"both .* raised AttributeError.* the record keys-.@"
        ):
            t.run()


def test_what_cannot_be_a_row_is_refused_when_it_is_declared() -> None:
    from streamkit.dsl.context import Context

    app = App("j")
    left, right, numbers = app.table("l", Row), app.table("r", Row), app.table("n", Row, key=int)
    world = app.global_table("w", Row)
    with pytest.raises(TopologyError, match=r"keys are str .*, those of table 'n' int"):
        left.join(numbers)
    with pytest.raises(TopologyError, match="takes two values and returns one"):

        @left.join(right)  # type: ignore[arg-type]
        def both(a: Row, b: Row, context: Context) -> Row: ...

    with pytest.raises(TopologyError, match="no task to tell"):
        left.join(world, how="outer")
    with pytest.raises(TopologyError, match="would be written by all"):
        left.join(world, to="x")(lambda a, b: a)
    with pytest.raises(TopologyError, match="annotate what it returns"):
        left.join(right, to="x")(lambda a, b: a)
    with pytest.raises(TopologyError, match="has its changes already"):
        left.to("x")
    with pytest.raises(TopologyError, match="two apps"):
        left.join(App("k").table("r", Row))
    with pytest.raises(TopologyError, match="two apps"):
        app.stream("s", str).join(App("k").table("r", Row))


# Of a stream.


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5)), max_size=30),
    st.lists(st.sampled_from(["run", "step", "commit", "crash"]), max_size=30),
    st.integers(1, 7),
)
def test_a_running_total_is_a_table_that_other_events_are_joined_with(
    sent: list[tuple[str, int]], plays: list[str], batch: int
) -> None:
    app = App("j")
    sales = app.stream("sales", int)
    totals = sales.aggregate(name="total")(_add).to_table()

    @app.stream("asks", str).join(totals, how="left", to="out")
    def out(key: str, total: int | None) -> tuple[str, int | None]:
        return key, total

    t = TestRun(app.topology(), 2, batch=batch)
    expected: dict[str, int] = {}
    for number, (key, amount) in enumerate(sent):
        t.send("sales", amount, key=key, timestamp=number)
        expected[key] = expected.get(key, 0) + amount
        if number < len(plays):
            getattr(t, plays[number])()
    for key in "ab":
        t.send("asks", key, key=key, timestamp=1000)
    t.run()
    assert dict(map(tuple, t.values("out"))) == {key: expected.get(key) for key in "ab"}


def _add(sofar: int | None, amount: int) -> int:
    return (sofar or 0) + amount


@pytest.mark.parametrize("rekeyed", [False, True])
def test_a_stream_that_is_only_kept_as_a_table_moves_no_time(rekeyed: bool) -> None:
    app = App("j")
    rows, events = app.stream("rows", str), app.stream("events", int)
    table = (rows.by(_first, type_=str) if rekeyed else rows).map(_shout).to_table()

    @events.join(table, how="left")
    def named(number: int, name: str | None) -> str:
        return f"{number} {name}"

    named.window(tumbling("10ms", grace="0ms")).collect(limit=9, name="all", to="out")
    with app.test(partitions=1) as t:
        t.send("rows", "a of today", key="a", timestamp=1_000_000)
        t.run()
        for time in (1, 2, 11, 21):
            t.send("events", time, key="a", timestamp=time)
        t.run()
        t.send("rows", "a of tomorrow", key="a", timestamp=2_000_000)
        t.run()
        t.crash()
        t.send("events", 22, key="a", timestamp=22)
        t.finish()
        first = "A OF TODAY"
        expected = [
            [f"1 {first}", f"2 {first}"],
            [f"11 {first}"],
            [f"21 {first}", "22 A OF TOMORROW"],
        ]
        assert t.values("out") == expected


def _shout(text: str) -> str:
    return text.upper()


def _first(text: str) -> str:
    return text[0]


def test_results_of_windows_are_a_table() -> None:
    app = App("j")
    sales = app.stream("sales", int)
    last = sales.window(tumbling("10ms", grace="0ms")).count(name="n").to_table()

    @sales.join(last, how="left", to="out")
    def out(amount: int, before: int | None) -> int | None:
        return before or 0

    with app.test(partitions=1) as t:
        for time in (1, 2, 3, 11, 12, 31, 32):
            t.send("sales", 1, key="a", timestamp=time)
        t.run()
        assert t.values("out") == [0, 0, 0, 0, 3, 3, 2]


def test_a_made_table_has_history_and_may_take_rows_of_a_global_one() -> None:
    app = App("j")
    left, world = app.table("left", Row), app.global_table("world", Row)

    @left.join(world, how="left")
    def both(one: Row, other: Row | None) -> Row:
        return Row(one.name + (other.name if other else "-"))

    keys = app.stream("keys", str, out_of_order="100ms")
    keys.join(both, how="left", history="0s", name="then", to="then")(_name)
    keys.join(both, how="left", name="now", to="now")(_name)
    with app.test() as t:
        for table, name, time in [
            ("left", "a", 10), ("world", "1", 20), ("left", "b", 30), ("world", None, 40),
            ("left", None, 50),
        ]:  # fmt: skip
            t.send(table, name and Row(name), key="k", timestamp=time)
        for time in (5, 10, 25, 30, 45, 50):
            t.send("keys", str(time), key="k", timestamp=time)
        t.run()
        assert t.values("then") == ["5 None", "10 a-", "25 a1", "30 b1", "45 b-", "50 None"]
        assert t.values("now") == [f"{time} None" for time in (5, 10, 25, 30, 45, 50)]


def _name(key: str, row: Row | None) -> str:
    return f"{key} {row and row.name}"
