"""A log that may only be read: by its mount, by its permissions, or by who opens it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamkit.codec import encode
from streamkit.errors import ReadOnlyLog, StorageFailed
from streamkit.fsck.check import check
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)
NOBODY = 65534

READER = """
import os, sys
from streamkit.codec import encode
from streamkit.errors import LogError
from streamkit.log.directory import Log
from streamkit.records import TopicPartition
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[2]))
try:
    Log.open(sys.argv[1]).close()
    print("opened to write")
except LogError as error:
    print(type(error).__name__)
with Log.open(sys.argv[1], read_only=True) as log:
    partition = log.partition(TopicPartition("events", 0))
    print(partition.end_offset, len(partition.read(0)) > 0)
    try:
        partition.append([encode([b"x"], timestamps=0)])
    except LogError as error:
        print(type(error).__name__)
"""


def append(log: Log, text: bytes = b"x") -> int:
    return log.partition(TP).append([encode([text], timestamps=0)])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with Log.open(tmp_path / "log", maintenance=False) as log:
        log.create_topic("events")
        for _ in range(3):
            append(log)
    return tmp_path / "log"


@pytest.fixture
def mounted(root: Path, tmp_path: Path) -> Iterator[Path]:
    """The same log where the file system is mounted read-only."""
    path = tmp_path / "mounted"
    path.mkdir()
    for options in (["--bind", str(root), str(path)], ["-o", "remount,bind,ro", str(path)]):
        done = subprocess.run(["mount", *options], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"nothing can be mounted read-only here: {done.stderr.strip()}")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.mark.parametrize("lost", [None, "control", "index", "maintenance"])
def test_on_a_mount_that_is_read_only_it_is_read_and_nothing_else(root, mounted, everything, lost):
    for path in root.rglob(f"*{lost}"):
        path.unlink()
    with pytest.raises(ReadOnlyLog, match="open the log read-only"):
        Log.open(mounted)
    with Log.open(mounted, read_only=True) as log:
        assert everything(log.partition(TP)) == [(offset, b"x") for offset in range(3)]
        assert log.partition(TP).offset_at(0) == 0
        for refused in (
            lambda: append(log),
            lambda: log.create_topic("other"),
            log.maintain,
            lambda: log.delete_records(TP, 1),
            lambda: log.partition(TP).trimmer.roll(log.partition(TP).published()),
            lambda: log.partition(TP).trimmer.remove_before(1),
            log.producer_id,
        ):
            with pytest.raises(ReadOnlyLog):
                refused()
        with Log.open(root, maintenance=False) as writer:  # by its other name
            assert append(writer, b"more") == 3
        assert everything(log.partition(TP))[3:] == [(3, b"more")]
    assert all(one.severity != "error" for one in check(mounted, now=0).findings)


def test_a_log_that_is_open_when_its_mount_becomes_read_only_says_so(root, tmp_path, everything):
    path = tmp_path / "mounted"
    path.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "none", str(path)], capture_output=True)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.decode().strip()}")
    try:
        with Log.open(path / "log", maintenance=False) as log:
            log.create_topic("events")
            assert append(log) == 0
        with Log.open(path / "log", read_only=True) as log:
            remount = ["mount", "-o", "remount,ro", str(path)]
            assert subprocess.run(remount, capture_output=True).returncode == 0
            assert everything(log.partition(TP)) == [(0, b"x")]
        with pytest.raises(ReadOnlyLog):
            Log.open(path / "log")
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("mode", ["all of it", "one partition"])
def test_a_user_who_may_not_write_reads(root, mode):
    for path in [root, *root.rglob("*")] if mode == "all of it" else (root / "events-0").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    for path in root.parents:
        if path.stat().st_uid == 0 and path != Path("/") and str(path).count("/") > 1:
            path.chmod(path.stat().st_mode | 0o011)
    command = [sys.executable, "-c", READER, str(root), str(NOBODY)]
    done = subprocess.run(command, capture_output=True, text=True)
    if "PermissionError" in done.stderr and "streamkit/__init__" in done.stderr:
        pytest.skip("another user may not read the program")
    assert done.stdout.split() == ["ReadOnlyLog", "3", "True", "ReadOnlyLog"], done.stderr


def test_a_failed_disk_is_read_on(root, everything):
    with (root / "events-0" / "control").open("r+b") as file:
        file.seek(4094)
        file.write(b"\x05")
    with Log.open(root, read_only=True) as log:
        assert len(everything(log.partition(TP))) == 3
    with Log.open(root, maintenance=False) as log, pytest.raises(StorageFailed):
        append(log)
