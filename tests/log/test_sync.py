"""Stable storage: one fsync for many, and what a failed one means."""

import os
import threading

import pytest

from streamkit.codec import encode
from streamkit.errors import StorageFailed
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)


def value(text: bytes = b"x") -> bytes:
    return encode([text], timestamps=0)


@pytest.fixture
def durable(tmp_path, files):
    with Log.open(tmp_path, files=files, maintenance=False) as log:
        log.create_topic("events")
        log.partition(TP).end_offset  # noqa: B018  opens it
        files.calls.clear()
        yield log


def test_acks_all_is_synced_on_return_and_acks_1_is_not(durable, files):
    partition = durable.partition(TP)
    partition.append([value()], acks=1)
    assert partition.synced_offset == 0
    assert "fdatasync" not in files.calls
    partition.append([value()])
    assert partition.synced_offset == 2
    assert files.calls.count("fdatasync") == 1


def test_what_is_synced_is_not_synced_again(durable, files):
    partition = durable.partition(TP)
    partition.append([value()])
    partition.sync()
    partition.sync()
    assert files.calls.count("fdatasync") == 1


def test_what_another_process_synced_is_not_synced_again(tmp_path, durable, files):
    durable.partition(TP).append([value()], acks=1)
    with Log.open(tmp_path) as other:
        other.partition(TP).sync()
    durable.partition(TP).sync()
    assert "fdatasync" not in files.calls


def test_one_fsync_serves_all_who_wait_meanwhile(durable, files):
    partition = durable.partition(TP)
    go, real = threading.Event(), files.fdatasync
    inside = threading.Event()

    def slow(fd):
        inside.set()
        assert go.wait(20)
        real(fd)

    files.fdatasync = slow
    threads = [threading.Thread(target=partition.append, args=([value()],)) for _ in range(8)]
    threads[0].start()
    assert inside.wait(20)
    for thread in threads[1:]:
        thread.start()
    while partition.end_offset < 8:
        pass
    go.set()
    for thread in threads:
        thread.join(20)
    assert partition.synced_offset == 8
    assert files.calls.count("fdatasync") == 2  # the first one's, and one for the seven after it


def test_finished_segments_are_synced_with_their_indexes_and_their_names(tmp_path, files):
    with Log.open(tmp_path, files=files, maintenance=False) as log:
        log.create_topic("events", 1, {"segment.bytes": "1024"})
        partition = log.partition(TP)
        partition.append([value(b"x" * 600)], acks=1)
        files.calls.clear()
        partition.append([value(b"x" * 600)])
        assert files.calls.count("fdatasync") == 4  # two logs, two indexes
        assert files.calls.count("fsync_dir") == 1
        assert partition.synced_offset == 2


@pytest.mark.parametrize("removed", ["before the sync", "after the sync", "not"])
def test_a_segment_that_was_begun_by_age_has_a_durable_name(durable, files, removed):
    partition = durable.partition(TP)
    partition.append([value()])
    assert partition.synced_offset == 1
    files.calls.clear()
    assert partition.trimmer.roll(partition.published())
    if removed == "before the sync":
        partition.trimmer.remove_before(1)
        partition.append([value()])
    else:
        partition.sync()
        assert "fsync_dir" in files.calls
        if removed == "after the sync":
            partition.trimmer.remove_before(1)
        files.calls.clear()
        partition.append([value()])
        assert files.calls.count("fdatasync") == 1
        return
    assert "fsync_dir" in files.calls


def test_a_roll_without_acks_is_synced_in_the_background(tmp_path):
    with Log.open(tmp_path) as log:
        log.create_topic("events", 1, {"segment.bytes": "1024"})
        partition = log.partition(TP)
        for _ in range(2):
            partition.append([value(b"x" * 600)], acks=1)
        assert log.wait(lambda: partition.synced_offset == 2, 30)


def test_a_failed_fsync_is_sticky_in_every_process_and_never_tried_again(tmp_path, files, durable):
    partition = durable.partition(TP)
    partition.append([value()])
    files.fail["fdatasync"] = OSError(5, "Input/output error")
    with pytest.raises(StorageFailed, match=r"events-0: .*Input/output error"):
        partition.append([value()])
    del files.fail["fdatasync"]
    files.calls.clear()
    with Log.open(tmp_path) as other:
        for one in (partition, other.partition(TP)):
            with pytest.raises(StorageFailed):
                one.sync()
            with pytest.raises(StorageFailed):
                one.append([value()], acks=1)
            assert one.synced_offset == 1
            assert one.end_offset == 2
            assert one.read(0)
    assert "fdatasync" not in files.calls


def test_a_failed_fsync_is_told_also_where_the_control_file_was_lost_meanwhile(
    tmp_path, durable, files
):
    partition = durable.partition(TP)
    partition.append([value()])

    def failing(fd):
        (tmp_path / "events-0" / "control").unlink(missing_ok=True)
        raise OSError(5, "Input/output error")

    files.fdatasync = failing
    with pytest.raises(StorageFailed, match="Input/output error"):
        partition.append([value()])


def test_after_a_reboot_a_failed_fsync_is_forgotten_and_the_log_walked(tmp_path, files, durable):
    partition = durable.partition(TP)
    partition.append([value()])
    files.fail["fdatasync"] = OSError(5, "Input/output error")
    with pytest.raises(StorageFailed):
        partition.append([value()])
    durable.close()
    path = tmp_path / "events-0" / "control"
    page = path.read_bytes()
    boot = page[12:28] if page[:4] == b"SKE1" else page[524:540]
    path.write_bytes(page.replace(boot, os.urandom(16)))
    with Log.open(tmp_path) as log:
        # Neither copy is whole now, which is treated alike.
        assert log.partition(TP).append([value()]) == 2


def test_with_fsync_never_nothing_is_called_synced(tmp_path, files):
    with Log.open(tmp_path, fsync="never", files=files, maintenance=False) as log:
        log.create_topic("events")
        files.calls.clear()
        log.partition(TP).append([value()])
        log.partition(TP).sync()
        assert "fdatasync" not in files.calls
        assert log.partition(TP).synced_offset == 0
