"""Apps whose records were removed before they read them."""

from threading import Event

import pytest

from streamkit import App
from streamkit.backends.locate import open_backend
from streamkit.backends.values import CommittedOffset
from streamkit.clients.admin import Admin
from streamkit.engine.live import run
from streamkit.errors import OffsetOutOfRange
from streamkit.records import TopicPartition

ORDERS = TopicPartition("orders", 0)
DONE = TopicPartition("done", 0)


@pytest.fixture
def log():
    with open_backend("memory:") as log:
        log.create_topic("orders")
        yield log


@pytest.fixture
def app():
    app = App("shop")
    orders = app.stream("orders", bytes)

    @orders.process(to="done")
    def double(order: bytes) -> bytes:
        return order * 2

    return app


def drain(log, app):
    run(app.topology(), log, stop=Event(), until_end=True)


def test_an_app_does_not_skip_what_was_removed_but_says_so(log, app):
    for value in (b"a", b"b", b"c", b"d"):
        log.append(ORDERS, [value])
    drain(log, app)
    log.append(ORDERS, [b"e"])
    log.append(ORDERS, [b"f"])
    log.append(ORDERS, [b"g"])
    log.delete_records(ORDERS, 6)
    with pytest.raises(OffsetOutOfRange) as error:
        drain(log, app)
    assert "orders-0@4 to 5: removed" in str(error.value)
    advice = "streamkit groups reset shop --topic orders:0 --to offset:6"
    assert advice in str(error.value)
    assert log.committed("shop")[ORDERS].offset == 4
    Admin(log).reset_offsets("shop", offset=6, partitions=[ORDERS])
    drain(log, app)
    (batch,) = [b for b in log.fetch({DONE: 4}) if len(b)]
    assert [r.value for r in batch.records()] == [b"gg"]


def test_an_app_that_begins_reads_what_is_left(log, app):
    for value in (b"a", b"b", b"c"):
        log.append(ORDERS, [value])
    log.delete_records(ORDERS, 2)
    drain(log, app)
    assert log.committed("shop")[ORDERS] == CommittedOffset(
        3, log.committed("shop")[ORDERS].metadata
    )
    (batch,) = log.fetch({DONE: 0})
    assert [r.value for r in batch.records()] == [b"cc"]
