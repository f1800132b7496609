"""Power cuts in the middle of transactions: committed ones are whole, others invisible, all end."""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from power_cuts import Disk, Without

from streamkit.backends import transactions_topic
from streamkit.backends.base import Backend
from streamkit.backends.embedded import EmbeddedBackend
from streamkit.backends.offsets_topic import OffsetsTopic
from streamkit.clients.consumer import Consumer
from streamkit.clients.producer import Producer
from streamkit.clients.transaction import Transaction
from streamkit.clock import SystemClock
from streamkit.log import opening, recovery
from streamkit.log.directory import Log
from streamkit.log.files import Files
from streamkit.log.partition import Partition
from streamkit.records import TopicPartition

PARTITIONS = [TopicPartition("a", 0), TopicPartition("a", 1), TopicPartition("b", 0)]
IDS = ("x", "y")


def opened(path: Path, files: Files | None) -> Backend:
    log = Log.open(path, files=files, fsync="always" if files else "never", maintenance=False)
    return EmbeddedBackend(log, OffsetsTopic(log, SystemClock()))


@dataclass(frozen=True)
class Promised:
    """The numbers of transactions, by transactional id, that are committed; and perhaps are."""

    committed: dict[str, tuple[int, ...]]
    deciding: dict[str, int]
    topics: bool = False


class Story:
    """Two producers, each with a transaction at a time; some are committed and some aborted."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        self.promised = Promised(dict.fromkeys(IDS, ()), {})
        self.disk = Disk(root, lambda: self.promised)
        self.log = opened(root / "log", self.disk)
        self.producers: dict[str, Producer] = {}
        self.opened: dict[str, tuple[int, Transaction]] = {}
        self.numbers = count(1)

    def create(self) -> None:
        config = {"segment.bytes": "1024", "index.interval.bytes": "200"}
        self.log.create_topic("a", 2, config)
        self.log.create_topic("b", 1, {**config, "cleanup.policy": "compact"})
        self.promise(topics=True)

    def promise(self, **changed: object) -> None:
        fields = {name: getattr(self.promised, name) for name in Promised.__match_args__}
        self.promised = Promised(**{**fields, **changed})  # type: ignore[arg-type]

    def send(self, name: str, chance: random.Random) -> None:
        producer = self.producers.get(name)
        if producer is None:
            producer = self.producers[name] = Producer(self.log, transactional_id=name)
        if name not in self.opened:
            transaction = producer.transaction()
            transaction.__enter__()
            number = next(self.numbers)
            self.opened[name] = number, transaction
            for tp in chance.sample(PARTITIONS, 3):
                value = f"{name} {number}"
                transaction.send(tp.topic, value, key=name, partition=tp.partition)
                if chance.random() < 0.5:
                    producer.flush()
            transaction.commit_offsets(name, {PARTITIONS[0]: number})
        else:
            number, transaction = self.opened[name]
            for tp in PARTITIONS:
                value = f"{name} {number}"
                transaction.send(tp.topic, value, key=name, partition=tp.partition)

    def commit(self, name: str) -> None:
        number, transaction = self.opened.pop(name)
        self.promise(deciding={name: number})
        transaction.__exit__(None, None, None)
        known = self.promised.committed
        self.promise(committed={**known, name: (*known[name], number)}, deciding={})

    def abort(self, name: str) -> None:
        _, transaction = self.opened.pop(name)
        error = KeyError("on purpose")
        transaction.__exit__(KeyError, error, None)

    def go_on(self, chance: random.Random, steps: int) -> None:
        for _ in range(steps):
            name = chance.choice(IDS)
            if name not in self.opened or chance.random() < 0.2:
                self.send(name, chance)
            elif chance.random() < 0.7:
                self.commit(name)
            else:
                self.abort(name)


def hold(path: Path, promised: Promised, files: Files | None = None) -> None:
    """Every transaction is whole or invisible, what was promised is there, and all goes on."""
    with ExitStack() as stack:
        log = stack.enter_context(opened(path, files))
        if not promised.topics:
            return
        log._coordinator.settle()  # type: ignore[attr-defined]
        for topic, info in log.topics().items():
            for number in range(info.partitions):
                there = log.offsets(TopicPartition(topic, number))
                assert there.end == there.log_end, f"{topic}-{number}: nothing is left open"
        expected = check(log, promised)
        for name in IDS:
            producer = stack.enter_context(Producer(log, transactional_id=name))
            for number in (1000, 1001):
                with producer.transaction() as transaction:
                    for tp in PARTITIONS:
                        value = f"{name} {number}"
                        transaction.send(tp.topic, value, key=name, partition=tp.partition)
                    transaction.commit_offsets(name, {PARTITIONS[0]: number})
        for name in IDS:
            done = Promised({name: (*expected[name], 1000, 1001)}, {})
            assert check(log, done, [name])[name][-2:] == (1000, 1001)


def check(
    log: Backend, promised: Promised, names: tuple[str, ...] | list[str] = IDS
) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for name in names:
        seen = [numbers(log, tp, name) for tp in PARTITIONS]
        assert seen[0] == seen[1] == seen[2], "all of it or nothing"
        found[name] = tuple(seen[0])
        wanted = promised.committed[name]
        perhaps = promised.deciding.get(name)
        assert found[name] in (wanted, (*wanted, perhaps))
        committed = log.committed(name).get(PARTITIONS[0])
        assert (committed.offset if committed else None) == (seen[0][-1] if seen[0] else None)
    return found


def numbers(log: Backend, tp: TopicPartition, name: str) -> list[int]:
    with Consumer(log, partitions=[tp]) as consumer:
        values = [(record.value or b"").decode().split() for record in consumer.until_end()]
    return list(dict.fromkeys(int(number) for who, number in values if who == name))


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    story = Story(tmp_path / "disk")
    yield story
    for producer in story.producers.values():
        producer.close()
    story.log.close()


@pytest.fixture
def reboot(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    boots = count()

    def reboot() -> None:
        boot = (b"boot %d" % next(boots)).ljust(16)
        for module in (opening, recovery, transactions_topic):
            monkeypatch.setattr(module, "boot_id", lambda: boot)

    reboot()
    yield reboot


@pytest.fixture
def chance() -> random.Random:
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    return random.Random(seed)


def test_transactions_are_whole_after_a_power_cut_at_any_fsync(
    story: Story, tmp_path: Path, reboot: Callable[[], None], chance: random.Random
) -> None:
    story.create()
    story.go_on(chance, 40)
    assert len(story.disk.cuts) > 100
    for again, cut in enumerate(chance.sample(story.disk.cuts, 60)):
        left = tmp_path / f"{again}"
        story.disk.leave(cut.nodes, left, chance)
        reboot()
        if (left / "log" / "meta.properties").exists():
            hold(left / "log", cut.promised)


def test_a_power_cut_while_the_last_one_is_cured_takes_nothing(
    story: Story, tmp_path: Path, reboot: Callable[[], None], chance: random.Random
) -> None:
    story.create()
    story.disk.cuts.clear()
    story.go_on(chance, 16)
    for number, cut in enumerate(story.disk.cuts[::6]):
        left = tmp_path / f"{number}"
        story.disk.leave(cut.nodes, left, chance)
        reboot()
        second = Disk(left, lambda: None)
        with opened(left / "log", second) as log:
            log._coordinator.settle()  # type: ignore[attr-defined]
        for again, other in enumerate(chance.sample(second.cuts, min(3, len(second.cuts)))):
            left = tmp_path / f"{number}-{again}"
            second.leave(other.nodes, left, chance)
            reboot()
            hold(left / "log", cut.promised)


def left_by_the_dead(story: Story, *, decide: Callable[[Producer], object]) -> None:
    """Each producer sends, decides, and is dead."""
    story.create()
    for name in IDS:
        story.send(name, random.Random(1))
        producer = story.producers[name]
        producer.flush()
        decide(producer)
        producer._transactions._owned.close()  # type: ignore[union-attr]
    story.disk.cuts.clear()


def test_transactions_that_are_rolled_forward_survive_a_power_cut_in_between(
    story: Story, tmp_path: Path, reboot: Callable[[], None], chance: random.Random
) -> None:
    coordinator = story.log._coordinator  # type: ignore[attr-defined]
    mark, coordinator.mark = coordinator.mark, lambda *_: None
    left_by_the_dead(story, decide=lambda producer: producer._transactions.commit())
    coordinator.mark = mark
    story.promise(committed={"x": (1,), "y": (2,)})
    assert coordinator.settle() == 2
    for number, cut in enumerate(story.disk.cuts):
        for again in range(4):
            left = tmp_path / f"{number}-{again}"
            story.disk.leave(cut.nodes, left, chance)
            reboot()
            hold(left / "log", cut.promised)


def test_a_decision_is_on_stable_storage_before_anybody_reads_its_outcome(
    story: Story, tmp_path: Path, reboot: Callable[[], None], chance: random.Random
) -> None:
    coordinator = story.log._coordinator  # type: ignore[attr-defined]

    def decide(producer: Producer) -> None:
        """As one that is killed before it syncs what it has written."""
        assert producer._transactions is not None
        story.log.sync([*PARTITIONS, TopicPartition("__consumer_offsets", 0)])
        name, at = producer._transactional_id, producer._transactions.producer
        coordinator.end(name, at, commit=True, last=None)

    left_by_the_dead(story, decide=decide)
    marked = []
    mark = coordinator.mark

    def marking(decided: object) -> None:
        mark(decided)
        marked.append(decided)
        committed = {"x": (1,), "y": (2,) if len(marked) == 2 else ()}
        story.promise(committed=committed, deciding={"y": 2} if len(marked) == 1 else {})

    story.promise(deciding={"x": 1, "y": 2})
    coordinator.mark = marking
    assert coordinator.settle() == 2
    for number, cut in enumerate(story.disk.cuts):
        for again in range(4):
            left = tmp_path / f"{number}-{again}"
            story.disk.leave(cut.nodes, left, chance)
            reboot()
            hold(left / "log", cut.promised)


@pytest.mark.parametrize("altered", [False, True])
def test_what_comes_after_a_segment_does_not_survive_its_end(
    story: Story,
    tmp_path: Path,
    reboot: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    altered: bool,
) -> None:
    """Where compaction leaves gaps, too: the marker of an abort would be missing in one."""
    monkeypatch.setattr(Partition, "_sync_rolled", lambda self: None)  # it is late
    compact = {"cleanup.policy": "compact"}
    story.log.create_topic("c", 1, {"segment.bytes": "1024", **({} if altered else compact)})
    here = TopicPartition("c", 0)
    with Producer(story.log, transactional_id="x", batch_bytes=1) as producer:
        with pytest.raises(KeyError), producer.transaction() as transaction:
            transaction.send("c", "not to be seen", key="k")
            story.log.sync([here])
            raise KeyError
        with pytest.raises(KeyError), producer.transaction() as transaction:
            transaction.send("c", 950 * "x", key="k")  # in the next segment
            if altered:
                story.log.alter_topic("c", compact)
            story.disk.cut()
            cut = story.disk.cuts[-1]
            raise KeyError
    for number, lost in enumerate(cut.unsynced()):
        left = tmp_path / f"{number}"
        story.disk.leave(cut.nodes, left, Without(lost))
        reboot()
        with opened(left / "log", None) as log:
            log._coordinator.settle()  # type: ignore[attr-defined]
            with Consumer(log, partitions=[here]) as consumer:
                assert [record.value for record in consumer.until_end()] == []
