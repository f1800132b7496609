"""The coordinator of transactions: not a process, but whoever holds its lock.

What it decides is in the core, `transactions/`; here that is written, brought to stable storage and
carried out in the partitions, in the order of docs/transactions.md.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import MappingProxyType

from streamkit.backends.lockfile import LockFile
from streamkit.backends.owners import Owners
from streamkit.backends.syncing import sync_all
from streamkit.backends.transactions_topic import TransactionsTopic
from streamkit.clock import Clock
from streamkit.errors import (
    InvalidProducerEpoch,
    LogError,
    StreamkitError,
    UnknownPartition,
    UnknownTopic,
)
from streamkit.log.directory import Log
from streamkit.log.partition import Partition
from streamkit.records import TopicPartition
from streamkit.transactions.coordinator import EXPIRATION, Coordinator
from streamkit.transactions.transaction import MAX_EPOCH, RollForward, Transaction

logger = logging.getLogger(__name__)

LEFT_ALONE = 1000
"""Milliseconds for which a decided transaction is left to its owner, if that lives."""


class TransactionCoordinator:
    """The steps of transactions over one log. Used from several threads."""

    def __init__(self, log: Log, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._topic = TransactionsTopic(log, clock)
        self._owners = Owners(self._topic.folder / "producers")
        self._told: set[Transaction] = set()
        self._unseen: set[TopicPartition] = set()
        self._undated: dict[str, tuple[int, float]] = {}
        """Open transactions from a time to come: when they began, and when they were seen here."""

    # What producers ask for.

    def begin(self, transactional_id: str, timeout: int) -> tuple[Transaction, LockFile]:
        """Take a transactional id over, on stable storage: every producer before is fenced.

        An open transaction of theirs is aborted and a decided one finished. `timeout` in ms.
        Whoever keeps the file open is the owner. Raises UsageError, InvalidTxnTimeout.
        """
        self._topic.make()
        with self._topic.locked() as coordinator:
            self._cure(coordinator)
            while True:
                known = coordinator.get(transactional_id)
                if known is not None and known.state.decided:
                    self._finish(known)
                    continue
                step = coordinator.begin(
                    transactional_id,
                    timeout=timeout,
                    now=self._clock.now(),
                    spare_id=self._spare_id(known),
                )
                self._topic.write(step, durable=True)
                if not step.state.decided:
                    return step, self._owners.take(transactional_id)

    def add(
        self,
        transactional_id: str,
        producer: tuple[int, int],
        partitions: Iterable[TopicPartition],
        *,
        marked: Transaction | None,
        synced: bool,
    ) -> None:
        """Say which partitions are about to be written to; the first ones begin a transaction.

        Not synced: a process may be killed after it. What a power cut takes of it is cured before
        the next transaction of that boot. `producer`: id and epoch. `marked`: the producer's
        last transaction, if its markers are written by now: it is completed here. `synced`: they
        are on stable storage, too; else what is written tells of them, and only one transaction
        back. Raises ProducerFenced, InvalidProducerId.
        """

        def step(coordinator: Coordinator) -> None:
            known = coordinator.require(transactional_id)
            now, unsynced = self._clock.now(), None
            if marked is not None and _same(known, marked):
                unsynced = None if synced else known.roll_forward()
                # Not written: what follows at once says as much to whoever reads it.
                known = known.complete(now)
            step = known.add(*producer, partitions, now=now, unsynced=unsynced)
            if step is not known:
                self._topic.write(step, durable=False)

        self._topic.as_coordinator(step)

    def topic_ids(self, partitions: Iterable[TopicPartition]) -> frozenset[str]:
        """The ids of the topics that there are: one deleted and made again has another."""
        found: dict[str, str] = {}
        for tp in partitions:
            if tp.topic not in found:
                try:
                    found[tp.topic] = self._log.topic(tp.topic).topic_id
                except UnknownTopic:
                    continue
        return frozenset(found.values())

    def end(
        self,
        transactional_id: str,
        producer: tuple[int, int],
        *,
        commit: bool,
        last: Transaction | None,
    ) -> Transaction | None:
        """Decide; what is returned is in the log, and counts once `sync` has returned.

        To commit, all of the transaction's partitions are synced before, and those of the one
        before it.
        `last`: the producer's last transaction, unless it was completed. None is returned when
        nothing was begun after it, as `add` was interrupted. Raises ProducerFenced,
        InvalidProducerId, InvalidTxnState.
        """

        def step(coordinator: Coordinator) -> Transaction | None:
            known = coordinator.require(transactional_id)
            if last is not None and _same(known, last):
                return None
            if known.state.resting and producer == (known.producer_id, known.producer_epoch):
                return None  # every end raises the epoch: nothing was begun since
            step = known.end(
                *producer, commit=commit, now=self._clock.now(), spare_id=self._spare_id(known)
            )
            if step is not known:
                self._topic.write(step, durable=False)
            return step

        return self._topic.as_coordinator(step)

    def sync(self, transactional_id: str) -> None:
        """Bring what is written about the id to stable storage."""
        self._topic.sync(transactional_id)

    def mark(
        self,
        decided: Transaction,
        opened: Mapping[TopicPartition, Partition] = MappingProxyType({}),
    ) -> None:
        """Write the markers of a decided transaction: from each on, readers see the outcome.

        And before them those of the one before, if a power cut may have taken them. `opened`: what
        `sync_partitions` has found just now. Raises the first LogError once all partitions that can
        have their marker have it.
        """
        failed: Exception | None = None
        without: set[TopicPartition] = set()
        todos = [(todo, tp) for todo in decided.owed() for tp in todo.partitions]
        for todo, tp in todos:
            partition = opened.get(tp) or self._partition(tp)
            if partition is None or tp in without:  # a later marker would end what is open there
                continue
            try:
                partition.append_marker(
                    todo.producer_id, todo.producer_epoch, todo.commit, None, todo.bumped
                )
            except InvalidProducerEpoch:
                # The producer's next transaction stands there already, so this one's marker does,
                # too: a power cut took what was said here of that next one.
                continue
            except UnknownTopic:
                continue  # deleted just now
            except (LogError, OSError) as error:
                failed = failed or error  # the other partitions are to go on
                without.add(tp)
        if failed is not None:
            raise failed

    def sync_partitions(
        self, partitions: Iterable[TopicPartition]
    ) -> dict[TopicPartition, Partition]:
        """Bring what was appended to them to stable storage; deleted ones are passed over.

        Those that there are.
        """
        found = {}
        for tp in sorted(partitions):
            partition = self._partition(tp)
            if partition is not None:
                found[tp] = partition
        sync_all(found.values(), gone=True)
        return found

    def complete(self, marked: Transaction) -> None:
        """Say that all markers are on stable storage, unless somebody has said so."""
        with self._topic.locked() as coordinator:
            known = coordinator.get(marked.transactional_id)
            if known is not None and _same(known, marked):
                self._topic.write(known.complete(self._clock.now()), durable=False)

    # What anybody does for the others.

    def settle(
        self, stuck: Mapping[Partition, int] = MappingProxyType({}), *, wait: bool = False
    ) -> int:
        """Finish what others have left behind, and say how many transactions that were.

        Decided ones are rolled forward; open ones are aborted if they have timed out or their
        producer is dead. `stuck`: partitions whose last stable offset has not moved, and since when
        (ms): what is open there and nowhere else is aborted. Costs next to nothing when there is
        nothing to do. Waits for nobody, unless told to `wait`: then all that is left has been
        finished when it returns, and not only soon will be by whoever is the coordinator. What
        fails in one transaction is logged, and tried again by the next call.
        """
        try:
            if not self._topic.exists():
                return 0
            known = self._topic.known(wait=wait)
            unknown = [one for one, since in stuck.items() if not _explained(one, since, known)]
            if not unknown and self._topic.cured() and not any(map(self._is_left, known)):
                return 0
            return self._settle_all(unknown, wait)
        except (StreamkitError, OSError) as error:
            logger.warning("transactions that were left open could not be ended: %s", error)
            return 0

    def _settle_all(self, stuck: Iterable[Partition], wait: bool) -> int:
        done = 0
        locked = self._topic.locked() if wait else self._topic.locked_if_free()
        with locked as coordinator:
            if coordinator is None:
                return 0  # whoever is it does the same, or soon will
            self._cure(coordinator)
            for one in filter(self._is_left, coordinator):
                done += self._tried(one, partial(self._settle, one))
            self._abort_unknown(coordinator, stuck)
        return done

    def _is_left(self, one: Transaction) -> bool:
        now = self._clock.now()
        if one.state.resting:
            return one.updated_at + EXPIRATION <= now and not self._lives(one)
        if one.state.decided:
            # The clock may have been set back; then nobody knows how old it is.
            return not 0 <= now - one.updated_at < LEFT_ALONE or not self._lives(one)
        return self._timed_out(one, now) or not self._lives(one)

    def _timed_out(self, one: Transaction, now: int) -> bool:
        due = one.times_out_at
        if due is None or one.started_at <= now:
            self._undated.pop(one.transactional_id, None)
            return due is None or due <= now
        # The clock was set back since: it counts from when it is first seen here, by another clock.
        seen, at = self._undated.get(one.transactional_id, (None, 0.0))
        if seen != one.started_at:
            at = self._clock.monotonic()
            self._undated[one.transactional_id] = one.started_at, at
        return (self._clock.monotonic() - at) * 1000 >= one.timeout

    def _lives(self, one: Transaction) -> bool:
        return self._owners.lives(one.transactional_id)

    def _settle(self, one: Transaction) -> None:
        if one.state.resting:
            self._topic.bury(one.transactional_id)
            self._owners.forget(one.transactional_id)
            return
        if not one.state.decided:
            one = one.fence(now=self._clock.now(), spare_id=self._spare_id(one))
            self._topic.write(one, durable=False)
        self._finish(one)

    def _finish(self, decided: Transaction) -> None:
        """Roll a decided transaction forward. Only by the coordinator."""
        # It may have been written by a process that was killed before it synced it.
        self._topic.sync(decided.transactional_id)
        self._bring_in(decided)
        self._topic.write(decided.complete(self._clock.now()), durable=False)

    def _bring_in(self, one: Transaction) -> None:
        """Have all markers that it owes on stable storage. Only by the coordinator."""
        self.mark(one)
        self.sync_partitions(marked_in(one))

    # After a power cut.

    def _cure(self, coordinator: Coordinator) -> None:
        """Once per boot: abort what is open in partitions and open nowhere else.

        What is said here of a transaction's partitions is not synced before they are written to.
        A power cut may take it, and leave records there that nobody would ever end. A partition
        that cannot be looked at keeps nobody from beginning; then it is tried again.
        """
        if self._topic.cured():
            return
        all_done = True
        for one in coordinator.unfinished():
            finish = self._finish if one.state.decided else self._bring_in
            all_done &= self._tried(one, partial(finish, one))
        if self._abort_unknown(coordinator, self._all_partitions()) and all_done:
            self._topic.set_cured()

    def _tried(self, one: Transaction, do: Callable[[], None]) -> bool:
        """Whether it could be done; what fails is logged, once for each state of a transaction."""
        try:
            do()
        except (StreamkitError, OSError) as error:
            if one not in self._told:
                self._told.add(one)
                logger.warning(
                    "transactional id %r is %s, and its transaction cannot be ended: %s",
                    one.transactional_id,
                    one.state.title,
                    error,
                )
            return False
        return True

    def _abort_unknown(self, coordinator: Coordinator, partitions: Iterable[Partition]) -> bool:
        """Abort what is open in these partitions and open nowhere else; whether all could be.

        Safe at any time: under the coordinator's lock, every transaction is known before its first
        record is in a partition.
        """
        all_done = True
        by_id = {one.producer_id: one for one in coordinator}
        unsynced = [one.unsynced for one in coordinator if one.unsynced is not None]
        unsaid: dict[str, set[TopicPartition]] = {}
        for partition in partitions:
            try:
                for producer_id, epoch in partition.open_transactions().items():
                    known = by_id.get(producer_id)
                    if known is not None and known.state.decided:
                        continue  # its marker is still to come, and may be a commit
                    if any(_ends(before, partition.tp, producer_id, epoch) for before in unsynced):
                        continue  # likewise
                    if known is None or known.producer_epoch != epoch:
                        self._abort_in(partition, producer_id, epoch, known)
                    elif partition.tp not in known.partitions:
                        unsaid.setdefault(known.transactional_id, set()).add(partition.tp)
            except UnknownTopic:
                continue  # deleted just now
            except (StreamkitError, OSError) as error:
                all_done = False
                if partition.tp not in self._unseen:
                    self._unseen.add(partition.tp)
                    logger.warning(
                        "%s: whether a power cut has left a transaction open is not known: %s",
                        partition.tp,
                        error,
                    )
        for transactional_id, unsaid_there in unsaid.items():
            known = coordinator.require(transactional_id)
            all_done &= self._tried(known, partial(self._abort_known, known, unsaid_there))
        return all_done

    def _abort_known(self, known: Transaction, unsaid: Iterable[TopicPartition]) -> None:
        """Abort the transaction that its id is about to have, in partitions it does not name."""
        now = self._clock.now()
        opened = known.add(known.producer_id, known.producer_epoch, unsaid, now=now)
        fenced = opened.fence(now=now, spare_id=self._spare_id(opened))
        self._topic.write(fenced, durable=False)
        self._finish(fenced)

    def _all_partitions(self) -> Iterator[Partition]:
        for name, topic in self._log.topics().items():
            for number in range(topic.partitions):
                partition = self._partition(TopicPartition(name, number))
                if partition is not None:
                    yield partition

    def _abort_in(
        self, partition: Partition, producer_id: int, epoch: int, known: Transaction | None
    ) -> None:
        """Abort what no transactional id knows of; `epoch` is that of its last batch there."""
        if known is not None and known.producer_epoch > epoch:
            epoch, bumped = known.producer_epoch, True  # and not more: it is its producer's now
        else:
            epoch, bumped = min(epoch + 1, MAX_EPOCH), epoch < MAX_EPOCH
        logger.warning(
            "%s: aborting the transaction of producer %d, of which no transactional id tells",
            partition.tp,
            producer_id,
        )
        partition.append_marker(producer_id, epoch, False, None, bumped)

    def _partition(self, tp: TopicPartition) -> Partition | None:
        try:
            return self._log.partition(tp)
        except (UnknownTopic, UnknownPartition):
            return None

    def _spare_id(self, known: Transaction | None) -> int:
        """A new producer id, if the next step of a transactional id may need one."""
        return self._log.producer_id() if known is None or known.exhausted else -1


def _explained(partition: Partition, since: int, known: Iterable[Transaction]) -> bool:
    """Whether a transaction that is known may hold a partition's readers up since then (ms)."""
    return any(
        partition.tp in one.partitions and one.started_at <= since
        for one in known
        if not one.state.resting
    )


def marked_in(one: Transaction) -> frozenset[TopicPartition]:
    """The partitions of the markers that it owes."""
    return frozenset(tp for todo in one.owed() for tp in todo.partitions)


def _ends(before: RollForward, tp: TopicPartition, producer_id: int, epoch: int) -> bool:
    """Whether this outcome is that of what is open in a partition, by its producer and epoch."""
    open_epoch = before.producer_epoch - 1 if before.bumped else before.producer_epoch
    return producer_id == before.producer_id and epoch <= open_epoch and tp in before.partitions


def _same(known: Transaction, decided: Transaction) -> bool:
    """Whether a transactional id still is where this decision has put it."""
    return known.state is decided.state and (known.producer_id, known.producer_epoch) == (
        decided.producer_id,
        decided.producer_epoch,
    )
