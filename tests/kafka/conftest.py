"""Apache Kafka itself, from the jars that `make test-kafka` fetches, and records to try it with."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from streamkit.codec import columns, encode, headers
from streamkit.codec.compression import CODECS
from streamkit.log.partition import Partition
from streamkit.records import Headers

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

    def command(self, main: str, *arguments: object) -> list[str]:
        options = ["-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        options += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
        return ["java", *options, "-cp", f"{JARS}/*", main, *map(str, arguments)]

    def run(self, main: str, *arguments: object) -> str:
        """What one of its tools prints, errors last."""
        command = self.command(main, *arguments)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="session")
def kafka() -> Kafka:
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if not any(JARS.glob("kafka_*.jar")):
        pytest.skip("Kafka's jars are not there: run make test-kafka")
    return Kafka()


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
