"""A replay takes the decisions that the clock took live: it gives the same bytes in their order."""

from threading import Event as Flag

import pytest
from msgspec import Struct

from streamkit.app import App
from streamkit.backends.locate import open_backend
from streamkit.dsl.windows import tumbling
from streamkit.engine.live import run as run_live
from streamkit.records import TopicPartition
from streamkit.replay.begin import begin
from streamkit.replay.run import run

DAY = 86_400_000


class Order(Struct):
    number: int


def priced():
    app = App("shop")
    prices = app.table("prices", int)
    for topic in ("web", "shops"):

        @app.stream(topic, Order).join(prices, how="left", to=f"{topic}-paid", name=f"{topic}-paid")
        def paid(order: Order, price: int | None) -> int:
            return order.number * (price or 0)

        windows = paid.window(tumbling("10s", grace="0s"))

        @windows.aggregate(to=f"{topic}-lists", name=f"{topic}-lists", emit="update")
        def lists(sofar: list[int] | None, amount: int) -> list[int]:
            return [*(sofar or []), amount]

    return app.topology()


@pytest.fixture
def log(tmp_path):
    with open_backend(tmp_path / "log") as log:
        for topic in ("web", "shops", "prices"):
            log.create_topic(topic)
        yield log


def put(log, topic, value, second):
    at = TopicPartition(topic, 0)
    log.append(at, [value], keys=[b"tea"], timestamps=DAY + second * 1000)


def read(log, topic):
    found, at = [], TopicPartition(topic, 0)
    position = log.offsets(at).start
    while position < log.offsets(at).end:
        for batch in log.fetch({at: position}):
            found += [(r.key, r.value, r.timestamp, r.headers) for r in batch.records()]
            position = batch.next_offset
    return found


def test_what_came_late_and_what_a_table_had_then_is_the_same_again(log):
    put(log, "prices", b"2", 0)
    for second in range(5):
        put(log, "web", b'{"number":%d}' % second, second)
    run_live(priced(), log, until_end=True, stop=Flag())
    # By their times these come before: live had nothing of them yet, and had gone on.
    put(log, "prices", b"7", 1)
    for second in range(5):
        put(log, "shops", b'{"number":%d}' % second, second)
    put(log, "web", b'{"number":10}', 3)
    run_live(priced(), log, until_end=True, stop=Flag())
    session = begin(
        priced(), log, name="again", from_text="earliest", to_text="latest", now=5 * DAY
    )
    assert run(priced(), log, session, stop=Flag()).finished
    for topic in ("web-paid", "shops-paid", "web-lists", "shops-lists"):
        live = read(log, topic)
        assert len(live) >= 5
        assert read(log, f"{topic}.replay.again") == live
    assert [value for _, value, _, _ in read(log, "web-paid")][:3] == [b"0", b"2", b"4"]
    assert read(log, "shops-paid")[1][1] == b"7"
