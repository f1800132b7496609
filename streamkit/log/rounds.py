"""Which partition is compacted next, and the round that is under way."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

from streamkit.clock import Clock
from streamkit.log.cleaning import Compacted
from streamkit.log.partition import Partition
from streamkit.records import TopicPartition

WORK_SECONDS = 0.05
"""How long one pass compacts, about; between two of them others have the processor."""


class Rounds:
    """One round at a time, of the dirtiest partition first. Used by one thread at a time."""

    def __init__(
        self,
        borrow: Callable[[TopicPartition], AbstractContextManager[Partition]],
        *,
        clock: Clock,
    ) -> None:
        self._borrow = borrow
        self._clock = clock
        self._due: dict[TopicPartition, float] = {}
        self._open: tuple[ExitStack, Partition] | None = None

    def add(self, tp: TopicPartition, dirty: float) -> None:
        """Have a partition compacted; `dirty` is the part of it that is."""
        self._due[tp] = dirty

    def drop(self, tp: TopicPartition) -> None:
        """The partition need not be compacted any more."""
        self._due.pop(tp, None)

    @property
    def waiting(self) -> bool:
        """Whether there is something to go on with."""
        return self._open is not None or bool(self._due)

    def work(self) -> list[tuple[TopicPartition, Compacted]]:
        """Compact for a while; the rounds that were finished.

        A round that fails is over. Its error is raised, and the others go on with the next call.
        """
        done: list[tuple[TopicPartition, Compacted]] = []
        until = self._clock.monotonic() + WORK_SECONDS
        while self.waiting:
            _, partition = self._open or self._next()
            try:
                found = partition.trimmer.compact()
            except BaseException:
                self.give_up()
                raise
            if found is None or found.done:
                self.give_up()
            if found is not None and found.done:
                done.append((partition.tp, found))
            if self._clock.monotonic() >= until:
                break
        return done

    def _next(self) -> tuple[ExitStack, Partition]:
        tp = max(self._due, key=lambda tp: (self._due[tp], tp))
        del self._due[tp]
        # Until the round is done: what it has noted and written so far belongs to this object.
        files = ExitStack()
        self._open = files, files.enter_context(self._borrow(tp))
        return self._open

    def give_up(self) -> None:
        """Let go of the round that is under way; who compacts the partition next begins anew."""
        opened, self._open = self._open, None
        if opened is not None:
            files, partition = opened
            partition.trimmer.stop_compacting()
            files.close()

    def forked(self) -> None:
        """In a forked child: the round is the parent's."""
        self._due = {}
        self._open = None
