"""What the backends of one log in memory share: topics, groups, transactions."""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from streamkit.backends.group_files import check_group
from streamkit.backends.memory.partition import MemoryPartition
from streamkit.backends.values import CommittedOffset, TopicInfo, Unit
from streamkit.clock import Clock
from streamkit.errors import (
    ConfigError,
    InvalidPartitions,
    TopicExists,
    UnknownPartition,
    UnknownTopic,
    nearest,
)
from streamkit.groups.generation import Joined, next_generation
from streamkit.groups.offsets import GroupMetadata, decode_assignment, encode_group
from streamkit.log.config import KNOWN, TopicConfig, check_topic_name
from streamkit.records import TopicPartition
from streamkit.transactions.coordinator import Coordinator
from streamkit.transactions.transaction import Transaction


@dataclass(slots=True)
class MemoryGroup:
    """A group: what it has committed, who is in, and who has what."""

    metadata: GroupMetadata = field(default_factory=lambda: GroupMetadata(0))
    committed: dict[TopicPartition, CommittedOffset] = field(default_factory=dict)
    members: dict[str, Joined] = field(default_factory=dict)
    owners: dict[Unit, str] = field(default_factory=dict)

    def decide(self, now: int) -> None:
        """Make the next generation, if one is due."""
        made = next_generation(self.metadata, self.members, now)
        if made is not None:
            encode_group(made)  # UsageError for what a record of it could not hold
            self.metadata = made

    def target(self, member_id: str) -> frozenset[Unit]:
        """What a member should have."""
        for member in self.metadata.members:
            if member.member_id == member_id:
                return decode_assignment(member.assignment)
        return frozenset()


Offsets = Mapping[TopicPartition, CommittedOffset]


class MemoryLog:
    """A log that several backends of this process share. Held by `lock` whoever changes it."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.topics: dict[str, TopicInfo] = {}
        self.groups: dict[str, MemoryGroup] = {}
        self.wakes = 0
        self.log_config: dict[str, str] = {}
        self._partitions: dict[str, list[MemoryPartition]] = {}
        self._coordinator = Coordinator()
        self._pending: dict[str, list[tuple[str, dict[TopicPartition, CommittedOffset]]]] = {}
        self._ids = 0

    # Topics.

    def create(self, name: str, partitions: int, config: Mapping[str, str]) -> TopicInfo:
        check_topic_name(name)
        parsed = _parsed(config)
        if partitions < 1:
            raise InvalidPartitions(f"topic {name!r}: {partitions} partitions; it has at least one")
        with self.changed:
            if name in self.topics:
                raise TopicExists(f"topic {name!r} exists")
            info = TopicInfo(name, partitions, f"{self.next_id():032x}", dict(config))
            self._partitions[name] = [
                MemoryPartition(TopicPartition(name, n), parsed) for n in range(partitions)
            ]
            self.topics = {**self.topics, name: info}
            self.changed.notify_all()
        return info

    def grow(self, name: str, total: int) -> TopicInfo:
        with self.changed:
            old = self.topic(name)
            if total <= old.partitions:
                raise InvalidPartitions(f"topic {name!r} has {old.partitions} partitions already")
            info = TopicInfo(name, total, old.topic_id, old.config)
            config = TopicConfig.parse(old.config)
            self._partitions[name] += [
                MemoryPartition(TopicPartition(name, n), config)
                for n in range(old.partitions, total)
            ]
            self.topics = {**self.topics, name: info}
            self.changed.notify_all()
        return info

    def alter(self, name: str, config: Mapping[str, str | None]) -> TopicInfo:
        with self.changed:
            old = self.topic(name)
            together = {**old.config, **config}
            given = {key: value for key, value in together.items() if value is not None}
            for key in config.keys() - KNOWN.keys():
                TopicConfig.parse({key: ""})
            parsed = _parsed(given)
            info = TopicInfo(name, old.partitions, old.topic_id, given)
            for partition in self._partitions[name]:
                partition.config = parsed
            self.topics = {**self.topics, name: info}
            self.changed.notify_all()
        return info

    def delete(self, name: str) -> None:
        with self.changed:
            self.topic(name)
            self.topics = {other: info for other, info in self.topics.items() if other != name}
            del self._partitions[name]
            for group in self.groups.values():
                for at in [at for at in group.committed if at.topic == name]:
                    del group.committed[at]
            self.changed.notify_all()

    def topic(self, name: str) -> TopicInfo:
        found = self.topics.get(name)
        if found is None:
            raise UnknownTopic(f"no topic {name!r} in this log{nearest(name, self.topics)}")
        return found

    def partition(self, tp: TopicPartition) -> MemoryPartition:
        found = self._partitions.get(tp.topic)
        if found is None:
            self.topic(tp.topic)
            raise AssertionError("a topic without partitions")
        if not 0 <= tp.partition < len(found):
            raise UnknownPartition(
                f"topic {tp.topic!r} has no partition {tp.partition}: it has 0 to {len(found) - 1}"
            )
        return found[tp.partition]

    def next_id(self) -> int:
        with self.lock:
            self._ids += 1
            return self._ids

    # Groups.

    def group(self, name: str) -> MemoryGroup:
        """The group, made when it is asked for first. UsageError for what is no name."""
        found = self.groups.get(name)
        if found is None:
            check_group(name)
            found = self.groups[name] = MemoryGroup()
        return found

    def forget_unused(self, name: str) -> None:
        """Nobody has ever been in the group, and nothing was committed."""
        group = self.groups.get(name)
        if group is not None and not group.metadata.generation and not group.committed:
            del self.groups[name]

    def pending(self, group: str) -> frozenset[TopicPartition]:
        return frozenset(
            at for given in self._pending.values() for name, offsets in given if name == group
            for at in offsets
        )  # fmt: skip

    # Transactions.

    def begin(self, transactional_id: str, timeout: int) -> Transaction:
        with self.changed:
            while True:
                known = self._coordinator.get(transactional_id)
                spare = self.next_id() if known is None or known.exhausted else -1
                now = self.clock.now()
                step = self._coordinator.begin(
                    transactional_id, timeout=timeout, now=now, spare_id=spare
                )
                self._coordinator.put(step)
                if not step.state.decided:
                    return step
                self._finish(step)

    def add(
        self,
        transactional_id: str,
        producer: tuple[int, int],
        partitions: Iterable[TopicPartition],
    ) -> None:
        with self.lock:
            known = self._coordinator.require(transactional_id)
            self._coordinator.put(known.add(*producer, partitions, now=self.clock.now()))

    def pend(
        self, transactional_id: str, group: str, offsets: dict[TopicPartition, CommittedOffset]
    ) -> None:
        """Let offsets be committed with an open transaction."""
        self._pending.setdefault(transactional_id, []).append((group, offsets))

    def end(
        self, transactional_id: str, producer: tuple[int, int], *, commit: bool
    ) -> tuple[int, int]:
        """Commit or abort; the id and epoch that the producer goes on with."""
        with self.changed:
            known = self._coordinator.require(transactional_id)
            spare = self.next_id() if known.exhausted else -1
            step = known.end(*producer, commit=commit, now=self.clock.now(), spare_id=spare)
            done = self._finish(step)
            return done.producer_id, done.producer_epoch

    def standing(self, transactional_id: str) -> Transaction:
        return self._coordinator.require(transactional_id)

    def _finish(self, decided: Transaction) -> Transaction:
        todo = decided.roll_forward()
        assert todo is not None
        now = self.clock.now()
        # Offsets first: whoever sees them committed waits for the rest.
        for name, offsets in self._pending.pop(decided.transactional_id, []):
            if todo.commit:
                self.group(name).committed |= offsets
        for tp in todo.partitions:
            if tp.topic in self.topics:
                self.partition(tp).end_transaction(
                    todo.producer_id, todo.producer_epoch, todo.commit, todo.bumped, now
                )
        done = decided.complete(now)
        self._coordinator.put(done)
        self.changed.notify_all()
        return done


def _parsed(given: Mapping[str, str]) -> TopicConfig:
    """Raises ConfigError, also for what a log in memory would not obey."""
    for key in given:
        if key.startswith("message.timestamp."):
            raise ConfigError(f"topic config {key!r}: a log in memory takes records as they are")
    return TopicConfig.parse(given)
