"""Records deleted by request: at once, for all, and for good."""

from pathlib import Path

import pytest

from streamkit.codec import encode
from streamkit.errors import (
    InvalidTopic,
    OffsetOutOfRange,
    PolicyViolation,
    ReadOnlyLog,
    StorageFailed,
    UnknownPartition,
    UnknownTopic,
)
from streamkit.log.checkpoints import STARTS
from streamkit.log.directory import Log
from streamkit.log.partition import Partition
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)


def make(log: Log, topic: str = "events", **config: str) -> Partition:
    """Nine records in segments of three."""
    configs = {"segment.bytes": "1024"} | {k.replace("_", "."): v for k, v in config.items()}
    log.create_topic(topic, 1, configs)
    partition = log.partition(TopicPartition(topic, 0))
    for _ in range(9):
        partition.append([encode([b"x" * 250], keys=[b"k"], timestamps=0)], acks=1)
    return partition


@pytest.fixture
def log(tmp_path):
    with Log.open(tmp_path / "log", fsync="never", maintenance=False) as log:
        yield log


def bases(partition: Partition) -> list[int]:
    return sorted(int(p.stem) for p in Path(partition.directory).glob("*.log"))


def test_records_below_an_offset_cannot_be_read_any_more_and_whole_segments_go(log, everything):
    partition = make(log)
    assert log.delete_records(TP, 4) == 4
    assert partition.start_offset == 4
    assert bases(partition) == [3, 6]
    assert [offset for offset, _ in everything(partition)] == [4, 5, 6, 7, 8]
    with pytest.raises(OffsetOutOfRange, match="4 to 8"):
        partition.read(3)


def test_going_back_changes_nothing(log):
    partition = make(log)
    log.delete_records(TP, 4)
    assert log.delete_records(TP, 2) == 4
    assert log.delete_records(TP, 4) == 4
    assert partition.start_offset == 4


def test_all_of_them_go_and_appending_goes_on(log, everything):
    partition = make(log)
    assert log.delete_records(TP, -1) == 9
    assert (partition.start_offset, partition.end_offset) == (9, 9)
    partition.append([encode([b"next"], timestamps=0)])
    assert everything(partition) == [(9, b"next")]


@pytest.mark.parametrize("before", [10, -2])
def test_what_is_not_there_is_not_deleted(log, before):
    make(log)
    with pytest.raises(OffsetOutOfRange, match="up to offset 9, where the partition ends"):
        log.delete_records(TP, before)


def test_an_open_transaction_is_not_deleted(log):
    log.create_topic("events")
    partition = log.partition(TP)
    partition.append([encode([b"plain"], timestamps=0)])
    batch = encode(
        [b"open"],
        timestamps=0,
        producer_id=1,
        producer_epoch=0,
        base_sequence=0,
        transactional=True,
    )
    partition.append([batch])
    with pytest.raises(OffsetOutOfRange, match="1, where an open transaction begins"):
        log.delete_records(TP, 2)
    assert log.delete_records(TP, -1) == 1


def test_the_start_outlives_its_control_block(log):
    partition = make(log)
    log.delete_records(TP, 4)
    assert (Path(log.path) / STARTS).read_text() == "0\n1\nevents 0 4\n"
    partition.close()
    (Path(partition.directory) / "control").unlink()
    assert (partition.start_offset, partition.end_offset) == (4, 9)


def test_no_start_is_noted_above_what_a_power_cut_leaves(tmp_path, monkeypatch):
    synced = []
    with Log.open(tmp_path / "log", maintenance=False) as log:
        partition = make(log)
        note = log._catalog.note_start
        monkeypatch.setattr(
            log._catalog,
            "note_start",
            lambda tp, offset: (synced.append(partition.synced_offset), note(tp, offset)),
        )
        assert log.delete_records(TP, -1) == 9
    assert synced == [9]


def test_who_only_reads_a_log_without_control_blocks_sees_the_start_too(log):
    make(log)
    log.delete_records(TP, 4)
    log.close()
    (Path(log.path) / "events-0" / "control").unlink()
    with Log.open(log.path, read_only=True) as reader:
        assert reader.partition(TP).start_offset == 4
        with pytest.raises(ReadOnlyLog):
            reader.delete_records(TP, 5)


def test_what_a_broker_has_deleted_stays_deleted(log):
    make(log)
    log.close()
    (Path(log.path) / "events-0" / "control").unlink()
    (Path(log.path) / STARTS).write_text("0\n2\nevents 0 5\nother 3 7\n")
    with Log.open(log.path, fsync="never", maintenance=False) as log:
        assert log.partition(TP).start_offset == 5


def test_a_new_topic_of_the_name_begins_at_its_beginning(log):
    make(log)
    log.delete_records(TP, 4)
    log.delete_topic("events")
    partition = make(log)
    partition.close()
    (Path(partition.directory) / "control").unlink()
    assert partition.start_offset == 0


def test_what_does_not_allow_it_is_refused_by_name(log):
    make(log, "compacted", cleanup_policy="compact")
    make(log, "both", cleanup_policy="compact,delete")
    log.create_topic("__consumer_offsets", 1, {"cleanup.policy": "compact"})
    with pytest.raises(PolicyViolation, match=r"cleanup\.policy is compact"):
        log.delete_records(TopicPartition("compacted", 0), 1)
    with pytest.raises(InvalidTopic, match="the log's own"):
        log.delete_records(TopicPartition("__consumer_offsets", 0), 0)
    with pytest.raises(UnknownTopic):
        log.delete_records(TP, 1)
    with pytest.raises(UnknownPartition):
        log.delete_records(TopicPartition("both", 1), 1)
    assert log.delete_records(TopicPartition("both", 0), 1) == 1


def test_what_cannot_be_noted_is_not_deleted(tmp_path, files):
    with Log.open(tmp_path, files=files, maintenance=False) as log:
        partition = make(log)
        files.fail["pwritev"] = OSError(5, "Input/output error")
        with pytest.raises(StorageFailed):
            log.delete_records(TP, 4)
        files.fail.clear()
        assert partition.start_offset == 0
        assert log.delete_records(TP, 4) == 4
