"""A replay takes the decisions that the clock took live: it gives the same bytes in their order."""

from threading import Event as Flag

import pytest
from msgspec import Struct

from streamkit.app import App
from streamkit.backends.locate import open_backend
from streamkit.dsl.failures import retry
from streamkit.dsl.windows import tumbling
from streamkit.engine.journal import Ahead, Finish, Held, Left, Parked, Silence
from streamkit.engine.live import run as run_live
from streamkit.engine.script import what_counts
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


def test_a_replay_after_an_input_has_grown_has_tasks_that_live_never_had(log):
    app = App("counter")
    app.stream("web", str).by(str.upper, name="word").count(to="counts", name="n")
    put(log, "web", b"a", 1)
    run_live(app.topology(), log, until_end=True, stop=Flag())
    log.add_partitions("web", 2)
    log.append(TopicPartition("web", 1), [b"a"], timestamps=DAY + 2000)
    session = begin(
        app.topology(), log, name="grown", from_text="earliest", to_text="latest", now=5 * DAY
    )
    assert run(app.topology(), log, session, stop=Flag()).finished
    run_live(app.topology(), log, until_end=True, stop=Flag())
    for topic in ("counts", "counts.replay.grown"):
        assert [value for _, value, _, _ in read(log, topic)] == [b"1", b"2"]


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


def test_what_was_decided_before_a_reset_decides_nothing_of_what_came_after_it():
    """Too far ahead, failed, came late, at an end: none of it was so when all was read again."""
    app, failing, hour = App("shop"), [2], 3_600_000
    web, shops = (app.stream(name, int, max_ahead="1h") for name in ("web", "shops"))

    @web.process(to="tried", on_error=retry(1, backoff="1s", pause="key"))
    def tried(number: int) -> int:
        if number in failing:
            failing.remove(number)
            raise ConnectionError
        return number

    near = web.join(shops, within="10s", how="outer", to="near")

    @near
    def pair(one: int | None, other: int | None) -> list[int | None]:
        return [one, other]

    topics = ("tried", "near")
    with app.test(1) as live:
        now = live.clock.now()
        for number, time in enumerate((0, 2 * hour, 1000, 2000)):
            live.send("web", number, key=str(number), timestamp=now + time)
        live.advance("2s")
        live.send("shops", 10, key="3", timestamp=now + 500)
        live.advance("10s")
        live.finish()
        log, topology = live._backend, app.topology()
        assert live.values("tried") == [0, 3, 2]
        live.__exit__()  # its processes end
        log.delete_group("shop")
        before = {topic: len(read(log, topic)) for topic in topics}
        live.clock.advance(3 * hour)
        live.run()
        live.finish()
        after = {topic: read(log, topic)[count:] for topic, count in before.items()}
        assert live.values("tried")[3:] == [0, 1, 2, 3]
        session = begin(topology, log, name="r", from_text="earliest", to_text="latest", now=10**15)
        assert run(topology, log, session, stop=Flag()).finished
        for topic, rows in after.items():
            assert read(log, session.shadow(topic)) == rows, topic


def test_only_what_was_at_or_behind_the_place_of_a_reset_does_not_count():
    def parked(offset):
        return Parked("tried", ("web", 0, offset, 0, 0, None))

    before = [Silence({"web-0": 1, "shops-0": 2}), Ahead("web-0", 2, 0), parked(3), parked(-1)]
    behind = [
        Held("shops-0", 3, {"web-0": 5}),
        Ahead("web-0", 4, 0),
        parked(4),
        parked(-1),
        Finish({"web-0": 6, "shops-0": 4}, 1),
    ]
    other = [Held("shops-0", 3, {"web-0": 1}), Ahead("shops-0", 3, 0)]
    since = [Silence({"web-0": 4, "shops-0": 4}), parked(-1), Left({"web-0": 7}, "tried", [])]
    assert what_counts([*before, *behind, *other, *since]) == [*before, *other, *since]
    assert what_counts([parked(-1), *behind, Silence({"web-0": 0, "shops-0": 0})]) == [
        Silence({"web-0": 0, "shops-0": 0})
    ]
