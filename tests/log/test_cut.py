"""Records that were on stable storage and are gone from the end: files cut, replaced or removed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from faulty_files import FaultyFiles

from streamkit.codec import columns, encode, headers
from streamkit.errors import CorruptLog, OffsetOutOfRange
from streamkit.log.block import ControlBlock
from streamkit.log.control import CUT, END, ERRNO_AT, SYNCED
from streamkit.log.directory import Log
from streamkit.log.partition import Partition
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)
OTHER = TopicPartition("events", 1)
RECORDS = 12
DISK = FaultyFiles(synced=False)
"""Synced as far as the log knows, without waiting for it."""

CONFIG = {"segment.bytes": "1024", "index.interval.bytes": "300"}
REFUSED = r"events-0@{}: offsets {} to {} were on stable storage and are gone"


def value(offset: int) -> bytes:
    return (b"value %d " % offset * 30)[:160]


def batch(offset: int) -> bytes:
    return encode([value(offset)], keys=[b"key %4d" % offset], timestamps=1000 + offset)


@pytest.fixture(params=["delete", "compact"])
def folder(request, tmp_path: Path) -> Path:
    """A closed partition of three segments (4 batches of 1 record in each), all of it synced."""
    with Log.open(tmp_path / "log", files=DISK, maintenance=False) as log:
        log.create_topic("events", 2, CONFIG | {"cleanup.policy": request.param})
        for number in range(RECORDS):
            log.partition(TP).append([batch(number)])
    folder = tmp_path / "log" / "events-0"
    assert [path.name for path in sorted(folder.glob("*.log"))] == [name(n) for n in (0, 4, 8)]
    return folder


def name(base: int) -> str:
    return f"{base:020d}.log"


def size(folder: Path) -> int:
    """Of each batch."""
    return max(path.stat().st_size for path in folder.glob("*.log")) // 4


def reboot(folder: Path) -> None:
    """Make the control block one of another boot."""
    path = folder / "control"
    page = bytearray(path.read_bytes())
    _, end = END.decode(page)
    for _ in range(2):
        END.store(page, msgspec.structs.replace(end, boot_id=b"another boot ..."))
    path.write_bytes(page)


def synced_to(folder: Path, offset: int) -> None:
    """Let the control block remember less: of the last segment so many whole batches."""
    path = folder / "control"
    page = bytearray(path.read_bytes())
    _, synced = SYNCED.decode(page)
    base = offset // 4 * 4
    for _ in range(2):
        SYNCED.store(
            page,
            msgspec.structs.replace(
                synced, base=base, position=(offset - base) * size(folder), offset=offset
            ),
        )
    path.write_bytes(page)


def open_log(folder: Path, **options: object) -> Log:
    return Log.open(folder.parent, files=DISK, maintenance=False, **options)  # type: ignore[arg-type]


def there(folder: Path, **options: object) -> dict[int, bytes]:
    """All that can be read, from whatever offset on."""
    with open_log(folder, **options) as log:
        partition = log.partition(TP)
        found: dict[int, bytes] = {}
        for offset in range(partition.start_offset, partition.end_offset):
            try:
                some = columns(partition.read(offset, 1), offset)
            except CorruptLog:
                continue
            found |= dict(zip(some.offsets, some.values, strict=True))
        return found


def remove_some(partition: Partition) -> None:
    partition.trimmer.remove_before(1)


def end_a_transaction(partition: Partition) -> None:
    partition.append_marker(1, 0, True, 0, False)


def end_the_segment(partition: Partition) -> None:
    partition.trimmer.roll(partition.published())


def is_refused(folder: Path, first: int, last: int = RECORDS - 1) -> None:
    """Appends are, in this process and the next; what is there is read, and what is not named."""
    for _ in range(2):
        with open_log(folder) as log:
            partition = log.partition(TP)
            assert partition.end_offset == last + 1
            refused = pytest.raises(CorruptLog, match=REFUSED.format(first, first, last))
            for acks in ("all", 1):
                with refused as caught:
                    partition.append([batch(99)], acks=acks)
            assert "streamkit fsck --repair" in str(caught.value)
            for change in (Partition.sync, remove_some, end_a_transaction, end_the_segment):
                if change is end_the_segment and not partition.published().end_position:
                    continue  # there is nothing to end
                with pytest.raises(CorruptLog, match=REFUSED.format(first, first, last)):
                    change(partition)
            for offset in range(first, last + 1):
                with pytest.raises(CorruptLog, match=f"events-0@{offset}: "):
                    partition.read(offset)
                with pytest.raises(CorruptLog, match=f"events-0@{offset}: "):
                    partition.read_committed(offset)
            assert partition.read(last + 1) == b""
            with pytest.raises(OffsetOutOfRange):
                partition.read(last + 2)
            assert log.partition(OTHER).append([batch(0)]) >= 0
    for read_only in (False, True):
        assert there(folder, read_only=read_only) == {n: value(n) for n in range(first)}


def states(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.log")}


REBOOTS: list[Callable[[Path], None]] = [lambda folder: None, reboot]


@pytest.mark.parametrize("rebooted", REBOOTS, ids=["same boot", "reboot"])
@pytest.mark.parametrize("cut", [1, 20, 61, "batch", "batch and 1", "three", "all"])
def test_where_synced_records_are_cut_off_no_offset_is_given_again(folder, rebooted, cut):
    path = folder / name(8)
    one = size(folder)
    less = {"batch": one, "batch and 1": one + 1, "three": 3 * one, "all": 4 * one}.get(cut, cut)
    os.truncate(path, 4 * one - less)
    rebooted(folder)
    before = states(folder)
    is_refused(folder, RECORDS - -(-less // one))
    reboot(folder)
    is_refused(folder, RECORDS - -(-less // one))
    assert states(folder) == before


@pytest.mark.parametrize("rebooted", REBOOTS, ids=["same boot", "reboot"])
@pytest.mark.parametrize("removed", [[8], [4, 8], [0, 4, 8]])
def test_where_the_newest_segments_are_removed_no_offset_is_given_again(folder, rebooted, removed):
    for base in removed:
        (folder / name(base)).unlink()
    rebooted(folder)
    is_refused(folder, removed[0])
    assert states(folder).keys() >= {name(n) for n in (0, 4, 8) if n not in removed}


def test_a_read_only_log_says_what_is_missing_and_changes_nothing(folder):
    os.truncate(folder / name(8), size(folder) + 7)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for _ in range(2):
        with open_log(folder, read_only=True) as log:
            partition = log.partition(TP)
            assert partition.end_offset == RECORDS
            assert list(columns(partition.read(8)).offsets) == [8]
            for offset in (9, 10, 11):
                with pytest.raises(CorruptLog, match=f"events-0@{offset}: .*{name(8)}"):
                    partition.read(offset)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


PROGRAM = """
import sys
from streamkit.codec import encode
from streamkit.errors import CorruptLog
from streamkit.log.directory import Log
from streamkit.records import TopicPartition
with Log.open(sys.argv[1], maintenance=False) as log:
    partition = log.partition(TopicPartition("events", 0))
    print(partition.end_offset, flush=True)
    for line in sys.stdin:
        try:
            print(partition.append([encode([b"x"], timestamps=1)]), flush=True)
        except CorruptLog as error:
            print(error, flush=True)
"""


def test_processes_that_had_it_open_are_refused_once_one_has_found_it(folder):
    command = [sys.executable, "-c", PROGRAM, str(folder.parent)]
    some = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        assert [one.stdout.readline() for one in some] == [f"{RECORDS}\n"] * 2
        some[0].stdin.write("append\n")
        some[0].stdin.flush()
        assert some[0].stdout.readline() == f"{RECORDS}\n"
        os.truncate(folder / name(8), 2 * size(folder))
        is_refused(folder, 10, RECORDS)
        for one in some:
            said, _ = one.communicate("append\nappend\n")
            assert said.count("events-0@10: offsets 10 to 12 were on stable storage") == 2
    finally:
        for one in some:
            one.kill()
            one.communicate()


def test_files_put_back_from_a_backup_are_taken_as_they_were(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "backup")
    os.truncate(folder / name(8), 100)
    is_refused(folder, 8)
    shutil.copy(tmp_path / "backup" / name(8), folder)
    with open_log(folder) as log:
        assert log.partition(TP).append([batch(RECORDS)]) == RECORDS
        assert log.partition(TP).offset_at(1000 + RECORDS) == RECORDS
    assert there(folder) == {n: value(n) for n in range(RECORDS + 1)}


@pytest.mark.parametrize("removed", [[8], [4, 8]])
def test_removed_segments_put_back_are_taken_as_they_were(folder, tmp_path, removed):
    shutil.copytree(folder, tmp_path / "backup")
    for base in removed:
        (folder / name(base)).unlink()
    is_refused(folder, removed[0])
    if len(removed) > 1:  # one of them only
        shutil.copy(tmp_path / "backup" / name(4), folder)
        is_refused(folder, 8)
    shutil.copy(tmp_path / "backup" / name(8), folder)
    for _ in range(2):
        assert there(folder) == {n: value(n) for n in range(RECORDS)}
        with open_log(folder) as log:
            partition = log.partition(TP)
            assert [partition.offset_at(1000 + n) for n in range(RECORDS)] == [*range(RECORDS)]
            assert partition.append([batch(99)]) >= RECORDS
            partition.trimmer.remove_before(0)
        with open_log(folder) as log:
            end = log.partition(TP).end_offset
        for path in folder.glob("*.log"):
            if int(path.stem) >= RECORDS:
                path.unlink()
        (folder / "control").unlink()
        assert end > RECORDS


def test_what_is_found_is_on_stable_storage_before_anybody_goes_by_it(folder, monkeypatch):
    os.truncate(folder / name(8), size(folder))
    seen: list[tuple[int, int]] = []
    flush = ControlBlock.flush

    def flushed(block: ControlBlock) -> None:
        flush(block)
        seen.append((block.errno, block.end().end_offset))

    publish = ControlBlock.publish

    def published(block: ControlBlock, end: object) -> None:
        seen.append((block.errno, -1))
        publish(block, end)

    monkeypatch.setattr(ControlBlock, "flush", flushed)
    monkeypatch.setattr(ControlBlock, "publish", published)
    with open_log(folder) as log:
        log.partition(TP).end_offset  # noqa: B018
    # An end that is published is believed: by then it has to be known that nobody may append.
    assert seen == [(CUT, -1), (CUT, RECORDS)]


@pytest.mark.parametrize("rebooted", REBOOTS, ids=["same boot", "reboot"])
@pytest.mark.parametrize("length", [10, 1000])
def test_what_a_broker_has_appended_to_a_log_that_was_cut_is_kept(folder, rebooted, length):
    """Nobody keeps a broker from giving the offsets again. What it was told to keep is kept."""
    path = folder / name(8)
    os.truncate(path, 2 * size(folder))
    is_refused(folder, 10)
    theirs = bytearray(encode([b"x" * length] * 3, timestamps=5))
    theirs[:8] = (10).to_bytes(8, "big")
    with path.open("ab") as file:
        file.write(theirs)
    rebooted(folder)
    data = path.read_bytes()
    with open_log(folder) as log:
        assert log.partition(TP).append([batch(13)]) == 13
    assert path.read_bytes().startswith(data)


# Who is not stopped.


def goes_on(folder: Path, at: int) -> None:
    for number in range(2):
        with open_log(folder) as log:
            assert log.partition(TP).append([batch(at + number)]) == at + number
        assert (folder / "control").read_bytes()[ERRNO_AT] == 0
        reboot(folder)
        assert there(folder)[at + number] == value(at + number)


@pytest.mark.parametrize("rebooted", REBOOTS, ids=["same boot", "reboot"])
@pytest.mark.parametrize("left", [0, 1, 2])
def test_what_was_not_synced_may_be_missing(folder, rebooted, left):
    synced_to(folder, 8 + left)
    os.truncate(folder / name(8), left * size(folder) + 30)
    rebooted(folder)
    goes_on(folder, 8 + left)


@pytest.mark.parametrize("damaged", [False, True])
def test_an_empty_segment_that_is_missing_costs_nothing(folder, damaged):
    with open_log(folder) as log:
        partition = log.partition(TP)
        assert partition.trimmer.roll(partition.published())
        partition.sync()
    (folder / name(RECORDS)).unlink()
    reboot(folder)
    if damaged:  # in the middle of what was synced: no torn tail
        path = folder / name(8)
        data = bytearray(path.read_bytes())
        data[size(folder) + 100] ^= 1
        path.write_bytes(data)
        goes_on(folder, RECORDS)
        assert path.read_bytes().startswith(data)
        return
    assert there(folder) == {n: value(n) for n in range(RECORDS)}
    goes_on(folder, RECORDS)


@pytest.mark.parametrize("folder", ["delete"], indirect=True)
def test_what_is_missing_below_the_start_costs_nothing_and_is_not_given_again(folder):
    with open_log(folder) as log:
        assert log.delete_records(TP, RECORDS) == RECORDS
    os.truncate(folder / name(8), 250)
    reboot(folder)
    with open_log(folder) as log:
        assert log.partition(TP).start_offset == RECORDS
    goes_on(folder, RECORDS)


@pytest.mark.parametrize("rebooted", REBOOTS, ids=["same boot", "reboot"])
def test_segments_that_retention_has_removed_are_not_missing(folder, rebooted):
    synced_to(folder, 6)
    with open_log(folder) as log:
        assert log.partition(TP).trimmer.remove_before(10) == 10
    assert [*states(folder)] == [name(8)]
    rebooted(folder)
    with open_log(folder) as log:
        assert log.partition(TP).start_offset == 10
    goes_on(folder, RECORDS)


def test_a_log_whose_control_block_is_lost_has_nothing_to_miss(folder):
    os.truncate(folder / name(8), 2 * size(folder))
    (folder / "control").unlink()
    goes_on(folder, 10)


@pytest.mark.parametrize("rebooted", REBOOTS, ids=["same boot", "reboot"])
def test_a_segment_cut_below_others_is_damage_in_the_middle(folder, rebooted):
    """No offset could be given again: what follows is kept, and goes on."""
    synced_to(folder, 7)
    os.truncate(folder / name(4), 2 * size(folder) + 40)
    rebooted(folder)
    before = states(folder)
    with open_log(folder) as log:
        partition = log.partition(TP)
        assert partition.end_offset == RECORDS
        for offset in (6, 7):
            with pytest.raises(CorruptLog, match=f"events-0@{offset}: .*{name(4)}"):
                partition.read(offset)
    assert states(folder) == before
    assert there(folder) == {n: value(n) for n in range(RECORDS) if n not in (6, 7)}
    goes_on(folder, RECORDS)


def test_an_empty_segment_behind_one_that_was_cut_keeps_its_place(folder):
    with open_log(folder) as log:
        partition = log.partition(TP)
        assert partition.trimmer.roll(partition.published())
    os.truncate(folder / name(8), 2 * size(folder))
    reboot(folder)
    goes_on(folder, RECORDS)
    found = [header.base_offset for _, header in headers((folder / name(8)).read_bytes())]
    assert found == [8, 9]


def test_what_counts_as_synced_when_nobody_knows_is_synced_first(folder):
    """A copy that was just made may not be on the disk, and would look cut after a power cut."""
    (folder / "control").unlink()
    files = FaultyFiles(synced=False)
    with Log.open(folder.parent, files=files, maintenance=False) as log:
        log.topics()
        before = files.calls.count("fdatasync")
        assert log.partition(TP).synced_offset == 8
        assert files.calls.count("fdatasync") == before + 2
