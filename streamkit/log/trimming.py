"""What takes old records from a partition: retention, the deletion of records, compaction."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from streamkit.clock import Clock
from streamkit.log.access import Access
from streamkit.log.append import Appender
from streamkit.log.block import ControlBlock
from streamkit.log.config import TopicConfig
from streamkit.log.control import End
from streamkit.log.files import Files
from streamkit.log.late import loading
from streamkit.log.segments import Segments
from streamkit.log.swap import remove_before
from streamkit.log.sync import Syncer, raise_sticky
from streamkit.records import TopicPartition
from streamkit.transactions.producer import Producer
from streamkit.transactions.txnindex import Aborted

if TYPE_CHECKING:
    from streamkit.log.cleaning import Cleaner, Compacted
    from streamkit.log.compaction import Dirt

MEMORY = 64 << 20
"""Bytes for the keys of a round of compaction: 1.5 million of them. With more, it takes several."""

STEP_BYTES = 8 << 20
"""Bytes that one step of compaction reads, about: a fiftieth of a second."""

Write: TypeAlias = Callable[[ControlBlock, End], bool]


class Trimmer:
    """For one partition. Safe to use from any thread, and beside who appends and reads.

    Nobody else takes records away: readers see it by the start that is published, and by the count
    of rewrites.
    """

    def __init__(
        self,
        tp: TopicPartition,
        config: TopicConfig,
        segments: Segments,
        access: Access,
        appender: Appender,
        syncer: Syncer,
        *,
        files: Files,
        clock: Clock,
        durable: bool,
        change: Callable[[Write], bool],
        producers: Callable[[], list[Producer]],
        aborted: Callable[[int, int], list[Aborted]],
        sync: Callable[[], None],
        notify: Callable[[], None],
    ) -> None:
        """`change` does something with the append lock, on a full disk in the room kept for it.

        `durable`: what is removed is synced. `producers`, `aborted` and `sync` are as the
        partition's; `notify` is called when the start has moved.
        """
        self._tp = tp
        self._config = config
        self._segments = segments
        self._access = access
        self._appender = appender
        self._syncer = syncer
        self._files = files
        self._clock = clock
        self._durable = durable
        self._change = change
        self._producers = producers
        self._aborted = aborted
        self._sync = sync
        self._notify = notify
        self._cleaning: Cleaner | None = None
        self._compacting = threading.Lock()

    def configure(self, config: TopicConfig) -> None:
        """Obey other configs from the next call on."""
        self._config = config

    def roll(self, seen: End) -> bool:
        """End the active segment, if nothing was appended since `published` said `seen`.

        Whether it was. For segments that are too old: else it is the next append that does it.
        Raises OutOfSpace, StorageFailed, ReadOnlyLog, UnknownTopic.
        """

        def write(block: ControlBlock, end: End) -> bool:
            if end.end_position == 0 or end.end_offset != seen.end_offset:
                return False
            self._appender.roll(block, end)
            return True

        # Without a new segment nothing of the old one can be removed.
        return self._change(write)

    def remove_before(self, offset: int) -> int:
        """Let the partition start at `offset`, and return where it starts then.

        Records below it can't be read any more, at once and in every process, and segments wholly
        below it are removed; the active one stays. An offset beyond the end counts as the end, one
        below the start changes nothing. Raises StorageFailed, ReadOnlyLog, UnknownTopic.
        """
        with self._access.explained(), self._access.locked() as block:
            raise_sticky(block, self._segments)
            end = remove_before(
                self._segments,
                block,
                self._access.believed(block.end()),
                offset,
                durable=self._durable,
            )
        self._notify()  # a reader that waits at an offset that is gone is told so
        return end.start_offset

    @property
    def _cleaner(self) -> "Cleaner":
        """Loaded, and made, by the few who compact."""
        if self._cleaning is None:
            with loading():
                from streamkit.log.cleaning import Cleaner

                if self._cleaning is None:  # by another thread, since
                    self._cleaning = Cleaner(
                        self._tp,
                        self._segments,
                        files=self._files,
                        clock=self._clock,
                        end=self._access.end,
                        block=self._access.open,
                        locked=self._access.locked,
                        sync_locked=self._syncer.locked,
                        sync=self._sync,
                        producers=self._producers,
                        aborted=self._aborted,
                    )
        return self._cleaning

    def dirt(self) -> "Dirt":
        """How much there is to compact, whatever the topic's policy is."""
        with self._access.explained():
            return self._cleaner.dirt(self._config)

    def compact(
        self, budget: int = STEP_BYTES, *, memory: int = MEMORY, force: bool = False
    ) -> "Compacted | None":
        """Go on with a round of compaction, or begin one if it is due; one step of it.

        None: there is nothing to do, as the topic is not compacted or not dirty enough (which
        `force` passes over), or another thread or process is at it. A step reads about `budget`
        bytes; the round is at its end when it says `done`, and is given up by `stop_compacting`.
        `memory` is in bytes, for the keys of the dirty part: with fewer than it takes, that part
        is cleaned in several rounds. Raises CorruptLog (nothing is replaced then), OutOfSpace,
        StorageFailed, ReadOnlyLog, UnknownTopic.
        """
        if not self._config.compacted or not self._compacting.acquire(blocking=False):
            return None
        try:
            with self._access.explained():
                raise_sticky(self._access.open(), self._segments)
                return self._cleaner.step(self._config, budget, memory=memory, force=force)
        finally:
            self._compacting.release()

    def stop_compacting(self) -> None:
        """Give up the round that is under way, if there is one."""
        with self._compacting:
            if self._cleaning is not None:
                self._cleaning.close()

    def forked(self) -> None:
        """In a forked child: a round that is under way is the parent's."""
        self._compacting = threading.Lock()
        if self._cleaning is not None:
            self._cleaning.forked()
