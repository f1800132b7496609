"""Members of groups, and producers with transactions, of a log in memory."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext

from streamkit.backends.base import Membership
from streamkit.backends.embedded_groups import offset_commit
from streamkit.backends.memory.log import MemoryGroup, MemoryLog
from streamkit.backends.values import CommittedOffset, Ownership, Unit
from streamkit.errors import Fenced, TransactionError, UsageError
from streamkit.groups.generation import Joined
from streamkit.records import TopicPartition


class MemoryMembership:
    """See `backends.base.Membership`."""

    def __init__(
        self, log: MemoryLog, group: str, units: Mapping[str, int], client_id: str, number: int
    ) -> None:
        self.group = group
        self._log = log
        self._id = f"{client_id[:100]}-{number}"
        self._known: frozenset[Unit] = frozenset()
        self._over = False
        with log.changed:
            self._state.members[self._id] = Joined(client_id, "localhost", dict(units))
            try:
                self._state.decide(log.clock.now())
            except BaseException:
                del self._state.members[self._id]
                log.forget_unused(group)
                raise
            self._take()
            log.changed.notify_all()

    @property
    def _state(self) -> MemoryGroup:
        return self._log.group(self.group)

    @property
    def member_id(self) -> str:
        return self._id

    @property
    def generation(self) -> int:
        return self._state.metadata.generation

    def poll(self) -> Ownership:
        with self._log.changed:
            if self._over:
                return Ownership(frozenset())
            self._check()
            group, target = self._state, self._take()
            owned = frozenset(u for u, owner in group.owners.items() if owner == self._id)
            gained, self._known = owned - self._known, owned
            return Ownership(owned, gained, owned - target)

    def changed(self) -> bool:
        """Whether `poll` has something to tell."""
        if self._over:
            return False
        group = self._state
        if self._id not in group.members:
            return True
        target = group.target(self._id)
        return bool(self._known - target) or any(u not in group.owners for u in target)

    def release(self, units: Iterable[Unit]) -> None:
        with self._log.changed:
            for unit in units:
                if self._state.owners.get(unit) == self._id:
                    del self._state.owners[unit]
            self._known -= frozenset(units)
            self._log.changed.notify_all()

    def update(self, units: Mapping[str, int]) -> None:
        with self._log.changed:
            self._check()
            old = self._state.members[self._id]
            self._state.members[self._id] = Joined(old.client_id, old.host, dict(units))
            self._state.decide(self._log.clock.now())
            self._log.changed.notify_all()

    @contextmanager
    def holding(self, units: Iterable[Unit]) -> Iterator[None]:
        with self._log.lock:
            self._check()
            for unit in units:
                if self._state.owners.get(unit) != self._id:
                    raise Fenced(
                        f"member {self._id} of group {self.group!r} does not own {unit}: what it "
                        "did there is not committed, and whoever owns it does it again"
                    )
            yield

    def leave(self) -> None:
        with self._log.changed:
            if self._over:
                return
            self._over = True
            self.release([u for u, owner in self._state.owners.items() if owner == self._id])
            self._state.members.pop(self._id, None)
            self._state.decide(self._log.clock.now())
            self._log.changed.notify_all()

    def _take(self) -> frozenset[Unit]:
        """Take what is free of what it should have; gives that."""
        target = self._state.target(self._id)
        for unit in target:
            self._state.owners.setdefault(unit, self._id)
        return target

    def _check(self) -> None:
        if self._over:
            raise Fenced(f"member {self._id} of group {self.group!r} is fenced: it has left")
        if self._id not in self._state.members:
            raise Fenced(f"member {self._id} of group {self.group!r} is fenced: join again")


class MemoryTransactions:
    """See `backends.base.Transactions`."""

    def __init__(self, log: MemoryLog, transactional_id: str, timeout: int) -> None:
        self._log = log
        self._id = transactional_id
        begun = log.begin(transactional_id, timeout)
        self._producer = begun.producer_id, begun.producer_epoch
        self._begun = False
        self._closed = False

    @property
    def producer(self) -> tuple[int, int]:
        return self._producer

    def begin(self) -> None:
        self._require_use()
        if self._begun:
            self._end(commit=False)

    def add(self, partitions: Iterable[TopicPartition]) -> None:
        self._require_use()
        self._log.add(self._id, self._producer, partitions)
        self._begun = True

    def commit_offsets(
        self,
        group: str,
        offsets: Mapping[TopicPartition, CommittedOffset],
        *,
        member: Membership | None = None,
        units: Iterable[Unit] | None = None,
    ) -> None:
        for at, committed in offsets.items():
            self._log.partition(at)
            offset_commit(group, at, committed, 0)
        if not offsets:
            return
        self.add(())
        work = offsets if units is None else units
        with nullcontext() if member is None else member.holding(work):
            self._log.pend(self._id, group, dict(offsets))

    def commit(self, *, after: Iterable[TopicPartition] = ()) -> None:
        self._require_use()
        if self._begun:
            self._end(commit=True)

    def abort(self) -> bool:
        self._require_use()
        begun = self._begun
        if begun:
            self._end(commit=False)
        return begun

    def close(self) -> None:
        if self._closed:
            return
        try:
            if self._begun:
                self._end(commit=False)
        except TransactionError:
            return  # it was ended by others
        finally:
            self._closed = True

    def _end(self, *, commit: bool) -> None:
        self._producer = self._log.end(self._id, self._producer, commit=commit)
        self._begun = False

    def _require_use(self) -> None:
        if self._closed:
            raise UsageError(f"the producer of {self._id!r} is closed")
        known = self._log.standing(self._id)
        if (known.producer_id, known.producer_epoch) != self._producer:
            raise known.fenced(*self._producer)
