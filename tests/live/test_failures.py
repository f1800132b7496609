"""A record that cannot be processed: what is said, what is committed, and how to get past it."""

from collections import Counter
from threading import Event

import pytest
from msgspec import Struct

from streamkit import App, Context, State, retry, tumbling
from streamkit.backends.locate import open_backend
from streamkit.backends.values import CommittedOffset
from streamkit.engine import worker
from streamkit.engine.live import run
from streamkit.engine.operators import waiting
from streamkit.engine.transaction import WorkTransaction
from streamkit.errors import FunctionError, InvalidRecord, OutOfSpace, RecordTooLarge, SerdeError
from streamkit.records import TopicPartition


class Order(Struct):
    customer: str
    amount: int


ORDERS = TopicPartition("orders", 0)


@pytest.fixture
def log():
    with open_backend("memory:") as log:
        log.create_topic("orders")
        yield log


def order(number):
    return b'{"customer": "c%d", "amount": %d}' % (number % 2, number)


def publish(log, values):
    log.append(ORDERS, values, keys=[b"k%d" % (n % 2) for n in range(len(values))], timestamps=1)


def read(log, topic):
    found, position = [], 0
    while batches := log.fetch({TopicPartition(topic, 0): position}):
        for batch in batches:
            found += batch.records()
            position = batch.next_offset
    return found


def drain(log, app):
    run(app.topology(), log, stop=Event(), until_end=True)


def advice(error):
    return "\n".join(getattr(error.value, "__notes__", ()))


SKIP_5 = "skip the record: streamkit groups reset shop --topic orders:0 --to offset:6"


def skip_5(log):
    committed = log.committed("shop")[ORDERS]
    assert committed.offset == 5
    log.commit("shop", {ORDERS: CommittedOffset(6, committed.metadata)})


def plain():
    app = App("shop")

    @app.stream("orders", Order).process(to="amounts")
    def amount(order: Order) -> int:
        if order.amount == 5:
            raise ValueError("this one")
        return order.amount

    return app


def test_a_function_that_raises_says_how_to_skip_its_record(log):
    publish(log, [order(n) for n in range(10)])
    for _ in range(2):
        with pytest.raises(FunctionError, match="orders-0@5") as error:
            drain(log, plain())
        assert SKIP_5 in advice(error)
    skip_5(log)
    drain(log, plain())
    assert [int(r.value) for r in read(log, "amounts")] == [0, 1, 2, 3, 4, 6, 7, 8, 9]


@pytest.mark.parametrize("kind", ["async", "batch", "window", "behind async"])
def test_what_is_in_the_state_is_not_said_to_be_skipped_with_a_record(log, kind):
    def app_of(on_error):
        app = App("shop")
        orders = app.stream("orders", Order)

        def amount(order):
            if order.amount == 5:
                raise ValueError("this one")
            return order.amount

        async def later(order: Order) -> int:
            return amount(order)

        async def same(order: Order) -> Order:
            return order

        def plain(order: Order) -> int:
            return amount(order)

        def all_of(orders: list[Order]) -> list[int]:
            return [amount(order) for order in orders]

        if kind == "async":
            orders.process(to="amounts", on_error=on_error, name="a")(later)
        elif kind == "batch":
            orders.process(to="amounts", batch=1, on_error=on_error, name="a")(all_of)
        elif kind == "behind async":
            orders.process(name="b")(same).process(to="amounts", on_error=on_error, name="a")(plain)
        else:
            lasts = orders.window(tumbling("1ms")).reduce(name="b")(lambda one, other: other)
            lasts.process(to="amounts", on_error=on_error, name="a")(plain)
        return app

    for n in range(10):
        log.append(ORDERS, [order(n)], keys=[b"k"], timestamps=n)
    for _ in range(2):
        with pytest.raises(FunctionError, match="orders-0@") as error:
            drain(log, app_of("stop"))
        assert "skip the record" not in advice(error)
        assert "on_error= of the step" in advice(error)
    drain(log, app_of("skip"))
    # The last window is open.
    expected = [n for n in range(9 if kind == "window" else 10) if n != 5]
    assert [int(r.value) for r in read(log, "amounts")] == expected


def test_a_commit_that_fails_beside_a_record_is_told_with_it_and_all_is_done_again(
    log, monkeypatch
):
    publish(log, [order(n) for n in range(10)])
    with monkeypatch.context() as full:

        def refuses(*_, **__):
            raise OutOfSpace("the disk is full")

        full.setattr(WorkTransaction, "commit", refuses)
        with pytest.raises(FunctionError, match="orders-0@5") as error:
            drain(log, plain())
    assert "could not be committed either: the disk is full" in advice(error)
    assert "skip the record" not in advice(error) and not read(log, "amounts")
    with pytest.raises(FunctionError) as error:
        drain(log, plain())
    assert "--to offset:6" in advice(error)
    assert [int(r.value) for r in read(log, "amounts")] == list(range(5))


def test_what_cannot_be_done_again_before_a_stop_is_left_to_the_next_run(log, monkeypatch):
    monkeypatch.setattr(waiting, "MOST_BYTES", 1000)
    monkeypatch.setattr(worker, "REDO_WAITS", 2)
    monkeypatch.setattr(worker, "WAIT", 0.01)
    away = Event()

    def app_of(fails):
        app = App("shop")
        orders = app.stream("orders", Order)

        @orders.process(to="amounts", on_error=retry(3, backoff="1h"))
        def asked(order: Order) -> int:
            if away.is_set():
                raise ConnectionError("nobody there")
            return order.amount

        @orders.process(to="sums")
        def total(order: Order, sofar: State[int]) -> int:
            sofar.set(sofar.get(0) + order.amount)
            if fails and order.amount == 100:
                away.set()
                raise ValueError("this one")
            return sofar.get(0)

        return app

    publish(log, [order(n) for n in range(101)])
    with pytest.raises(FunctionError, match="orders-0@100") as error:
        drain(log, app_of(True))
    assert "done again" in advice(error) and "skip the record" not in advice(error)
    away.clear()
    drain(log, app_of(False))
    assert [int(r.value) for r in read(log, "amounts")] == list(range(101))
    assert max(int(r.value) for r in read(log, "sums")) == sum(range(0, 101, 2))


def test_bytes_of_another_type_say_how_to_skip_their_record(log):
    publish(log, [*(order(n) for n in range(5)), b"no order", order(7)])
    with pytest.raises(SerdeError, match="orders-0@5") as error:
        drain(log, plain())
    assert SKIP_5 in advice(error)


def stateful():
    app = App("shop")

    @app.stream("orders", Order).process(to="sums")
    def total(order: Order, sofar: State[int]) -> int:
        sofar.set(sofar.get(0) + order.amount)
        if order.amount == 5:
            raise ValueError("this one")
        return sofar.get(0)

    return app


def test_a_record_that_tore_the_state_can_be_skipped_without_losing_those_before_it(log):
    publish(log, [order(n) for n in range(10)])
    with pytest.raises(FunctionError, match="orders-0@5") as error:
        drain(log, stateful())
    assert SKIP_5 in advice(error)
    skip_5(log)
    drain(log, stateful())
    highest = {key: max(int(r.value) for r in read(log, "sums") if r.key == key)
               for key in (b"k0", b"k1")}  # fmt: skip
    assert highest == {b"k0": 0 + 2 + 4 + 6 + 8, b"k1": 1 + 3 + 7 + 9}


def test_what_came_before_a_record_that_tore_the_state_is_not_given_at_each_restart(log):
    publish(log, [order(n) for n in range(10)])
    for _ in range(4):
        with pytest.raises(FunctionError, match="orders-0@5"):
            drain(log, stateful())
    assert max(Counter(r.value for r in read(log, "sums")).values()) <= 2


def large():
    app = App("shop")

    @app.stream("orders", Order).process(to="copies")
    def copies(order: Order) -> str:
        return "x" * (30_000 if order.amount == 5 else 3_000)

    return app


def test_a_result_that_its_topic_does_not_take_names_what_it_was_made_of(log):
    log.create_topic("copies", 1, {"max.message.bytes": "20000"})
    publish(log, [order(n) for n in range(10)])
    for _ in range(2):
        with pytest.raises(
            RecordTooLarge, match=r"record for copies: it takes 30\d+ bytes.*20000.*orders-0@5"
        ) as error:
            drain(log, large())
        assert SKIP_5 in advice(error)
    # Five records of 3000 bytes are more than one batch may have, and are there once.
    assert [len(r.value) for r in read(log, "copies")] == [3_000] * 5
    skip_5(log)
    drain(log, large())
    assert [len(r.value) for r in read(log, "copies")] == [3_000] * 9


def test_a_result_that_is_small_when_compressed_is_taken(log):
    log.create_topic("copies", 1, {"max.message.bytes": "20000", "compression.type": "gzip"})
    publish(log, [order(n) for n in range(10)])
    drain(log, large())
    assert len(read(log, "copies")) == 10


def test_a_result_without_a_key_for_a_compacted_topic_names_what_it_was_made_of(log):
    log.create_topic("latest", 1, {"cleanup.policy": "compact"})
    log.append(ORDERS, [order(n) for n in range(3)], keys=[b"a", b"b", None], timestamps=1)
    app = App("shop")
    app.stream("orders", Order).to("latest")
    for _ in range(2):
        with pytest.raises(
            InvalidRecord, match=r"record for latest: .*no key.*orders-0@2"
        ) as error:
            drain(log, app)
        assert "--to offset:3" in advice(error)
    assert [r.key for r in read(log, "latest")] == [b"a", b"b"]


def test_what_a_function_sends_is_held_to_the_topics_limits_too(log):
    log.create_topic("elsewhere", 1, {"max.message.bytes": "20000"})
    publish(log, [order(n) for n in range(3)])
    app = App("shop")

    @app.stream("orders", Order).process
    def send(order: Order, context: Context) -> None:
        context.send("elsewhere", b"x" * 10_000 * (order.amount + 1))

    with pytest.raises(RecordTooLarge, match=r"record for elsewhere: .*orders-0@1"):
        drain(log, app)
    assert len(read(log, "elsewhere")) == 1


def test_state_that_its_changelog_does_not_take_is_named_with_its_key(log):
    app = App("shop")

    @app.stream("orders", Order).process
    def hoard(order: Order, kept: State[str]) -> None:
        kept.set("x" * (2 << 20 if order.amount == 1 else 10))

    publish(log, [order(n) for n in range(2)])
    with pytest.raises(RecordTooLarge, match=r"shop-hoard-kept-changelog, key b'k1': .*keep less"):
        drain(log, app)
