"""Functions that are waited for give what they would at once: each event once, in its order."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from streamkit import App, Context, Record
from streamkit.dsl.windows import tumbling
from streamkit.engine.rows import Position
from streamkit.engine.task import Task
from streamkit.engine.waiting import Request
from streamkit.errors import SerdeError
from streamkit.records import Columns, TopicPartition


class Order(Struct):
    n: int
    nap: int = 0


def listed(sofar: list[int] | None, n: int) -> list[int]:
    return [*(sofar or []), n]


def waiting_app(wait: str, order: str = "partition") -> App:
    """What comes out of `wait` ("no": a plain function) is looked at in all the ways there are."""
    app = App("shop")
    orders = app.stream("orders", Order, out_of_order="5s")

    def many(order: Record[Order], context: Context) -> Iterator[int]:
        n = order.value.n
        if n % 5 == 0:
            context.send("sent", f"{n} at {order.partition}-{order.offset}")
        for each in range(n % 3):
            yield n * 10 + each

    def plain(order: Record[Order], context: Context) -> Iterator[int]:
        return many(order, context)

    async def waits(order: Record[Order], context: Context) -> AsyncIterator[int]:
        await asyncio.sleep(order.value.nap)
        for each in many(order, context):
            yield each
            await asyncio.sleep(order.value.nap / 3)

    def batched(orders: list[Record[Order]]) -> list[list[int]]:
        return [[o.value.n * 10 + each for each in range(o.value.n % 3)] for o in orders]

    async def batched_later(orders: list[Record[Order]]) -> list[list[int]]:
        await asyncio.sleep(max(order.value.nap for order in orders))
        return batched(orders)

    if wait == "no":
        done = orders.process(name="done")(plain)
    elif wait == "async":
        done = orders.process(name="done", concurrency=3, order=order)(waits)
    else:
        batch = batched if wait == "batch" else batched_later
        made = orders.process(name="made", batch=3, within="10s")(batch)

        @made.process(name="done")
        def done(many: list[int]) -> Iterator[int]:
            yield from many

    done.to("out")

    @done.window(tumbling("10s", grace="2s")).aggregate(to="lists")
    def lists(sofar: list[int] | None, n: int) -> list[int]:
        return listed(sofar, n)

    @(
        done.by(lambda n: str(n % 2), name="by-parity")
        .window(tumbling("20s", grace="0s"))
        .aggregate(to="parities")
    )
    def parities(sofar: list[int] | None, n: int) -> list[int]:
        return listed(sofar, n)

    return app


TOPICS = ("out", "lists", "sent", "lists-late", "parities", "parities-late")


def found(t, topics):
    result = {}
    for topic in topics:
        name = f"shop-{topic}" if topic.endswith("late") else topic
        rows = defaultdict(list)
        for each in t.topic(name):
            if each.key is not None or each.value is not None:
                rows[each.partition].append((each.key, each.value, each.timestamp))
        result[topic] = dict(rows)
    return result


sent = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(0, 60), st.sampled_from([0, 0, 1, 3])),
    min_size=1,
    max_size=30,
)
moves = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.sampled_from(["step", "commit", "crash", "rebalance", "run", "advance", "commit"]),
    ),
    max_size=12,
)


def play(app, sent, moves, *, seed=None, members=1, partitions=2, topics=TOPICS):
    """Send events, and let things happen in between; all that came out."""
    with app.test(partitions=partitions, members=members) as t:
        t.batch = 4
        t.create_topic("sent")
        if seed is not None:
            t.shuffle(seed)
        for number, (key, second, nap) in enumerate(sent):
            t.send("orders", Order(number, nap), key=key, timestamp=second * 1000)
            for _, move in [each for each in moves if each[0] == number]:
                match move:
                    case "rebalance":
                        t.rebalance(1 + number % 3)
                    case "advance":
                        t.advance("100ms")
                    case _:
                        getattr(t, move)()
        t.run()
        t.finish(10_000_000)
        assert not any(task.answers.is_waiting for task in t.tasks)
        return found(t, topics)


def in_any_order(rows):
    return sorted(
        (str(key), sorted(value) if isinstance(value, list) else value, stamp)
        for partition in rows.values()
        for key, value, stamp in partition
    )


@given(sent, moves, st.none() | st.integers(0, 1000), st.integers(1, 3))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_in_order_of_the_input_nothing_is_to_be_seen_of_the_waiting(sent, moves, seed, members):
    plain = play(waiting_app("no"), sent, [])
    waited = play(waiting_app("async"), sent, moves, seed=seed, members=members)
    for topic in ("out", "lists", "lists-late"):
        assert waited[topic] == plain[topic]
    # What several tasks write to one partition has no order among them.
    for topic in ("sent", "parities", "parities-late"):
        assert in_any_order(waited[topic]) == in_any_order(plain[topic])


@given(sent, moves, st.none() | st.integers(0, 1000), st.integers(1, 3))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_in_the_order_of_keys_each_event_is_there_once_and_windows_have_the_same(
    sent, moves, seed, members
):
    plain = play(waiting_app("no"), sent, [])
    waited = play(waiting_app("async", "key"), sent, moves, seed=seed, members=members)

    def by_key(rows):
        keys = defaultdict(list)
        for partition in rows.values():
            for key, value, stamp in partition:
                keys[key].append((value, stamp))
        return keys

    assert by_key(waited["out"]) == by_key(plain["out"])
    assert by_key(waited["lists"]) == by_key(plain["lists"])
    assert by_key(waited["lists-late"]) == by_key(plain["lists-late"])
    assert in_any_order(waited["sent"]) == in_any_order(plain["sent"])


@given(sent, moves, st.none() | st.integers(0, 1000), st.sampled_from(["batch", "async batch"]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_batches_that_give_one_result_for_each_event_are_not_to_be_seen_either(
    sent, moves, seed, kind
):
    topics = ("out", "lists", "lists-late")
    plain = play(waiting_app("no"), sent, [])
    batched = play(waiting_app(kind), sent, moves, seed=seed, members=2)
    assert {t: batched[t] for t in topics} == {t: plain[t] for t in topics}


def chained_app(wait: bool) -> App:
    """Results of closing windows wait, and go into other windows."""
    app = App("shop")

    @(
        app.stream("orders", Order, out_of_order="5s")
        .window(tumbling("5s", grace="3s"), close_after_idle="3s")
        .aggregate(name="first")
    )
    def first(sofar: list[int] | None, order: Order) -> list[int]:
        return [*(sofar or []), order.n]

    async def waits(numbers: list[int]) -> int:
        await asyncio.sleep(sum(numbers) % 4)
        return sum(numbers)

    def plain(numbers: list[int]) -> int:
        return sum(numbers)

    done = (
        first.process(name="done", concurrency=3)(waits)
        if wait
        else first.process(name="done")(plain)
    )
    done.to("out")

    @done.window(tumbling("10s", grace="0s"), close_after_idle="3s").aggregate(to="lists")
    def lists(sofar: list[int] | None, n: int) -> list[int]:
        return listed(sofar, n)

    return app


@given(sent, moves, st.none() | st.integers(0, 1000), st.integers(1, 3))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_results_of_windows_that_wait_are_late_for_nothing_that_follows(sent, moves, seed, members):
    topics = ("out", "lists", "lists-late")
    plain = play(chained_app(False), sent, [], topics=topics)
    assert play(chained_app(True), sent, moves, seed=seed, members=members, topics=topics) == plain
    assert not plain["lists-late"]


def test_what_closes_for_it_is_quiet_waits_for_what_is_on_its_way():
    with chained_app(True).test(partitions=1) as t:
        for n in range(4):
            t.send("orders", Order(n), key="a", timestamp=n * 1000)
        t.advance("4s")
        assert t.values("out") == [6]
        t.advance("4s")
        assert t.values("lists") == [[6]] and t.values("shop-lists-late") == []


class NoAnswers:
    """Calls that go on for ever."""

    def start(self, request: Request) -> None:
        pass

    def answers(self) -> tuple[()]:
        return ()


def task_of(kind: type) -> Task:
    app = App("shop")

    @app.stream("orders", kind).process(to="out")
    async def waits(order: object) -> None:
        pass

    topology = app.topology()
    layout = topology.layout(dict.fromkeys(topology.sources, 1))
    return Task(topology, layout, topology.subtopologies[0], 0, calls=NoAnswers())


class Bill(Struct):
    total: int


def test_what_waited_and_is_of_another_type_now_is_not_committed_as_if_it_had_left():
    task, orders = task_of(Order), TopicPartition("orders", 0)
    task.resume({orders: Position(0)})
    task.feed(orders, Columns([0, 1], [1, 2], [b"a", b"b"], [b'{"n":1}', b'{"n":2}']))
    task.run(now=1)
    kept = task.checkpoint()
    again = task_of(Bill)
    again.resume(kept.positions)
    (changelog,) = again.changelogs
    rows = kept.changelog[changelog]
    again.restore(changelog, Columns([0, 1], rows.timestamps, rows.keys, rows.values))
    with pytest.raises(SerdeError, match="of another type than it has now"):
        again.run(now=2)
    assert again.torn


def test_a_batch_is_cut_when_its_oldest_has_waited_so_long_wherever_a_task_began_again():
    app = App("shop")

    @app.stream("numbers", int).process(batch=9, within="10s", to="out")
    def summed(numbers: list[int]) -> list[int]:
        return [sum(numbers)]

    with app.test(1) as t:
        for number, seconds in enumerate((0, 4, 5, 1)):
            t.clock.advance(seconds * 1000)
            if number < 3:
                t.send("numbers", 1 << number)
            while t.step():
                pass
            t.commit()
            assert t.values("out") == ([7] if number == 3 else []), number
            t.crash()
        assert not any(task.answers.is_waiting for task in t.tasks)


@pytest.mark.parametrize("wait", [False, True])
def test_what_is_made_of_no_record_has_ids_of_its_own_though_times_alternate(wait: bool) -> None:
    app = App("shop")
    ones = app.stream("ones", int, out_of_order="1ms")
    others = app.stream("others", int)

    @ones.join(others, before="3ms", after="5ms", how="left", grace="0s")
    def alone(one: int, other: int | None) -> int:
        return one

    def told(one: int, context: Context) -> str:
        return str(context.uuid())

    async def waits(one: int, context: Context) -> str:
        return told(one, context)

    @alone.join(ones, before="5ms", after="5ms", grace="0s")
    def met(one: int, other: int) -> int:
        return one

    met.process(waits if wait else told).to("ids")
    with app.test(1) as t:
        for n in range(4):
            t.send("ones", n, key="a", timestamp=1_000 + n % 2)
        t.run()
        t.finish()
        ids = t.values("ids")
        assert len(ids) == 4 * 4 and len(set(ids)) == len(ids)


def test_a_letter_of_a_call_that_took_too_long_says_where_it_stood() -> None:
    app = App("shop")

    @app.stream("orders", Order).process(timeout="1s", on_error="dlq")
    async def slow(order: Order) -> int:
        await asyncio.sleep(order.nap)  # here
        return order.n

    with app.test(partitions=1) as t:
        t.send("orders", Order(1, nap=100), key="k")
        t.run()
        (letter,) = t.topic("shop-dlq")
    said = {name.rpartition("errors.")[2]: (data or b"").decode() for name, data in letter.headers}
    assert (said["topic"], said["partition"], said["offset"]) == ("orders", "0", "0")
    assert said["exception.class.name"] == "builtins.TimeoutError"
    assert "in slow\n    await asyncio.sleep(order.nap)  # here" in said["exception.stacktrace"]
    assert said["exception.stacktrace"].endswith("TimeoutError: no answer within 1 s\n")
