"""What functions that are waited for gave live, a replay gives again: the same bytes in order."""

import asyncio
import time
from random import Random
from threading import Event as Flag
from threading import Thread, Timer

import pytest
from msgspec import Struct

from streamkit import Context
from streamkit.app import App
from streamkit.backends.locate import open_backend
from streamkit.dsl.failures import retry
from streamkit.dsl.windows import tumbling
from streamkit.engine.journal import Cut, Left, decode
from streamkit.engine.live import run as run_live
from streamkit.records import TopicPartition
from streamkit.replay.begin import begin
from streamkit.replay.run import run

DAY = 86_400_000
TOPICS = ("out", "lists", "batches", "parities", "all")


class Order(Struct):
    n: int


def app(seed: int, order: str) -> App:
    """How long a call takes is known to nobody: not the same live and in the replay."""
    chance = Random(seed)
    app = App("shop")
    prices = app.table("prices", int)  # which has them in one task
    streams = []
    for topic in ("web", "shops"):

        @app.stream(topic, Order, out_of_order="3s").join(prices, how="left", name=f"{topic}-known")
        def known(order: Order, price: int | None) -> Order:
            return order

        streams.append(known)

    @streams[0].process(to="out", concurrency=4, order=order)
    async def slow(order: Order) -> int:
        await asyncio.sleep(chance.choice([0, 0.001, 0.01]))
        return order.n

    @streams[1].process(batch=4, within="20ms", to="batches")
    def batches(orders: list[Order]) -> list[list[int]]:
        return [[order.n for order in orders]]

    @slow.process(batch=3, within="15ms", to="all")
    async def later(numbers: list[int]) -> list[int]:
        await asyncio.sleep(chance.choice([0, 0.005]))
        return [*numbers, sum(numbers)]

    @later.window(tumbling("10s", grace="0s"), close_after_idle="1s").aggregate(to="lists")
    def lists(sofar: list[int] | None, n: int) -> list[int]:
        return [*(sofar or []), n]

    # Both streams write to one topic: in which order is for the journals to say.
    @batches.process(to="all")
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    return app


def read(log, topic):
    found, at = [], TopicPartition(topic, 0)
    position = log.offsets(at).start
    while position < log.offsets(at).end:
        for batch in log.fetch({at: position}):
            found += [(r.key, r.value, r.timestamp, r.headers) for r in batch.records()]
            position = batch.next_offset
    return found


@pytest.mark.parametrize("order", ["partition", "key"])
@pytest.mark.parametrize("seed", range(3))
def test_a_replay_lets_events_leave_where_they_left_live(tmp_path, seed, order):
    chance = Random(seed)
    with open_backend(tmp_path / "log") as log:
        for topic in ("web", "shops", "prices"):
            log.create_topic(topic)
        n = 0
        for _ in range(3):
            for _ in range(25):
                n += 1
                at = TopicPartition(chance.choice(["web", "shops"]), 0)
                second = n // 2 + chance.randint(-4, 4)
                key = chance.choice([b"a", b"b", b"c"])
                log.append(at, [b'{"n":%d}' % n], keys=[key], timestamps=DAY + second * 1000)
            run_live(app(seed, order).topology(), log, until_end=True, stop=Flag())
        journals = [read(log, topic) for topic in log.topics() if topic.endswith("-journal")]
        entries = [decode(value, "") for rows in journals for _, value, _, _ in rows]
        assert {Left, Cut} <= {type(entry) for entry in entries}
        topology = app(seed + 100, order).topology()
        session = begin(
            topology, log, name="again", from_text="earliest", to_text="latest", now=5 * DAY
        )
        assert run(topology, log, session, stop=Flag()).finished
        for topic in ("out", "batches", "all", "lists"):
            live = read(log, topic)
            assert live, topic
            again = read(log, session.shadow(topic))
            assert again[: len(live)] == live, topic
            assert topic == "lists" or len(again) == len(live)


def test_what_closed_in_silence_leaves_where_it_did_also_around_a_restart(tmp_path):
    released: set[int] = set()
    called: list[int] = []

    def silent() -> App:
        app = App("shop")
        orders = app.stream("web", Order)

        @orders.window(tumbling("1s"), close_after_idle="20ms").aggregate()
        def total(sofar: int | None, order: Order) -> int:
            return (sofar or 0) + order.n

        @total.process(order="key", concurrency=10)
        async def slow(n: int, context: Context) -> str:
            called.append(n)
            while n not in released:
                await asyncio.sleep(0.001)
            return f"{n} {context.uuid()}"

        @total.process(to="ids")
        def at_once(n: int, context: Context) -> str:
            return f"{n} {context.uuid()}"

        slow.to("out")
        return app

    def until(condition, failed):
        deadline = time.monotonic() + 30
        while not condition():
            assert not failed, failed
            assert time.monotonic() < deadline, "it did not come to that"
            time.sleep(0.01)

    with open_backend(tmp_path / "log") as log:
        log.create_topic("web")

        def publish(n: int) -> None:
            data, stamp = [b'{"n":%d}' % n], DAY + n * 10_000
            log.append(TopicPartition("web", 0), data, keys=[b"k%d" % n], timestamps=stamp)

        def at_work(work):
            stop, failed = Flag(), []

            def live():
                try:
                    run_live(silent().topology(), log, stop=stop)
                except Exception as error:
                    failed.append(error)

            thread = Thread(target=live)
            thread.start()
            try:
                work(failed)
            finally:
                stop.set()
                thread.join()
            assert not failed

        def first(failed):
            publish(1)
            until(lambda: 1 in called, failed)  # nothing came: it is made of no record
            publish(2)
            publish(3)
            until(
                lambda: 3 in called, failed
            )  # the first closed as a record came, the other did not

        def second(failed):
            publish(4)
            until(lambda: 4 in called, failed)
            for count, n in enumerate((2, 4, 1, 3)):
                released.add(n)
                until(
                    lambda count=count: "out" in log.topics() and len(read(log, "out")) > count,
                    failed,
                )

        at_work(first)
        at_work(second)
        session = begin(
            silent().topology(), log, name="again", from_text="earliest", to_text="latest", now=0
        )
        assert run(silent().topology(), log, session, stop=Flag()).finished
        assert [value[:1] for _, value, _, _ in read(log, "out")] == [b"2", b"4", b"1", b"3"]
        for topic in ("out", "ids"):
            assert read(log, session.shadow(topic)) == read(log, topic)


@pytest.mark.parametrize("waits", ["async", "retry"])
def test_an_event_that_other_code_lets_through_leaves_before_those_of_its_key(waits):
    """The journal knows nothing of it, and all behind it waited for that for ever."""
    dropped, failing = {1, 4}, {0, 3}
    app = App("shop")
    let_through = app.stream("web", int).filter(lambda n: n not in dropped, name="let_through")
    if waits == "async":

        @let_through.process(to="out", order="key", concurrency=3)
        async def passed(n: int) -> int:
            return n

    else:

        @let_through.process(to="out", on_error=retry(1, backoff="1s", pause="key"))
        def tried(n: int) -> int:
            if n in failing:
                failing.remove(n)
                raise ConnectionError
            return n

    with app.test(1) as live:
        for n in range(6):
            live.send("web", n, key="ab"[n % 2], timestamp=n)
        live.run()
        live.advance("1s")
        dropped.clear()
        failing |= {0, 1, 3}
        log, topology = live._backend, app.topology()
        session = begin(topology, log, name="r", from_text="earliest", to_text="latest", now=10**15)
        stop = Flag()
        too_long = Timer(20, stop.set)
        too_long.start()
        assert run(topology, log, session, stop=stop).finished
        too_long.cancel()
        again = read(log, session.shadow("out"))
    assert [row[1] for row in again if row[0] == b"a"] == [b"0", b"2", b"4"]
    assert [row[1] for row in again if row[0] == b"b"] == [b"1", b"3", b"5"]


def test_what_waited_for_an_attempt_over_an_end_does_so_again():
    app, failing = App("shop"), [1]
    orders = app.stream("web", int)

    @orders.window(tumbling("10s")).aggregate()
    def total(sofar: int | None, n: int) -> int:
        return (sofar or 0) + n

    @total.process(to="out", on_error=retry(1, backoff="10s"))
    def tried(n: int) -> int:
        if n in failing:
            failing.remove(n)
            raise ConnectionError
        return n

    orders.map(lambda n: -n, name="plain").to("out")
    with app.test(1) as live:
        live.send("web", 1, key="a", timestamp=1000)
        live.finish()
        live.send("web", 2, key="a", timestamp=21_000)
        live.run()
        live.advance("10s")
        live.finish()
        log, topology, stop = live._backend, app.topology(), Flag()
        assert live.values("out") == [-1, -2, 1, 2]
        session = begin(topology, log, name="r", from_text="earliest", to_text="latest", now=10**15)
        too_long = Timer(20, stop.set)
        too_long.start()
        assert run(topology, log, session, stop=stop).finished
        too_long.cancel()
        assert read(log, session.shadow("out")) == read(log, "out")
