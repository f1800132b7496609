"""The control block of a partition: opened, locked, and looked for again when it is replaced."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NoReturn, TypeVar

from streamkit.clock import Clock
from streamkit.errors import CorruptLog, ReadOnlyLog, StorageFailed, UnknownTopic
from streamkit.log.block import ControlBlock
from streamkit.log.config import TopicConfig
from streamkit.log.control import End, Synced
from streamkit.log.failure import failure
from streamkit.log.files import Files
from streamkit.log.folders import topic_id_of
from streamkit.log.opening import ReadOnlyEnd, open_block
from streamkit.log.segments import Segments
from streamkit.log.swap import decided, finish
from streamkit.records import TopicPartition

T = TypeVar("T")


class Access:
    """What a partition's other parts ask for its end and its locks. Used from any thread."""

    def __init__(
        self,
        tp: TopicPartition,
        topic_id: str,
        segments: Segments,
        config: TopicConfig,
        *,
        files: Files,
        clock: Clock,
        read_only: bool,
        sync_locked: Callable[[], AbstractContextManager[None]],
        lost: Callable[[], None],
    ) -> None:
        """`lost` is called when the files are others than before: nothing known of them counts."""
        self.config = config
        self.frozen = ReadOnlyEnd(files, segments, config=config)
        """For those who may not write: they open no control block."""
        self._tp = tp
        self._topic_id = topic_id
        self._segments = segments
        self._directory = segments.directory
        self._files = files
        self._clock = clock
        self._read_only = read_only
        self._sync_locked = sync_locked
        self._lost = lost
        self.block: ControlBlock | None = None
        """If it is open already: for who is in too great a hurry for `open`."""
        self._opening = threading.Lock()
        self.appending = threading.Lock()

    def configure(self, config: TopicConfig) -> None:
        """Obey other configs when it is opened again."""
        self.config = config
        self.frozen.config = config

    def synced(self) -> Synced | None:
        """Up to where the partition is on stable storage."""
        return (self.frozen if self._read_only else self.open()).synced()

    def change(self, write: Callable[[ControlBlock, End], T]) -> T:
        """Do it with the append lock."""
        # What `explained` and `locked` do, which as context managers cost as much as an append.
        try:
            with self.appending:
                while True:
                    block = self.block or self.open()
                    try:
                        block.file.lock()
                        if not block.file.gone:
                            if block.dirty:
                                self._finish_replacement(block)
                            return write(block, block.end() or self.believed(None))
                    finally:
                        block.file.unlock()
                    self._reopen(block)
        except (OSError, CorruptLog, StorageFailed) as error:
            self.explain(error)

    def end(self) -> End:
        """What is published. Raises UnknownTopic, CorruptLog."""
        if self._read_only:
            try:
                return self.believed(self.frozen.end())
            except FileNotFoundError:
                self.raise_gone()
        block = self.block or self.open()
        if block.file.gone:  # half a microsecond; else a reader of a lost file would wait for ever
            self._reopen(block)
            block = self.open()
        return block.end() or self.believed(None)

    def believed(self, end: End | None) -> End:
        """What a block says, or CorruptLog if it says nothing."""
        if end is None:
            raise CorruptLog(
                f"{self._directory}/control: overwritten by something else. Stop all processes that"
                " use this log and delete the file: it is made anew from the log"
            )
        return end

    @contextmanager
    def locked(self) -> Iterator[ControlBlock]:
        """Hold the append lock against all threads and processes."""
        with self.appending:
            while True:
                block = self.open()
                try:
                    block.file.lock()
                    if not block.file.gone:
                        if block.dirty:
                            self._finish_replacement(block)
                        yield block
                        return
                finally:
                    # Not held, unlocking does nothing: so an interrupt cannot come in between.
                    block.file.unlock()
                self._reopen(block)

    def _finish_replacement(self, block: ControlBlock) -> None:
        """Whoever died with the lock may have been replacing segments."""
        end = block.end()
        if end is not None and decided(self._files, self._directory):
            finish(self._files, self._segments, block, end)

    def _reopen(self, gone: ControlBlock) -> None:
        """The control file is not the directory's any more: look what is there instead."""
        with self._opening:
            if self.block is gone:
                self.block = None
                self._lost()

    def open(self) -> ControlBlock:
        """The control block, opened unless it is. Raises ReadOnlyLog, UnknownTopic."""
        block = self.block
        if block is not None:
            return block
        if self._read_only:
            raise ReadOnlyLog(f"{self._tp}: {self._directory} was opened read-only")
        with self._opening:
            if self.block is None:
                self.block = self._opened()
            return self.block

    def _opened(self) -> ControlBlock:
        try:
            block = open_block(
                self._files,
                self._segments,
                self._sync_locked,
                config=self.config,
                now=self._clock.now(),
            )
        except FileNotFoundError:
            self.raise_gone()
        except OSError as error:
            raise failure(error, f"{self._directory}: cannot be opened") from error
        if self._deleted():
            self.raise_gone()
        return block

    def _deleted(self) -> bool:
        """Whether the directory is gone, or that of another topic of the same name."""
        try:
            found = topic_id_of(self._files, self._directory)
        except OSError:
            return False  # out of descriptors, say: nobody can tell just now
        # None: the file is lost. Then it is enough that the directory is there.
        return found != self._topic_id if found else not self._files.exists(self._directory)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """To who is in the middle of something, a deleted topic looks like a broken disk."""
        try:
            yield
        except (OSError, CorruptLog, StorageFailed) as error:
            self.explain(error)

    def explain(self, error: OSError | CorruptLog | StorageFailed) -> NoReturn:
        """Raise what an error means to who uses the partition."""
        if self._deleted():
            self.raise_gone()
        if isinstance(error, OSError):
            raise failure(error, str(error.filename or self._directory)) from error
        raise error

    def raise_gone(self) -> NoReturn:
        raise UnknownTopic(
            f"{self._tp}: deleted; its directory {self._directory} is gone. If nobody deleted the"
            " topic, see `streamkit fsck`"
        )

    def forked(self) -> None:
        """In a forked child: let go of what is the parent's."""
        self._opening = threading.Lock()
        self.appending = threading.Lock()
        if self.block is not None:
            self.block.abandon()

    def close(self) -> None:
        """Let go of the files. Used again, it opens them again."""
        self.block = None
        self.frozen.close()
