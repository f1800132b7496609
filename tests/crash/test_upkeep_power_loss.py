"""Power cuts while a log is kept in order: compaction, retention, deleted records, topics, groups,
a full disk, a repair.

The power goes at an fsync (at every one with `STREAMKIT_SOAK`). Of the last operations that were
not synced by then every subset is lost in turn, and of all of them sectors by chance. Then, in
another boot, the log is held against what was promised, gone on with, and looked at by fsck.
"""

import errno
import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from power_cuts import Cut, Disk

from streamkit.backends import embedded_groups, members, transactions_topic
from streamkit.backends.base import Membership
from streamkit.backends.embedded import EmbeddedBackend
from streamkit.backends.offsets_topic import OffsetsTopic
from streamkit.backends.values import CommittedOffset
from streamkit.clock import ManualClock
from streamkit.codec import columns, encode, headers
from streamkit.errors import OutOfSpace
from streamkit.fsck.check import check
from streamkit.fsck.repair import repair
from streamkit.log import maintenance, opening, recovery, space
from streamkit.log.directory import Log
from streamkit.log.files import Buffer, UnsyncedFiles
from streamkit.records import TopicPartition

SOAK = "STREAMKIT_SOAK" in os.environ
LAST = 5 if SOAK else 4
"""So many of the last unsynced operations are lost in every combination."""

BY_CHANCE = 15 if SOAK else 2
SMALL = {"segment.bytes": "1024", "index.interval.bytes": "200"}
COMPACTED = {**SMALL, "cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01"}
EVENTS = TopicPartition("events", 0)
TABLE = TopicPartition("table", 0)
STAYS = ("leftover", "snapshot")
NOW = 1_767_225_600_000

Row = tuple[bytes, bytes | None]
"""A record's key and value; None: a tombstone."""


@dataclass(frozen=True)
class Promised:
    """What a power cut may not take away, and what else may be found."""

    made: frozenset[tuple[str, int]] = frozenset()
    gone: frozenset[str] = frozenset()
    synced: tuple[tuple[TopicPartition, int], ...] = ()
    """Offsets below these were acknowledged with acks="all"."""

    starts: tuple[tuple[TopicPartition, tuple[int, int]], ...] = ()
    """The least and the greatest offset that a partition may start at."""

    committed: tuple[tuple[TopicPartition, tuple[int, ...]], ...] = ()
    """The last offset that a group has committed for sure, and those that it has tried since."""


class SmallDisk(Disk):
    """One on which so many bytes still fit."""

    free = 1 << 40

    def room(self, path: str) -> int:
        return self.free

    def pwritev(self, fd: int, buffers: Sequence[Buffer], position: int) -> int:  # type: ignore[override]
        with self._lock:
            end = position + sum(map(len, buffers))
            wanted = max(0, end - os.fstat(fd).st_size)
            if wanted > self.free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.free -= wanted
            return super().pwritev(fd, buffers, position)

    def unlink(self, path: str) -> None:  # type: ignore[override]
        with self._lock:
            self.free += os.path.getsize(path)
            super().unlink(path)


class Story:
    """Something done to a log on a `Disk`, keeping book of what was promised."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        self.promised = Promised()
        self.rows: dict[TopicPartition, list[Row]] = {}
        """All that was ever appended, by offset."""

        self.clock = ManualClock()
        self.disk = SmallDisk(root, self.said)
        self.log = Log.open(root / "log", files=self.disk, clock=self.clock, maintenance=False)

    def said(self) -> tuple[Promised, dict[TopicPartition, list[Row]]]:
        return self.promised, {tp: list(rows) for tp, rows in self.rows.items()}

    def promise(self, **changed: object) -> None:
        fields = {name: getattr(self.promised, name) for name in Promised.__match_args__}
        self.promised = Promised(**{**fields, **changed})  # type: ignore[arg-type]

    def create(self, name: str, partitions: int = 1, config: dict[str, str] = SMALL) -> None:
        self.promise(gone=self.promised.gone - {name})
        self.log.create_topic(name, partitions, config)
        self.promise(made=self.promised.made | {(name, partitions)})
        self.rows |= {TopicPartition(name, number): [] for number in range(partitions)}

    def delete(self, name: str) -> None:
        self.promise(
            made=frozenset(one for one in self.promised.made if one[0] != name),
            synced=tuple(one for one in self.promised.synced if one[0].topic != name),
            starts=tuple(one for one in self.promised.starts if one[0].topic != name),
        )
        self.log.delete_topic(name)
        self.promise(gone=self.promised.gone | {name})

    def append(self, tp: TopicPartition, *rows: Row, acks: str = "all") -> None:
        known = self.rows[tp]
        start = len(known)
        keys, values = zip(*rows, strict=True)
        batch = encode(list(values), keys=list(keys), timestamps=self.clock.now())
        known += rows
        assert self.log.partition(tp).append([batch], acks=acks) == start  # type: ignore[arg-type]
        if acks == "all":
            self.promise(synced=tuple({**dict(self.promised.synced), tp: len(known)}.items()))

    def fill(self, tp: TopicPartition, records: int, *, acks: str = "all") -> None:
        """Append records, each as a batch of its own; every fifth key is used only once."""
        for number in range(records):
            offset = len(self.rows[tp])
            key = b"only %d" % offset if number % 5 == 4 else b"key %d" % (number % 3)
            self.append(tp, (key, b"%d " % offset * 30), acks=acks)

    def may_start(self, tp: TopicPartition, least: int, most: int) -> None:
        self.promise(starts=tuple({**dict(self.promised.starts), tp: (least, most)}.items()))

    def delete_records(self, tp: TopicPartition, before: int) -> None:
        least, _ = dict(self.promised.starts).get(tp, (0, 0))
        self.may_start(tp, least, before)
        assert self.log.delete_records(tp, before) == before
        self.may_start(tp, before, before)
        self.disk.cut()

    def commit(
        self,
        backend: EmbeddedBackend,
        offset: int,
        *,
        member: Membership | None = None,
        force: bool = False,
    ) -> None:
        tp, known = EVENTS, dict(self.promised.committed).get(EVENTS, (0,))
        self.promise(committed=((tp, (*known, offset)),))
        offsets = {tp: CommittedOffset(offset)}
        if force:
            backend.reset("readers", lambda _: offsets, force=True)
        else:
            backend.commit(
                "readers", offsets, member=backend._members[0] if backend._members else None
            )
        self.promise(committed=((tp, (offset,)),))
        self.disk.cut()


def backend_of(log: Log) -> EmbeddedBackend:
    clock = ManualClock()
    return EmbeddedBackend(log, OffsetsTopic(log, clock), clock=clock, closing=lambda: None)


def contents(log: Log, tp: TopicPartition) -> dict[int, Row]:
    partition = log.partition(tp)
    found: dict[int, Row] = {}
    offset = partition.start_offset
    while data := partition.read(offset):
        some = columns(data, offset)
        rows = zip(some.keys, some.values, strict=True)
        found |= dict(zip(some.offsets, rows, strict=True))  # type: ignore[arg-type]
        for _, header in headers(data):
            offset = header.next_offset
    assert offset == partition.end_offset or partition.config.compacted
    return found


def latest(rows: dict[int, Row]) -> dict[bytes, bytes]:
    """What a reader of the whole topic knows in the end."""
    found = dict(rows[offset] for offset in sorted(rows))
    return {key: value for key, value in found.items() if value is not None}


def hold(root: Path, promised: Promised, rows: dict[TopicPartition, list[Row]]) -> None:
    """What was promised is there, nothing else is, and the log goes on."""
    if not (root / "meta.properties").exists():
        assert promised == Promised()
        return
    with Log.open(root, fsync="never", clock=ManualClock(), maintenance=False) as log:
        topics = log.topics()
        for name, partitions in promised.made:
            assert topics[name].partitions == partitions
        assert not promised.gone & topics.keys()
        for name in [name for name in topics if not name.startswith("__")]:
            for number in range(topics[name].partitions):
                tp = TopicPartition(name, number)
                hold_partition(log, tp, promised, rows.get(tp, []))
        hold_group(log, promised)
        log.maintain()
        for name in [name for name in topics if not name.startswith("__")]:
            tp = TopicPartition(name, 0)
            end = log.partition(tp).end_offset
            more = encode([b"more"], keys=[b"more"], timestamps=NOW)
            assert log.partition(tp).append([more]) == end
            assert contents(log, tp)[end] == (b"more", b"more")
        log.create_topic("another")  # leftovers of topics are in nobody's way
        log.delete_topic("another")
    found = check(root, now=NOW).findings
    # What stays is an empty partition of a topic that never was, until one of that name is made,
    # and snapshots of producers that are torn, which are caches.
    assert [one for one in found if one.severity != "note" or one.kind not in STAYS] == []


def hold_partition(log: Log, tp: TopicPartition, promised: Promised, rows: list[Row]) -> None:
    partition = log.partition(tp)
    start, end = partition.start_offset, partition.end_offset
    least, most = dict(promised.starts).get(tp, (0, 0))
    assert least <= start <= most
    assert dict(promised.synced).get(tp, 0) <= end <= len(rows)
    found = contents(log, tp)
    assert all(rows[offset] == row for offset, row in found.items())
    there = {offset: rows[offset] for offset in range(start, end)}
    if not partition.config.compacted:
        assert found == there
        return
    # A gap where nothing was synced yet may be compaction's: so it is not cut there.
    synced = dict(promised.synced).get(tp, 0)
    known = latest(found)
    for key, value in latest({at: row for at, row in there.items() if at < synced}).items():
        later = [row[1] for at, row in there.items() if at >= synced and row[0] == key]
        assert known.pop(key, None) in [value, *later]
    assert known.keys() <= {row[0] for at, row in there.items() if at >= synced}


def hold_group(log: Log, promised: Promised) -> None:
    """What was committed is; the members are all gone, and one that joins has everything."""
    if not promised.committed:
        return
    with backend_of(log) as backend:
        for tp, offsets in promised.committed:
            found = backend.committed("readers").get(tp)
            assert (found.offset if found is not None else 0) in offsets
        member = backend.join("readers", {"events": 1})
        owned = member.poll().owned
        assert owned == {EVENTS}
        end = log.partition(EVENTS).end_offset
        backend.commit("readers", {EVENTS: CommittedOffset(end)}, member=member)
        assert backend.committed("readers")[EVENTS].offset == end
        assert member.generation > 0


# What is told.


def topics(story: Story) -> None:
    story.create("events", 2)
    story.fill(EVENTS, 2)
    story.delete("events")
    story.create("events", 1)
    story.fill(EVENTS, 1)
    story.create("other")
    story.delete("other")


def compaction(story: Story) -> None:
    begin(story, "table", COMPACTED)
    story.fill(TABLE, 14, acks=1)
    story.append(TABLE, (b"key 1", None), (b"once", b"only"))
    maintain(story)
    story.fill(TABLE, 8)
    maintain(story)
    story.fill(TABLE, 8, acks=1)


def a_compacted_topic_made_anew(story: Story) -> None:
    begin(story, "table", COMPACTED)
    story.fill(TABLE, 14)
    maintain(story)
    story.delete("table")
    story.create("table", 1, COMPACTED)
    story.fill(TABLE, 14)
    maintain(story)


def retention(story: Story) -> None:
    begin(story, "events", {**SMALL, "retention.bytes": "2000"})
    for acks in (1, "all"):
        story.fill(EVENTS, 20, acks=acks)  # type: ignore[arg-type]
        end = story.log.partition(EVENTS).end_offset
        least, _ = dict(story.promised.starts).get(EVENTS, (0, 0))
        story.may_start(EVENTS, least, end)
        maintain(story)
        start = story.log.partition(EVENTS).start_offset
        assert start > least
        story.may_start(EVENTS, start, start)


def retention_of_all(story: Story) -> None:
    """What is too old goes, be it all there is."""
    begin(story, "events", {**SMALL, "retention.ms": "3600000"})
    story.fill(EVENTS, 14)
    maintain(story)
    story.clock.advance(3_700_000)
    story.may_start(EVENTS, 0, 14)
    maintain(story)
    assert story.log.partition(EVENTS).start_offset == 14
    story.may_start(EVENTS, 14, 14)
    story.fill(EVENTS, 2)


def deleted_records(story: Story) -> None:
    begin(story, "events", SMALL)
    story.fill(EVENTS, 14)
    story.delete_records(EVENTS, 5)
    story.fill(EVENTS, 2, acks=1)
    story.delete_records(EVENTS, 12)
    maintain(story)
    story.fill(EVENTS, 2)
    story.delete_records(EVENTS, 18)
    maintain(story)
    story.fill(EVENTS, 8, acks=1)


def groups(story: Story) -> None:
    begin(story, "events", SMALL)
    story.fill(EVENTS, 8)
    with backend_of(story.log) as backend:
        member = backend.join("readers", {"events": 1}, client_id="first")
        assert member.poll().owned
        for offset in (3, 5):
            story.commit(backend, offset, member=member)
        other = backend.join("readers", {"events": 1}, client_id="second")
        member.leave()
        story.commit(backend, 7, force=True)
        other.leave()
        backend.join("readers", {"events": 1})
        story.commit(backend, 8, force=True)


def a_full_disk(story: Story) -> None:
    """Producers are refused, offsets are committed, and then there is room again."""
    begin(story, "events", SMALL)
    story.fill(EVENTS, 4)
    with backend_of(story.log) as backend:
        story.commit(backend, 1)
        maintain(story)
        assert (Path(story.log.path) / space.BALLAST).exists()
        story.disk.free = 0
        for offset in (2, 3):
            with pytest.raises(OutOfSpace):
                story.log.partition(EVENTS).append([encode([b"refused"], timestamps=NOW)])
            story.commit(backend, offset)
        assert not (Path(story.log.path) / space.BALLAST).exists()
        story.disk.free = 1 << 30
        story.clock.advance(2000)
        story.fill(EVENTS, 2)
        assert (Path(story.log.path) / space.BALLAST).exists()
        story.commit(backend, 4)


def begin(story: Story, topic: str, config: dict[str, str]) -> None:
    """Make the topic: power cuts begin after it."""
    story.create(topic, 1, config)
    story.disk.cuts.clear()


def maintain(story: Story) -> None:
    assert not story.log.maintain().problems


STORIES = [
    topics,
    compaction,
    a_compacted_topic_made_anew,
    retention,
    retention_of_all,
    deleted_records,
    groups,
    a_full_disk,
]


@pytest.fixture
def reboot(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    numbers = count()

    def reboot() -> None:
        boot = (b"boot %d" % next(numbers)).ljust(16)
        for module in (
            opening,
            recovery,
            maintenance,
            members,
            embedded_groups,
            transactions_topic,
        ):
            monkeypatch.setattr(module, "boot_id", lambda: boot)

    reboot()
    yield reboot


@pytest.fixture
def chance() -> random.Random:
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    return random.Random(seed)


def outcomes(disk: Disk, folder: Path, chance: random.Random) -> Iterator[tuple[Path, Cut]]:
    """What may be left of cuts."""
    everywhere = set(range(len(disk.cuts)))
    each = everywhere if SOAK else chance.sample(sorted(everywhere), 5)
    by_chance = everywhere if SOAK else chance.sample(sorted(everywhere), 10)
    for number in sorted({*each, *by_chance}):
        cut = disk.cuts[number]
        within = folder / f"cut-{number}"
        within.mkdir()
        if number in each:
            for left in disk.leave_each(cut, within, most=LAST):
                yield left, cut
                shutil.rmtree(left)
        for again in range(BY_CHANCE if number in by_chance else 0):
            left = within / f"chance-{again}"
            disk.leave(cut.nodes, left, chance)
            yield left, cut
        shutil.rmtree(within)


@pytest.mark.timeout(3600 if SOAK else 180)
@pytest.mark.parametrize("tell", STORIES)
def test_a_power_cut_in_the_middle_of_upkeep_takes_nothing_that_was_promised(
    tell, tmp_path, reboot, chance, monkeypatch
):
    monkeypatch.setattr(space, "BALLAST_BYTES", 16 << 10)
    story = Story(tmp_path / "disk")
    tell(story)
    story.disk.cut()
    story.log.close()
    for left, cut in outcomes(story.disk, tmp_path, chance):
        reboot()
        promised, rows = cut.promised
        hold(left / "log", promised, rows)


@pytest.mark.timeout(3600 if SOAK else 180)
@pytest.mark.parametrize("damaged", ["finished", "active"])
def test_a_power_cut_in_the_middle_of_a_repair_loses_no_more_than_was_lost(
    damaged, tmp_path, reboot, chance
):
    root = tmp_path / "disk" / "log"
    root.parent.mkdir()
    with Log.open(root, clock=ManualClock(), maintenance=False) as log:
        log.create_topic("events", 1, SMALL)
        rows = {number: (b"key", b"value %d " % number * 8) for number in range(20)}
        for key, value in rows.values():
            log.partition(EVENTS).append([encode([value], keys=[key], timestamps=NOW)])
    segments = sorted((root / "events-0").glob("*.log"))
    path = segments[1 if damaged == "finished" else -1]
    bad = next(header for _, header in headers(path.read_bytes()))
    with path.open("r+b") as file:
        file.seek(80)
        file.write(b"\xff\xff")
    (root / "events-0" / f"{0:020d}.timeindex").unlink()
    (root / "events-0" / "leader-epoch-checkpoint").write_text("rubbish")
    lost = range(bad.base_offset, bad.next_offset)
    expected = {offset: row for offset, row in rows.items() if offset not in lost}
    disk = Disk(root.parent, lambda: None)
    assert repair(root, now=NOW, files=disk)
    assert len(disk.cuts) > 10
    for left, _ in outcomes(disk, tmp_path, chance):
        reboot()
        repair(left / "log", now=NOW, files=UnsyncedFiles())
        assert check(left / "log", now=NOW).clean
        with Log.open(left / "log", fsync="never", maintenance=False) as log:
            assert contents(log, EVENTS) == expected
            log.partition(EVENTS).append([encode([b"more"], timestamps=NOW)])


def test_a_deleted_topic_leaves_no_records_behind_whatever_is_lost(tmp_path, reboot):
    story = Story(tmp_path / "disk")
    begin(story, "events", SMALL)
    story.fill(EVENTS, 1)
    story.disk.cuts.clear()
    story.delete("events")
    story.log.close()
    for number, cut in enumerate(story.disk.cuts):
        within = tmp_path / f"cut-{number}"
        within.mkdir()
        for left in story.disk.leave_each(cut, within, most=8):
            reboot()
            with Log.open(left / "log", fsync="never", maintenance=False) as log:
                there = "events" in log.topics()
                log.create_topic("another")  # who changes topics next clears up
            findings = check(left / "log", now=NOW).findings
            assert there or not [one for one in findings if one.kind == "orphan"]
            shutil.rmtree(left)
