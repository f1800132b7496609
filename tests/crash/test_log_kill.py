"""Processes that append at once, and are killed at any moment: nothing acknowledged is lost."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streamkit.codec import columns, encode
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)

WRITER = """
import sys
from streamkit.codec import encode
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

root, name, acks, size, count = sys.argv[1:]
log = Log.open(root, fsync="always" if acks == "all" else "never")
partition = log.partition(TopicPartition("events", 0))
padding = b"." * int(size)
number = 0
while number < int(count):
    batches = [encode([b"%s %d %s" % (name.encode(), number + i, padding)], timestamps=number)
               for i in range(1 + number % 3)]
    offset = partition.append(batches, acks="all" if acks == "all" else 1)
    for i in range(len(batches)):
        sys.stdout.write(f"{name} {number + i} {offset + i}\\n")
    sys.stdout.flush()
    number += len(batches)
"""


def start(root: Path, name: str, *, acks: str = "1", size: int = 50, count: int = 10**9):
    command = [sys.executable, "-c", WRITER, str(root), name, acks, str(size), str(count)]
    with (root.parent / f"{name}.said").open("w") as said:
        return subprocess.Popen(command, stdout=said)


def said_by(root: Path, name: str) -> str:
    return (root.parent / f"{name}.said").read_text()


def contents(root: Path) -> dict[int, tuple[str, int]]:
    """offset → (writer, number), of everything there is, with checksums and density checked."""
    found: dict[int, tuple[str, int]] = {}
    with Log.open(root, fsync="never") as log:
        partition = log.partition(TP)
        offset = 0
        while data := partition.read(offset):
            some = columns(data, offset)
            for at, value in zip(some.offsets, some.values, strict=True):
                name, number, _ = value.split(b" ", 2)
                assert at == len(found), "offsets are dense"
                found[at] = (name.decode(), int(number))
            offset = len(found)
        assert offset == partition.end_offset
    return found


def acknowledged(lines: str) -> list[tuple[int, tuple[str, int]]]:
    """What a writer said, without a last line that the kill cut."""
    whole = lines[: lines.rfind("\n") + 1]
    return [
        (int(offset), (name, int(number)))
        for name, number, offset in (line.split() for line in whole.splitlines())
    ]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with Log.open(tmp_path / "log", fsync="never") as log:
        log.create_topic("events", 1, {"segment.bytes": "65536", "index.interval.bytes": "1000"})
    return tmp_path / "log"


def test_several_processes_append_at_once_and_nothing_is_lost_or_mixed(root):
    writers = [start(root, f"w{n}", count=600) for n in range(4)]
    assert [writer.wait(timeout=120) for writer in writers] == [0] * 4
    found = contents(root)
    said = [said_by(root, f"w{n}") for n in range(4)]
    assert len(found) == sum(lines.count("\n") for lines in said) >= 2400
    for lines in said:
        for offset, record in acknowledged(lines):
            assert found[offset] == record


@pytest.mark.parametrize(
    ("acks", "size", "rounds"), [("1", 50, 8), ("1", 40_000, 8), ("all", 500, 4)]
)
def test_writers_killed_at_random_moments_lose_nothing_acknowledged(root, acks, size, rounds):
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    chance = random.Random(seed)
    said: list[tuple[int, tuple[str, int]]] = []
    for number in range(rounds):
        names = [f"r{number}w{n}" for n in range(2)]
        writers = [start(root, name, acks=acks, size=size) for name in names]
        deadline = time.monotonic() + 60
        while not all(said_by(root, name) for name in names):  # they are under way
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.03))
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.wait(timeout=60)
        for name in names:
            said += acknowledged(said_by(root, name))
        found = contents(root)
        for offset, record in said:
            assert found[offset] == record
    # What nobody acknowledged may be there, once; what is there is nowhere twice.
    assert len(set(found.values())) == len(found)
    with Log.open(root, fsync="never") as log:
        assert log.partition(TP).append([encode([b"after 0 ."], timestamps=0)]) == len(found)


needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace is not installed: it injects the faults here"
)


def strace_works() -> bool:
    return (
        subprocess.run(
            ["strace", "-o", os.devnull, "-e", "trace=none", "true"], capture_output=True
        ).returncode
        == 0
    )


def traced(rules: tuple[str, ...], program: str, *arguments: str) -> tuple[int, str, str]:
    """Exit status, output and errors of a program some of whose system calls end otherwise."""
    if not strace_works():
        pytest.skip("strace may not trace processes here")
    options = [word for rule in rules for word in ("-e", rule)]
    command = ["strace", "-f", "-o", os.devnull, *options, sys.executable, "-c", program]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


def injected(
    root: Path, *rules: str, acks: str = "1", size: int = 3000, count: int = 40
) -> tuple[int, str, str]:
    return traced(rules, WRITER, str(root), "traced", acks, str(size), str(count))


WRITE = "pwritev,pwritev2"
"""Which of the two Python calls depends on the C library."""


@needs_strace
@pytest.mark.parametrize(
    ("calls", "when", "size"),
    [
        *((WRITE, when, 3000) for when in (1, 2, 3, 4, 5, 6, 20)),
        *((WRITE, when, 50) for when in (20, 21, 22)),
        *(("flock", when, 3000) for when in (1, 2, 3)),
        *(("flock", when, 50) for when in (30, 31)),
        *(("ftruncate", when, 3000) for when in (1, 2, 3)),
    ],
)
def test_a_writer_killed_at_a_system_call_loses_nothing_acknowledged(root, calls, when, size):
    rules = (f"trace={calls}", f"inject={calls}:signal=KILL:when={when}")
    status, said, _ = injected(root, *rules, size=size)
    assert status in (-signal.SIGKILL, 128 + signal.SIGKILL)
    for name in ("after", "later"):
        found = contents(root)
        for offset, record in acknowledged(said):
            assert found[offset] == record
        assert start(root, name, count=30).wait(timeout=60) == 0
        said = said_by(root, name)
    assert len(contents(root)) >= 60


@needs_strace
@pytest.mark.parametrize(("when", "size"), [(9, 3000), (20, 50), (21, 50)])
def test_a_full_disk_is_an_error_that_leaves_nothing_behind(root, when, size):
    rules = (f"trace={WRITE}", f"inject={WRITE}:error=ENOSPC:when={when}+")
    status, said, error = injected(root, *rules, size=size)
    assert status == 1
    assert "OutOfSpace" in error
    found = contents(root)
    assert [offset for offset, _ in acknowledged(said)] == list(found)


@needs_strace
def test_a_failed_fdatasync_is_an_error_for_everybody_from_then_on(root):
    rules = ("trace=fdatasync", "inject=fdatasync:error=EIO:when=6")
    status, said, error = injected(root, *rules, acks="all")
    assert status == 1
    assert re.search(r"StorageFailed: .*events-0: the storage failed \(Input/output error\)", error)
    other = subprocess.run(
        [sys.executable, "-c", WRITER, str(root), "other", "1", "10", "3"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert other.returncode == 1
    assert "StorageFailed" in other.stderr
    found = contents(root)  # reads go on
    for offset, record in acknowledged(said):
        assert found[offset] == record


CREATOR = """
import sys
from streamkit.codec import encode
from streamkit.log.directory import Log
from streamkit.records import TopicPartition
log = Log.open(sys.argv[1])
log.create_topic("made", 2)
print("created", flush=True)
log.partition(TopicPartition("made", 1)).append([encode([b"x"], timestamps=0)])
log.delete_topic("made")
print("deleted", flush=True)
"""


@needs_strace
@pytest.mark.parametrize(
    ("calls", "when"),
    [
        *(("mkdir,mkdirat", when) for when in (1, 2)),
        *(("fdatasync,fsync", when) for when in range(1, 6)),
        *(("rename,renameat,renameat2", when) for when in (1, 2)),
        *(("unlink,unlinkat", when) for when in (1, 2, 4, 9)),
        *(("rmdir", when) for when in (1, 2)),
    ],
)
def test_a_process_killed_while_it_creates_or_deletes_leaves_a_topic_or_none(root, calls, when):
    rules = (f"trace={calls}", f"inject={calls}:signal=KILL:when={when}")
    status, said, _ = traced(rules, CREATOR, str(root))
    assert status in (-signal.SIGKILL, 128 + signal.SIGKILL)
    with Log.open(root) as log:
        known = "made" in log.topics()
        if "created" not in said:
            assert not known or log.topic("made").partitions == 2
        if known:
            for number in range(2):
                log.partition(TopicPartition("made", number)).append([encode([b"y"], timestamps=0)])
            log.delete_topic("made")
        log.create_topic("made", 2)
        for number in range(2):
            tp = TopicPartition("made", number)
            assert log.partition(tp).append([encode([b"z"], timestamps=0)]) == 0
    left = sorted(path.name for path in root.iterdir() if "made" in path.name)
    assert left == ["made-0", "made-1"]


ALTERER = """
import sys
from streamkit.log.directory import Log
log = Log.open(sys.argv[1], maintenance=False)
log.add_partitions("made", 3)
print("grown", flush=True)
log.alter_topic("made", {"segment.ms": "7000", "max.message.bytes": None})
print("altered", flush=True)
"""


@needs_strace
@pytest.mark.parametrize(
    ("calls", "when"),
    [
        *(("mkdir,mkdirat", when) for when in (1, 2)),
        *(("pwritev,pwritev2", when) for when in (2, 7, 8, 10)),
        *(("fdatasync", when) for when in (2, 5, 6)),
        *(("fsync", when) for when in (1, 3)),
        *(("rename,renameat,renameat2", when) for when in (1, 2)),
    ],
)
def test_a_process_killed_while_it_alters_a_topic_leaves_it_as_before_or_after(root, calls, when):
    before = {"segment.ms": "5000", "max.message.bytes": "9000"}
    with Log.open(root) as log:
        log.create_topic("made", 1, before)
        log.partition(TopicPartition("made", 0)).append([encode([b"x"], timestamps=0)])
    rules = (f"trace={calls}", f"inject={calls}:signal=KILL:when={when}")
    status, said, _ = traced(rules, ALTERER, str(root))
    assert status in (-signal.SIGKILL, 128 + signal.SIGKILL)
    with Log.open(root) as log:
        topic = log.topic("made")
        assert topic.partitions in ((3,) if "grown" in said else (1, 3))
        assert topic.config in (
            [{"segment.ms": "7000"}] if "altered" in said else [before, {"segment.ms": "7000"}]
        )
        if topic.partitions == 1:
            log.add_partitions("made", 3)
        ends = [log.partition(TopicPartition("made", number)).end_offset for number in range(3)]
        assert ends == [1, 0, 0]
        for number in range(3):
            tp = TopicPartition("made", number)
            log.partition(tp).append([encode([b"y"], timestamps=0)])
    left = sorted(path.name for path in root.iterdir() if path.name.startswith("made"))
    assert left == ["made-0", "made-1", "made-2"]
