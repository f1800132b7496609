"""A repair loses nothing that can be read, says what was lost, and the log goes on."""

import random
import shutil
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
from faulty_files import CHANGES, Fault, FaultyFiles, Killed

from streamkit.backends.locate import open_backend
from streamkit.backends.values import CommittedOffset
from streamkit.codec import columns, encode, headers
from streamkit.errors import ConfigError, LogInUse, StorageFailed
from streamkit.fsck.check import check
from streamkit.fsck.filler import fillers
from streamkit.fsck.repair import copy_log, repair
from streamkit.log.control import ERRNO_AT, PAGE_BYTES
from streamkit.log.directory import Log
from streamkit.log.files import UnsyncedFiles
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)
NOW = 1_000_000_000
RECORDS = 30


def value(offset: int) -> bytes:
    return b"value %d " % offset * 12


def contents(root: Path) -> dict[int, bytes]:
    """Every record, read as consumers read; the end and the next append are as they should be."""
    with Log.open(root, fsync="never") as log:
        partition = log.partition(TP)
        found = {}
        offset = partition.start_offset
        while data := partition.read(offset):
            some = columns(data, offset)
            found |= dict(zip(some.offsets, some.values, strict=True))
            for _, header in headers(data):
                assert header.base_offset <= offset
                offset = header.next_offset
        assert offset == partition.end_offset
        return found


def goes_on(root: Path) -> None:
    with Log.open(root) as log:
        partition = log.partition(TP)
        end = partition.end_offset
        assert partition.append([encode([b"more"], timestamps=0)]) == end
    assert contents(root)[end] == b"more"
    assert check(root, now=NOW).clean


def test_a_good_log_is_left_as_it_is(root):
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert repair(root, now=NOW) == []
    after = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert {path: after[path] for path in before} == before


@pytest.mark.parametrize("number", [0, 1, -2, -1])
def test_a_damaged_batch_is_put_aside_and_what_stands_around_it_is_read(
    root, segments, overwrite, number
):
    path = segments()[number]
    data = path.read_bytes()
    bad = [header for _, header in headers(data)][-1]
    start = len(data) - bad.size
    overwrite(path, start + 70, b"\xff\xff")
    path_bytes = path.read_bytes()
    done = repair(root, now=NOW)
    assert f"events-0@{bad.base_offset}: {bad.size:,} bytes put aside" in done[0]
    lost = set(range(bad.base_offset, bad.last_offset + 1))
    assert contents(root) == {n: value(n) for n in range(RECORDS) if n not in lost}
    kept = root / "events-0" / f"{bad.base_offset:020d}.damaged"
    assert kept.read_bytes() == path_bytes[start:]
    assert [one.kind for one in check(root, now=NOW).findings] == ["kept"]
    goes_on(root)


def test_a_lost_segment_becomes_a_gap_that_readers_pass_over(root, segments):
    files = segments()
    files[3].unlink()
    lost = range(int(files[3].stem), int(files[4].stem))
    repair(root, now=NOW)
    assert contents(root) == {n: value(n) for n in range(RECORDS) if n not in lost}
    goes_on(root)


def test_a_lost_first_segment_lets_the_log_begin_later(root, segments):
    first, second = segments()[:2]
    first.unlink()
    repair(root, now=NOW)
    assert contents(root) == {n: value(n) for n in range(int(second.stem), RECORDS)}
    goes_on(root)


def test_a_storage_error_is_forgotten_once_every_byte_was_looked_at_and_synced(
    root, folder, overwrite
):
    overwrite(folder / "control", ERRNO_AT, bytes([5]))
    with Log.open(root) as log, pytest.raises(StorageFailed, match="streamkit fsck"):
        log.partition(TP).append([encode([b"x"], timestamps=0)])
    done = repair(root, now=NOW)
    assert any("Input/output error" in line and "appends go on" in line for line in done)
    assert len(contents(root)) == RECORDS
    goes_on(root)


@pytest.mark.parametrize("content", [None, b"", b"\x55" * PAGE_BYTES])
def test_a_lost_control_block_is_made_anew(root, folder, content):
    if content is None:
        (folder / "control").unlink()
    else:
        (folder / "control").write_bytes(content)
    assert [one.kind for one in check(root, now=NOW).findings if one.kind != "storage"] == [
        "control"
    ]
    repair(root, now=NOW)
    assert check(root, now=NOW).findings == []
    assert len(contents(root)) == RECORDS
    goes_on(root)


def test_indexes_epochs_and_ids_are_made_anew(root, folder, segments):
    expected = {
        path: path.read_bytes()
        for path in folder.iterdir()
        if path.suffix in (".index", ".timeindex") or path.name == "partition.metadata"
    }
    for path in expected:
        path.write_bytes(b"\x01" * 23)
    (folder / "leader-epoch-checkpoint").write_text("rubbish")
    repair(root, now=NOW)
    assert {path: path.read_bytes() for path in expected} == expected
    assert check(root, now=NOW).findings == []
    goes_on(root)


def test_missing_partitions_are_made_empty_and_leftovers_are_removed(root):
    shutil.rmtree(root / "events-1")
    (root / f"events-7.{'0f' * 16}-delete").mkdir()
    (root / "empty-0").mkdir()
    (root / "empty-0" / f"{0:020d}.log").touch()
    shutil.copytree(root / "events-0", root / "ghost-3")
    done = repair(root, now=NOW)
    assert "events-1: made empty; what was in it is lost" in done
    assert (root / "ghost-3").exists() and not (root / "empty-0").exists()
    assert [one.kind for one in check(root, now=NOW).findings] == ["orphan"]
    with Log.open(root) as log:
        assert (
            log.partition(TopicPartition("events", 1)).append([encode([b"x"], timestamps=0)]) == 0
        )


def test_lost_properties_are_written_again(root):
    (root / "meta.properties").unlink()
    repair(root, now=NOW)
    assert len(contents(root)) == RECORDS


def test_a_directory_of_another_topic_is_left_alone(root):
    with Log.open(root) as log:
        log.create_topic("other")
    shutil.copy(root / "events-0" / "partition.metadata", root / "other-0" / "partition.metadata")
    before = (root / "other-0" / "partition.metadata").read_bytes()
    repair(root, now=NOW)
    assert (root / "other-0" / "partition.metadata").read_bytes() == before


def test_a_copy_is_repaired_and_the_log_left_as_it_is(root, tmp_path, segments, overwrite):
    overwrite(segments()[1], 70, b"\xff\xff")
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with Log.open(root):  # somebody uses it
        copy_log(root, tmp_path / "copy")
        repair(tmp_path / "copy", now=NOW)
    assert check(tmp_path / "copy", now=NOW).clean
    assert len(contents(tmp_path / "copy")) < RECORDS
    after = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert {path: after[path] for path in before} == before
    with pytest.raises(ConfigError, match="not empty"):
        copy_log(root, tmp_path / "copy")
    with pytest.raises(ConfigError, match="within the log"):
        copy_log(root, root / "copy")


def test_a_copy_made_while_the_log_is_used_says_no_more_than_it_has(root, tmp_path, monkeypatch):
    copy2 = shutil.copy2
    used = [TP, TopicPartition("Another", 0)]  # before and behind that of the offsets, by name
    with open_backend(root) as backend:
        backend.create_topic("Another")

        def copy_while_it_is_used(source: str, target: str) -> None:
            copy2(source, target)
            for tp in used:
                end = backend.append(tp, [value(0)] * 3) + 3
                backend.commit("g", {tp: CommittedOffset(end)})

        copy_while_it_is_used(root / "meta.properties", tmp_path / "not part of it")
        monkeypatch.setattr(shutil, "copy2", copy_while_it_is_used)
        copy_log(root, tmp_path / "copy")
    assert check(tmp_path / "copy", now=NOW).clean
    assert len(contents(tmp_path / "copy")) > RECORDS


@pytest.mark.parametrize("number", [1, -1])
def test_a_repair_that_is_killed_loses_nothing_and_is_done_by_the_next(
    root, segments, overwrite, tmp_path, number
):
    path = segments()[number]
    bad = next(header for _, header in headers(path.read_bytes()))
    overwrite(path, 70, b"\xff\xff")
    lost = range(bad.base_offset, bad.next_offset)
    for at in count(1):
        copy = tmp_path / f"{at}"
        shutil.copytree(root, copy)
        files = FaultyFiles(Fault(at, Killed(), CHANGES), synced=False)
        try:
            repair(copy, now=NOW, files=files)
        except Killed:
            files.bury()
        if at % 2:  # before the next repair somebody goes on with the log as it is
            with Log.open(copy, fsync="never") as log:
                assert log.partition(TP).append([encode([b"more"], timestamps=0)]) == RECORDS
        repair(copy, now=NOW, files=UnsyncedFiles())
        assert check(copy, now=NOW).clean
        expected = {n: value(n) for n in range(RECORDS) if n not in lost}
        assert contents(copy) == (expected | {RECORDS: b"more"} if at % 2 else expected)
        if files.hit is None:
            assert at > 20
            return


def test_a_log_in_use_is_not_repaired_and_who_uses_it_is_named(root):
    program = (
        "import sys; from streamkit.log.directory import Log\n"
        "log = Log.open(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(root)]
    user = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert user.stdout.readline() == "open\n"
        with pytest.raises(LogInUse, match=f"open in {user.pid} "):
            repair(root, now=NOW)
    finally:
        user.communicate("")
    assert repair(root, now=NOW) == []


def test_nobody_opens_a_log_that_is_being_repaired(root):
    from streamkit.fsck.exclusive import exclusively

    with exclusively(str(root)), pytest.raises(LogInUse):
        Log.open(root)
    Log.open(root).close()


def test_offsets_are_filled_with_empty_batches_that_hold_no_records():
    data = fillers(5, 5 + 2**31, 3)
    found = [header for _, header in headers(data)]
    assert [(one.base_offset, one.last_offset, one.count) for one in found] == [
        (5, 5 + 2**31 - 1, 0),
        (5 + 2**31, 5 + 2**31, 0),
    ]
    assert len(columns(data)) == 0
    assert fillers(5, 4, 0) == b""


@pytest.mark.parametrize("number", range(12))
def test_whatever_is_overwritten_what_was_not_is_there_after_a_repair(root, segments, number):
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    chance = random.Random(seed)
    places = {}  # (file, start, end) → offsets
    for path in segments():
        data = path.read_bytes()
        for at, header in headers(data):
            places[(path, at, at + header.size)] = range(header.base_offset, header.next_offset)
    bad = set()
    for _ in range(chance.randint(1, 6)):
        path = chance.choice(segments())
        at = chance.randrange(path.stat().st_size)
        with path.open("r+b") as file:
            file.seek(at)
            file.write(
                chance.randbytes(chance.choice([1, 3, 100, 700]))[: path.stat().st_size - at]
            )
    original = {key: b"".join(value(n) for n in offsets) for key, offsets in places.items()}
    for (path, start, end), offsets in places.items():
        data = path.read_bytes()[start:end]
        try:
            ok = b"".join(columns(data).values) == original[(path, start, end)]
            ok = ok and int.from_bytes(data[:8], "big") == offsets.start
        except Exception:
            ok = False
        if not ok:
            bad |= set(offsets)
    repair(root, now=NOW)
    assert check(root, now=NOW).clean
    found = contents(root)
    assert {n: found.get(n) for n in range(RECORDS) if n not in bad} == {
        n: value(n) for n in range(RECORDS) if n not in bad
    }
    assert all(found[n] == value(n) for n in found)
    goes_on(root)
