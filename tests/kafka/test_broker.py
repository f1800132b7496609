"""A real broker serves a directory that was ours, and we read one that was a broker's."""

import asyncio
import signal

import aiokafka
import pytest

from streamkit.backends.embedded import EmbeddedBackend
from streamkit.backends.offsets_topic import OffsetsTopic
from streamkit.backends.values import CommittedOffset
from streamkit.clock import SystemClock
from streamkit.codec import encode, headers
from streamkit.codec.compression import CODECS
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

ORDERS = TopicPartition("orders", 0)
STAMPED = TopicPartition("stamped", 0)
LONG = TopicPartition("long", 0)
CLIENTS_ORDERS = aiokafka.TopicPartition("orders", 0)


@pytest.fixture
def ours(tmp_path, append):
    """A log of ours, closed: topics of several kinds, a deleted one, a group's offsets."""
    root = tmp_path / "log"
    with Log.open(root, fsync="never") as log:
        log.create_topic("orders", 2)
        append(log.partition(ORDERS))
        log.create_topic("stamped", 1, {"message.timestamp.type": "LogAppendTime"})
        append(log.partition(STAMPED))
        log.create_topic("gone")
        log.delete_topic("gone")
        log.create_topic("long", 1, {"segment.bytes": str(1 << 20)})
        for number in range(40):
            block = encode([number.to_bytes(4, "big") * 20_000], timestamps=number)
            log.partition(LONG).append([block], acks=1)
        with EmbeddedBackend(log, OffsetsTopic(log, SystemClock())) as backend:
            backend.commit("billing", {ORDERS: CommittedOffset(17, "note")})
    # A torn tail leaves a file, and raises the leader epoch: here to what the broker's will be.
    for epoch in (1, 2):
        with (root / str(STAMPED) / f"{0:020d}.log").open("ab") as newest:
            newest.write(b"torn")
        with Log.open(root) as log:
            assert log.partition(STAMPED).leader_epoch == epoch
    # What a creation leaves that was killed.
    (root / f"half-0.{'ab' * 16}-delete").mkdir()
    return root


def with_group(broker, group: str, work):
    """What `work(consumer)` comes to, with a consumer of that group."""

    async def asked():
        client = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=broker.url, group_id=group, enable_auto_commit=False
        )
        async with client:
            client.assign([CLIENTS_ORDERS])
            return await work(client)

    return asyncio.run(asyncio.wait_for(asked(), 60))


def test_a_broker_serves_our_directory_and_we_go_on_with_what_it_wrote(ours, broker, read, written):
    with Log.open(ours) as log:
        before = {tp: read(log.partition(tp)) for tp in (ORDERS, STAMPED, LONG)}
        assert len(list((ours / str(LONG)).glob("*.log"))) > 2
        topics = log.topics()
    kafka = broker(ours)
    kafka.start()
    assert {tp: kafka.read(*tp) for tp in before} == before
    assert with_group(kafka, "billing", lambda client: client.committed(CLIENTS_ORDERS)) == 17
    for tp in before:
        kafka.send(tp.topic, written[8], "zstd")
    kafka.stop()

    with Log.open(ours) as log:
        assert log.topics() == topics
        for tp in before:
            partition = log.partition(tp)
            partition.append([encode([b"ours again"], timestamps=5)])
            found = read(partition)
            assert found[: len(before[tp])] == before[tp]
            theirs = found[len(before[tp]) : -1]
            assert [row[2:] for row in theirs] == [row[2:] for row in written[8]]
            assert found[-1].value == b"ours again"
        after = {tp: read(log.partition(tp)) for tp in before}
        log.create_topic("after")
        log.partition(TopicPartition("after", 0)).append([encode([b"a"], timestamps=5)])
    kafka.start()
    assert {tp: kafka.read(*tp) for tp in before} == after
    assert [row.value for row in kafka.read("after")] == [b"a"]


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
def test_a_brokers_own_directory_is_a_log(tmp_path, broker, read, written, end):
    kafka = broker(tmp_path / "kafka")
    kafka.format()
    kafka.start()
    kafka.create("orders", 2, {"segment.bytes": str(1 << 20)})
    for number, rows in enumerate(written):
        kafka.send("orders", rows, CODECS[number % len(CODECS)])
    expected = [row for rows in written for row in rows]
    with_group(kafka, "billing", lambda client: client.commit({CLIENTS_ORDERS: (17, "note")}))
    kafka.stop(end)

    for read_only in (True, False):
        with Log.open(kafka.data, read_only=read_only) as log:
            topic = log.topic("orders")
            assert (topic.partitions, topic.config) == (2, {"segment.bytes": str(1 << 20)})
            partition = log.partition(ORDERS)
            assert read(partition) == expected
            batches = headers(partition.read(0, 1 << 30))
            assert {header.compression for _, header in batches} == set(CODECS)
            backend = EmbeddedBackend(log, OffsetsTopic(log, SystemClock()), closing=lambda: None)
            assert backend.committed("billing") == {ORDERS: CommittedOffset(17, "note")}
    with Log.open(kafka.data) as log:
        log.partition(ORDERS).append([encode([b"ours"], timestamps=5)])
        assert read(log.partition(ORDERS))[:-1] == expected
