"""Each operation on files fails in turn: nothing acknowledged is lost, nothing is half there.

A scenario is told again and again, and the n-th operation fails, for n = 1, 2, ... until it comes
to its end without a fault. Whatever fails has to be an error of ours, and the scenario goes on to
its next step, as a program does that catches it. Then the log is opened with good files.
"""

import errno
import gc
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path

import pytest
from faulty_files import ALL, CHANGES, TAKES_SPACE, Fault, FaultyFiles, Killed

from streamkit.backends.embedded import EmbeddedBackend
from streamkit.backends.offsets_topic import OffsetsTopic
from streamkit.backends.values import CommittedOffset
from streamkit.clients.producer import Producer
from streamkit.clock import SystemClock
from streamkit.codec import columns, encode, headers
from streamkit.errors import StorageFailed, StreamkitError
from streamkit.fsck.check import check
from streamkit.fsck.repair import repair
from streamkit.log.directory import Log
from streamkit.log.files import UnsyncedFiles
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)
CONFIG = {"segment.bytes": "1024", "index.interval.bytes": "150"}
STRIDE = 1 if "STREAMKIT_SOAK" in os.environ else 7
"""`make soak` lets each operation fail, `make test` every seventh, beginning with any."""

NOW = 1_000_000_000_000


class Story:
    """Something done to a log whose files fail, keeping book of what was acknowledged."""

    def __init__(self, root: Path, files: FaultyFiles) -> None:
        self.root = root
        self.files = files
        self.made: dict[str, int] = {}
        """Topics that are sure to be there, with the least number of partitions."""
        self.unsure: set[str] = set()
        """Topics whose creation, growth or deletion has failed: they may be there or not."""
        self.acked: dict[TopicPartition, dict[int, bytes]] = {}
        self.tried: dict[TopicPartition, list[tuple[bytes, ...]]] = {}
        """Batches whose append has failed: each is there as a whole, once, or it is not."""
        self.transactions: list[list[tuple[TopicPartition, bytes]]] = []
        """What was sent in each transaction that was not to be aborted."""
        self.committed: list[tuple[TopicPartition, bytes]] = []
        """Of these, what was committed for sure."""
        self.commits: dict[TopicPartition, list[int]] = {}
        """Offsets that a group may have committed, the last one that it has for sure first."""
        self.tables: dict[TopicPartition, dict[bytes, list[bytes]]] = {}
        """By key, the last value that is there for sure (b"": none), and those tried since."""
        self.lost_control = False
        self.retained = True
        """No record goes by itself."""
        self.sure = False
        """A commit of the group was acknowledged."""
        self.starts: dict[TopicPartition, int] = {}
        """Below these offsets records may be gone."""
        self.numbers = count()
        self._log: Log | None = None

    def log(self) -> Log:
        if self._log is None:
            self._log = Log.open(
                self.root, files=self.files, maintenance=False, create=not self.made
            )
        return self._log

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    @contextmanager
    def may_fail(self) -> Iterator[None]:
        """What does not end well ends with an error of ours."""
        try:
            yield
        except StreamkitError as error:
            assert self.files.hit is not None, f"{error!r}, and nothing had failed"

    # Steps.

    def create(self, name: str, partitions: int = 1, **config: str) -> None:
        self.unsure.add(name)
        with self.may_fail():
            self.log().create_topic(name, partitions, {**CONFIG, **config})
            self.unsure.discard(name)
            self.made[name] = partitions

    def delete(self, name: str) -> None:
        self.made.pop(name, None)
        self.unsure.add(name)
        gone = [tp for tp in {**self.acked, **self.tried} if tp.topic == name]
        with self.may_fail():
            self.log().delete_topic(name)
            self.unsure.discard(name)
        for tp in gone:  # if it is still there, its records may be, too
            was = [(value,) for value in self.acked.pop(tp, {}).values()]
            self.tried.setdefault(tp, []).extend(was)

    def grow(self, name: str, total: int) -> None:
        with self.may_fail():
            self.log().add_partitions(name, total)
            self.made[name] = total

    def alter(self, name: str, **config: str) -> None:
        with self.may_fail():
            self.log().alter_topic(name, config)

    def values(self, records: int, size: int) -> tuple[bytes, ...]:
        return tuple(b"%d " % next(self.numbers) * size for _ in range(records))

    def append(
        self, tp: TopicPartition = TP, *batches: int, acks: str = "all", size: int = 20
    ) -> None:
        """Append batches of so many records, at once."""
        chosen = [self.values(records, size) for records in batches or (1,)]
        tried = self.tried.setdefault(tp, [])
        tried += chosen
        with self.may_fail():
            encoded = [encode(list(values), timestamps=next(self.numbers)) for values in chosen]
            offset = self.log().partition(tp).append(encoded, acks=acks)  # type: ignore[arg-type]
            for values in chosen:
                tried.remove(values)
                for value in values:
                    self.acked.setdefault(tp, {})[offset] = value
                    offset += 1

    def read(self, tp: TopicPartition = TP) -> None:
        """Everything, and nothing else than what was appended."""
        with self.may_fail():
            for offset, value in contents(self.log(), tp).items():
                self.require(tp, offset, value)

    def seek(self, tp: TopicPartition = TP, at: int = 5) -> None:
        with self.may_fail():
            self.log().partition(tp).offset_at(at)

    def backend(self) -> EmbeddedBackend:
        log, clock = self.log(), SystemClock()
        return EmbeddedBackend(log, OffsetsTopic(log, clock), clock=clock, closing=lambda: None)

    def commit(self, tp: TopicPartition, offset: int, group: str = "readers") -> None:
        self.commits.setdefault(tp, []).append(offset)
        with self.may_fail():
            self.backend().commit(group, {tp: CommittedOffset(offset)})
            self.commits[tp] = [offset]
            self.sure = True

    def transact(self, *tps: TopicPartition, offset: int = -1, abort: bool = False) -> None:
        """Send a record to each, and commit an offset, all at once or not at all."""
        sent = [(tp, self.values(1, 20)[0]) for tp in tps]
        if not abort:
            self.transactions.append(sent)
        with self.may_fail(), suppress(Aborted):
            with (
                Producer(self.backend(), transactional_id="mover") as producer,
                producer.transaction() as transaction,
            ):
                for tp, value in sent:
                    transaction.send(tp.topic, value, partition=tp.partition)
                if offset >= 0:
                    transaction.commit_offsets("movers", {TP: offset})
                if abort:
                    raise Aborted
            self.committed += sent

    def put(self, tp: TopicPartition, *keys: bytes) -> None:
        """Append a new value for each key of a compacted topic, as one batch."""
        values = self.values(len(keys), 30)
        table = self.tables.setdefault(tp, {})
        for key, value in zip(keys, values, strict=True):
            table.setdefault(key, [b""]).append(value)
        with self.may_fail():
            batch = encode(list(values), keys=list(keys), timestamps=next(self.numbers))
            self.log().partition(tp).append([batch])
            for key, value in zip(keys, values, strict=True):
                table[key] = [value]

    def maintain(self) -> None:
        with self.may_fail():
            self.log().maintain()

    def delete_records(self, tp: TopicPartition, before: int) -> None:
        """What was acknowledged before that offset may go from now on, but it must not be half."""
        self.starts[tp] = before
        with self.may_fail():
            self.log().delete_records(tp, before)

    def require(self, tp: TopicPartition, offset: int, value: bytes) -> None:
        """The record was appended there, or tried to be."""
        acked = self.acked.get(tp, {})
        if offset in acked:
            assert acked[offset] == value
        else:
            sent = [(value,) for there, value in chain(*self.transactions) if there == tp]
            assert any(value in values for values in (*self.tried.get(tp, ()), *sent))


class Aborted(Exception):
    """Raised in a transaction, to have it aborted."""


def contents(log: Log, tp: TopicPartition) -> dict[int, bytes]:
    """Every committed record."""
    partition = log.partition(tp)
    found: dict[int, bytes] = {}
    offset = partition.start_offset
    while True:
        seen = partition.read_committed(offset)
        for piece in seen.pieces:
            some = columns(piece, offset)
            found |= dict(zip(some.offsets, some.values, strict=True))
        if seen.next_offset == offset:
            return found
        offset = seen.next_offset


def hold(story: Story) -> None:
    """What was promised is there, what else is there is whole, all is in order, and goes on."""
    report = check(story.root, now=NOW)
    if not story.lost_control:  # else the control block says what is half done, if anything is
        assert all(one.kind != "torn" for one in report.findings)
    problems = [one for one in report.findings if one.severity == "error"]
    assert all(one.kind == "storage" for one in problems), problems
    with Log.open(story.root, maintenance=False, fsync="never") as log:
        topics = log.topics()
        for name, partitions in story.made.items():
            assert topics[name].partitions >= partitions
        ours = {name for name in topics if not name.startswith("__")}
        assert ours <= story.made.keys() | story.unsure
        for name in ours:
            for number in range(topics[name].partitions):
                hold_partition(story, log, TopicPartition(name, number))
    if problems:
        repair(story.root, now=NOW, files=UnsyncedFiles())
    with Log.open(story.root, maintenance=False, fsync="never") as log:
        hold_groups(story, log)
        for name in ours:
            tp = TopicPartition(name, 0)
            end = log.partition(tp).end_offset
            assert log.partition(tp).append([encode([b"more"], timestamps=0)]) == end
            assert contents(log, tp)[end] == b"more"
        if {"other"} & (
            story.made.keys() | story.unsure
        ):  # leftovers of topics are in nobody's way
            log.create_topic("another", 1)
            log.delete_topic("another")
    report = check(story.root, now=NOW)
    assert report.clean, report.findings


def hold_partition(story: Story, log: Log, tp: TopicPartition) -> None:
    if tp in story.tables:
        hold_table(log, tp, story.tables[tp])
        return
    found = contents(log, tp)
    start = log.partition(tp).start_offset
    assert start in (0, story.starts.get(tp, 0)) or not story.retained
    acked = {at: value for at, value in story.acked.get(tp, {}).items() if at >= start}
    assert {offset: found.get(offset) for offset in acked} == acked
    others = [value for offset, value in sorted(found.items()) if offset not in acked]
    assert len(set(found.values())) == len(found), "nothing is there twice"
    for values in story.tried.get(tp, ()):
        there = [value for value in others if value in values]
        assert there in ([], list(values)), "a batch is there as a whole or not at all"
        others = [value for value in others if value not in values]
    sent = [value for there, value in chain(*story.transactions) if there == tp]
    assert set(others) <= set(sent), "nothing is there that nobody appended"
    if not story.transactions:
        assert list(found) == list(range(start, log.partition(tp).end_offset))


def hold_table(log: Log, tp: TopicPartition, table: dict[bytes, list[bytes]]) -> None:
    """The latest value of each key is the last one acknowledged, or one that was tried since."""
    partition = log.partition(tp)
    found: dict[bytes | None, bytes | None] = {}
    offset = partition.start_offset
    while data := partition.read(offset):
        some = columns(data, offset)
        found |= dict(zip(some.keys, some.values, strict=True))
        for _, header in headers(data):
            offset = header.next_offset
    assert offset == partition.end_offset
    for key, values in table.items():
        assert found.get(key, b"") in values


def hold_groups(story: Story, log: Log) -> None:
    """Transactions and committed offsets, after what was left open is settled."""
    clock = SystemClock()
    with EmbeddedBackend(
        log, OffsetsTopic(log, clock), clock=clock, closing=lambda: None
    ) as backend:
        if story.transactions:
            with Producer(backend, transactional_id="mover"):
                pass  # whoever takes the id over ends what the one before has left
        for sent in story.transactions:
            there = [(tp, value) for tp, value in sent if value in contents(log, tp).values()]
            assert there in ([], sent), "a transaction is there as a whole or not at all"
        for tp, value in story.committed:
            assert value in contents(log, tp).values()
        for tp, offsets in story.commits.items():
            found = backend.committed("readers").get(tp)
            at = found.offset if found is not None else None
            assert at in offsets or (at is None and not story.sure)


# What is told. To add a scenario, write a function and name it in SCENARIOS.


def beginning(story: Story) -> None:
    """The first of all, in a directory that is not there yet."""
    story.create("events", 2)
    story.append(TP)
    story.append(TopicPartition("events", 1), 2, acks=1)  # type: ignore[arg-type]


def appends(story: Story) -> None:
    story.append(TP, 1)
    story.append(TP, 3, 1, acks=1)  # type: ignore[arg-type]
    story.append(TP, 2, 2, 2)
    story.read()
    story.append(TP, 1)


def rolls(story: Story) -> None:
    for number in range(4):
        story.append(TP, 1, size=100, acks="all" if number % 2 else 1)  # type: ignore[arg-type]
    story.append(TP, 2, 2, 2, 2, size=60)
    story.read()
    story.seek()


def topics(story: Story) -> None:
    story.create("other", 2)
    story.append(TopicPartition("other", 1))
    story.delete("other")
    story.create("other", 1)
    story.append(TopicPartition("other", 0), 2)


def growth(story: Story) -> None:
    story.grow("events", 3)
    story.append(TopicPartition("events", 2))
    story.alter("events", **{"segment.bytes": "2048"})
    story.append(TP, 1)


def opening(story: Story) -> None:
    story.append(TP)
    story.close()
    story.append(TP, 2)
    story.read()
    story.close()
    story.seek()
    story.append(TP)


def after_a_kill(story: Story) -> None:
    """Bytes of a killed writer lie behind the end, and its control block is dirty."""
    folder = story.root / "events-0"
    with (folder / "control").open("r+b") as file:
        file.seek(4095)
        file.write(b"\x01")
    with sorted(folder.glob("*.log"))[-1].open("ab") as file:
        file.write(b"half a batch")
    story.append(TP, 2)
    story.read()


def lost_control(story: Story) -> None:
    (story.root / "events-0" / "control").unlink()
    story.lost_control = True
    story.append(TP, 2)
    story.read()


def lost_indexes(story: Story) -> None:
    for path in (story.root / "events-0").glob("*index"):
        path.unlink()
    story.seek()
    story.read()
    story.append(TP)


def commits(story: Story) -> None:
    for offset in (3, 5, 9):
        story.commit(TP, offset)


def transactions(story: Story) -> None:
    other = TopicPartition("events", 1)
    story.transact(TP, other, offset=4)
    story.transact(other, TP, abort=True)
    story.transact(TP)
    story.read()


def deleted_records(story: Story) -> None:
    story.append(TP, 2, 2, 2, 2, size=60)
    story.delete_records(TP, 9)
    story.maintain()
    story.append(TP)


def compaction(story: Story) -> None:
    policy = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01"}
    story.create("table", 1, **policy)
    table = TopicPartition("table", 0)
    for number in range(6):
        story.put(table, b"a", b"b", b"key %d" % number)
    story.maintain()
    story.put(table, b"a", b"c")
    story.maintain()


def retention(story: Story) -> None:
    """Old segments go, as far as they are finished."""
    story.alter("events", **{"retention.bytes": "0"})
    story.retained = False
    story.append(TP, 3, 3, 3, 3, size=60)
    story.maintain()
    story.append(TP)


SCENARIOS = [
    beginning,
    appends,
    rolls,
    topics,
    growth,
    opening,
    after_a_kill,
    lost_control,
    lost_indexes,
    commits,
    transactions,
    deleted_records,
    compaction,
    retention,
]


def error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


FAULTS: dict[str, Callable[[int], Fault]] = {
    "EIO once": lambda at: Fault(at, error(errno.EIO), ALL),
    "EIO from then on": lambda at: Fault(
        at, error(errno.EIO), ALL - {"flock", "share"}, lasting=True
    ),
    "ENOSPC once": lambda at: Fault(at, error(errno.ENOSPC), TAKES_SPACE),
    "ENOSPC from then on": lambda at: Fault(at, error(errno.ENOSPC), TAKES_SPACE, lasting=True),
    "half a write, then ENOSPC": lambda at: Fault(
        at, error(errno.ENOSPC), frozenset({"pwritev"}), short=True, lasting=True
    ),
    "half a write": lambda at: Fault(at, None, frozenset({"pwritev"}), short=True),
    "EMFILE once": lambda at: Fault(
        at, error(errno.EMFILE), frozenset({"open", "reopen", "listdir"})
    ),
    "killed": lambda at: Fault(at, Killed(), CHANGES),
    "killed in the middle of a write": lambda at: Fault(
        at, Killed(), frozenset({"pwritev"}), short=True
    ),
}


@pytest.fixture(autouse=True)
def impatient(monkeypatch) -> None:
    """Nobody else does maintenance here: on a broken disk there is nothing to wait for."""
    monkeypatch.setattr("streamkit.log.directory.PATIENCE_SECONDS", 0.0)


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    """A log with a topic of two partitions, of which the first has two segments."""
    root = tmp_path_factory.mktemp("begun") / "log"
    story = Story(root, FaultyFiles(synced=False))
    story.create("events", 2)
    for number in range(6):
        story.append(TP, 1 + number % 3, size=30)
    story.close()
    return root


def told(scenario: Callable[[Story], None], root: Path, fault: Fault, begun: Path) -> Story:
    """The scenario as far as it comes; the log is closed, as by the end of its process."""
    story = Story(root, FaultyFiles(None, synced=False))
    if scenario is not beginning:
        shutil.copytree(begun, root)
        story.made["events"] = 2
        with Log.open(root, read_only=True) as log:
            story.acked[TP] = contents(log, TP)
        story.numbers = count(1000)
    story.files.fault = fault
    threads = set(threading.enumerate())
    try:
        scenario(story)
    except Killed:
        for thread in set(threading.enumerate()) - threads:
            if not thread.name.startswith("streamkit-sync"):  # these stay, and were waited for
                thread.join()
        story.files.bury()
    else:
        story.files.fault = None
        story.close()
    return story


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_whatever_fails_nothing_acknowledged_is_lost(scenario, kind, tmp_path, begun):
    first = random.randint(1, STRIDE)
    for at in count(first, STRIDE):
        root = tmp_path / f"{at}"
        story = told(scenario, root, FAULTS[kind](at), begun)
        if story.files.hit is None:
            break
        try:
            if scenario is beginning and not (root / "meta.properties").exists():
                Log.open(root, maintenance=False).close()
            hold(story)
        except BaseException as problem:
            problem.add_note(f"after {kind} at operation {at}, {story.files.hit!r}")
            raise
        shutil.rmtree(root)
    assert not story.tried.get(TP), "without a fault everything is acknowledged"
    gc.collect()


def test_a_topic_whose_creation_failed_in_a_sync_is_there_whole_or_not_at_all(tmp_path, begun):
    def twice(story: Story) -> None:
        story.create("other", 2)
        if "other" in story.unsure:
            story.create("other", 2)

    failed = 0
    for at in count(1):
        fault = Fault(at, error(errno.EIO), frozenset({"fdatasync"}))
        story = told(twice, tmp_path / f"{at}", fault, begun)
        hold(story)
        failed += story.files.hit is not None
        if story.files.hit is None:
            assert failed > 3
            return


def test_the_scenarios_have_operations_to_fail(tmp_path, begun):
    for scenario in SCENARIOS:
        story = told(scenario, tmp_path / scenario.__name__, Fault(10**9), begun)
        assert story.files.count > 8
        assert "fdatasync" in story.files.calls
        if scenario is compaction:
            assert (story.root / "table-0").glob("*.log") and "link" in story.files.calls
        if scenario in (retention, deleted_records):
            assert not (story.root / "events-0" / f"{0:020d}.log").exists()


@pytest.mark.parametrize("number", [errno.EIO])
def test_after_a_failed_fsync_appends_are_refused_until_the_log_is_repaired(
    tmp_path, begun, number
):
    root = tmp_path / "log"
    shutil.copytree(begun, root)
    files = FaultyFiles(Fault(1, error(number), frozenset({"fdatasync"})))
    with Log.open(root, files=files, maintenance=False) as log:
        with pytest.raises(StorageFailed):
            log.partition(TP).append([encode([b"x"], timestamps=0)])
        with pytest.raises(StorageFailed, match="streamkit fsck --repair"):
            log.partition(TP).append([encode([b"x"], timestamps=0)], acks=1)
        assert contents(log, TP)
    repair(root, now=NOW)
    with Log.open(root) as log:
        log.partition(TP).append([encode([b"x"], timestamps=0)])
