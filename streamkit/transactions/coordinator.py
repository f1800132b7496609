"""All transactional ids of a log, as `__transaction_state` has them.

The log is the truth and this is what was read of it. Whoever holds the coordinator lock reads up to
the end, asks for a step, writes what the step returns, and puts it here once it is written:

    transaction = coordinator.begin("orders-app", timeout=60_000, now=now, spare_id=spare)
    append(encode_key(transaction.transactional_id), encode_value(transaction)); sync()
    coordinator.put(transaction)
"""

from collections.abc import Iterator

from streamkit.errors import InvalidProducerId, InvalidTxnTimeout, UsageError
from streamkit.transactions.records import decode_key, decode_value
from streamkit.transactions.state import State
from streamkit.transactions.transaction import Transaction

MAX_TIMEOUT = 15 * 60 * 1000
"""Kafka's default of `transaction.max.timeout.ms`."""

EXPIRATION = 7 * 24 * 3600 * 1000
"""Kafka's default of `transactional.id.expiration.ms`."""


class Coordinator:
    """The transactions by transactional id. Owned by one thread at a time. Times are in ms."""

    def __init__(self, *, max_timeout: int = MAX_TIMEOUT, expiration: int = EXPIRATION) -> None:
        self._max_timeout = max_timeout
        self._expiration = expiration
        self._known: dict[str, Transaction] = {}

    def __iter__(self) -> Iterator[Transaction]:
        """By transactional id."""
        return iter([self._known[name] for name in sorted(self._known)])

    def get(self, transactional_id: str) -> Transaction | None:
        return self._known.get(transactional_id)

    def require(self, transactional_id: str) -> Transaction:
        """Raises InvalidProducerId when no producer has begun with the id."""
        found = self._known.get(transactional_id)
        if found is None:
            raise InvalidProducerId(
                f"no producer has transactional id {transactional_id!r}; it was never begun here,"
                f" or not used for {self._expiration // 3_600_000} hours: begin a new producer"
            )
        return found

    def apply(self, key: bytes | None, value: bytes | None) -> None:
        """Take in a record of `__transaction_state`. Raises DataError when it is damaged."""
        transactional_id = decode_key(key or b"")
        if transactional_id is None:
            return
        found = None if value is None else decode_value(transactional_id, value)
        if found is None or found.state is State.DEAD:
            self._known.pop(transactional_id, None)
        else:
            self._known[transactional_id] = found

    def put(self, transaction: Transaction) -> None:
        """Take in what has been written."""
        self._known[transaction.transactional_id] = transaction

    def forget(self, transactional_id: str) -> None:
        """Take in that a tombstone has been written."""
        self._known.pop(transactional_id, None)

    def begin(
        self,
        transactional_id: str,
        *,
        timeout: int,
        now: int,
        spare_id: int,
        expected: tuple[int, int] | None = None,
    ) -> Transaction:
        """What to write for a producer that begins; see `Transaction.begin`.

        When it comes back decided (`state.decided`), an open transaction of the producer before was
        found: write it, roll it forward, and ask again. Raises InvalidTxnTimeout, UsageError,
        ProducerFenced, and ConcurrentTransactions for one that was decided before: roll it forward
        and ask again.
        """
        if not transactional_id:
            raise UsageError("a transactional id is at least one character long")
        if not 0 < timeout <= self._max_timeout:
            raise InvalidTxnTimeout(
                f"transactional id {transactional_id!r}: a time-out of {timeout} ms; it is 1 to"
                f" {self._max_timeout} (transaction.max.timeout.ms)"
            )
        found = self._known.get(transactional_id)
        if found is None:
            return Transaction(transactional_id, spare_id, 0, timeout, updated_at=now)
        if found.state in (State.ONGOING, State.PREPARE_EPOCH_FENCE):
            if expected is not None and expected != (found.producer_id, found.producer_epoch):
                raise found.fenced(*expected)
            return found.fence(now=now, spare_id=spare_id, goes_on=expected is not None)
        return found.begin(timeout=timeout, now=now, spare_id=spare_id, expected=expected)

    def unfinished(self) -> list[Transaction]:
        """Those with markers that may be missing after a power cut (`Transaction.owed`)."""
        return [one for one in self if one.owed()]

    def wake_at(self) -> int | None:
        """When to ask `due` and `unused` next; None when nothing can become due."""
        times = (self._due_at(one) for one in self._known.values())
        return min((time for time in times if time is not None), default=None)

    def due(self, now: int) -> list[Transaction]:
        """Open transactions that have timed out: what to write for each is what `fence` returns."""
        return [
            one
            for one in self
            if one.state is State.PREPARE_EPOCH_FENCE
            or (one.times_out_at is not None and one.times_out_at <= now)
        ]

    def unused(self, now: int) -> list[str]:
        """Transactional ids at rest and not used for so long that a tombstone is to be written."""
        return [
            one.transactional_id
            for one in self
            if one.state.resting and one.updated_at + self._expiration <= now
        ]

    def _due_at(self, one: Transaction) -> int | None:
        if one.state.resting:
            return one.updated_at + self._expiration
        if one.state is State.PREPARE_EPOCH_FENCE:
            return one.updated_at
        return one.times_out_at
