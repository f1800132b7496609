"""A directory with all that the public API puts there: Kafka's tool, a broker and its clients."""

import asyncio
import gc
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import aiokafka
import pytest
from aiokafka.errors import ProducerFenced as KafkasProducerFenced
from kafka_dump import Dump

from streamkit.backends.coordinator import TransactionCoordinator
from streamkit.clients.admin import Admin
from streamkit.clients.consumer import Consumer
from streamkit.clients.producer import Producer
from streamkit.clock import SystemClock
from streamkit.codec import encode
from streamkit.errors import InvalidProducerEpoch, ProducerFenced
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

ORDERS = TopicPartition("orders", 0)
INVOICES = TopicPartition("invoices", 0)
CODECS = ("uncompressed", "gzip", "snappy", "lz4", "zstd")
SMALL = {"segment.bytes": str(1 << 20)}
TABLE = {**SMALL, "cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01"}
# Else the broker's own retention and cleaner would change what is compared.
QUIET = "log.retention.check.interval.ms=3600000\nlog.cleaner.enable=false\n"

LEFT_OPEN = """
import os, signal, sys
from streamkit import Producer, TopicPartition

producer = Producer(sys.argv[1], transactional_id="killed", transaction_timeout=900)
with producer.transaction() as transaction:
    for number in range(10):
        transaction.send("orders", f"never {number}", partition=1)
        transaction.send("open", f"never {number}")
    transaction.commit_offsets("billing", {TopicPartition("orders", 0): 1})
    producer.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


class Regret(Exception):
    """Raised in a transaction to have it aborted."""


@pytest.fixture(scope="module")
def lived_in(tmp_path_factory) -> Path:
    """Every kind of topic and record, everything that is done to them, and a producer killed."""
    root = tmp_path_factory.mktemp("lived-in") / "log"
    now = int(time.time() * 1000)  # a broker forgets producers by their records' times
    with Admin(root) as admin:
        admin.create_topic("orders", 2, SMALL)
        admin.create_topic("invoices", 1)
        admin.create_topic("table", 1, TABLE)
        admin.create_topic("shrunk", 1, {**SMALL, "retention.bytes": str(1 << 20)})
        admin.create_topic("cut", 1)
        admin.create_topic("open", 1)
        for codec in CODECS:
            admin.create_topic(codec, 1, {"compression.type": codec})
    with Producer(root) as producer:
        for number in range(200):
            headers = (("n", b"%d" % number), ("null", None)) if number % 3 else ()
            key = b"key %d" % (number % 17) if number % 5 else None
            value = b"order %d" % number if number % 7 else None
            producer.send("orders", value, key=key, timestamp=now + number, headers=headers)
            producer.send("cut", b"cut %d" % number, timestamp=now + number)
            if number % 40 == 0:
                producer.flush()
        for codec in CODECS:
            values = [b"value %d " % number * 5 for number in range(200)]
            producer.send_many(codec, values, keys=values, timestamps=range(now, now + 200))
        producer.send_many("table", [None] * 9, keys=[b"gone %d" % one for one in range(9)])
        for number in range(30):
            values = [b"%d %d " % (number, one) * 80 for one in range(100)]
            producer.send_many("shrunk", [value * 2 for value in values], timestamps=now)
            keys = [b"key %d" % ((one * 7 + number) % 150) for one in range(100)]
            tombs = [None if (one + number) % 9 == 0 else values[one] for one in range(100)]
            producer.send_many("table", tombs, keys=keys, timestamps=now)
    with Producer(root, idempotent=True) as producer:
        for number in range(8):
            producer.send("orders", b"idempotent %d" % number, partition=0, timestamp=now)
            producer.flush()
    with Admin(root) as admin:
        admin.add_partitions("invoices", 3)
        admin.alter_topic("orders", {"max.message.bytes": "500000"})
        admin.delete_records({TopicPartition("cut", 0): 123})
    with (
        Consumer(root, "orders", group="billing", auto_commit=False) as orders,
        Producer(root, transactional_id="billing-1") as producer,
    ):
        for attempt in range(6):
            records = orders.poll(max_records=25)
            try:
                with producer.transaction() as transaction:
                    for record in records:
                        invoice = b"invoice for " + (record.value or b"nothing")
                        transaction.send("invoices", invoice, key=record.key, timestamp=now)
                        key = b"invoice %d" % (record.offset % 7)
                        transaction.send("table", invoice * 30, key=key, timestamp=now)
                    transaction.commit_offsets(orders)
                    if attempt % 3 == 1:
                        producer.flush()
                        raise Regret
            except Regret:
                orders.rewind()
    with Consumer(root, "orders", group="plain", auto_commit=False) as orders:
        orders.poll(max_records=33)
        orders.commit()
    with Producer(root) as producer:
        for number in range(15):
            values = [b"%d %d " % (number, one) * 100 for one in range(100)]
            keys = [b"key %d" % ((one * 3 + number) % 150) for one in range(100)]
            producer.send_many("table", values, keys=keys, timestamps=now)
    with Admin(root) as admin:
        assert admin.maintain().problems == ()
        assert admin.offsets("shrunk")[TopicPartition("shrunk", 0)].start > 0
        assert "table 0 " in (root / "cleaner-offset-checkpoint").read_text()
    killed = subprocess.run([sys.executable, "-c", LEFT_OPEN, str(root)], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    return root


@pytest.fixture
def ours(lived_in, tmp_path) -> Path:
    """A copy of it, which nobody has opened since."""
    return Path(shutil.copytree(lived_in, tmp_path / "log"))


def test_the_tool_reads_every_file(lived_in, kafka):
    def dump(names: str, *options: str, compacted: bool = False) -> Dump:
        files = sorted(path for one in names.split() for path in lived_in.glob(f"{one}/0*"))
        said = kafka.run(
            "org.apache.kafka.tools.DumpLogSegments",
            *("--deep-iteration", "--print-data-log", *options),
            *("--files", ",".join(map(str, files))),
        )
        found = Dump(said, compacted=compacted)
        assert found.complaints == []
        assert said.count("Dumping ") == len(files)
        return found

    data = dump("orders-? invoices-? cut-0 shrunk-0 open-0 " + " ".join(f"{c}-0" for c in CODECS))
    assert set(data.codecs) == {"none", *CODECS[1:]}
    assert {marker["outcome"] for marker in data.markers} == {"COMMIT", "ABORT"}
    assert data.aborted and data.entries
    assert {batch["id"] for batch in data.batches} > {"-1", "0"}  # no id, idempotent; others
    table = dump("table-0", compacted=True)
    assert table.producers and table.aborted
    assert any(batch["horizon"] != ".empty" for batch in table.batches)  # tombstones
    groups = dump("__consumer_offsets-0", "--offsets-decoder")
    assert '"group":"billing"' in "".join(record["key"] for record in groups.records)
    states = dump("__transaction_state-0", "--transaction-log-decoder")
    assert {record["value"][:12] for record in states.records} == {'{"version":"'}
    topics = dump("__cluster_metadata-0", "--cluster-metadata-decoder")
    said = "".join(record["value"] for record in topics.records)
    assert '"name":"transaction.version","featureLevel":2' in said
    assert '"type":"PRODUCER_IDS_RECORD"' in said


def test_a_broker_goes_on_with_it_and_we_after_its_death(ours, broker, seen, go_on):
    before = seen(ours)
    with Log.open(ours, read_only=True) as log:
        (old,) = (one for one in log.partition(INVOICES).producers() if one.open_from == -1)
    server = broker(ours, QUIET)
    server.start()
    assert server.everything(before.records) == before.records
    assert {group: server.committed(group) for group in before.committed} == before.committed
    ids = server.transactional_ids()
    assert ids == {
        "billing-1": (old.producer_id, "CompleteCommit"),
        "killed": (ids["killed"][0], "Ongoing"),
    }
    server.transact("billing-1", "commit", "abort")
    server.copy("billing-1", 30)
    server.transact("killed", "abort", "commit")  # its first step is to end ours
    server.transact("theirs", "commit", "open")
    server.leave_open("theirs-too", "open")
    theirs = server.everything(before.records)
    committed = {group: server.committed(group) for group in (*before.committed, "theirs")}
    ids = {name: producer for name, (producer, _) in server.transactional_ids().items()}
    server.stop(signal.SIGKILL)

    after = seen(ours)
    assert after.faults == []
    assert after.records == theirs
    assert after.committed.items() >= committed.items()
    assert after.committed["theirs"] == {ORDERS: 10}
    with Log.open(ours) as log:
        late = encode(
            [b"late"],
            timestamps=int(time.time() * 1000),
            producer_id=old.producer_id,
            producer_epoch=old.epoch,
            base_sequence=0,
            transactional=True,
        )
        with pytest.raises(InvalidProducerEpoch):
            log.partition(INVOICES).append([late])
        with pytest.raises(ProducerFenced):
            TransactionCoordinator(log, SystemClock()).add(
                "billing-1", (old.producer_id, old.epoch), [INVOICES], marked=None, synced=True
            )
    go_on(ours, ids)
    assert seen(ours).faults == []


def test_a_broker_aborts_what_a_killed_process_of_ours_left_open(tmp_path, broker):
    root = tmp_path / "log"
    with Admin(root) as admin:
        admin.create_topic("orders", 2)
        admin.create_topic("open", 1)
    code = LEFT_OPEN.replace("900", "1")
    killed = subprocess.run([sys.executable, "-c", code, str(root)], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    server = broker(root, "transaction.abort.timed.out.transaction.cleanup.interval.ms=100")
    server.start()
    deadline = time.monotonic() + 60
    while server.transactional_ids()["killed"][1] != "CompleteAbort":
        assert time.monotonic() < deadline, server.tail
    assert len(server.read("open")) == 10
    assert server.read("open", 0, "read_committed") == []
    assert server.committed("billing") == {}
    server.stop()
    with Admin(root) as admin:
        (offsets,) = admin.offsets("open").values()
        assert (offsets.end, offsets.log_end) == (11, 11)
        assert admin.group("billing").offsets == {}


def test_our_producer_fences_one_of_kafka_that_lives_through_it(tmp_path, broker):
    root = tmp_path / "log"
    with Admin(root) as admin:
        admin.create_topic("orders", 1)
    server = broker(root)
    server.start()

    async def fenced() -> None:
        producer = aiokafka.AIOKafkaProducer(bootstrap_servers=server.url, transactional_id="one")
        await producer.start()
        try:
            async with producer.transaction():
                await producer.send_and_wait("orders", b"theirs", partition=0)
            await asyncio.to_thread(take_over)
            with pytest.raises(KafkasProducerFenced):
                async with producer.transaction():
                    await producer.send_and_wait("orders", b"too late", partition=0)
        finally:
            with suppress(KafkasProducerFenced):
                await producer.stop()

    def take_over() -> None:
        server.stop()
        with Producer(root, transactional_id="one") as ours, ours.transaction() as transaction:
            transaction.send("orders", b"ours")
        server.start()

    asyncio.run(asyncio.wait_for(fenced(), 120))
    # The client has failures that nobody asks for, and asyncio tells of them when they are thrown
    # away, with a traceback. Let that be now: CPython 3.11 parses source for one, and if it is at
    # it already, as pytest is when it imports, both fail.
    gc.collect()
    for isolation in ("read_committed", "read_uncommitted"):
        rows = server.read("orders", 0, isolation)
        assert [row.value for row in rows] == [b"theirs", b"ours"]
