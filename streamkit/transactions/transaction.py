"""One transactional id: a value, and the steps from it to the next.

Every step returns the value to be *written*. It counts once it is on stable storage, and not
before; a step that returns the same object has nothing to write, because it was taken already and
its caller has only not heard of it.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from streamkit.errors import (
    ConcurrentTransactions,
    InvalidProducerId,
    InvalidTxnState,
    ProducerFenced,
)
from streamkit.records import TopicPartition
from streamkit.transactions.state import TRANSITIONS, State

NONE = -1
MAX_EPOCH = 2**15 - 1
LAST_EPOCH = MAX_EPOCH - 1
"""The highest epoch a producer may have: one more is kept to end its transaction with."""

VERSION = 2
"""Of the transaction protocol: from 2 on, the epoch is raised at the end of every transaction, so
that a late batch or request can't land in the next one. Clients of 0 and 1 keep their epoch."""


class RollForward(msgspec.Struct, frozen=True):
    """What is left to do for a decided transaction: a marker into each partition, in this order.

    Each partition says itself whether it has the marker already (`Draft.check_marker`, which
    takes `bumped`). When all have it on stable storage, `Transaction.complete` is to be written.
    """

    producer_id: int
    producer_epoch: int
    commit: bool
    bumped: bool
    partitions: tuple[TopicPartition, ...]


class Transaction(msgspec.Struct, frozen=True):
    """A transactional id and where its present or last transaction stands.

    Times are in ms since 1970 UTC (−1: none), `timeout` is in ms. `previous_producer_id` is the
    one of the step before, and `next_producer_id` the one to go on with when this one's epochs are
    used up. `last_producer_epoch`, the one before the present, is not written down.

    `unsynced` is how the transaction before the present one ended, as long as its markers, which
    are all written, may not be on stable storage: a power cut may take them, and then this says
    what they were.
    """

    transactional_id: str
    producer_id: int
    producer_epoch: int
    timeout: int
    state: State = State.EMPTY
    partitions: frozenset[TopicPartition] = frozenset()
    started_at: int = NONE
    updated_at: int = NONE
    previous_producer_id: int = NONE
    next_producer_id: int = NONE
    version: int = 0
    last_producer_epoch: int = NONE
    unsynced: RollForward | None = None

    @property
    def exhausted(self) -> bool:
        """The next producer or transaction needs another producer id."""
        return self.producer_epoch >= LAST_EPOCH

    @property
    def times_out_at(self) -> int | None:
        """When an open transaction is to be aborted; None when there is none."""
        return self.started_at + self.timeout if self.state is State.ONGOING else None

    def begin(
        self,
        *,
        timeout: int,
        now: int,
        spare_id: int,
        expected: tuple[int, int] | None = None,
    ) -> "Transaction":
        """A producer takes the transactional id over, or goes on after an error.

        Every earlier producer is fenced by the epoch that this raises. One that goes on says with
        `expected` which id and epoch it has; a repeated call of that kind gets the same answer.
        `spare_id`, never used before, is taken when the epochs are used up. Only at rest: an open
        transaction is aborted before (`fence`) and a decided one finished. Raises ProducerFenced
        and ConcurrentTransactions.
        """
        if self.state.decided:
            raise self._unfinished()
        if expected is not None:
            producer_id, epoch = expected
            rotated = producer_id == self.previous_producer_id and epoch >= LAST_EPOCH
            if not (producer_id == self.producer_id or rotated):
                raise self.fenced(*expected)
            if epoch != self.producer_epoch:
                if epoch != self.last_producer_epoch:
                    raise self.fenced(*expected)
                return self
        return self._to(
            State.EMPTY,
            now,
            producer_id=spare_id if self.exhausted else self.producer_id,
            producer_epoch=0 if self.exhausted else self.producer_epoch + 1,
            last_producer_epoch=NONE if expected is None else self.producer_epoch,
            timeout=timeout,
            partitions=frozenset(),
            started_at=NONE,
        )

    def add(
        self,
        producer_id: int,
        epoch: int,
        partitions: Iterable[TopicPartition],
        *,
        now: int,
        version: int = VERSION,
        unsynced: RollForward | None = None,
    ) -> "Transaction":
        """Partitions that the transaction is about to write to; the first ones begin it.

        To be in the log before the first batch is appended there: a batch in a partition
        that no record names would never get a marker. `unsynced` is for the first ones. Raises
        InvalidProducerId, ProducerFenced and ConcurrentTransactions.
        """
        if producer_id != self.producer_id:
            raise self._foreign(producer_id)
        if epoch != self.producer_epoch or epoch > LAST_EPOCH:
            raise self.fenced(producer_id, epoch)
        if self.state.decided:
            raise self._unfinished()
        together = self.partitions | frozenset(partitions)
        goes_on = self.state is State.ONGOING
        if goes_on and together == self.partitions:
            return self
        return self._to(
            State.ONGOING,
            now,
            partitions=together,
            started_at=self.started_at if goes_on else now,
            version=version,
            unsynced=self.unsynced if goes_on else unsynced,
        )

    def end(
        self,
        producer_id: int,
        epoch: int,
        *,
        commit: bool,
        now: int,
        spare_id: int,
        version: int = VERSION,
    ) -> "Transaction":
        """Commit or abort: what this returns, on stable storage, is the decision.

        With version 2 the epoch is raised by it: the producer goes on with what the completed
        transaction says. A call that comes again with the epoch from before the end is answered by
        the transaction as it is. `spare_id` as in `begin`. Only to be committed when its records,
        and the markers of what is `unsynced`, are on stable storage. Raises InvalidProducerId,
        ProducerFenced, and InvalidTxnState when nothing was begun or it ended the other way.
        """
        raised = version >= 2
        again = False
        if producer_id != self.producer_id or epoch != self.producer_epoch:
            again = raised and (producer_id, epoch) == self._before_the_end()
        if producer_id != self.producer_id and not again:
            raise self._foreign(producer_id)
        if epoch != self.producer_epoch and not again:
            raise self.fenced(producer_id, epoch)
        prepared = State.PREPARE_COMMIT if commit else State.PREPARE_ABORT
        completed = State.COMPLETE_COMMIT if commit else State.COMPLETE_ABORT
        if self.state in (prepared, completed) and (again or not raised):
            return self
        if again:
            raise self.fenced(producer_id, epoch)
        empty = self.state.resting
        if not (self.state is State.ONGOING or (empty and raised and not commit)):
            raise self._not_from(prepared)
        return self._to(
            prepared,
            now,
            producer_epoch=min(epoch + 1, MAX_EPOCH) if raised else epoch,
            last_producer_epoch=epoch if raised else self.last_producer_epoch,
            next_producer_id=spare_id if raised and self.exhausted else NONE,
            started_at=now if empty else self.started_at,
            version=version,
            unsynced=None if commit else self.unsynced,
        )

    def fence(self, *, now: int, spare_id: int, goes_on: bool = False) -> "Transaction":
        """Abort the open transaction of a producer that timed out or whose place is taken.

        The epoch is raised in every version: whatever that producer sends later is refused. With
        `goes_on` it is the producer itself that begins again, and it will be let in (`begin` with
        `expected`). `spare_id` as in `begin`.
        """
        if self.state not in (State.ONGOING, State.PREPARE_EPOCH_FENCE):
            raise self._not_from(State.PREPARE_ABORT)
        raised = self.state is State.PREPARE_EPOCH_FENCE
        epoch = self.producer_epoch if raised else min(self.producer_epoch + 1, MAX_EPOCH)
        return self._to(
            State.PREPARE_ABORT,
            now,
            producer_epoch=epoch,
            last_producer_epoch=self.producer_epoch if goes_on else NONE,
            next_producer_id=spare_id if self.exhausted else NONE,
        )

    def roll_forward(self) -> RollForward | None:
        """What is left of a decided transaction; None when it is not decided, or finished."""
        if not self.state.decided:
            return None
        return RollForward(
            self.producer_id,
            self.producer_epoch,
            self.state is State.PREPARE_COMMIT,
            self.version >= 2,
            tuple(sorted(self.partitions)),
        )

    def owed(self) -> list[RollForward]:
        """The markers that a power cut may have left unwritten, in the order to write them in."""
        owed = [] if self.unsynced is None else [self.unsynced]
        mine = self.roll_forward()
        if mine is not None:
            owed.append(mine)
        return owed

    @property
    def following(self) -> tuple[int, int]:
        """Id and epoch that a decided transaction's producer goes on with, once it is complete."""
        if self.next_producer_id != NONE:
            return self.next_producer_id, 0
        return self.producer_id, self.producer_epoch

    def complete(self, now: int) -> "Transaction":
        """All markers are on stable storage, those of what was `unsynced` as well."""
        commit = self.state is State.PREPARE_COMMIT
        producer_id, epoch = self.following
        return self._to(
            State.COMPLETE_COMMIT if commit else State.COMPLETE_ABORT,
            now,
            producer_id=producer_id,
            producer_epoch=epoch,
            next_producer_id=NONE,
            partitions=frozenset(),
            unsynced=None,
        )

    def _before_the_end(self) -> tuple[int, int]:
        """Id and epoch that the producer had before the last end raised them."""
        if self.producer_epoch == 0 and self.previous_producer_id not in (NONE, self.producer_id):
            return self.previous_producer_id, LAST_EPOCH
        return self.producer_id, self.producer_epoch - 1

    def _to(self, state: State, now: int, **fields: Any) -> "Transaction":
        if state not in TRANSITIONS[self.state]:
            raise self._not_from(state)
        return msgspec.structs.replace(
            self, state=state, updated_at=now, previous_producer_id=self.producer_id, **fields
        )

    def _not_from(self, state: State) -> InvalidTxnState:
        return InvalidTxnState(
            f"transactional id {self.transactional_id!r} is {self.state.title} and cannot become"
            f" {state.title}; begin a new transaction"
        )

    def _unfinished(self) -> ConcurrentTransactions:
        return ConcurrentTransactions(
            f"transactional id {self.transactional_id!r} is {self.state.title}: its last"
            " transaction is still being finished; try again"
        )

    def _foreign(self, producer_id: int) -> InvalidProducerId:
        return InvalidProducerId(
            f"transactional id {self.transactional_id!r} belongs to producer {self.producer_id},"
            f" not {producer_id}; begin a new producer"
        )

    def fenced(self, producer_id: int, epoch: int) -> ProducerFenced:
        """The error for a producer that this transactional id no longer belongs to."""
        return ProducerFenced(
            f"transactional id {self.transactional_id!r} is at producer {self.producer_id}, epoch"
            f" {self.producer_epoch}; producer {producer_id} with epoch {epoch} is over: its"
            " transaction timed out, or another one has the same transactional id. To go on, open a"
            " new Producer, which takes the id over; what was open is aborted"
        )
