"""Kafka's tool reads what we compacted, and a real broker's own cleaner leaves what ours does."""

import re
import shutil
import time
from pathlib import Path

import pytest

from streamkit.codec import columns, encode, headers
from streamkit.log.checkpoints import decode_offsets
from streamkit.log.cleaned import read_cleaned
from streamkit.log.directory import Log
from streamkit.log.files import RealFiles
from streamkit.log.partition import Partition
from streamkit.records import TopicPartition

TP = TopicPartition("table", 0)
CONFIG = {
    "cleanup.policy": "compact",
    "segment.bytes": str(1 << 20),
    "min.cleanable.dirty.ratio": "0",
    "delete.retention.ms": "3600000",
}
COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")


def fill(partition: Partition) -> None:
    """Keys that come again, tombstones, and transactions of two producers, in several segments."""
    sequences = {1: 0, 2: 0}
    at = 1_700_000_000_000
    for number in range(480):
        keys = [b"key %d" % ((number * 13 + n * 7) % 400) for n in range(20)]
        values = [None if (number + n) % 9 == 0 else b"%d " % number * 150 for n in range(20)]
        kind = number % 6
        options = {}
        if kind in (1, 2):
            options = {
                "producer_id": kind,
                "producer_epoch": 0,
                "base_sequence": sequences[kind],
                "transactional": True,
            }
            sequences[kind] += 20
        batch = encode(
            values,
            keys=keys,
            timestamps=[at + number * 1000 + n for n in range(20)],
            compression="none" if number % 4 else COMPRESSIONS[number // 4 % 5],
            **options,
        )
        partition.append([batch], acks=1)
        if kind in (1, 2):
            partition.append_marker(kind, 0, number % 4 == 1, 0, False)
    partition.trimmer.roll(partition.published())
    partition.append([encode([b"active"], keys=[b"active"], timestamps=at)], acks=1)


@pytest.fixture
def ours(tmp_path) -> Path:
    """A log of ours with much to compact."""
    root = tmp_path / "log"
    with Log.open(root, fsync="never", maintenance=False) as log:
        log.create_topic("table", 1, CONFIG)
        fill(log.partition(TP))
    assert len(list((root / str(TP)).glob("*.log"))) > 3
    return root


def compact(root: Path) -> None:
    with Log.open(root, fsync="never", maintenance=False) as log:
        while (step := log.partition(TP).trimmer.compact(force=True)) is not None and not step.done:
            pass
        assert read_cleaned(RealFiles(), str(root))[TP] == log.partition(TP).end_offset - 1


def batches(root: Path) -> list[tuple]:
    """What there is of every batch but its times, checksums looked at."""
    found = []
    for path in sorted((root / str(TP)).glob("*.log")):
        data = path.read_bytes()
        for at, header in headers(data):
            raw = data[at : at + header.size]
            rows = columns(raw)
            found.append(
                (
                    (header.base_offset, header.last_offset, header.count, header.attributes),
                    (header.producer_id, header.producer_epoch, header.base_sequence),
                    header.max_timestamp,
                    list(zip(rows.offsets, rows.keys, rows.values, rows.timestamps, strict=True)),
                )
            )
    return found


def test_the_tool_reads_what_was_compacted(ours, kafka):
    compact(ours)
    paths = ",".join(map(str, sorted((ours / str(TP)).glob("0*"))))
    said = kafka.run(
        "org.apache.kafka.tools.DumpLogSegments",
        *("--deep-iteration", "--print-data-log", "--files", paths),
    )
    offsets = [int(found) for found in re.findall(r"^\| offset: (\d+)", said, re.MULTILINE)]
    assert offsets == sorted(set(offsets))
    rows = [row for _, _, _, rows in batches(ours) for row in rows]
    assert {row[0] for row in rows} <= set(offsets)
    assert said.count("isvalid: true") == len(batches(ours))
    assert "isvalid: false" not in said
    # Offsets are missing, as they are to be. Nothing else is complained of.
    for wrong in ("mismatch", "Mismatch", "out of order", "Out of order", "no larger", "Exception"):
        assert wrong.lower() not in said.lower(), wrong
    assert "deleteHorizonMs: " in said


def test_a_brokers_cleaner_leaves_what_ours_does(ours, broker, tmp_path):
    theirs = tmp_path / "theirs"
    shutil.copytree(ours, theirs)
    compact(ours)
    settings = "log.cleaner.backoff.ms=100\nlog.cleaner.enable=true\n"
    kafka = broker(theirs, settings)
    kafka.start()
    checkpoint = theirs / "cleaner-offset-checkpoint"
    deadline = time.monotonic() + 60
    cleaned = -1
    while cleaned < 0:
        assert time.monotonic() < deadline, kafka.tail()
        time.sleep(0.1)
        if checkpoint.exists() and (text := checkpoint.read_bytes()):
            cleaned = decode_offsets(text).get(TP, -1)
    expected = kafka.read(TP.topic)
    kafka.stop()
    assert cleaned == read_cleaned(RealFiles(), str(ours))[TP]
    # We keep the header of the last batch of every segment, which a broker does not.
    here, there = batches(ours), batches(theirs)
    kept = {each[0][0] for each in there}
    extra = [each for each in here if each[0][0] not in kept]
    assert all(count == 0 for (_, _, count, _), *_ in extra)
    assert len(extra) <= len(list((ours / str(TP)).glob("*.log")))
    assert [each for each in here if each not in extra] == there
    kafka = broker(ours)
    kafka.start()
    assert kafka.read(TP.topic) == expected
    assert len(expected) > 300
    kafka.stop()
