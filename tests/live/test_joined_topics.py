"""Topics that are joined have to fit each other."""

import threading
from zlib import crc32

import pytest

from streamkit import App
from streamkit.backends.locate import open_backend
from streamkit.codec import partition_for
from streamkit.engine.live import run
from streamkit.errors import TopologyError
from streamkit.records import TopicPartition

KEYS = [f"key{number}".encode() for number in range(30)]
PARTITIONS = 3


@pytest.fixture
def log(tmp_path):
    with open_backend(str(tmp_path / "log")) as log:
        yield log


def fill(log, topic, partitioner):
    log.create_topic(topic, PARTITIONS)
    for key in KEYS:
        at = TopicPartition(topic, partitioner(key, PARTITIONS))
        log.append(at, [b"x"], keys=[key], timestamps=[1])


def murmur2(key, partitions):
    return partition_for(key, partitions)


def librdkafka(key, partitions):
    return crc32(key) % partitions


def own(key, partitions):
    return int(key[3:]) * 7 // 2 % partitions


def to_the_end(app, log):
    run(app.topology(), log, until_end=True, stop=threading.Event())


def joined(on=None):
    app = App("shop")
    app.stream("orders", str).join(app.table("rows", str), on=on, name="out", to="out")(
        lambda order, row: order + row
    )
    return app


def count(log):
    return sum(log.offsets(TopicPartition("out", number)).end for number in range(PARTITIONS))


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        (murmur2, librdkafka, "rows by CRC-32, which is librdkafka's default"),
        (librdkafka, murmur2, "orders by CRC-32, .*; rows by murmur2"),
        (murmur2, own, r"rows by neither \(key b'key\d+' is in partition"),
    ],
)
def test_topics_partitioned_in_two_ways_are_not_joined_by_key(log, one, other, told):
    fill(log, "orders", one)
    fill(log, "rows", other)
    with pytest.raises(TopologyError, match=told) as raised:
        to_the_end(joined(), log)
    assert "app.global_table('rows', ...)" in str(raised.value)


@pytest.mark.parametrize("one", [murmur2, librdkafka, own])
def test_topics_partitioned_in_one_way_are_joined(log, one):
    fill(log, "orders", one)
    fill(log, "rows", one)
    to_the_end(joined(), log)
    assert count(log) >= len(KEYS)


def test_what_is_repartitioned_for_a_join_has_to_fit_too(log):
    fill(log, "orders", own)
    fill(log, "rows", librdkafka)
    app = App("shop")
    keyed = app.stream("orders", str).by(str, name="again")
    keyed.join(app.table("rows", str), name="out", to="out")(lambda order, row: order + row)
    with pytest.raises(TopologyError, match=r"shop-again-repartition by murmur2.*rows by CRC-32"):
        to_the_end(app, log)


def test_a_topic_that_forgets_what_a_join_asks_for_is_told_with_the_remedy(log):
    log.create_topic("orders")
    log.create_topic("rows", config={"cleanup.policy": "compact"})
    app = App("shop")
    app.stream("orders", str).join(app.table("rows", str), history="1h", name="out")(
        lambda order, row: order
    )
    with pytest.raises(TopologyError, match=r"alter rows --config min.compaction.lag.ms=3600000"):
        to_the_end(app, log)
