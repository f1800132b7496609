"""What every and cron give: each tick once, at its time, whatever happens to the processes."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit import App, Context, State, Tick, TopologyError
from streamkit.dsl.schedules import Steady
from streamkit.dsl.ticks import Missed, Ticks
from streamkit.errors import ConfigError
from streamkit.testing import TestRun

START = datetime(2026, 1, 1, tzinfo=UTC)
"""Where the clock of a test begins."""


def seconds(t: TestRun, topic: str) -> list[float]:
    return [record.timestamp / 1000 - START.timestamp() for record in t.topic(topic)]


def test_each_comes_at_its_time_with_what_the_function_keeps() -> None:
    app = App("shop")

    @app.every("10s", to="beats")
    def beat(tick: Tick, count: State[int], context: Context) -> Iterator[str]:
        count.set(count.get(0) + 1)
        assert context.now() == tick.time
        yield f"{count.get()} {tick.time:%H:%M:%S}"

    with app.test(members=2) as t:
        t.advance("25s")
        assert t.values("beats") == ["1 00:00:10", "2 00:00:20"]
        t.advance("5s")
        assert t.values("beats")[2:] == ["3 00:00:30"]
        assert seconds(t, "beats") == [10, 20, 30]
        assert {record.key for record in t.topic("beats")} == {"beat"}


def test_the_function_need_not_take_the_tick_and_can_be_called() -> None:
    app = App("shop")

    @app.cron("0 * * * *", to="hours")
    def hourly() -> str:
        return "an hour"

    @app.every("30m", to="halves")
    def half(context: Context, count: State[int]) -> str:
        count.set(count.get(0) + 1)
        return f"{context.timestamp} {count.get()}"

    with app.test() as t:
        t.advance("2h")
        assert t.values("hours") == ["an hour"] * 2
        assert [value[-1] for value in t.values("halves")] == ["1", "2", "3", "4"]
    assert hourly() == "an hour"
    assert hourly.__name__ == "hourly"


def test_what_it_gives_is_a_stream_as_any() -> None:
    app = App("shop")
    names = app.global_table("names", str)

    @app.cron("*/10 * * * *", tz="Asia/Kolkata")
    def tens(tick: Tick) -> int:
        return tick.timestamp

    @tens.by(lambda stamp: "all", type_=str, name="all").process(to="counted")
    def counted(stamp: int, seen: State[int]) -> int:
        seen.set(seen.get(0) + 1)
        return seen.get(0)

    @tens.join(names, on=lambda stamp: "x", how="left", to="named")
    def named(stamp: int, name: str | None) -> str:
        return str(name)

    with app.test() as t:
        t.send("names", "me", key="x")
        t.advance("35m")
        assert t.values("counted") == [1, 2, 3]
        assert t.values("named") == ["me"] * 3


@pytest.mark.parametrize(
    ("missed", "given"), [("last", [10, 60]), ("all", [10, 20, 30, 40, 50, 60]), ("none", [10])]
)
def test_of_those_missed_while_nobody_ran_the_app_says_which_it_wants(
    missed: Missed, given: list[int]
) -> None:
    app = App("shop")

    @app.every("10s", missed=missed, to="beats")
    def beat(tick: Tick) -> str:
        return ""

    with app.test() as t:
        t.advance("12s")
        t.clock.advance(59_000 if missed == "none" else 50_000)
        # None that is more than 10 s late; the one of 70 is none of those that were missed.
        t.run()
        assert seconds(t, "beats") == (given if missed != "none" else [10, 70])
        t.crash()
        t.run()
        t.advance("10s")
        assert seconds(t, "beats")[-1] == (70 if missed != "none" else 80)


def test_none_that_is_long_past_is_given_where_none_is_wanted() -> None:
    hourly = Ticks("f", Steady(3_600_000), "none")
    assert hourly.due(3_600_000, 3_610_000) == ([3_600_000], 3_600_000)
    assert hourly.due(3_600_000, 3_610_001) == ([], 3_600_000)


def test_very_many_that_are_all_wanted_come_some_at_a_time() -> None:
    every = Ticks("f", Steady(1), "all")
    times, last = every.due(5, 100_000)
    assert times == list(range(5, 1_005))
    assert last == 1_004


def test_one_that_was_not_committed_is_given_again_and_no_other() -> None:
    app = App("shop")

    @app.every("10s", missed="all", to="beats")
    def beat(tick: Tick) -> str:
        return ""

    with app.test() as t:
        t.run()
        t.clock.advance(10_000)
        assert t.step()
        t.crash()
        t.clock.advance(1)
        t.run()
        assert seconds(t, "beats") == [10]


moves = st.lists(
    st.tuples(
        st.sampled_from(["wait", "wait", "step", "run", "commit", "crash", "rebalance"]),
        st.integers(0, 3),
    ),
    max_size=40,
)


@settings(max_examples=100, deadline=None)
@given(moves=moves, members=st.integers(1, 3), seed=st.integers(0, 99))
def test_all_that_are_due_come_once_and_in_order_whatever_is_killed_when(
    moves: list[tuple[str, int]], members: int, seed: int
) -> None:
    app = App("shop")

    @app.every("3s", missed="all")
    def beat(tick: Tick, count: State[int]) -> int:
        count.set(count.get(0) + 1)
        return count.get(0)

    beat.to("beats")
    with app.test(members=members) as t:
        t.shuffle(seed)
        t.run()
        for what, which in moves:
            if what == "wait":
                t.clock.advance(which * 1_000)
            elif what in ("step", "run"):
                getattr(t, what)()
            elif what == "rebalance":
                t.rebalance(which or None)
            else:
                getattr(t, what)(None if which == 3 else which % t.members)
        t.run()
        now = t.clock.now() / 1000 - START.timestamp()
        assert seconds(t, "beats") == [3.0 * n for n in range(1, int(now // 3) + 1)]
        assert t.values("beats") == list(range(1, len(t.values("beats")) + 1))


def test_a_function_may_wait_for_an_answer_and_may_fail() -> None:
    app = App("shop")

    @app.every("10s", to="answers")
    async def ask(tick: Tick) -> str:
        await asyncio.sleep(1)
        return f"{tick.time:%S}"

    @app.every("10s", on_error="skip", to="odd")
    def odd(tick: Tick) -> int:
        if tick.timestamp % 20_000 == 0:
            raise ValueError("even")
        return tick.timestamp // 10_000 % 6

    with app.test() as t:
        t.advance("40s")
        assert t.values("answers") == ["10", "20", "30", "40"]
        assert t.values("odd") == [1, 3]


# What is refused.


def test_two_functions_of_one_name_are_refused() -> None:
    app = App("shop")

    @app.every("1s")
    def beat() -> None: ...

    with pytest.raises(TopologyError, match="would have ticks in shop-beat-ticks; give one"):
        app.every("2s")(beat)
    app.every("2s", name="slow")(beat)
    app.topology()


def test_what_is_no_function_of_ticks_is_refused() -> None:
    app = App("shop")
    with pytest.raises(TopologyError, match="'n' is annotated int, but is given the values of"):

        @app.every("1s")
        def wrong(n: int) -> None: ...  # type: ignore[type-var,unused-ignore]

    with pytest.raises(TopologyError, match="a lambda has no name"):
        app.every("1s")(lambda: None)
    with pytest.raises(TopologyError, match="waits is async; let its first parameter be a Tick"):

        @app.every("1s")
        async def waits() -> None: ...

    with pytest.raises(ConfigError, match="missed='some': it is one of"):
        app.every("1s", missed="some")  # type: ignore[arg-type]


def test_nobody_else_writes_ticks_and_they_are_in_one_partition() -> None:
    app = App("shop")

    @app.every("1s")
    def beat(tick: Tick, context: Context) -> None:
        context.send("shop-beat-ticks", tick)

    with app.test() as t, pytest.raises(Exception, match="the app keeps there what it needs"):
        t.advance("1s")
    with pytest.raises(TopologyError, match="shop-beat-ticks has 4 partitions; ticks are in one"):
        app.topology().layout({"shop-beat-ticks": 4})

    @beat.map
    def back(value: Any) -> Any:
        return value

    back.to("shop-beat-ticks")
    with pytest.raises(TopologyError, match="shop-beat-ticks"):
        app.topology()
