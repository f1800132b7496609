"""One producer's transactions over a log in a directory, one after the other."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext, suppress
from types import MappingProxyType
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from streamkit.backends.base import Membership
from streamkit.backends.coordinator import TransactionCoordinator, marked_in
from streamkit.backends.offsets_topic import OffsetsTopic
from streamkit.backends.values import CommittedOffset, Unit
from streamkit.errors import LogError, OutcomeUnknown, StreamkitError, TransactionError, UsageError
from streamkit.groups.offsets import OffsetCommit
from streamkit.log.partition import Partition
from streamkit.records import TopicPartition
from streamkit.transactions.transaction import Transaction

logger = logging.getLogger(__name__)

Committed: TypeAlias = Mapping[TopicPartition, CommittedOffset]


class _Standing(msgspec.Struct, frozen=True):
    """Where the transactions of a producer stand, as one value: an interrupt can't split it.

    `topic_ids`: of the topics of `partitions`. `begun`: the log may know of an open transaction.
    `ended`: the last one, decided and not yet completed; `marked` when all its markers are written
    (and perhaps not synced). `unsynced`: the partitions that have markers of the one before, to be
    synced with this one's records.
    """

    producer: tuple[int, int]
    partitions: frozenset[TopicPartition] = frozenset()
    topic_ids: frozenset[str] = frozenset()
    unsynced: frozenset[TopicPartition] = frozenset()
    begun: bool = False
    ended: Transaction | None = None
    marked: bool = False


class LogTransactions:
    """See `backends.base.Transactions`.

    A transaction's end is written down as completed together with the beginning of the next, which
    tells of its markers as long as they may not be on stable storage: they are synced together
    with the next one's records, as a sync of their own would be a wait more.
    """

    def __init__(
        self,
        coordinator: TransactionCoordinator,
        offsets: OffsetsTopic,
        transactional_id: str,
        timeout: int,
        *,
        commits: Callable[[str, Committed], Mapping[TopicPartition, OffsetCommit]],
        forget: Callable[["LogTransactions"], None],
    ) -> None:
        """`timeout` in ms. `commits` checks offsets; `forget` is told of `close`."""
        self.transactional_id = transactional_id
        self._coordinator = coordinator
        self._offsets = offsets
        self._commits = commits
        self._forget = forget
        self._pid = os.getpid()
        self._over: TransactionError | None = None
        self._closed = False
        begun, self._owned = coordinator.begin(transactional_id, timeout)
        self._at = _Standing((begun.producer_id, begun.producer_epoch))

    @property
    def producer(self) -> tuple[int, int]:
        return self._at.producer

    def begin(self) -> None:
        self._require_use()
        self._abort()  # one that could not be aborted when it should have been

    def add(self, partitions: Iterable[TopicPartition]) -> None:
        wanted = frozenset(partitions)
        topic_ids = self._coordinator.topic_ids(wanted)
        # A topic that was made again has not heard who was fenced in the one before: ask.
        if wanted <= self._at.partitions and topic_ids <= self._at.topic_ids:
            return
        self._require_use()
        self._mark()
        before, ended = self._at, self._at.ended
        unsynced = before.unsynced
        # One that was aborted may tell of another before it already, and no record tells of two.
        synced = ended is not None and ended.unsynced is not None
        if synced:
            self._bring_in()
        elif ended is not None:
            unsynced = ended.partitions
        # Said before it is: if this is interrupted, nobody knows whether it was written.
        self._at = replace(before, unsynced=unsynced, begun=True)
        try:
            self._coordinator.add(
                self.transactional_id, before.producer, wanted, marked=ended, synced=synced
            )
        except LogError:
            self._at = before  # nothing was written
            raise
        except TransactionError as error:
            self._over = error
            raise
        self._at = _Standing(
            before.producer,
            before.partitions | wanted,
            before.topic_ids | topic_ids,
            unsynced,
            begun=True,
        )

    def commit_offsets(
        self,
        group: str,
        offsets: Committed,
        *,
        member: Membership | None = None,
        units: Iterable[Unit] | None = None,
    ) -> None:
        commits = self._commits(group, offsets)
        if not commits:
            return
        self._offsets.make()
        self.add([self._offsets.home(group)])
        work = offsets if units is None else units
        with nullcontext() if member is None else member.holding(work):
            self._offsets.commit_in_transaction(group, commits, *self._at.producer)

    def commit(self, *, after: Iterable[TopicPartition] = ()) -> None:
        self._require_use()
        if not self._at.begun:
            return
        synced = {*self._at.partitions, *self._at.unsynced, *after}
        opened = self._coordinator.sync_partitions(synced)
        interrupted: BaseException | None = None
        while self._at.begun:
            try:
                self._decide(commit=True)
            except Exception:
                raise
            except BaseException as error:
                # All is ready to be committed, and asking again is harmless.
                if interrupted is not None:
                    self._over = OutcomeUnknown(
                        f"the commit of {self.transactional_id!r} was interrupted: whether it is"
                        " committed, whole, or aborted is not known here. Begin a new producer"
                    )
                    error.add_note(str(self._over))
                    raise
                interrupted = error
        try:
            self._mark(opened)
        except (StreamkitError, OSError) as error:
            logger.warning(
                "a transaction of %r is committed, but not all of it can be read yet: %s",
                self.transactional_id,
                error,
            )
        if interrupted is not None:
            interrupted.add_note(f"the transaction of {self.transactional_id!r} is committed")
            raise interrupted

    def abort(self) -> bool:
        self._require_use()
        return self._abort()

    def close(self) -> None:
        if self._closed or os.getpid() != self._pid:
            return  # in a forked child it is the parent's to close
        self._closed = True
        try:
            if self._over is None:
                with suppress(TransactionError):  # it was ended by others
                    self._abort()
                self._bring_in()
                if self._at.ended is not None:
                    self._coordinator.complete(self._at.ended)
        finally:
            # From here on whatever is open is aborted by others.
            self._owned.close()
            self._forget(self)

    def _abort(self) -> bool:
        if not self._at.begun:
            return False
        self._decide(commit=False)
        self._mark()
        return True

    def _decide(self, *, commit: bool) -> None:
        """Write the decision and bring it to stable storage."""
        before = self._at
        try:
            decided = self._coordinator.end(
                self.transactional_id, before.producer, commit=commit, last=before.ended
            )
        except TransactionError as error:
            self._over = error
            raise
        if decided is None:
            self._at = replace(before, begun=False)
            return
        if decided.state.resting:
            # Asked again after an interrupt, and others have finished it meanwhile.
            self._at = _Standing((decided.producer_id, decided.producer_epoch))
            return
        try:
            self._coordinator.sync(self.transactional_id)
        except LogError as error:
            if not commit:
                raise
            self._over = OutcomeUnknown(
                f"the transaction of {self.transactional_id!r} was decided to be committed, but"
                f" that could not be brought to stable storage ({error}). Nobody reads it until"
                " the machine is started again or the log repaired; then it is committed whole or"
                " aborted whole. Look at its records then, and begin a new producer"
            )
            raise self._over from error
        # What completing it will say of the producer is known by now.
        self._at = _Standing(decided.following, ended=decided)

    def _mark(self, opened: Mapping[TopicPartition, Partition] = MappingProxyType({})) -> None:
        at = self._at
        if at.ended is not None and not at.marked:
            self._coordinator.mark(at.ended, opened)
            self._at = replace(at, marked=True)

    def _bring_in(self) -> None:
        """Have the last transaction's markers on stable storage."""
        self._mark()
        if self._at.ended is not None:
            self._coordinator.sync_partitions(marked_in(self._at.ended))

    def _require_use(self) -> None:
        if os.getpid() != self._pid:
            raise UsageError(
                f"the producer of transactional id {self.transactional_id!r} belongs to the parent"
                " process; open a new one in the child, with an id of its own"
            )
        if self._closed:
            raise UsageError(f"the producer of {self.transactional_id!r} is closed")
        if self._over is not None:
            raise type(self._over)(*self._over.args) from self._over
