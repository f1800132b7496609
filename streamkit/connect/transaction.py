"""What a source has found, and where: one transaction after the other, each whole or not at all."""

import logging
from collections.abc import Iterable

from streamkit import codec
from streamkit.backends.base import Backend
from streamkit.clients.topic_config import compression_of
from streamkit.clients.transactional import TransactionalAppends
from streamkit.connect.appending import Rows
from streamkit.errors import StreamkitError
from streamkit.records import TopicPartition

_log = logging.getLogger("streamkit.connect")

TIMEOUT = 60.0
"""Seconds after which others abort a transaction whose process lives and does nothing. One is open
only while what was read is stored."""


def transactional_id(group: str, connector: str) -> str:
    """The id of a source's only task, as Kafka Connect names it."""
    return f"{group}-{connector}-0"


class SourceTransaction:
    """Appends that become visible together, when they are committed.

    Whoever makes the next one of the same id, in any process, ends what is open of this one: from
    then on it raises ProducerFenced. After any error it is to be closed.
    """

    def __init__(self, backend: Backend, id_: str) -> None:
        self._backend = backend
        self._transactions = backend.transactions(id_, timeout=TIMEOUT)
        self._appends = TransactionalAppends(backend, self._transactions, id_)
        self._begun = False
        self._soon: set[TopicPartition] = set()

    def expect(self, targets: Iterable[TopicPartition]) -> None:
        """Say where appends are about to go: one note of the coordinator is then enough for all."""
        self._soon.update(targets)

    def append(self, target: TopicPartition, rows: Rows) -> None:
        """Append rows as one batch, or none of them. Raises what appends raise, RecordTooLarge."""
        info = self._backend.topic(target.topic)
        batch = codec.encode(
            rows.values,
            keys=rows.keys,
            timestamps=rows.stamps,
            headers=rows.headers if any(rows.headers) else None,
            compression=compression_of(info.config),
        )
        self._begun = True
        self._appends.append(info.topic_id, target, batch, soon=self._soon)

    def commit(self) -> None:
        """On stable storage and visible when it returns. Raises OutcomeUnknown, ProducerFenced."""
        if self._begun:
            self._transactions.commit()
            self._begun = False
        self._soon.clear()

    def close(self) -> None:
        """Take back what was not committed, and let the id go.

        An error of that hides none that was before: others take it back, if only after a while.
        """
        try:
            self._transactions.close()
        except (StreamkitError, OSError) as error:
            _log.warning("what was not stored yet could not be taken back: %s", error)
