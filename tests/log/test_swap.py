"""Segments removed at the beginning of a partition, under those who read it."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
from faulty_files import CHANGES, Fault, FaultyFiles, Killed

from streamkit.codec import encode
from streamkit.errors import CorruptLog, OffsetOutOfRange
from streamkit.log.directory import Log
from streamkit.log.partition import Partition
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)


def opened(root: Path, **options) -> Log:
    options.setdefault("fsync", "never")
    return Log.open(root, maintenance=False, **options)


@pytest.fixture
def filled(tmp_path):
    """Five segments of two records each; nothing is done by itself."""
    with opened(tmp_path / "log") as log:
        log.create_topic("events", 1)
        partition = log.partition(TP)
        for number in range(10):
            partition.append([encode([b"v%d" % number], timestamps=number)], acks=1)
            if number % 2:
                partition.trimmer.roll(partition.published())
        yield partition


def bases(partition: Partition) -> list[int]:
    return partition._segments.listed()


def test_the_start_moves_at_once_and_whole_segments_go(filled, everything):
    assert filled.trimmer.remove_before(5) == 5
    assert bases(filled) == [4, 6, 8, 10]
    assert everything(filled) == [(n, b"v%d" % n) for n in range(5, 10)]
    with pytest.raises(OffsetOutOfRange):
        filled.read(4)
    assert filled.trimmer.remove_before(3) == 5, "it never moves back"
    assert filled.trimmer.remove_before(10**6) == 10, "nor beyond the end"
    assert bases(filled) == [10]
    assert everything(filled) == []
    filled.append([encode([b"new"], timestamps=0)], acks=1)
    assert everything(filled) == [(10, b"new")]
    assert filled.offset_at(0) == 10


def test_who_reads_in_another_process_is_told_that_its_offset_is_gone(filled, tmp_path, everything):
    with opened(tmp_path / "log") as other:
        reader = other.partition(TP)
        assert len(everything(reader)) == 10
        reader.read(0, 10)
        filled.trimmer.remove_before(7)
        with pytest.raises(OffsetOutOfRange, match="7 to 9"):
            reader.read(1)
        assert everything(reader) == [(n, b"v%d" % n) for n in range(7, 10)]
        assert reader.offset_at(0) == 7


def test_a_removal_killed_at_any_step_leaves_a_log_that_begins_where_it_should(
    tmp_path, everything
):
    at, died = 0, set()
    while True:
        at += 1
        root = tmp_path / f"{at}"
        with opened(root) as log:
            log.create_topic("events", 1)
            partition = log.partition(TP)
            for number in range(6):
                partition.append([encode([b"v%d" % number], timestamps=number)], acks=1)
                partition.trimmer.roll(partition.published())
        files = FaultyFiles(Fault(at, Killed(), CHANGES), synced=False)
        log = opened(root, files=files)
        reader = opened(root)
        with suppress(Killed):
            log.partition(TP).trimmer.remove_before(4)
        files.bury()
        if files.hit is None:
            break
        died.add(files.hit)
        found = reader.partition(TP)
        rest = [(n, b"v%d" % n) for n in range(found.start_offset, 6)]
        assert found.start_offset in (0, 4)
        assert everything(found) == rest
        assert found.trimmer.remove_before(4) == 4
        assert bases(found) == [4, 5, 6], "what was left is removed as well"
        reader.close()
        (root / "events-0" / "control").unlink()
        with opened(root) as again:
            assert everything(again.partition(TP)) == rest[-2:]
    assert "unlink" in died


def test_a_finished_segment_that_is_lost_is_corruption_and_no_removal(filled, everything):
    os.unlink(filled._segments.path(4))
    filled.close()
    with pytest.raises(CorruptLog, match="offsets 4 to 5 are missing"):
        everything(filled)
    assert [value for _, value in everything(filled, 6)] == [b"v6", b"v7", b"v8", b"v9"]


def test_the_active_segment_that_is_lost_is_told_and_not_waited_for(filled):
    filled.append([encode([b"new"], timestamps=0)], acks=1)
    filled._segments.relist()
    os.unlink(filled._segments.path(10))
    with pytest.raises(CorruptLog, match="the file is gone"):
        filled.read(10)
