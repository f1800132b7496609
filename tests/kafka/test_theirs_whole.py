"""A broker's own directory after transactions, a cleaner, retention and deleted records."""

import asyncio
import signal
import time

import aiokafka
import pytest
from aiokafka.admin import RecordsToDelete

from streamkit.log.checkpoints import decode_offsets
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

ORDERS = TopicPartition("orders", 0)
TABLE = TopicPartition("table", 0)
OPEN = TopicPartition("open", 0)
SMALL = {"segment.bytes": str(1 << 20)}
TOPICS = {
    "orders": {},
    "invoices": {},
    "table": {**SMALL, "cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01"},
    "shrunk": {**SMALL, "retention.bytes": str(1 << 20)},
    "open": {},
}
PLACES = [(name, 0, how) for name in TOPICS for how in ("read_committed", "read_uncommitted")]
EAGER = """
log.initial.task.delay.ms=100
log.retention.check.interval.ms=200
log.cleaner.backoff.ms=100
log.flush.start.offset.checkpoint.interval.ms=100
log.segment.delete.delay.ms=100
"""


def fill(server) -> None:
    """Three segments and more of a table with tombstones and of a topic that is to shrink."""

    async def filled() -> None:
        producer = aiokafka.AIOKafkaProducer(
            bootstrap_servers=server.url, enable_idempotence=True, linger_ms=20
        )
        async with producer:
            for number in range(60):
                await producer.send("orders", b"order %d" % number, partition=0)
            for number in range(3500):
                value = b"%d " % number * 180
                key = b"key %d" % (number * 7 % 90)
                await producer.send("table", value if number % 9 else None, key=key, partition=0)
                await producer.send("shrunk", value, partition=0)
            await producer.flush()

    asyncio.run(asyncio.wait_for(filled(), 60))


def until(condition, server) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, server.tail
        time.sleep(0.1)


def is_clean(server) -> bool:
    """Whether the table is compacted up to its active segment."""
    path = server.data / "cleaner-offset-checkpoint"
    active = max(int(path.stem) for path in (server.data / "table-0").glob("*.log"))
    return active > 0 and decode_offsets(path.read_bytes()).get(TABLE) == active


@pytest.mark.parametrize(
    ("release", "end"),
    [("", signal.SIGTERM), ("3.9", signal.SIGKILL)],
    ids=["newest-stopped", "older-killed"],
)
def test_we_go_on_with_it_and_the_broker_after_us(tmp_path, broker, seen, go_on, release, end):
    server = broker(tmp_path / "kafka", EAGER)
    server.format(release)
    server.start()
    for name, config in TOPICS.items():
        server.create(name, 1, config)
    server.transact("aborted", "commit", "abort")
    fill(server)
    server.transact("aborted", "abort", "commit", "abort")
    server.copy("copier", 30)
    server.transact("open", "commit", "open")
    server.leave_open("open-too", "open")
    before = RecordsToDelete(before_offset=17)
    place = aiokafka.TopicPartition(*ORDERS)
    server.ask(lambda admin: admin.delete_records({place: before}))
    starts = server.data / "log-start-offset-checkpoint"
    until(lambda: "orders 0 17\n" in starts.read_text(), server)
    until(lambda: is_clean(server), server)
    until(lambda: not (server.data / "shrunk-0" / f"{0:020d}.log").exists(), server)
    theirs = server.everything(PLACES)
    groups = {name: server.committed(name) for name in ("aborted", "copier", "open")}
    assert groups == {"aborted": {ORDERS: 11}, "copier": {ORDERS: 33}, "open": {ORDERS: 10}}
    ids = {name: producer for name, (producer, _) in server.transactional_ids().items()}
    assert ids.keys() == {"aborted", "copier", "open", "open-too"}
    server.stop(end)

    ours = seen(server.data)
    assert ours.faults == []
    assert {place: ours.records[place] for place in PLACES} == theirs
    assert ours.records["orders", 0, "read_committed"][0].offset >= 17
    assert ours.committed == groups
    with Log.open(server.data, read_only=True) as log:
        for tp in (ORDERS, TABLE, OPEN):
            partition = log.partition(tp)
            assert len(partition.open_transactions()) == 1
            assert partition.stable_offset < partition.end_offset
        found = log.partition(ORDERS).aborted(0, log.partition(ORDERS).end_offset)
        assert len(found) == 3
    go_on(server.data, ids)
    after = seen(server.data)
    assert after.faults == []

    server = broker(server.data)
    server.start()
    assert server.everything(PLACES) == {place: after.records[place] for place in PLACES}
    assert {name: server.committed(name) for name in groups} == groups
    server.transact("new", "commit", "abort")
    server.copy("copier", 10)
    server.transact("newer", "commit")
    told = server.transactional_ids()
    assert {name: told[name][0] for name in ids} == ids
    assert len({producer for producer, _ in told.values()}) == len(told)
    theirs = server.everything(PLACES)
    server.stop()
    ours = seen(server.data)
    assert ours.faults == []
    assert {place: ours.records[place] for place in PLACES} == theirs
