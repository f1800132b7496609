"""Producers and admins, and topics that change under them."""

import time

import pytest

from streamkit import codec
from streamkit.backends.locate import open_backend
from streamkit.clients.admin import Admin
from streamkit.clients.producer import Producer
from streamkit.codec import partition_for
from streamkit.errors import InvalidRecord, InvalidTopic, UnknownPartition
from streamkit.records import TopicPartition

T0 = TopicPartition("t", 0)


@pytest.fixture
def log():
    with open_backend("memory:") as backend:
        backend.create_topic("t", 1)
        yield backend


def compressions(log, partition):
    return [
        header.compression
        for batch in log.fetch({partition: 0})
        for _, header in codec.headers(batch.raw)
    ]


def test_a_producer_compresses_as_the_topic_says_now(log):
    with Producer(log, linger=3600) as producer:
        producer.send("t", b"a" * 100)
        producer.flush()
        log.alter_topic("t", {"compression.type": "lz4"})
        for value in (b"b", b"c"):
            producer.send("t", value * 100)
            producer.flush()
        log.alter_topic("t", {"compression.type": None})
        producer.send_many("t", [b"d"] * 100)
        producer.send_and_wait("t", b"e")
    # What finds out that something has changed was encoded before it did.
    assert compressions(log, T0) == ["none", "none", "lz4", "lz4", "none"]


def test_records_without_a_key_are_spread_over_the_partitions_that_come(log):
    with Producer(log, batch_bytes=200, linger=3600) as producer:
        producer.send_many("t", [b"before"] * 100)
        log.add_partitions("t", 3)
        for number in range(100):
            producer.send("t", b"%d" % number * 20)
    ends = [log.offsets(TopicPartition("t", number)).end for number in range(3)]
    assert sum(ends) == 200 and min(ends) > 0


def test_keys_go_where_they_belong_among_the_partitions_that_came(log):
    keys = [b"%d" % number for number in range(200)]
    with Producer(log) as producer:
        producer.send_and_wait("t", b"x", key=b"k")
        log.add_partitions("t", 4)
        producer.send_and_wait("t", b"x", key=b"k")
        producer.send_many("t", [b"x"] * 200, keys=keys)
    for number in range(4):
        tp = TopicPartition("t", number)
        found = [r.key for batch in log.fetch({tp: 0}) for r in batch.records()]
        expected = [key for key in keys if partition_for(key, 4) == number]
        assert [key for key in found if key != b"k"] == expected


def test_a_new_partition_can_be_named_at_once(log):
    with Producer(log) as producer:
        producer.send("t", b"x")
        with pytest.raises(UnknownPartition):
            producer.send("t", b"x", partition=1)
        log.add_partitions("t", 3)
        producer.send("t", b"x", partition=2)
        producer.send_many("t", [b"x"] * 100, partition=1)
        with pytest.raises(UnknownPartition, match="0 to 2"):
            producer.send("t", b"x", partition=3)
    assert [log.offsets(TopicPartition("t", n)).end for n in range(3)] == [1, 100, 1]


def test_batches_that_are_under_way_when_less_fits_in_one_are_divided(log):
    with Producer(log, linger=3600) as producer:
        for number in range(100):
            producer.send("t", b"%02d" % number * 50)
        log.alter_topic("t", {"max.message.bytes": "1000"})
        producer.flush()
        assert all(header <= 1000 for header in sizes(log))
        for number in range(100, 120):
            producer.send("t", b"%02d" % number * 50)
        producer.flush()
    values = [r.value for batch in log.fetch({T0: 0}) for r in batch.records()]
    assert values == [b"%02d" % number * 50 for number in range(120)]


def sizes(log):
    return [header.size for batch in log.fetch({T0: 0}) for _, header in codec.headers(batch.raw)]


def test_a_producer_is_told_when_its_topic_begins_to_be_compacted(log):
    with Producer(log, linger=3600) as producer:
        producer.send("t", b"no key")
        log.alter_topic("t", {"cleanup.policy": "compact"})
        with pytest.raises(InvalidRecord, match="no key") as told:
            producer.flush()
        assert "given up: 1 record" in told.value.__notes__[0]
        with pytest.raises(InvalidRecord):
            producer.send("t", b"no key")
        producer.send("t", b"x", key=b"k")
    assert log.offsets(T0).end == 1


def test_a_producer_is_told_that_a_topic_is_internal(log):
    with Producer(log, create_topics=1) as producer:
        log.commit("g", {})
        for name in ("__consumer_offsets", "__transaction_state"):
            with pytest.raises(InvalidTopic, match="internal"):
                producer.send_and_wait(name, b"x", key=b"k")


def test_what_another_process_alters_reaches_a_producer_in_the_background(tmp_path):
    with (
        open_backend(str(tmp_path / "log")) as here,
        open_backend(str(tmp_path / "log")) as there,
        Producer(here, linger=0.001) as producer,
    ):
        here.create_topic("t", 1)
        producer.send_and_wait("t", b"x")
        there.add_partitions("t", 2)
        deadline = time.monotonic() + 20
        while there.offsets(TopicPartition("t", 1)).end == 0:
            assert time.monotonic() < deadline, "no record came to the new partition"
            producer.send("t", b"x")
            producer.flush()


def test_an_admin_alters_topics_and_sees_what_they_hold(log):
    admin = Admin(log)
    assert admin.add_partitions("t", 2).partitions == 2
    assert admin.alter_topic("t", {"segment.ms": "60000"}).config == {"segment.ms": "60000"}
    log.append(T0, [b"x"])
    assert [(held.partition.partition, held.end) for held in admin.partitions("t")] == [
        (0, 1),
        (1, 0),
    ]
    with pytest.raises(InvalidTopic, match="internal"):
        admin.delete_topic("__transaction_state")
