"""A failed fsync in one process, as the others see it: refused everywhere, until it is repaired."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty_files import FaultyFiles

from streamkit.clients.producer import Producer
from streamkit.codec import encode
from streamkit.errors import LogInUse, StorageFailed
from streamkit.fsck.check import check
from streamkit.fsck.repair import repair
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)
OTHER = TopicPartition("events", 1)

PROCESS = """
import sys
from streamkit.codec import encode
from streamkit.errors import LogError
from streamkit.log.directory import Log
from streamkit.log.files import RealFiles
from streamkit.records import TopicPartition

class Failing(RealFiles):
    broken = False
    def fdatasync(self, fd):
        if self.broken:
            raise OSError(5, "Input/output error")
        RealFiles.fdatasync(fd)

files = Failing()
log = Log.open(sys.argv[1], files=files, maintenance=False)
print("open", flush=True)
for line in sys.stdin:
    word, number = line.split()
    partition = log.partition(TopicPartition("events", int(number)))
    try:
        if word == "break":
            files.broken = True
        if word == "mend":
            files.broken = False
        if word == "append":
            partition.append([encode([b"x"], timestamps=0)])
        if word == "read":
            partition.read(0)
        print("done", flush=True)
    except LogError as error:
        print(type(error).__name__, flush=True)
"""


class Process:
    """Another process that has the log open and does as it is told."""

    def __init__(self, root: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._said() == "open"

    def _said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def __call__(self, word: str, partition: int = 0) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word} {partition}\n")
        self.process.stdin.flush()
        return self._said()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with Log.open(tmp_path / "log", maintenance=False) as log:
        log.create_topic("events", 2)
        for tp in (TP, OTHER):
            log.partition(tp).append([encode([b"x"], timestamps=0)])
    return tmp_path / "log"


@pytest.fixture
def processes(root: Path) -> Iterator[list[Process]]:
    processes = [Process(root) for _ in range(2)]
    yield processes
    for process in processes:
        process.end()


def test_every_process_refuses_what_one_could_not_sync_until_the_log_is_repaired(root, processes):
    one, other = processes
    assert one("append") == other("append") == "done"
    one("break")
    assert one("append") == "StorageFailed"
    one("mend")
    for process in processes:
        assert process("append") == "StorageFailed", "a second fsync would prove nothing"
        assert process("append", 1) == "done", "other partitions go on"
        assert process("read") == "done"
    third = Process(root)
    processes.append(third)
    assert third("append") == "StorageFailed", "one that opens it now refuses as well"
    with pytest.raises(LogInUse):
        repair(root, now=0)
    for process in processes:
        process.end()
    fourth = Process(root)
    processes.append(fourth)
    assert fourth("append") == "StorageFailed", "it is not forgotten when all are gone"
    fourth.end()
    assert [one.kind for one in check(root, now=0).findings if one.severity == "error"] == [
        "storage"
    ]
    repair(root, now=0)
    assert check(root, now=0).clean
    fifth = Process(root)
    processes.append(fifth)
    assert fifth("append") == "done"
    with Log.open(root, read_only=True) as log:
        assert log.partition(TP).end_offset == 5


def test_a_disk_that_fails_in_a_repair_is_not_forgotten(root, processes):
    one, _ = processes
    one("break")
    assert one("append") == "StorageFailed"
    for process in processes:
        process.end()

    files = FaultyFiles()
    files.fail["fdatasync"] = OSError(5, "Input/output error")
    with pytest.raises(StorageFailed):
        repair(root, now=0, files=files)
    third = Process(root)
    processes.append(third)
    assert third("append") == "StorageFailed"


def test_a_transaction_over_a_failed_partition_holds_up_its_own_id_until_the_repair(
    root, processes
):
    one, _ = processes
    one("break")
    assert one("append") == "StorageFailed"
    with (
        pytest.raises(StorageFailed),
        Producer(str(root), transactional_id="x") as producer,
        producer.transaction() as transaction,
    ):
        transaction.send("events", b"never", partition=1)
        transaction.send("events", b"never", partition=0)
    with (
        Producer(str(root), transactional_id="y") as producer,
        producer.transaction() as transaction,
    ):
        transaction.send("events", b"good", partition=1)
    for process in processes:
        process.end()
    repair(root, now=0)
    with (
        Producer(str(root), transactional_id="x") as producer,
        producer.transaction() as transaction,
    ):
        for number in (0, 1):
            transaction.send("events", b"good", partition=number)
    with Log.open(root, read_only=True) as log:
        for tp, goods in ((TP, 1), (OTHER, 2)):
            partition = log.partition(tp)
            assert partition.stable_offset == partition.end_offset
            seen = b"".join(partition.read_committed(0).pieces)
            assert (seen.count(b"good"), seen.count(b"never")) == (goods, 0)
    assert check(root, now=0).clean
