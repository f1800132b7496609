"""What a partition finds when its control block cannot be believed, or its files are damaged."""

import os
import shutil
from pathlib import Path

import msgspec
import pytest

from streamkit.codec import columns, encode
from streamkit.errors import BadCrc, CorruptLog, StorageFailed
from streamkit.log.control import DIRTY_AT, END, PAGE_BYTES, SYNCED, Synced
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)
VALUES = [b"v%d" % n * 20 for n in range(12)]
CONFIG = {"segment.bytes": "1024", "index.interval.bytes": "100"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The directory of a closed partition of three segments (4 batches of 1 record in each)."""
    with Log.open(tmp_path / "log", fsync="never") as log:
        log.create_topic("events", 1, CONFIG)
        for value in VALUES:
            log.partition(TP).append([encode([value.ljust(180)], timestamps=7)])
    folder = tmp_path / "log" / "events-0"
    assert [p.name for p in sorted(folder.glob("*.log"))] == [f"{n:020d}.log" for n in (0, 4, 8)]
    return folder


def control(folder: Path) -> bytearray:
    return bytearray((folder / "control").read_bytes())


def set_boot(folder: Path, synced: Synced | None) -> None:
    """Make the control block one of another boot, synced up to there."""
    page = control(folder)
    _, end = END.decode(page)
    END.store(page, msgspec.structs.replace(end, boot_id=b"another boot ..."))
    END.store(page, msgspec.structs.replace(end, boot_id=b"another boot ..."))
    if synced is None:
        page[1024:2048] = bytes(1024)
    else:
        SYNCED.store(page, synced)
        SYNCED.store(page, synced)
    (folder / "control").write_bytes(page)


def read(folder: Path, *, read_only: bool = False) -> list[bytes]:
    with Log.open(folder.parent, fsync="never", read_only=read_only) as log:
        partition = log.partition(TP)
        offset, found = partition.start_offset, []
        while data := partition.read(offset):
            some = columns(data, offset)
            assert list(some.offsets) == list(range(offset, offset + len(some)))
            found += [value.rstrip() for value in some.values]
            offset += len(some)
        assert offset == partition.end_offset
        return found


def append(folder: Path, value: bytes) -> int:
    with Log.open(folder.parent, fsync="never") as log:
        return log.partition(TP).append([encode([value], timestamps=8)])


SIZE = 61 + 180 + 9
"""Bytes of each batch of `folder`: header, value, and what a record has round it."""


def test_the_batches_are_as_long_as_these_tests_think(folder):
    assert (folder / f"{8:020d}.log").stat().st_size == 4 * SIZE


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("damage", ["lost", "empty", "short", "zeros", "noise"])
def test_a_lost_control_block_is_made_anew_from_the_log(folder, damage, read_only):
    path = folder / "control"
    path.unlink()
    if damage != "lost":
        path.write_bytes(
            {
                "empty": b"",
                "short": b"x" * 100,
                "zeros": bytes(PAGE_BYTES),
                "noise": bytes(range(256)) * 16,
            }[damage]
        )
    assert read(folder, read_only=read_only) == VALUES
    assert append(folder, b"more") == 12
    assert read(folder) == [*VALUES, b"more"]


@pytest.mark.parametrize("read_only", [False, True])
def test_with_the_whole_partition_lost_but_its_directory_it_starts_again(folder, read_only):
    for path in folder.iterdir():
        path.unlink()
    assert read(folder, read_only=read_only) == []
    assert list(folder.iterdir()) == [] or not read_only
    assert append(folder, b"more") == 0


@pytest.mark.parametrize("torn", [1, 11, 12, 60, 61, 100, SIZE - 1])
@pytest.mark.parametrize("read_only", [False, True])
def test_after_a_power_cut_a_torn_tail_is_cut_and_the_epoch_raised(folder, torn, read_only):
    last = folder / f"{8:020d}.log"
    data = last.read_bytes()
    last.write_bytes(data[: len(data) - torn])
    set_boot(folder, Synced(4, 0, 4))
    assert read(folder, read_only=read_only) == VALUES[:11]
    assert last.stat().st_size == (len(data) - torn if read_only else 3 * SIZE)
    assert append(folder, b"more") == 11
    with Log.open(folder.parent) as log:
        assert log.partition(TP).leader_epoch == 1
    assert (folder / "leader-epoch-checkpoint").read_text() == "0\n2\n0 0\n1 11\n"


def test_after_a_power_cut_what_follows_a_torn_segment_is_removed(folder):
    middle = folder / f"{4:020d}.log"
    middle.write_bytes(middle.read_bytes()[: 2 * SIZE] + bytes(2 * SIZE))
    set_boot(folder, Synced(0, SIZE, 1))
    assert read(folder) == VALUES[:6]
    assert [p.name for p in sorted(folder.glob("*.log"))] == [f"{n:020d}.log" for n in (0, 4)]
    assert append(folder, b"more") == 6
    assert read(folder) == [*VALUES[:6], b"more"]


def test_after_a_reboot_with_nothing_torn_all_is_there_and_the_epoch_stays(folder):
    set_boot(folder, Synced(0, 0, 0))
    assert read(folder) == VALUES
    with Log.open(folder.parent) as log:
        assert log.partition(TP).leader_epoch == 0
        assert log.partition(TP).synced_offset == 0


def test_below_the_synced_position_nothing_is_cut_and_reading_it_names_the_place(folder):
    damaged = folder / f"{8:020d}.log"
    data = bytearray(damaged.read_bytes())
    data[SIZE + 100] ^= 1  # in the value of offset 9
    damaged.write_bytes(data)
    set_boot(folder, Synced(8, 3 * SIZE, 11))
    with Log.open(folder.parent, fsync="never") as log:
        partition = log.partition(TP)
        assert partition.end_offset == 12
        assert partition.append([encode([b"more"], timestamps=0)]) == 12
        with pytest.raises(BadCrc):
            columns(partition.read(9))
        with pytest.raises(CorruptLog, match=rf"events-0@9: .*0008\.log.* byte {SIZE}: .*checksum"):
            partition.verify(9)
        partition.verify(10)
        assert list(columns(partition.read(10)).offsets) == [10, 11]


@pytest.mark.parametrize("byte", [8, 16], ids=["length", "magic"])
def test_a_damaged_header_below_the_synced_position_keeps_what_is_round_it(folder, byte):
    damaged = folder / f"{8:020d}.log"
    data = bytearray(damaged.read_bytes())
    data[SIZE + byte] ^= 0x41
    damaged.write_bytes(data)
    set_boot(folder, Synced(8, 3 * SIZE, 11))
    with Log.open(folder.parent, fsync="never") as log:
        partition = log.partition(TP)
        assert partition.append([encode([b"more"], timestamps=0)]) == 12
        assert list(columns(partition.read(8)).offsets) == [8]
        for read in (partition.read, partition.verify):
            with pytest.raises(CorruptLog, match=rf"events-0@9: .*\.log.* byte {SIZE}: "):
                read(9)
        assert list(columns(partition.read(11)).offsets) == [11]
    assert damaged.read_bytes() == data


def test_with_the_synced_position_lost_too_what_is_cut_is_kept_aside(folder):
    last = folder / f"{8:020d}.log"
    data = bytearray(last.read_bytes())
    data[SIZE + 100] ^= 1
    last.write_bytes(data)
    (folder / "control").unlink()
    assert read(folder) == VALUES[:9]
    assert (folder / f"{9:020d}.cut").read_bytes() == data[SIZE:]


def test_a_missing_segment_is_corruption_and_not_a_gap(folder):
    (folder / f"{4:020d}.log").unlink()
    with Log.open(folder.parent, fsync="never") as log:
        partition = log.partition(TP)
        with pytest.raises(CorruptLog, match=r"offsets 4 to 7 are missing; 8 is the next"):
            partition.read(4)
        assert columns(partition.read(8)).offsets[0] == 8


def test_a_copy_whose_control_block_is_younger_than_its_segment_is_walked_again(folder, tmp_path):
    last = folder / f"{8:020d}.log"
    last.write_bytes(last.read_bytes()[: 2 * SIZE + 5])
    assert read(folder) == VALUES[:10]
    assert append(folder, b"more") == 10


def test_a_copy_whose_segment_is_younger_than_its_control_block_loses_nothing(folder):
    page = (folder / "control").read_bytes()
    append(folder, b"younger")
    (folder / "control").write_bytes(page)
    assert append(folder, b"more") == 13
    assert read(folder) == [*VALUES, b"younger", b"more"]


@pytest.mark.parametrize("length", [1, 60, 61, 100, 5000])
def test_what_a_killed_writer_left_is_taken_back_by_the_next(folder, length):
    last = folder / f"{8:020d}.log"
    whole = last.stat().st_size
    with last.open("ab") as file:
        file.write(b"\x01" * length)
    page = control(folder)
    page[DIRTY_AT] = 1
    (folder / "control").write_bytes(page)
    (folder / f"{12:020d}.log").write_bytes(b"")  # and it was about to roll
    assert read(folder) == VALUES
    assert last.stat().st_size == whole + length  # readers change nothing
    assert append(folder, b"more") == 12
    assert not (folder / f"{12:020d}.log").exists() or last.stat().st_size == whole
    assert read(folder) == [*VALUES, b"more"]


def test_a_segment_that_a_killed_roll_left_does_not_hide_what_is_appended_before_it(tmp_path):
    with Log.open(tmp_path / "log", fsync="never") as log:
        log.create_topic("events", 1, CONFIG)
        log.partition(TP).append([encode([b"0" * 230], timestamps=0)])
    folder = tmp_path / "log" / "events-0"
    (folder / f"{1:020d}.log").touch()
    page = control(folder)
    page[DIRTY_AT] = 1
    (folder / "control").write_bytes(page)
    for n in range(1, 8):
        assert append(folder, b"%d" % n * 230) == n
    assert [p.name for p in sorted(folder.glob("*.log"))] == [f"{n:020d}.log" for n in (0, 3, 6)]
    assert read(folder) == [b"%d" % n * 230 for n in range(8)]


def test_a_disk_that_cannot_be_read_when_the_log_is_walked_is_a_failed_storage(folder, files):
    set_boot(folder, Synced(0, 0, 0))
    with Log.open(folder.parent, files=files, maintenance=False) as log:
        log.topics()
        files.fail["pread"] = OSError(5, "Input/output error")
        with pytest.raises(StorageFailed, match=r"events-0: cannot be opened: Input/output error"):
            log.partition(TP).read(0)
        files.fail.clear()
        assert log.partition(TP).end_offset == 12


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("suffix", ["index", "timeindex"])
@pytest.mark.parametrize("damage", ["lost", "empty", "zeros", "noise", "odd"])
def test_indexes_are_hints_and_any_damage_to_them_is_harmless(folder, suffix, damage, read_only):
    for path in folder.glob(f"*.{suffix}"):
        data = path.read_bytes()
        assert data
        path.unlink()
        if damage != "lost":
            damaged = {
                "empty": b"",
                "zeros": bytes(len(data)),
                "noise": bytes(200 - n % 7 for n in range(len(data))),
                "odd": data[:-3],
            }
            path.write_bytes(damaged[damage])
    with Log.open(folder.parent, fsync="never", read_only=read_only) as log:
        partition = log.partition(TP)
        for offset in (11, 3, 7, 0, 5, 9):
            assert columns(partition.read(offset), offset).offsets[0] == offset
        assert partition.offset_at(7) == 0
        assert partition.offset_at(8) is None
    assert append(folder, b"more") == 12
    assert read(folder) == [*VALUES, b"more"]


def test_a_lost_index_is_rebuilt_as_it_was(folder):
    before = {path.name: path.read_bytes() for path in folder.glob("*index")}
    for name in before:
        (folder / name).unlink()
    with Log.open(folder.parent, fsync="never") as log:
        for offset in (1, 5, 9):
            log.partition(TP).read(offset)
    after = {path.name: path.read_bytes() for path in folder.glob("*index")}
    assert after == before


def test_reading_only_changes_no_file_whatever_is_wrong(folder):
    (folder / "control").write_bytes(b"gone")
    for path in folder.glob("*.index"):
        path.unlink()
    with (folder / f"{8:020d}.log").open("ab") as file:
        file.write(b"torn")

    def state():
        return {
            path: (path.read_bytes() if path.is_file() else None, path.stat().st_mtime_ns)
            for path in folder.parent.rglob("*")
        }

    before = state()
    assert read(folder, read_only=True) == VALUES
    assert state() == before


def test_a_read_only_log_sees_what_is_appended_after_a_writer_came(folder):
    (folder / "control").unlink()
    with Log.open(folder.parent, read_only=True) as log:
        partition = log.partition(TP)
        assert partition.end_offset == 12
        append(folder, b"more")
        assert partition.end_offset == 13
        append(folder, b"more")
        assert partition.end_offset == 14


def test_a_control_file_removed_under_a_running_process_does_not_part_the_writers(folder):
    with Log.open(folder.parent, fsync="never") as log:
        partition = log.partition(TP)
        assert partition.append([encode([b"a"], timestamps=0)]) == 12
        os.unlink(folder / "control")
        assert append(folder, b"b") == 13
        assert partition.append([encode([b"c"], timestamps=0)]) == 14
    assert read(folder) == [*VALUES, b"a", b"b", b"c"]


def test_a_copied_directory_is_a_log_of_its_own(folder, tmp_path):
    shutil.copytree(folder.parent, tmp_path / "copy")
    append(folder, b"original")
    copy = tmp_path / "copy" / "events-0"
    assert append(copy, b"copy") == 12
    assert read(copy) == [*VALUES, b"copy"]
    assert read(folder) == [*VALUES, b"original"]


def test_after_a_power_cut_a_segment_whose_last_batches_are_lost_whole_is_the_last(folder):
    middle = folder / f"{4:020d}.log"
    middle.write_bytes(middle.read_bytes()[: 2 * SIZE])
    set_boot(folder, Synced(4, SIZE, 5))
    assert read(folder) == VALUES[:6]
    assert [p.name for p in sorted(folder.glob("*.log"))] == [f"{n:020d}.log" for n in (0, 4)]
    assert append(folder, b"more") == 6


def test_an_empty_segment_of_a_roll_that_never_was_does_not_hide_what_is_before_it(folder):
    (folder / f"{9:020d}.log").touch()  # its removal undone by a power cut
    (folder / "control").unlink()
    assert read(folder) == VALUES


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("noted", ["", "0\n2\n0 0\n2 12\n"])
@pytest.mark.parametrize("base", [8, 12])
def test_what_a_broker_appended_is_not_taken_for_what_a_killed_writer_left(
    folder, read_only, noted, base
):
    # A broker knows of no control block. It notes its leader epoch, unless ours is that by chance.
    if noted:
        (folder / "leader-epoch-checkpoint").write_text(noted)
        page = control(folder)
        page[DIRTY_AT] = 1  # and one of us had been killed before it came
        (folder / "control").write_bytes(page)
    batch = bytearray(encode([b"a broker's"], timestamps=9))
    batch[:8] = (12).to_bytes(8, "big")
    with (folder / f"{base:020d}.log").open("ab") as newest:
        newest.write(batch)
    assert read(folder, read_only=read_only) == [*VALUES, b"a broker's"]
    assert append(folder, b"ours") == 13
    assert read(folder) == [*VALUES, b"a broker's", b"ours"]


def test_what_a_broker_compacted_is_walked_anew(folder):
    page = control(folder)
    SYNCED.store(page, Synced(8, 3 * SIZE, 11))
    (folder / "control").write_bytes(page)
    # Now no batch begins at the byte that the log was synced to.
    batch = bytearray(encode([b"compacted".ljust(4 * SIZE)], timestamps=9))
    batch[:8] = (11).to_bytes(8, "big")
    (folder / f"{8:020d}.log").write_bytes(batch)
    assert append(folder, b"ours") == 12


def test_after_a_power_cut_a_block_older_than_its_segment_still_tells_what_was_synced(folder):
    last = folder / f"{8:020d}.log"
    last.write_bytes(last.read_bytes()[: 2 * SIZE])
    assert read(folder) == VALUES[:10]
    page = control(folder)
    assert append(folder, b"younger") == 10
    (folder / "control").write_bytes(page)
    set_boot(folder, Synced(8, 2 * SIZE, 10))
    data = bytearray(last.read_bytes())
    data[SIZE + 16] = 9  # the magic of the second batch, which was synced
    last.write_bytes(data)
    assert append(folder, b"more") == 11
    assert last.read_bytes()[: len(data)] == data
    assert not list(folder.glob("*.cut"))


def torn(folder: Path, tail: bytes) -> None:
    with max(folder.glob("*.log")).open("ab") as file:
        file.write(tail)
    (folder / "control").unlink(missing_ok=True)


def told(caplog: pytest.LogCaptureFixture, of: str = "a torn tail begins") -> int:
    return sum(of in message for message in caplog.messages)


def test_a_torn_tail_is_told_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    torn(folder, b"torn")
    for tail in (b"", b"and more"):  # as of somebody who appends meanwhile
        torn(folder, tail)
        for _ in range(2):
            with Log.open(folder.parent, read_only=True) as log:
                assert log.partition(TP).end_offset == len(VALUES)
    assert told(caplog) == 1
    with Log.open(folder.parent, fsync="never") as log:
        assert log.partition(TP).end_offset == len(VALUES)
        assert told(caplog) == 1, "it is the same"
        assert told(caplog, "that were cut") == 1, "what was done about it"
        log.partition(TP).append([encode([b"next"], timestamps=7)])
    torn(folder, b"another one")
    with Log.open(folder.parent, fsync="never") as log:
        assert log.partition(TP).end_offset == len(VALUES) + 1
    assert told(caplog) == 2
