"""What closes at once, or comes of one call, may be much, and what takes it slow: others have their
turn after any of it, and nothing is to be seen of that in what comes out."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from random import Random
from typing import Any
from uuid import UUID

import pytest
from msgspec import Struct

from streamkit import (
    App,
    Context,
    FunctionError,
    State,
    Timer,
    dlq,
    every,
    session,
    sliding,
    tumbling,
)
from streamkit.dsl.stream import Stream
from streamkit.engine.finishing import Finishing
from streamkit.testing import TestRun

KEYS = "abcde"
BRIEF: State[int] = State(ttl="3s")


class Order(Struct):
    n: int


def paired(one: Order, other: Order | None) -> list[int]:
    return [one.n] if other is None else [one.n, other.n]


class Slow:
    """A step whose calls take so long that others wait at the end of each, and how many of them
    there were in a turn."""

    def __init__(self) -> None:
        self.tasks: Callable[[], Any] = tuple
        self.calls = 0

    def waits(self) -> None:
        self.calls += 1
        for task in self.tasks():
            task.enough()


def listed(sofar: list[int] | None, order: Order) -> list[int]:
    return [*(sofar or []), order.n]


def wide(stream: Stream[Any], kind: str) -> Stream[Any]:
    """A stream that gives much at once."""
    match kind:
        case "tumbling" | "updates" | "idle":
            idle = "3s" if kind == "idle" else None
            window = stream.window(tumbling("6s"), close_after_idle=idle)
        case "sliding" | "sliding changes":
            window = stream.window(sliding("3s", grace="4s"))
        case "sessions" | "session changes":
            window = stream.window(session("2s"))
        case "interval":
            other = stream.filter(lambda order: order.n % 3 == 0)
            near = stream.join(other, within="1s", how="left", name="pairs")
            return near(paired)
        case "as of":
            other = stream.filter(lambda order: order.n % 3 == 0)
            near = stream.join_as_of(
                other, tolerance="2s", direction="nearest", how="left", name="pairs"
            )
            return near(paired)
        case "timers":

            @stream.by(lambda order: KEYS[order.n % 2], name="two").process(name="reminded")
            def reminded(order: Order, context: Context) -> None:
                context.timer(str(order.n), after="3s")

            @reminded.on_timer
            def remind(timer: Timer) -> list[int]:
                return [timer.timestamp]

            return remind
        case "expiring":
            keyed = stream.by(lambda order: KEYS[order.n % 2], name="two", in_order=True)

            @keyed.process(name="counted")
            def counted(order: Order, seen: State[int] = BRIEF) -> list[int]:
                seen.set(seen.get(0) + 1)
                return [order.n, seen.get(0)]

            return counted
        case "batch":
            return stream.process(batch=7, within="10s", name="pairs")(twice)
        case "batches":
            # A record makes several of them: one is taken up again while others wait.
            @stream.process(name="spread")
            def spread(order: Order) -> Iterator[Order]:
                yield from [order] * 5

            return spread.process(batch=2, within="10s", name="pairs")(twice)
        case "async batch":
            return stream.process(batch=7, within="10s", name="pairs")(twice_later)
        case "many":
            return stream.process(concurrency=3, name="pairs")(many)
    emit = every("4s") if "changes" in kind or kind == "updates" else "final"
    return window.aggregate(emit=emit, name="lists")(listed)


def twice(orders: list[Order]) -> list[int]:
    return [order.n for order in orders for _ in range(1 + len(orders) % 2)]


async def twice_later(orders: list[Order]) -> list[int]:
    await asyncio.sleep(1)
    return twice(orders)


async def many(order: Order) -> AsyncIterator[int]:
    await asyncio.sleep(order.n % 3)
    for _ in range(3):
        yield order.n


def app_of(kind: str, slow: Slow) -> App:
    app = App("shop")
    orders = app.stream("orders", Order)

    def drawn(context: Context) -> UUID:
        # What was handed over lies elsewhere each time.
        return UUID(int=1) if kind in ("timers", "expiring") else context.uuid()

    much = wide(orders, kind)

    @much.process(name="noted", to="notes")
    def noted(value: Any, context: Context) -> str:
        return f"{value} {drawn(context)}"

    @much.process(name="taken", on_error=dlq(mode="key"))
    def taken(value: Any, context: Context) -> Iterator[list[str]]:
        slow.waits()
        draw = drawn(context)
        if draw.int % 11 == 0:
            raise ValueError(f"no {value}")
        yield [str(value), str(draw), context.key]

    taken.to("out")
    # What early sessions take back passes neither what is waited for nor another key.
    behind: Any = orders if kind == "session changes" else taken

    @behind.process(name="asked", order="key")
    async def asked(value: Any, context: Context) -> str:
        return f"{value} {drawn(context)}"

    asked.to("answers")

    # What follows in other tasks is told of time, and of no more time than it may be.
    behind.by(lambda value: "all", name="all").window(tumbling("5s")).count(to="counts")
    return app


TOPICS = ("out", "notes", "answers", "counts", "shop-dlq", "shop-all-repartition")


def play(kind: str, seed: int | None) -> dict[str, dict[Any, list[Any]]]:
    """What comes out; with a seed, of a run in which each call has others wait, and any of them
    is followed by a commit, a crash, or others that have the tasks."""
    slow, chance = Slow(), Random(seed)
    with app_of(kind, slow).test(partitions=2) as t:
        for number in range(30):
            at = number * 900 + (number % 4) * 100
            if kind in JUMPS:
                at += number // 10 * 20_000
            t.send("orders", Order(number), key=KEYS[number % 5], timestamp=at)
        if seed is not None:
            slow.tasks = lambda: t.tasks
            t.batch = 4
        for last in range(2):
            while True:
                slow.calls = 0
                busy = t.step()
                # One for each task; what a record meets at once is not parted.
                assert seed is None or kind == "interval" or slow.calls <= 2
                if not busy:
                    if not t._callers.proceed():
                        break
                elif seed is not None:
                    for _ in range(chance.randint(0, 2)):
                        chance.choice([t.commit, t.commit, t.crash, t.rebalance])()
            t.run()
            if kind == "idle" and not last:
                t.advance("4s")
        t.run()
        t.finish()
        found = {topic: by_key(t.topic(topic)) for topic in TOPICS}
        assert sum(len(each) for topic in found.values() for each in topic.values()) > 30
        return found


JUMPS = ("sliding", "sliding changes", "sessions", "session changes")
"""Of these little closes at once as long as time goes on in small steps."""


def by_key(records: list[Any]) -> dict[Any, list[Any]]:
    """What has an order: that of different keys is that of answers, and of tasks."""
    found: dict[Any, list[Any]] = {}
    for each in records:
        found.setdefault(each.key, []).append((each.value, each.timestamp, each.headers))
    found.pop(None, None)  # markers of time
    if "all" in found:  # what several tasks wrote
        found["all"].sort(key=str)
    return found


@pytest.mark.parametrize(
    "kind",
    [
        "tumbling", "updates", "idle", "sliding", "sliding changes", "sessions", "session changes",
        "interval", "as of", "timers", "expiring", "batch", "batches", "async batch", "many",
    ],
)  # fmt: skip
def test_nothing_is_to_be_seen_of_turns_that_others_had_in_the_middle(kind: str) -> None:
    whole = play(kind, None)
    for seed in range(2):
        parted = play(kind, seed)
        for topic in TOPICS:
            assert parted[topic] == whole[topic], (topic, seed)


@pytest.mark.parametrize("timed", [False, True])
def test_ids_are_different_where_what_came_of_records_leaves_in_turns(timed: bool) -> None:
    app = App("shop")

    @app.stream("orders", Order).process(name="spread")
    def spread(order: Order) -> Iterator[Order]:
        yield from [order] * 3

    @spread.process(order="key", concurrency=4, name="asked")
    async def asked(order: Order) -> Order:
        await asyncio.sleep(1)
        return order

    @asked.process(name="named", to="out")
    def named(order: Order, context: Context) -> str:
        if timed:
            context.timer(after="3s")
        return str(context.uuid())

    if timed:

        @named.on_timer
        def nothing(timer: Timer) -> None: ...

    with app.test() as t:
        for key in "abc":
            t.send("orders", Order(1), key=key, timestamp=1000)
        t.finish()
        assert len({record.value for record in t.topic("out")}) == 9


@pytest.mark.parametrize("fails", [False, True])
def test_a_call_whose_results_leave_in_turns_sends_once_or_is_set_aside(fails: bool) -> None:
    app, slow, calls = App("shop"), Slow(), []

    @app.stream("orders", Order).process(concurrency=2, on_error="dlq")
    async def asked(order: Order, context: Context) -> AsyncIterator[int]:
        calls.append(order)
        if fails and len(calls) > 1:
            raise ValueError("not again")
        context.send("told", str(order.n))
        for number in range(4):
            yield number

    @asked.process(to="out")
    def taken(number: int) -> int:
        slow.waits()
        return number

    with app.test(1) as t:
        t.create_topic("told")
        slow.tasks = lambda: t.tasks
        t.send("orders", Order(7), key="a")
        while len(t.topic("out")) < 2:
            t.step() or t._callers.proceed()
            t.commit()
        t.crash()
        t.run()
        assert len(calls) == 2  # in the middle of what the first gave
        assert [record.value for record in t.topic("told")] == [b"7"]
        assert t.values("out") == ([0, 1] if fails else [0, 1, 2, 3])
        assert len(t.topic("shop-dlq")) == fails


def test_ids_are_different_of_what_came_of_silence_too() -> None:
    app, slow = App("shop"), Slow()

    @(
        app.stream("orders", Order)
        .window(tumbling("6s"))
        .count(name="counts")
        .process(concurrency=2, name="asked")
    )
    async def asked(number: int) -> AsyncIterator[int]:
        for _ in range(4):
            yield number

    @asked.process(to="out")
    def named(number: int, context: Context) -> str:
        slow.waits()
        return str(context.uuid())

    with app.test(1) as t:
        t.send("orders", Order(1), key="a", timestamp=1000)
        t.run()
        slow.tasks = lambda: t.tasks
        finishing = Finishing(t._topology, t._layout, t._backend)
        for _ in range(10):
            for worker in t._started():
                t._let(worker, lambda one: one.at_end() and finishing.reached(one, 0.0))
            t._answers()
            t.step()
            t.commit()
            t.crash()
        ids = t.values("out")
        assert len(ids) == len(set(ids)) == 4


@pytest.mark.parametrize("kind", ["tumbling", "timers", "async batch"])
def test_what_fails_after_others_had_their_turn_is_given_whole_when_it_is_mended(kind: str) -> None:
    def given(slow: Slow, broken: list[int]) -> TestRun:
        app = App("shop")

        @wide(app.stream("orders", Order), kind).process(name="taken", to="out")
        def taken(value: Any, context: Context, seen: State[int]) -> str:
            seen.set(seen.get(0) + 1)
            slow.waits()
            if slow.calls in broken:
                broken.remove(slow.calls)
                raise ValueError("not this one")
            return f"{value} {context.key} {seen.get()}"

        run = app.test(1)
        for number in range(12):
            run.send("orders", Order(number), key=KEYS[number % 5], timestamp=number * 100)
        run.send("orders", Order(12), key="z", timestamp=60_000)
        return run

    with given(Slow(), []) as t:
        t.run()
        whole = t.values("out")
        assert len(whole) > 3
    slow = Slow()
    with given(slow, [2, 4, 5]) as t:
        slow.tasks = lambda: t.tasks
        for _ in range(3):
            with pytest.raises(FunctionError, match="not this one"):
                t.run()
        t.run()
        assert t.values("out") == whole
