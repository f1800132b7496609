"""One partition: append, read, sync, seek by time; many threads and processes at once.

What takes old records from it is in `trimming`.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from streamkit.clock import Clock
from streamkit.errors import (
    CorruptLog,
    InvalidRequiredAcks,
    LogError,
    OutOfSpace,
    StorageFailed,
    UnknownTopic,
)
from streamkit.log.access import Access
from streamkit.log.append import Appended, Appender
from streamkit.log.block import ControlBlock
from streamkit.log.checks import Checks
from streamkit.log.committed import CommittedReader, Visible
from streamkit.log.config import OWN_TOPICS, TopicConfig
from streamkit.log.control import End
from streamkit.log.direct import direct_for
from streamkit.log.files import Buffer, Files
from streamkit.log.producer_state import ProducerState, load
from streamkit.log.quick import Quick
from streamkit.log.reader import Reader
from streamkit.log.reindexing import Reindexing
from streamkit.log.segments import Segments
from streamkit.log.snapshots import Snapshots
from streamkit.log.space import Space
from streamkit.log.sync import Syncer
from streamkit.log.trimming import Trimmer
from streamkit.log.wake import Wake
from streamkit.records import TopicPartition
from streamkit.transactions.producer import Producer
from streamkit.transactions.txnindex import Aborted

if TYPE_CHECKING:
    from streamkit.log.direct import Direct

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Figures(NamedTuple):
    """How much a partition holds: offsets, and what its `.log` files take of the disk."""

    start_offset: int
    stable_offset: int
    end_offset: int
    segments: int
    bytes: int


class Partition:
    """Safe to use from any thread, and beside other processes on the same directory."""

    def __init__(
        self,
        tp: TopicPartition,
        topic_id: str,
        directory: str,
        config: TopicConfig,
        *,
        files: Files,
        clock: Clock,
        fsync: Literal["always", "never"],
        read_only: bool,
        notify: Callable[[], None],
        space: Space | None = None,
        wake: Wake | None = None,
    ) -> None:
        """`notify` is called after every append, without any lock held.

        `space`: the room that is kept for the log's own topics; None: there is none. `wake`: after
        the first append it may be touched instead of calling `notify`; None: it may not.
        """
        self.tp = tp
        self.topic_id = topic_id
        self.config = config
        self.directory = directory
        self._files = files
        self._clock = clock
        self._fsync = fsync
        self._read_only = read_only
        self._notify = notify
        self._space = space
        self._own = tp.topic in OWN_TOPICS
        """One of the log's own: appends to it have to go on when the disk is full."""

        self._segments = Segments(files, directory, writable=not read_only)
        self._snapshots = Snapshots(files, directory)
        self._producers = ProducerState(tp, self._segments, self._snapshots, clock=clock)
        self._checks = Checks(tp, config, clock=clock)
        self._appender = Appender(
            tp, config, self._segments, self._producers, files=files, clock=clock
        )
        self._syncer = Syncer(files, self._segments)
        self._access = Access(
            tp,
            topic_id,
            self._segments,
            config,
            files=files,
            clock=clock,
            read_only=read_only,
            sync_locked=self._syncer.locked,
            lost=self._lost,
        )
        self._quick = Quick(self._access, self._appender, self._segments)
        self._direct = None if read_only else self._compiled(notify, wake)
        # Asked for at every turn: without a call more.
        self.end = self._access.end
        """All that the control block says, as of one moment. Raises UnknownTopic, CorruptLog."""
        self.ends_at = self._ends_at if self._direct is None else self._direct.ends_at
        """Whether the end is known to be at an offset: less than `end` has to find out."""
        self._open = self._access.open
        reindexing = Reindexing(
            tp, self._segments, self._snapshots, self._access, files=files, read_only=read_only
        )
        self._reader = Reader(
            tp,
            self._segments,
            end=self._access.end,
            reindex=reindexing.reindex,
            sparse=config.sparse,
        )
        self._committed = CommittedReader(
            self._segments,
            end=self._access.end,
            read=self._reader.read,
            walked=self._access.frozen.aborted if read_only else lambda base: None,
            rebuild=reindexing.rebuild_aborted,
        )
        self.trimmer = Trimmer(
            tp,
            config,
            self._segments,
            self._access,
            self._appender,
            self._syncer,
            files=files,
            clock=clock,
            durable=fsync == "always",
            change=partial(self._change, kept=True),
            producers=self.producers,
            aborted=self._committed.aborted,
            sync=self.sync,
            notify=notify,
        )
        """What takes old records from it."""

    def _compiled(self, notify: Callable[[], None], wake: Wake | None) -> "Direct | None":
        return direct_for(
            self._access,
            self._appender,
            self._segments,
            self._syncer,
            checks=self._checks,
            clock=self._clock,
            space=None if self._own else self._space,
            wake=wake,
            notify=notify,
            files=self._files,
            fsync=self._fsync,
        )

    def configure(self, config: TopicConfig) -> None:
        """Obey other configs from the next append or read on."""
        self.config = config
        self._checks.configure(config)
        self._appender.configure(config)
        self._reader.sparse = config.sparse
        self._access.configure(config)
        self.trimmer.configure(config)

    def __repr__(self) -> str:
        return f"<Partition {self.tp} in {self.directory}>"

    # Where it starts and ends.

    @property
    def start_offset(self) -> int:
        """The first offset that can be read."""
        return self.end().start_offset

    @property
    def end_offset(self) -> int:
        """The offset after the last."""
        return self.end().end_offset

    @property
    def stable_offset(self) -> int:
        """LSO: where committed records end for now; the end, when no transaction is open."""
        end = self.end()
        return max(end.stable_offset, end.start_offset)

    @property
    def synced_offset(self) -> int:
        """Everything before it is on stable storage."""
        synced = self._access.synced()
        return synced.offset if synced is not None else self.start_offset

    @property
    def leader_epoch(self) -> int:
        """Raised whenever a torn tail was cut."""
        return self.end().leader_epoch

    def published(self) -> End:
        """All that the control block says, as of one moment."""
        with self._access.explained():
            return self.end()

    def figures(self) -> Figures:
        """All of it as of one moment, but for segments that go just then."""
        with self._access.explained():
            end = self.end()
            sizes = [end.end_position]
            for base in self._segments.bases(end):
                if base != end.active_base:
                    with suppress(FileNotFoundError):  # removed meanwhile
                        sizes.append(self._segments.size(base))
        return Figures(end.start_offset, end.stable_offset, end.end_offset, len(sizes), sum(sizes))

    def _ends_at(self, offset: int) -> bool:
        return self.end().end_offset == offset

    # Append.

    def append(
        self,
        batches: Sequence[Buffer],
        *,
        acks: Literal["all", 1] = "all",
        sequenced: bool = True,
        together: bool = False,
    ) -> int:
        """Append encoded batches in this order and return the first one's base offset.

        They are published together when they fit one segment, else segment by segment; a batch is
        always whole or not there. With `together` they are all in one segment, whatever its size
        may be, so that after an error none of them is there. With `acks="all"` they are on stable
        storage on return, with 1 in the page cache. Raises RecordTooLarge, CorruptBatch (a batch
        that is not well-formed), OutOfSpace, StorageFailed, ReadOnlyLog, UnknownTopic (deleted
        meanwhile).

        Batches of a producer with an id may come again: one of its last five is not appended
        twice, and the first one's offset is then the one that it has. They are all refused when one
        does not follow: InvalidProducerEpoch, OutOfOrderSequence, InvalidTxnState, InvalidRecord.
        `sequenced` is False for batches in a transaction that have no sequences: offsets.
        """
        if acks not in ("all", 1):
            raise InvalidRequiredAcks(f'{self.tp}: acks={acks!r}: it is "all" or 1')
        direct = self._direct
        if len(batches) == 1 and direct is not None:
            try:
                offset = direct.append(batches[0], sequenced)
            except OutOfSpace:
                offset = None  # below there is room that is kept
            except (OSError, CorruptLog, StorageFailed) as error:
                self._access.explain(error)
            if offset is not None:
                if acks == "all":
                    try:
                        synced = direct.sync(offset + 1)
                    except (OSError, CorruptLog, StorageFailed) as error:
                        self._access.explain(error)
                    if not synced:
                        self.sync()
                return offset
        if self._space is not None and not self._own:
            self._space.admit(self.tp)
        checked = list(map(self._checks.check, batches))
        if direct is None and len(checked) == 1 and checked[0][1].producer_id == -1:
            try:
                end = self._quick.append(*checked[0])
            except OutOfSpace:
                end = None  # below there is room that is kept
            except (OSError, CorruptLog, StorageFailed) as error:
                self._access.explain(error)
            if end is not None:
                self._notify()
                if acks == "all":
                    self._sync(end)
                return end.end_offset - checked[0][1].last_offset_delta - 1
        appender = self._appender

        def write(block: ControlBlock, end: End) -> tuple[End, Appended]:
            return end, appender.append(block, end, checked, sequenced=sequenced, together=together)

        before, appended = self._change(write, kept=self._own)
        self._notify()
        if acks == "all":
            self._sync(appended.end)
        elif appended.end.active_base != before.active_base and self._fsync == "always":
            # A finished segment is synced in the background, so that the walk after a power cut
            # has one segment before it and not all of them.
            with suppress(RuntimeError):  # the interpreter is ending: the next process does it
                threading.Thread(target=self._sync_rolled, daemon=True).start()
        return appended.first_offset

    def append_marker(
        self,
        producer_id: int,
        producer_epoch: int,
        commit: bool,
        coordinator_epoch: int | None,
        bumped: bool,
    ) -> bool:
        """End a producer's transaction here: for coordinators. False: it had the marker already.

        `coordinator_epoch` None: that of the producer's last marker here, which whoever comes next
        is not below. `bumped` is as in `RollForward`. Readers see the outcome on return; for it to
        be on stable storage, call `sync`. Raises InvalidProducerEpoch (the marker is of a
        transaction that is over), CoordinatorFenced, and what an append does.
        """

        def write(block: ControlBlock, end: End) -> bool:
            return self._appender.append_marker(
                block,
                end,
                producer_id,
                producer_epoch,
                commit,
                coordinator_epoch,
                bumped=bumped,
            )

        if commit and self._direct is not None:
            try:
                if self._direct.append_commit(
                    producer_id, producer_epoch, coordinator_epoch, bumped
                ):
                    return True
            except OutOfSpace:
                pass  # below there is room that is kept
            except (OSError, CorruptLog, StorageFailed) as error:
                self._access.explain(error)
        done = self._change(write, kept=True)
        if done:
            self._notify()
        return done

    def _change(self, write: Callable[[ControlBlock, End], T], *, kept: bool) -> T:
        """Do it with the append lock; `kept`: on a full disk once more, in the room kept for it."""
        try:
            return self._access.change(write)
        except OutOfSpace:
            if self._space is None:
                raise
            # Also when there is none any more: another process may have given it up just now.
            if kept:
                self._space.give_up_ballast()
            self._space.ran_out()
            if not kept:
                raise
        return self._access.change(write)

    def _sync_rolled(self) -> None:
        try:
            self.sync()
        except UnknownTopic:
            return  # deleted meanwhile: there is nothing to sync
        except LogError as error:
            # A failed fsync is in the control block: the next append raises it.
            logger.warning("%s: not synced after a roll: %s", self.tp, error)

    def sync(self) -> None:
        """Return when everything appended before the call is on stable storage.

        Raises StorageFailed, also when an earlier sync of any process did.
        """
        if self._fsync == "always":
            try:
                if self._direct is not None and self._direct.sync():
                    return
                block = self._open()
                self._syncer.sync(block, self._access.believed(block.end()))
            except (OSError, CorruptLog, StorageFailed) as error:
                self._access.explain(error)

    def _sync(self, end: End) -> None:
        """As `sync`, of everything before `end`."""
        if self._fsync == "always":
            try:
                self._syncer.sync(self._access.block or self._open(), end)
            except (OSError, CorruptLog, StorageFailed) as error:
                self._access.explain(error)

    # Read.

    def read(self, offset: int, max_bytes: int = 1 << 20) -> bytes:
        """Whole batches, the first of which holds `offset` (or, compacted, comes next after it).

        At least one batch, about `max_bytes`; b"" at the end. Checksums are not looked at: that is
        for whoever decodes (see `verify`). Raises OffsetOutOfRange, and CorruptLog when what is at
        `offset` is no batch.
        """
        with self._access.explained():
            return self._reader.read(offset, max_bytes)

    def read_committed(self, offset: int, max_bytes: int = 1 << 20) -> Visible:
        """As `read`, up to the last stable offset, without control batches and what was aborted.

        May find nothing and yet move on: read again from its `next_offset`. Raises what `read`
        does.
        """
        with self._access.explained():
            return self._committed.read(offset, max_bytes)

    def aborted(self, start: int, stop: int) -> list[Aborted]:
        """The aborted transactions with offsets in `start` … `stop` − 1, by their markers."""
        with self._access.explained():
            return self._committed.aborted(start, stop)

    def open_transactions(self) -> dict[int, int]:
        """Whose transactions are open: producer ids, and the epochs of their last batches."""
        end = self.end()
        if end.stable_offset == end.end_offset:
            return {}
        return {one.producer_id: one.epoch for one in self.producers() if one.open_from >= 0}

    def producers(self) -> list[Producer]:
        """What is known of every producer that has an id, as of now."""
        with self._access.explained():
            if self._read_only:
                end = self.end()
                if end.producers_end < 0:
                    return []
                reach = end.end_offset
                return list(
                    load(self.tp, self._segments, self._snapshots, end, reach=reach).producers
                )
            with self._access.locked() as block:
                return list(self._producers.at(self._access.believed(block.end())))

    def verify(self, offset: int, max_bytes: int = 1 << 20) -> None:
        """Look at the checksums of what `read(offset, max_bytes)` returns.

        For whoever could not decode it: raises CorruptLog, naming the file and the byte.
        """
        with self._access.explained():
            self._reader.verify(offset, max_bytes)

    def offset_at(self, timestamp: int) -> int | None:
        """The first offset whose record's timestamp is >= `timestamp` (ms); None: there is none."""
        with self._access.explained():
            return self._reader.offset_at(timestamp)

    # Closing.

    def _lost(self) -> None:
        """The control file is not the directory's any more: nothing known of the others counts."""
        self._appender.forget()
        self._committed.forget()
        self._syncer.forget()
        self._segments.close()

    def forked(self) -> None:
        """In a forked child: let go of locks and files that are the parent's.

        The child's copies of the descriptors share the parent's flocks: a child that kept them
        would hold a killed parent's locks. It opens its own.
        """
        self._access.forked()
        self._syncer.forked()
        self.trimmer.forked()
        self.close()

    def close(self) -> None:
        """Let go of the files. Used again, it opens them again."""
        self.trimmer.stop_compacting()
        self._access.close()
        self._lost()
