"""Power cuts at every fsync: any part of what was not synced is lost, nothing acknowledged is."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from power_cuts import Disk, Killed

from streamkit.codec import columns, encode, headers
from streamkit.log import opening, recovery
from streamkit.log.directory import Log
from streamkit.log.files import RealFiles
from streamkit.records import TopicPartition


@dataclass(frozen=True)
class Promised:
    """What a power cut may not take away, and what may be found besides."""

    made: frozenset[tuple[str, int]] = frozenset()
    gone: frozenset[str] = frozenset()
    synced: tuple[tuple[TopicPartition, int], ...] = ()
    """Offsets below these were acknowledged with acks="all"."""

    altered: tuple[tuple[str, str, str | None], ...] = ()
    """Topics, configs, and their values; None: the default."""


def value(tp: TopicPartition, offset: int) -> bytes:
    return b"%s@%d" % (str(tp).encode(), offset) * (1 + offset % 9)


class Story:
    """Something done to a log on a `Disk`, keeping book of what it was promised."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        self.promised = Promised()
        self.disk = Disk(root, lambda: self.promised)
        self.ends: dict[TopicPartition, int] = {}
        self.log = Log.open(root / "data" / "log", files=self.disk, maintenance=False)

    def promise(self, **changed: object) -> None:
        fields = {name: getattr(self.promised, name) for name in Promised.__match_args__}
        self.promised = Promised(**{**fields, **changed})  # type: ignore[arg-type]

    def create(self, name: str, partitions: int = 1) -> None:
        self.promise(gone=self.promised.gone - {name})
        config = {"segment.bytes": "1024", "index.interval.bytes": "200"}
        self.log.create_topic(name, partitions, config)
        self.promise(made=self.promised.made | {(name, partitions)})

    def grow(self, name: str, total: int) -> None:
        others = frozenset(topic for topic in self.promised.made if topic[0] != name)
        self.promise(made=others)
        self.log.add_partitions(name, total)
        self.promise(made=others | {(name, total)})

    def alter(self, name: str, key: str, value: str | None) -> None:
        others = tuple(each for each in self.promised.altered if each[:2] != (name, key))
        self.promise(altered=others)
        self.log.alter_topic(name, {key: value})
        self.promise(altered=(*others, (name, key, value)))

    def delete(self, name: str) -> None:
        made = frozenset(topic for topic in self.promised.made if topic[0] != name)
        synced = tuple((tp, end) for tp, end in self.promised.synced if tp.topic != name)
        self.promise(made=made, synced=synced)
        self.log.delete_topic(name)
        self.ends = {tp: end for tp, end in self.ends.items() if tp.topic != name}
        self.promise(gone=self.promised.gone | {name})

    def append(self, tp: TopicPartition, records: int = 1, *, acks: str = "all") -> None:
        start = self.ends.get(tp, 0)
        values = [value(tp, start + number) for number in range(records)]
        partition = self.log.partition(tp)
        assert partition.append([encode(values, timestamps=start)], acks=acks) == start  # type: ignore[arg-type]
        self.ends[tp] = start + records
        if acks == "all":
            self.synced(tp)

    def synced(self, tp: TopicPartition) -> None:
        others = {**dict(self.promised.synced), tp: self.ends[tp]}
        self.promise(synced=tuple(others.items()))

    def killed(self, at: int, do: Callable[[], None]) -> bool:
        """Do it until the `at`-th call, then go on as another process; False: it was over."""
        self.disk.calls, self.disk.killed_at = 0, at
        try:
            do()
        except Killed:
            return True
        finally:
            self.disk.killed_at = 0
            self.log = Log.open(self.log.path, files=self.disk, maintenance=False)
            self.ends = {}
            for name, topic in self.log.topics().items():
                for number in range(topic.partitions):
                    tp = TopicPartition(name, number)
                    self.ends[tp] = self.log.partition(tp).end_offset
        return False


def contents(log: Log, tp: TopicPartition) -> list[bytes | None]:
    partition = log.partition(tp)
    found: list[bytes | None] = []
    while data := partition.read(len(found)):
        some = columns(data, len(found))
        assert list(some.offsets) == list(range(len(found), len(found) + len(some)))
        found += some.values
        assert [header.next_offset for _, header in headers(data)][-1] == len(found)
    assert partition.end_offset == len(found)
    return found


def hold(root: Path, promised: Promised, *, files: RealFiles | None = None) -> None:
    """What was promised is there, what else is there is true, and the log goes on."""
    path = root / "data" / "log"
    with Log.open(
        path, files=files, fsync="never" if files is None else "always", maintenance=False
    ) as log:
        topics = log.topics()
        for name, partitions in promised.made:
            assert topics[name].partitions == partitions
        assert not promised.gone & topics.keys()
        assert {tp.topic for tp, _ in promised.synced} <= topics.keys()
        for name, key, altered in promised.altered:
            assert topics[name].config.get(key) == altered
        for name, topic in topics.items():
            for number in range(topic.partitions):
                tp = TopicPartition(name, number)
                found = contents(log, tp)
                assert found == [value(tp, offset) for offset in range(len(found))]
                assert len(found) >= dict(promised.synced).get(tp, 0)
                more = [value(tp, len(found))]
                assert log.partition(tp).append([encode(more, timestamps=9)]) == len(found)
                assert contents(log, tp) == [*found, *more]


@pytest.fixture
def reboot(monkeypatch) -> Iterator[Callable[[], None]]:
    numbers = count()

    def reboot() -> None:
        boot = (b"boot %d" % next(numbers)).ljust(16)
        for module in (opening, recovery):
            monkeypatch.setattr(module, "boot_id", lambda: boot)

    reboot()
    yield reboot


def first_topic(story: Story) -> None:
    story.create("a", 2)
    story.append(TopicPartition("a", 0))


def appends(story: Story) -> None:
    story.create("a")
    tp = TopicPartition("a", 0)
    for number in range(8):
        story.append(tp, 1 + number % 3, acks="all" if number % 3 == 0 else 1)  # type: ignore[arg-type]


def rolls(story: Story) -> None:
    story.create("a")
    tp = TopicPartition("a", 0)
    for number in range(36):
        story.append(tp, 1 + number % 4, acks="all" if number % 7 == 6 else 1)  # type: ignore[arg-type]
    story.log.partition(tp).sync()
    story.synced(tp)


def deletions(story: Story) -> None:
    story.create("a", 2)
    story.append(TopicPartition("a", 1))
    story.delete("a")
    story.create("b")
    story.append(TopicPartition("b", 0))
    story.create("a", 1)
    story.append(TopicPartition("a", 0), 3)


def alterations(story: Story) -> None:
    story.create("a")
    story.append(TopicPartition("a", 0))
    story.grow("a", 3)
    story.append(TopicPartition("a", 2), 2)
    story.alter("a", "segment.ms", "5000")
    story.alter("a", "segment.bytes", None)
    story.grow("a", 4)
    story.alter("a", "segment.ms", None)
    story.append(TopicPartition("a", 3))
    story.append(TopicPartition("a", 0))


def two_processes(story: Story) -> None:
    """One creates and rolls, the other appends; each sees what the other did not yet sync."""
    other = Log.open(story.log.path, files=story.disk, maintenance=False)
    story.create("a")
    tp = TopicPartition("a", 0)
    for number in range(30):
        story.log, other = other, story.log
        story.append(tp, 1 + number % 4, acks="all" if number % 5 == 4 else 1)
    other.close()


def life(story: Story) -> None:
    story.create("a", 1)
    tp = TopicPartition("a", 0)
    for number in range(12):
        story.append(tp, 1 + number % 4, acks="all" if number % 5 == 4 else 1)
    story.delete("a")
    story.create("a", 2)
    story.append(tp)


def after_a_kill(story: Story, at: int) -> bool:
    """A process killed at its `at`-th call, and another one that believes what it sees."""
    if not story.killed(at, lambda: life(story)):
        return False
    story.disk.cuts.clear()
    topics = story.log.topics()
    seen = {(name, topic.partitions) for name, topic in topics.items()}
    story.promise(made=frozenset(seen), gone=frozenset({"a", "b"} - topics.keys()))
    if "a" not in topics:
        story.create("a")
    for _ in range(3):
        story.append(TopicPartition("a", 0))
    story.create("b")
    story.append(TopicPartition("b", 0), 2)
    return True


@pytest.fixture
def chance() -> random.Random:
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.mark.parametrize(
    "tell", [first_topic, appends, rolls, deletions, alterations, two_processes]
)
def test_a_power_cut_at_any_fsync_takes_nothing_acknowledged(tell, tmp_path, reboot, chance):
    story = Story(tmp_path / "disk")
    tell(story)
    story.log.close()
    for number, cut in enumerate(story.disk.cuts):
        for again in range(3):
            left = tmp_path / f"{number}-{again}"
            story.disk.leave(cut.nodes, left, chance)
            reboot()
            hold(left, cut.promised)


@pytest.mark.parametrize("tell", [first_topic, rolls, deletions])
def test_a_power_cut_while_the_last_one_is_recovered_from_takes_nothing(
    tell, tmp_path, reboot, chance
):
    story = Story(tmp_path / "disk")
    tell(story)
    story.log.close()
    for number, cut in enumerate(story.disk.cuts[::3]):
        left = tmp_path / f"{number}"
        story.disk.leave(cut.nodes, left, chance)
        reboot()
        second = Disk(left, lambda: cut.promised)  # noqa: B023
        hold(left, cut.promised, files=second)
        for again, other in enumerate(chance.sample(second.cuts, min(3, len(second.cuts)))):
            left = tmp_path / f"{number}-{again}"
            second.leave(other.nodes, left, chance)
            reboot()
            hold(left, cut.promised)


def test_a_power_cut_after_a_kill_takes_nothing_that_others_were_promised(tmp_path, reboot, chance):
    for at in count(1):
        story = Story(tmp_path / f"{at}")
        killed = after_a_kill(story, at)
        story.log.close()
        if not killed:
            assert at > 100, "there was something to be killed in"
            return
        for again, cut in enumerate(chance.sample(story.disk.cuts, 3)):
            left = tmp_path / f"{at}-{again}"
            story.disk.leave(cut.nodes, left, chance)
            reboot()
            hold(left, cut.promised)
