"""Who ends the transactions that others have left: nobody, in a log that has none."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from streamkit.clock import Clock
from streamkit.log.config import TRANSACTIONS_TOPIC
from streamkit.log.directory import Log
from streamkit.log.late import loading
from streamkit.log.partition import Partition

if TYPE_CHECKING:  # most logs have no transactions: for them it is never loaded
    from streamkit.backends.coordinator import TransactionCoordinator

NOTHING: Mapping[Partition, int] = MappingProxyType({})


class Settling:
    """The coordinator of one log's transactions, once there are any. Used from several threads."""

    def __init__(self, log: Log, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._found: TransactionCoordinator | None = None
        if not log.read_only:
            log.add_duty(self.settle)

    def coordinator(self) -> "TransactionCoordinator":
        """The one that all who use the log in this process share."""
        if self._found is None:
            with loading():
                from streamkit.backends.coordinator import TransactionCoordinator

                if self._found is None:
                    self._found = TransactionCoordinator(self._log, self._clock)
        return self._found

    def settle(self, stuck: Mapping[Partition, int] = NOTHING, *, wait: bool = False) -> int:
        """As `TransactionCoordinator.settle`, if anybody has ever begun a transaction here."""
        if self._found is None and TRANSACTIONS_TOPIC not in self._log.topics():
            return 0
        return self.coordinator().settle(stuck, wait=wait)
