"""Batches of a transactional id, on their way into its open transaction."""

from collections.abc import Iterable
from functools import partial

from streamkit.backends.base import Backend, Transactions
from streamkit.clients.sequences import Sequences
from streamkit.codec.buffer import Encoded
from streamkit.errors import InvalidProducerEpoch, ProducerFenced
from streamkit.records import TopicPartition


class TransactionalAppends:
    """Appends batches as the transaction's, each with the sequence that comes next.

    For one thread at a time.
    """

    def __init__(self, backend: Backend, transactions: Transactions, transactional_id: str) -> None:
        self._backend = backend
        self._transactions = transactions
        self._transactional_id = transactional_id
        self._sequences: Sequences | None = None

    def append(
        self,
        topic_id: str,
        partition: TopicPartition,
        batch: Encoded,
        *,
        soon: Iterable[TopicPartition] = (),
    ) -> int:
        """Append a batch; its first offset. `soon`: where more is about to go.

        The same object again is not appended again. Raises ProducerFenced.
        """
        # All that is known by now: each step of the coordinator is an append of its own.
        self._transactions.add({partition, *soon})
        producer = self._transactions.producer
        if self._sequences is None or self._sequences.producer != producer:
            self._sequences = Sequences(producer, transactional=True)
        append = partial(self._backend.append_encoded, partition, acks=1)
        try:
            return self._sequences.append((topic_id, partition), batch, append)
        except InvalidProducerEpoch as error:
            raise ProducerFenced(
                f"transactional id {self._transactional_id!r}: the transaction was ended by"
                " others, because it took longer than its time-out or another producer has taken"
                f" the id; begin a new producer ({error})"
            ) from error
