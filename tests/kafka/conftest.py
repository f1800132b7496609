"""Apache Kafka itself, from the jars that `make test-kafka` fetches, and records to try it with."""

import asyncio
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import aiokafka
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streamkit.backends.base import Backend
from streamkit.backends.locate import open_backend
from streamkit.backends.values import Isolation
from streamkit.clients.admin import Admin
from streamkit.clients.consumer import Consumer
from streamkit.clients.producer import Producer
from streamkit.codec import columns, encode, headers
from streamkit.codec.compression import CODECS
from streamkit.fsck.check import check
from streamkit.log.checkpoints import encode_id
from streamkit.log.partition import Partition
from streamkit.records import Headers, TopicPartition

T = TypeVar("T")

JARS = Path(__file__).parents[2] / "build" / "kafka"
NOW = 1_700_000_000_000


class Row(NamedTuple):
    """One record, and where it stands."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


Place: TypeAlias = tuple[str, int, str]
"""A topic, a partition, and with what isolation it is read."""


@dataclass(frozen=True)
class Seen:
    """What we make of a directory, opened read-only."""

    records: dict[Place, list[Row]]
    committed: dict[str, dict[TopicPartition, int]]
    faults: list[str]
    """What fsck finds wrong."""


@dataclass(frozen=True)
class Kafka:
    """Kafka's jars."""

    def command(self, main: str, *arguments: object, logs: str = "warn") -> list[str]:
        options = ["-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        options += [f"-Dorg.slf4j.simpleLogger.defaultLogLevel={logs}"]
        return ["java", *options, "-cp", f"{JARS}/*", main, *map(str, arguments)]

    def run(self, main: str, *arguments: object) -> str:
        """What one of its tools prints, errors last."""
        command = self.command(main, *arguments)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


class Broker:
    """A broker and its controller in one process, on loopback, over the log directory `data`."""

    def __init__(self, kafka: Kafka, data: Path, output: Path, settings: str = "") -> None:
        """`settings`: more lines for its properties."""
        self.data = data
        self._output = output
        output.touch()
        with socket.socket() as one, socket.socket() as other:
            for probe in (one, other):
                probe.bind(("127.0.0.1", 0))
            port, controller = (probe.getsockname()[1] for probe in (one, other))
        self.url = f"127.0.0.1:{port}"
        self._properties = output.with_suffix(".properties")
        self._properties.write_text(
            f"""
            process.roles=broker,controller
            node.id=1
            controller.quorum.voters=1@127.0.0.1:{controller}
            controller.listener.names=CONTROLLER
            listeners=PLAINTEXT://{self.url},CONTROLLER://127.0.0.1:{controller}
            log.dirs={data}
            log.retention.ms=-1
            offsets.topic.num.partitions=1
            offsets.topic.replication.factor=1
            transaction.state.log.num.partitions=3
            transaction.state.log.replication.factor=1
            transaction.state.log.min.isr=1
            {settings}
            """
        )
        self._kafka = kafka
        self._process: subprocess.Popen[bytes] | None = None

    def format(self, release: str = "") -> None:
        """Make the directory one of Kafka's own, with the features of a release; "": the newest."""
        cluster = encode_id(b"a cluster of one")
        options = ["--release-version", release] if release else []
        self._kafka.run(
            "kafka.tools.StorageTool", "format", *options, "-t", cluster, "-c", self._properties
        )

    def start(self) -> None:
        """Return when it serves clients."""
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                self._kafka.command("kafka.Kafka", self._properties, logs="info"),
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + 60
        while "Kafka Server started" not in self.output:
            assert self._process.poll() is None, f"the broker ended:\n{self.tail}"
            assert time.monotonic() < deadline, f"the broker does not come up:\n{self.tail}"
            time.sleep(0.1)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it; SIGTERM lets it close its files."""
        if self._process is not None:
            self._process.send_signal(how)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                raise AssertionError(f"the broker does not stop:\n{self.tail}") from None
            self._process = None

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    @property
    def complaints(self) -> str:
        return "\n".join(re.findall(r".*(?: WARN | ERROR |Exception).*", self.output))

    @property
    def tail(self) -> str:
        return "\n".join(self.output.splitlines()[-60:])

    # What a client says and hears.

    def create(self, topic: str, partitions: int, config: dict[str, str]) -> None:
        self.ask(
            lambda admin: admin.create_topics(
                [NewTopic(topic, partitions, 1, topic_configs=config)]
            )
        )

    def ask(self, work: Callable[[AIOKafkaAdminClient], Coroutine[Any, Any, T]]) -> T:
        """What `work(admin)` comes to."""

        async def asked() -> T:
            admin = AIOKafkaAdminClient(bootstrap_servers=self.url)
            await admin.start()
            try:
                return await work(admin)
            finally:
                await admin.close()

        return _within_a_minute(asked())

    def send(self, topic: str, rows: list[Row], compression: str) -> None:
        """Send the rows, but for their offsets, as one batch."""

        async def sent() -> None:
            producer = aiokafka.AIOKafkaProducer(
                bootstrap_servers=self.url,
                compression_type=None if compression == "none" else compression,
                linger_ms=5,
            )
            async with producer:
                batch = producer.create_batch()
                for row in rows:
                    kept = list(row.headers)
                    assert batch.append(
                        key=row.key, value=row.value, timestamp=row.timestamp, headers=kept
                    )
                await (await producer.send_batch(batch, topic, partition=0))

        _within_a_minute(sent())

    def read(
        self, topic: str, partition: int = 0, isolation: str = "read_uncommitted"
    ) -> list[Row]:
        """All rows there are."""

        async def read() -> list[Row]:
            tp = aiokafka.TopicPartition(topic, partition)
            client = aiokafka.AIOKafkaConsumer(
                bootstrap_servers=self.url, isolation_level=isolation
            )
            async with client as consumer:
                consumer.assign([tp])
                await consumer.seek_to_beginning(tp)
                end = (await consumer.end_offsets([tp]))[tp]
                rows: list[Row] = []
                while await consumer.position(tp) < end:
                    for record in (await consumer.getmany(timeout_ms=1000)).get(tp, []):
                        kept = tuple(record.headers)
                        rows.append(
                            Row(record.offset, record.timestamp, record.key, record.value, kept)
                        )
                return rows

        return _within_a_minute(read())

    def everything(self, places: Iterable[Place]) -> "dict[Place, list[Row]]":
        return {place: self.read(*place) for place in places}

    def committed(self, group: str) -> dict[TopicPartition, int]:
        """The offsets that a group has committed."""
        found = self.ask(lambda admin: admin.list_consumer_group_offsets(group))
        return {TopicPartition(*tp): at.offset for tp, at in found.items()}

    def transactional_ids(self) -> dict[str, tuple[int, str]]:
        """Producer id and state of each, as Kafka's tool says."""
        tool = "org.apache.kafka.tools.TransactionsCommand"
        said = self._kafka.run(tool, "--bootstrap-server", self.url, "list")
        rows = re.findall(r"^(\S+)\s+1\s+(\d+)\s+(\w+)\s*$", said, re.MULTILINE)
        return {name: (int(producer), state) for name, producer, state in rows}

    def transact(self, name: str, *outcomes: str) -> None:
        """One transaction after the other: "commit", "abort", or "open", which is left so.

        Each sends a record to partition 0 of "orders" and one to that of "table", and commits
        for the group of the same name that it is at offset 10 + the transaction's number.
        """

        async def transacted() -> None:
            producer = aiokafka.AIOKafkaProducer(bootstrap_servers=self.url, transactional_id=name)
            await producer.start()
            for number, outcome in enumerate(outcomes):
                await producer.begin_transaction()
                value = b"%s %d: %s" % (name.encode(), number, outcome.encode())
                for topic in ("orders", "table"):
                    await producer.send_and_wait(topic, value, key=name.encode(), partition=0)
                place = aiokafka.TopicPartition("orders", 0)
                await producer.send_offsets_to_transaction({place: 10 + number}, name)
                if outcome == "commit":
                    await producer.commit_transaction()
                elif outcome == "abort":
                    await producer.abort_transaction()
            if "open" in outcomes:
                await producer._sender.close()  # as if it died: closing it would abort
                await producer.client.close()
                producer._closed = True
            else:
                await producer.stop()

        _within_a_minute(transacted())

    def copy(self, name: str, count: int) -> None:
        """Have Kafka's Java client copy records of orders-0 in transactions of ten.

        They go to "invoices", some in transactions that are aborted and done again; offsets are
        committed with them for the group of the same name.
        """
        tool = "org.apache.kafka.tools.TransactionalMessageCopier"
        options = "--input-topic orders --input-partition 0 --output-topic invoices"
        options += f" --transactional-id {name} --consumer-group {name} --max-messages {count}"
        options += f" --transaction-size 10 --enable-random-aborts --broker-list {self.url}"
        self._kafka.run(tool, *options.split())

    def leave_open(self, name: str, topic: str) -> None:
        """Kill Kafka's Java client in the middle of a transaction over a topic of one partition."""
        tool = "org.apache.kafka.tools.ProducerPerformance"
        options = f"--topic {topic} --num-records 100000 --record-size 100 --throughput 500"
        options += f" --transaction-duration-ms 60000 --transactional-id {name}"
        before = len(self.read(topic))
        process = subprocess.Popen(
            self._kafka.command(tool, *options.split(), "--bootstrap-server", self.url),
            stdout=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 60
            while len(self.read(topic)) == before:
                assert time.monotonic() < deadline, "it sends nothing"
                assert process.poll() is None, "it has ended"
                time.sleep(0.1)
        finally:
            process.kill()
            process.wait()


def _within_a_minute(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(work, 60))


@pytest.fixture(scope="session")
def kafka() -> Kafka:
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if not any(JARS.glob("kafka_*.jar")):
        pytest.skip("Kafka's jars are not there: run make test-kafka")
    return Kafka()


@pytest.fixture
def broker(kafka: Kafka, tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    """`broker(directory, settings)`: not started yet; it is killed at the end, if need be."""
    brokers: list[Broker] = []

    def made(data: Path, settings: str = "") -> Broker:
        output = tmp_path / f"broker{len(brokers)}.log"
        brokers.append(Broker(kafka, data, output, settings))
        return brokers[-1]

    yield made
    for one in brokers:
        one.stop(signal.SIGKILL)
        print(one.complaints)  # shown when the test failed


@pytest.fixture(scope="session")
def written() -> list[list[Row]]:
    """Batches of 1 to 9 rows, for every compression in turn; with nulls, headers, late records."""
    batches: list[list[Row]] = []
    for number in range(60):
        first = batches[-1][-1].offset + 1 if batches else 0
        batches.append([_row(offset) for offset in range(first, first + number % 9 + 1)])
    return batches


def _row(offset: int) -> Row:
    return Row(
        offset,
        NOW + offset * 1000 - offset % 3 * 5000,
        b"key %d" % (offset % 13) if offset % 5 else None,
        (b"value %d " % offset) * (offset % 40) if offset % 7 else None,
        (("source", b"test"), ("unit", None), ("empty", b"")) if offset % 3 else (),
    )


@pytest.fixture(scope="session")
def append(written: list[list[Row]]):
    """`append(partition)`: what is written, in every compression."""

    def fill(partition: Partition) -> None:
        for number, rows in enumerate(written):
            _, times, keys, values, kept = zip(*rows, strict=True)
            batch = encode(
                values,
                keys=keys,
                timestamps=times,
                headers=kept,
                compression=CODECS[number % len(CODECS)],
            )
            partition.append([batch], acks=1)

    return fill


@pytest.fixture(scope="session")
def read():
    """`read(partition)`: all rows, decoded with checksums."""

    def rows(partition: Partition) -> list[Row]:
        found: list[Row] = []
        offset = partition.start_offset
        while data := partition.read(offset):
            some = columns(data, offset)
            kept = some.headers or [()] * len(some)
            found += map(Row, some.offsets, some.timestamps, some.keys, some.values, kept)
            for _, header in headers(data):
                offset = header.next_offset
        return found

    return rows


@pytest.fixture(scope="session")
def seen():
    """`seen(root)`: all of it."""

    def made(root: Path) -> Seen:
        records: dict[Place, list[Row]] = {}
        with open_backend(root, read_only=True) as log:
            for name, topic in log.topics().items():
                for number in range(topic.partitions):
                    for isolation in ("read_committed", "read_uncommitted"):
                        records[name, number, isolation] = _rows(log, name, number, isolation)
            committed = {
                group: {tp: at.offset for tp, at in log.committed(group).items()}
                for group in log.groups()
            }
        found = check(root, now=int(time.time() * 1000)).findings
        return Seen(records, committed, [str(one) for one in found if one.severity != "note"])

    return made


def _rows(log: Backend, topic: str, partition: int, isolation: Isolation) -> list[Row]:
    places = [TopicPartition(topic, partition)]
    with Consumer(log, partitions=places, isolation=isolation) as consumer:
        return [
            Row(one.offset, one.timestamp, one.key, one.value, tuple(one.headers))
            for one in consumer.until_end()
        ]


@pytest.fixture(scope="session")
def go_on():
    """`go_on(root, ids)`: use every transactional id, of which the producer ids are known."""

    def gone_on(root: Path, ids: dict[str, int]) -> None:
        """Every transactional id, and a new one, is ours again, and nothing is open any more."""
        given = {}
        for name in (*ids, "new"):
            with Producer(root, transactional_id=name) as producer:
                given[name], epoch = producer._transactions.producer
                assert epoch > 0 or name == "new"
                with producer.transaction() as transaction:
                    transaction.send("orders", f"ours again: {name}", partition=0)
        assert given.items() >= ids.items()
        assert len(set(given.values())) == len(given)
        with Producer(root, idempotent=True) as producer:
            producer.send("orders", b"ours, plain", partition=0)
        with Admin(root) as admin:
            for topic in admin.topics():
                for tp, offsets in admin.offsets(topic).items():
                    assert offsets.end == offsets.log_end, tp
        place = TopicPartition("orders", 0)
        with Consumer(root, partitions=[place]) as consumer:
            values = [one.value for one in consumer.until_end()]
        assert values[-len(given) - 1 :] == [
            *(f"ours again: {name}".encode() for name in given),
            b"ours, plain",
        ]

    return gone_on
