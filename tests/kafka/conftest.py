"""Apache Kafka itself, from the jars that `make test-kafka` fetches, and records to try it with."""

import asyncio
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import aiokafka
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streamkit.codec import columns, encode, headers
from streamkit.codec.compression import CODECS
from streamkit.log.checkpoints import encode_id
from streamkit.log.partition import Partition
from streamkit.records import Headers

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
            {settings}
            """
        )
        self._kafka = kafka
        self._process: subprocess.Popen[bytes] | None = None

    def format(self) -> None:
        """Make the directory one of Kafka's own."""
        cluster = encode_id(b"a cluster of one")
        self._kafka.run("kafka.tools.StorageTool", "format", "-t", cluster, "-c", self._properties)

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

    def read(self, topic: str, partition: int = 0) -> list[Row]:
        """All rows there are."""

        async def read() -> list[Row]:
            tp = aiokafka.TopicPartition(topic, partition)
            async with aiokafka.AIOKafkaConsumer(bootstrap_servers=self.url) as consumer:
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
