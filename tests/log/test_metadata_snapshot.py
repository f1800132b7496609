"""Logs whose first metadata records a broker has summed up and removed."""

import os

import pytest

from streamkit.codec import encode, headers, stamp
from streamkit.errors import CorruptLog, TopicExists
from streamkit.log.directory import Log
from streamkit.log.metadata import (
    ConfigRecord,
    FeatureLevelRecord,
    PartitionRecord,
    ProducerIdsRecord,
    TopicRecord,
    encode_record,
)
from streamkit.records import TopicPartition


def snapshot(records) -> bytes:
    """As a broker writes it: a header, batches, a footer; offsets from 0 on."""
    edge = encode([b"\x00" * 8], keys=[b"\x00\x00\x00\x03"], timestamps=0, control=True)
    values = [encode_record(record) for record in records]
    middle = [encode(values[at : at + 2], timestamps=0) for at in range(0, len(values), 2)]
    data, offset = b"", 0
    for batch in [edge, *middle, edge]:
        (_, header), *_ = headers(batch)
        data += bytes(stamp(batch, offset, 7)) + batch[16:]
        offset += header.count
    return data


@pytest.fixture
def summed_up(tmp_path):
    """A log with topics a, b and c; what came before c is only in a snapshot. And that's path."""
    root = tmp_path / "log"
    with Log.open(root, fsync="never") as log:
        log.create_topic("a", 2, {"cleanup.policy": "compact"})
        log.alter_topic("a", {"cleanup.policy": None})
        log.create_topic("b", 1, {"segment.ms": "5000"})
        log.create_topic("z")
        log.delete_topic("z")
        log.producer_id()
        cut = log._metadata.end_offset
        log.create_topic("c", 3)
        topics = log.topics()
        rest = log._metadata.read(cut)
    folder = root / "__cluster_metadata-0"
    for name in os.listdir(folder):
        if name != "partition.metadata":
            (folder / name).unlink()
    (folder / f"{cut:020d}.log").write_bytes(rest)
    older = folder / f"{0:020d}-{0:010d}.checkpoint"
    older.write_bytes(snapshot([FeatureLevelRecord("metadata.version", 7)]))
    path = folder / f"{cut:020d}-{3:010d}.checkpoint"
    a, b = topics["a"].topic_id, topics["b"].topic_id
    path.write_bytes(
        snapshot(
            [
                FeatureLevelRecord("metadata.version", 7),
                TopicRecord("a", a),
                PartitionRecord(a, 0),
                PartitionRecord(a, 1),
                TopicRecord("b", b),
                PartitionRecord(b, 0),
                ConfigRecord("b", "segment.ms", "5000"),
                ProducerIdsRecord(1000),
            ]
        )
    )
    (root / "cleaner-offset-checkpoint").write_text("0\n2\na 0 17\nnever-heard-of 1 3\n")
    return root, path, topics


def test_topics_are_those_of_the_snapshot_and_of_what_came_after(summed_up):
    root, _, topics = summed_up
    for read_only in (True, False):
        with Log.open(root, read_only=read_only) as log:
            assert log.topics() == topics
            assert log.topic("a").once_compacted and not log.topic("b").once_compacted
    with Log.open(root) as log:
        assert log.producer_id() == 1000
        with pytest.raises(TopicExists):
            log.create_topic("b")
        log.partition(TopicPartition("b", 0)).append([encode([b"x"], timestamps=0)])
        log.create_topic("d")
        log.delete_topic("a")
    with Log.open(root) as log:
        assert sorted(log.topics()) == ["b", "c", "d"]


def test_a_log_without_the_snapshot_is_not_taken_for_one_without_topics(summed_up):
    root, path, _ = summed_up
    path.rename(path.with_suffix(".elsewhere"))
    with Log.open(root) as log:
        with pytest.raises(CorruptLog, match="sums them up"):
            log.topics()
        with pytest.raises(CorruptLog, match="restore"):
            log.create_topic("a")


@pytest.mark.parametrize("cut", [70, 200, -1, -80])
def test_a_snapshot_that_is_cut_off_is_named(summed_up, cut):
    root, path, _ = summed_up
    path.write_bytes(path.read_bytes()[:cut])
    with Log.open(root) as log, pytest.raises(CorruptLog, match=path.name):
        log.topics()


def test_a_snapshot_with_a_wrong_byte_is_named(summed_up):
    root, path, _ = summed_up
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with Log.open(root) as log, pytest.raises(CorruptLog, match=f"{path.name} is corrupt at byte"):
        log.topics()


def test_a_snapshot_of_what_the_log_does_not_have_yet_is_not_believed(summed_up):
    root, path, _ = summed_up
    path.rename(path.with_name(f"{10**6:020d}-{3:010d}.checkpoint"))
    with Log.open(root) as log, pytest.raises(CorruptLog, match="restore"):
        log.topics()
