"""What a newer version has written: refused where it would be misread, else left as it is."""

import re
import struct
from pathlib import Path

import pytest

from streamkit.codec import encode
from streamkit.errors import UnsupportedFormat
from streamkit.fsck.check import check
from streamkit.fsck.repair import repair
from streamkit.log.directory import Log
from streamkit.log.root import METADATA
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with Log.open(tmp_path / "log", fsync="never", maintenance=False) as log:
        log.create_topic("events")
        for _ in range(3):
            log.partition(TP).append([encode([b"x"], timestamps=0)])
    return tmp_path / "log"


def contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("newer", ["streamkit.format=2", "version=2"])
def test_a_newer_format_is_refused_by_all_and_nothing_of_it_is_touched(root, newer):
    path = root / "meta.properties"
    key = newer.partition("=")[0]
    text = re.sub(rf"(?m)^{re.escape(key)}=.*$", newer, path.read_text())
    path.write_text(text)
    before = contents(root)
    for refused in (
        lambda: Log.open(root),
        lambda: Log.open(root, read_only=True),
        lambda: check(root, now=0),
        lambda: repair(root, now=0),
    ):
        with pytest.raises(UnsupportedFormat, match=f"{re.escape(newer)}.*install"):
            refused()
    assert contents(root) == before


def test_a_control_block_of_another_version_is_a_lost_one(root, everything):
    path = root / "events-0" / "control"
    page = path.read_bytes().replace(b"SKE1", b"SKE9").replace(b"SKS1", b"SKS9")
    path.write_bytes(page)
    with Log.open(root, read_only=True) as log:
        assert len(everything(log.partition(TP))) == 3
    assert path.read_bytes() == page, "who reads changes nothing"
    with Log.open(root, fsync="never", maintenance=False) as log:
        assert log.partition(TP).append([encode([b"x"], timestamps=0)]) == 3
        assert len(everything(log.partition(TP))) == 4


def test_metadata_records_of_newer_kinds_and_versions_hide_no_topic(root):
    """Kafka adds fields at the end of a record, and records of other kinds."""
    with Log.open(root, fsync="never", maintenance=False) as log:
        topic_id = bytes.fromhex(log.topic("events").topic_id)
        unknown = bytes([1, 99, 7]) + b"whatever"
        # PartitionRecord of version 2, which names directories as well.
        partition = bytes([1, 3, 2]) + struct.pack(">i", 1) + topic_id + b"and more fields"
        other_frame = bytes([2, 2, 0]) + b"framed otherwise"
        batch = encode([unknown, partition, other_frame], timestamps=0)
        log.partition(METADATA).append([batch])
        assert log.topics().keys() == {"events"}
        assert log.topic("events").partitions == 2
        log.create_topic("another")
    with Log.open(root, read_only=True) as log:
        assert log.topics().keys() == {"events", "another"}
