"""Cut below what was on stable storage: what is lost is said, and no offset is given twice."""

import os
import random
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path

import msgspec
import pytest
from faulty_files import CHANGES, Fault, FaultyFiles, Killed

from streamkit.backends.locate import open_backend
from streamkit.backends.values import CommittedOffset
from streamkit.codec import columns, encode, headers
from streamkit.errors import CorruptLog
from streamkit.fsck.check import check
from streamkit.fsck.repair import copy_log, repair
from streamkit.log.control import END
from streamkit.log.directory import Log
from streamkit.log.files import UnsyncedFiles
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)
NOW = 1_000_000_000
RECORDS = 30
DISK = FaultyFiles(synced=False)


def value(offset: int) -> bytes:
    return b"value %d " % offset * 12


@pytest.fixture(params=["delete", "compact"])
def root(request, tmp_path: Path) -> Path:
    """Thirty records in batches of one to three, in segments of 1 KiB, all of them synced."""
    config = {"segment.bytes": "1024", "index.interval.bytes": "200"}
    with Log.open(tmp_path / "log", files=DISK, maintenance=False) as log:
        log.create_topic("events", 1, config | {"cleanup.policy": request.param})
        offset = 0
        while offset < RECORDS:
            numbers = range(offset, offset + 1 + offset % 3)
            values = [value(number) for number in numbers]
            keys = [b"%d" % number for number in numbers]
            log.partition(TP).append([encode(values, keys=keys, timestamps=1000 + offset)])
            offset = numbers.stop
    assert offset == RECORDS
    return tmp_path / "log"


def segments(root: Path) -> list[Path]:
    return sorted((root / "events-0").glob("*.log"))


def left(root: Path) -> int:
    """The offset behind the last batch that is there."""
    return [
        header.next_offset
        for path in segments(root)
        for _, header in headers(path.read_bytes()[: whole(path)])
    ][-1]


def whole(path: Path) -> int:
    data = path.read_bytes()
    at = 0
    while at + 12 <= len(data):
        size = int.from_bytes(data[at + 8 : at + 12], "big") + 12
        if at + size > len(data):
            break
        at += size
    return at


def contents(root: Path) -> dict[int, bytes]:
    """Every record, read as consumers read; from each offset there is something to go on with."""
    with Log.open(root, files=DISK, maintenance=False) as log:
        partition = log.partition(TP)
        found = {}
        offset = partition.start_offset
        while offset < partition.end_offset:
            data = partition.read(offset)
            some = columns(data, offset)
            found |= dict(zip(some.offsets, some.values, strict=True))
            for _, header in headers(data):
                assert header.base_offset <= offset
                offset = header.next_offset
        assert offset == partition.end_offset
        return found


def reboot(root: Path) -> None:
    path = root / "events-0" / "control"
    page = bytearray(path.read_bytes())
    found = END.decode(page)
    assert found is not None
    for _ in range(2):
        END.store(page, msgspec.structs.replace(found[1], boot_id=b"another boot ..."))
    path.write_bytes(page)


def append(root: Path) -> int:
    with Log.open(root, files=DISK, maintenance=False) as log:
        return log.partition(TP).append([encode([b"more"], keys=[b"k"], timestamps=NOW)])


def cut_bytes(root: Path) -> None:
    os.truncate(segments(root)[-1], segments(root)[-1].stat().st_size - 5)


def cut_batches(root: Path) -> None:
    path = segments(root)[-1]
    os.truncate(path, [at for at, _ in headers(path.read_bytes())][1])


def cut_all(root: Path) -> None:
    os.truncate(segments(root)[-1], 0)


def remove_one(root: Path) -> None:
    segments(root)[-1].unlink()


def remove_two(root: Path) -> None:
    remove_one(root)
    remove_one(root)


def remove_and_cut(root: Path) -> None:
    remove_one(root)
    cut_bytes(root)


CUTS = [cut_bytes, cut_batches, cut_all, remove_one, remove_two, remove_and_cut]


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("cut", CUTS)
def test_what_is_lost_is_said_and_the_log_goes_on_behind_it(
    root: Path, cut: Callable[[Path], None], opened: bool
) -> None:
    cut(root)
    first = left(root)
    assert first < RECORDS
    if opened:  # somebody has found it before
        with pytest.raises(CorruptLog, match=f"events-0@{first}: "):
            append(root)
    findings = [one for one in check(root, now=NOW).findings if one.severity == "error"]
    assert [one.kind for one in findings] in (["gap", "end"], ["damage", "end"])
    assert [one.offset for one in findings] == [first, first]
    lost = findings[0].lost
    assert lost is not None and (lost.first, lost.last) == (first, RECORDS - 1)
    assert findings[1].lost is None  # said once
    done = repair(root, now=NOW)
    assert f"offsets {first} to {RECORDS - 1} lost" in done[0]
    assert any("no offset that was lost is given again" in line for line in done)
    assert [one for one in check(root, now=NOW).findings if one.kind != "kept"] == []
    for rebooted in (False, True):
        if rebooted:
            reboot(root)
        assert contents(root) == {n: value(n) for n in range(first)}
    assert append(root) == RECORDS
    assert contents(root) == {n: value(n) for n in range(first)} | {RECORDS: b"more"}
    assert check(root, now=NOW).clean
    assert repair(root, now=NOW) == []


def test_torn_bytes_at_the_cut_are_put_aside(root: Path) -> None:
    path = segments(root)[-1]
    os.truncate(path, path.stat().st_size - 5)
    at = whole(path)
    torn = path.read_bytes()[at:]
    repair(root, now=NOW)
    (kept,) = (root / "events-0").glob("*.damaged")
    assert torn and kept.read_bytes() == torn


def test_a_position_that_a_group_has_committed_stays_what_it_was(root: Path) -> None:
    with open_backend(root) as backend:
        backend.commit("g", {TP: CommittedOffset(RECORDS)})
    cut_batches(root)
    assert "committed" not in [one.kind for one in check(root, now=NOW).findings]
    repair(root, now=NOW)
    append(root)
    with open_backend(root) as backend:
        position = backend.committed("g")[TP].offset
        assert position == RECORDS
    with Log.open(root, files=DISK) as log:
        assert columns(log.partition(TP).read(position), position).values == [b"more"]


def test_a_copy_is_repaired_and_the_log_stays_refused(root: Path, tmp_path: Path) -> None:
    cut_batches(root)
    copy_log(root, tmp_path / "copy")
    repair(tmp_path / "copy", now=NOW)
    assert append(tmp_path / "copy") == RECORDS
    with pytest.raises(CorruptLog, match="were on stable storage and are gone"):
        append(root)


@pytest.mark.parametrize("rebooted", [False, True])
@pytest.mark.parametrize("cut", [cut_bytes, remove_one])
@pytest.mark.parametrize("root", ["compact"], indirect=True)
def test_a_repair_that_is_killed_never_gives_an_offset_again(
    root: Path, tmp_path: Path, cut: Callable[[Path], None], rebooted: bool
) -> None:
    cut(root)
    first = left(root)
    for at in count(1):
        copy = tmp_path / f"{at}"
        shutil.copytree(root, copy)
        files = FaultyFiles(Fault(at, Killed(), CHANGES), synced=False)
        try:
            repair(copy, now=NOW, files=files)
        except Killed:
            files.bury()
        if rebooted:
            reboot(copy)
        end = RECORDS
        if at % 2:  # before the next repair somebody wants to go on with the log as it is
            try:
                assert append(copy) == RECORDS
                end += 1
            except CorruptLog as error:
                assert "were on stable storage and are gone" in str(error)
        repair(copy, now=NOW, files=UnsyncedFiles())
        assert check(copy, now=NOW).clean
        more = {RECORDS: b"more"} if end > RECORDS else {}
        assert contents(copy) == {n: value(n) for n in range(first)} | more
        assert append(copy) == end
        shutil.rmtree(copy)
        if files.hit is None:
            assert at > 10
            return


LIES = [
    *((policy, byte) for policy in ("delete", "compact") for byte in range(1, 4)),
    *(("delete", byte) for byte in range(4, 8)),  # compaction leaves such gaps
]


@pytest.mark.parametrize(("root", "byte"), LIES, indirect=["root"])
def test_an_offset_that_lies_where_the_log_was_cut_leads_nobody_on(root: Path, byte: int) -> None:
    """A base offset is under no checksum, and at the end of what is left nothing follows it."""
    segments(root)[-1].unlink()
    last = segments(root)[-1]
    os.truncate(last, whole(last) - 1)
    at, header = list(headers(last.read_bytes()[: whole(last)]))[-1]
    with last.open("r+b") as file:
        file.seek(at + byte)
        file.write(b"@")
    repair(root, now=NOW)
    assert check(root, now=NOW).clean
    assert contents(root) == {number: value(number) for number in range(header.base_offset)}
    assert append(root) == RECORDS


@pytest.mark.parametrize("number", range(6))
def test_wherever_it_is_cut_and_damaged_what_is_left_is_there_and_no_offset_comes_again(
    root: Path, number: int, request: pytest.FixtureRequest
) -> None:
    compacted = "compact" in request.node.name
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    chance = random.Random(seed)
    before = {}
    for path in segments(root):
        data = path.read_bytes()
        for at, header in headers(data):
            before[path.name, at] = (header, data[at : at + header.size])
    for path in segments(root)[len(segments(root)) - chance.randint(0, 2) :]:
        path.unlink()
    last = segments(root)[-1]
    os.truncate(last, chance.randrange(last.stat().st_size + 1))
    if chance.random() < 0.5:
        path = chance.choice(segments(root))
        if size := path.stat().st_size:
            at = chance.randrange(size)
            if compacted and any(
                start + 4 <= at < start + 8 for name, start in before if name == path.name
            ):
                at += 4  # offsets that compaction may have left out
            with path.open("r+b") as file:
                file.seek(at)
                file.write(bytes([chance.randrange(256)]))
    expected = {}
    for (name, at), (header, data) in before.items():
        path = root / "events-0" / name
        if path.exists() and path.read_bytes()[at : at + header.size] == data:
            expected |= {n: value(n) for n in range(header.base_offset, header.next_offset)}
    if chance.random() < 0.5:
        reboot(root)
    repair(root, now=NOW)
    assert check(root, now=NOW).clean
    # A leader epoch is under no checksum: whatever it says, the batch is good.
    assert {n: one for n, one in contents(root).items() if n in expected} == expected
    assert append(root) == RECORDS
