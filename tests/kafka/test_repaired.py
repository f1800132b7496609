"""Kafka reads what `fsck --repair` has made of a damaged log."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka_dump import Dump

from streamkit.codec import encode, headers
from streamkit.fsck.check import check
from streamkit.fsck.repair import repair
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)
RECORDS = 40
NOW = 1_700_000_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Batches of two records, in segments of about ten."""
    with Log.open(tmp_path / "log", maintenance=False) as log:
        config = {"segment.bytes": "1024", "index.interval.bytes": "300"}
        log.create_topic("events", 1, config)
        for number in range(0, RECORDS, 2):
            values = [b"value %d " % at * 5 for at in (number, number + 1)]
            log.partition(TP).append([encode(values, timestamps=NOW + number)])
    return tmp_path / "log" / "events-0"


def damaged_batch(path: Path) -> range:
    """Overwrite some bytes in the middle of a segment; the offsets that are lost by it."""
    batches = list(headers(path.read_bytes()))
    at, batch = batches[len(batches) // 2]
    with path.open("r+b") as file:
        file.seek(at + 70)
        file.write(b"\xff\xff\xff")
    return range(batch.base_offset, batch.next_offset)


def lost_segment(path: Path) -> range:
    batches = [header for _, header in headers(path.read_bytes())]
    path.unlink()
    return range(batches[0].base_offset, batches[-1].next_offset)


def cut_segment(path: Path) -> range:
    """Cut the last segment in the middle of a batch, below what was on stable storage."""
    batches = list(headers(path.read_bytes()))
    at, batch = batches[len(batches) // 2]
    os.truncate(path, at + 20)
    return range(batch.base_offset, RECORDS)


def shortened_segment(path: Path) -> range:
    """Cut it behind a batch, and remove none of its bytes else."""
    batches = list(headers(path.read_bytes()))
    at, batch = batches[len(batches) // 2]
    os.truncate(path, at)
    return range(batch.base_offset, RECORDS)


@pytest.mark.parametrize(
    ("damage", "number"),
    [
        (damaged_batch, 1),
        (damaged_batch, -1),
        (lost_segment, 1),
        (lost_segment, -1),
        (cut_segment, -1),
        (shortened_segment, -1),
    ],
)
def test_the_dump_tool_accepts_repaired_segments_with_all_that_is_left(
    kafka, folder: Path, damage: Callable[[Path], range], number: int
) -> None:
    segments = sorted(folder.glob("*.log"))
    lost = damage(segments[number])
    for path in folder.glob("*index"):
        path.write_bytes(b"rubbish")
    repair(folder.parent, now=NOW)
    assert check(folder.parent, now=NOW).clean
    with Log.open(folder.parent, maintenance=False) as log:
        assert log.partition(TP).append([encode([b"more"], timestamps=NOW)]) == RECORDS
    paths = ",".join(str(path) for path in sorted(folder.glob("0*")) if ".damaged" not in path.name)
    tool = "org.apache.kafka.tools.DumpLogSegments"
    text = kafka.run(tool, "--deep-iteration", "--print-data-log", "--files", paths)
    found = Dump(text, compacted=True)  # lost offsets are held by empty batches
    assert found.complaints == []
    assert [int(record["offset"]) for record in found.records] == [
        offset for offset in range(RECORDS + 1) if offset not in lost
    ]
    sane = kafka.run(
        tool,
        "--index-sanity-check",
        "--files",
        ",".join(str(path) for path in sorted(folder.glob("0*index"))),
    )
    assert Dump(sane).complaints == []


@pytest.mark.parametrize("damage", [cut_segment, shortened_segment, lost_segment])
def test_a_broker_goes_on_behind_what_was_lost_from_the_end(
    broker, read, written, tmp_path: Path, damage: Callable[[Path], range]
) -> None:
    root = tmp_path / "log"
    with Log.open(root, maintenance=False) as log:
        log.create_topic("events", 1, {"segment.bytes": str(1 << 20)})
        for number in range(0, RECORDS, 2):
            values = [b"%d " % at * 40_000 for at in (number, number + 1)]
            log.partition(TP).append([encode(values, timestamps=NOW + number)], acks=1)
        log.partition(TP).sync()
        before = read(log.partition(TP))
    segments = sorted((root / str(TP)).glob("*.log"))
    assert len(segments) > 2
    lost = damage(segments[-1])
    assert len(lost) > 0
    repair(root, now=NOW)
    kafka = broker(root)
    kafka.start()
    kafka.send("events", written[8][:1], "none")
    left = [row for row in before if row.offset not in lost]
    found = kafka.read("events")
    assert found[:-1] == left
    assert found[-1].offset == RECORDS
    kafka.stop()
    with Log.open(root, maintenance=False) as log:
        assert log.partition(TP).append([encode([b"ours"], timestamps=NOW)]) == RECORDS + 1
        assert read(log.partition(TP))[:-1] == found
    assert [one for one in check(root, now=NOW).findings if one.severity != "note"] == []
