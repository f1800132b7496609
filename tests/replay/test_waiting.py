"""What functions that are waited for gave live, a replay gives again: the same bytes in order."""

import asyncio
from random import Random
from threading import Event as Flag

import pytest
from msgspec import Struct

from streamkit.app import App
from streamkit.backends.locate import open_backend
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
