"""Appending to a partition: what is done while its append lock is held."""

import errno
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple, NoReturn

import msgspec

from streamkit.clock import Clock
from streamkit.codec import stamp
from streamkit.codec.header import BatchHeader
from streamkit.errors import OutOfSpace, StorageFailed, StreamkitError
from streamkit.log.block import ControlBlock
from streamkit.log.checks import Checked
from streamkit.log.config import TopicConfig
from streamkit.log.control import End
from streamkit.log.drafts import check_data, follow_all, have_producers, let_in, let_in_marker
from streamkit.log.failure import FULL
from streamkit.log.files import Buffer, Files
from streamkit.log.producer_state import ProducerState
from streamkit.log.recovery import cut_tail
from streamkit.log.retention import AHEAD
from streamkit.log.segment import Tally
from streamkit.log.segments import Segments
from streamkit.log.sync import raise_sticky
from streamkit.records import TopicPartition
from streamkit.transactions.producers import Draft
from streamkit.transactions.txnindex import ENTRY_BYTES, Aborted, encode_entries

BROKEN = frozenset({errno.EIO, errno.ENODEV, errno.ENXIO})
MAX_RELATIVE_OFFSET = 2**31 - 1


class Appended(NamedTuple):
    """What an append came to."""

    end: End
    first_offset: int
    """Of the first batch: a new one, or the one that it had already."""


class Appender:
    """Writes batches behind the published end, then publishes the new one.

    The order is what makes a kill at any instant harmless: dirty, bytes, index entries, publish,
    clean. Whoever finds the block dirty under the lock knows that the writer died, and takes back
    what it had not published.
    """

    def __init__(
        self,
        tp: TopicPartition,
        config: TopicConfig,
        segments: Segments,
        producers: ProducerState,
        *,
        files: Files,
        clock: Clock,
    ) -> None:
        self._tp = tp
        self._segments = segments
        self.producers = producers
        self._files = files
        self._clock = clock
        self.tail_checked = False
        self.configure(config)
        self.rolls = config, -1, 0
        """By these configs, in the segment of that base: the age in ms at which it ends."""

    def configure(self, config: TopicConfig) -> None:
        """Obey other configs from the next append on."""
        self.config = config

    def forget(self) -> None:
        """Look at the files again before the next append."""
        self.tail_checked = False
        self.producers.forget()

    def append(
        self,
        block: ControlBlock,
        end: End,
        batches: Sequence[Checked],
        *,
        sequenced: bool = True,
        together: bool = False,
    ) -> Appended:
        """Write and publish, but not what is there already. Needs the append lock.

        `sequenced` is as in `Draft.check`, `together` as in `Partition.append`. Raises what the
        former does, OutOfSpace and StorageFailed.
        """
        if block.troubled or not self.tail_checked:
            end = self._sound(block, end)
        draft, first = None, end.end_offset
        produced = have_producers(batches)
        if produced:
            draft = self.producers.at(end).draft()
            batches, first = let_in(draft, batches, sequenced)
        while batches:
            count = self.fitting(end, batches)
            if together and count < len(batches):
                count = 0 if end.end_position else len(batches)
            if count == 0:
                end = self._roll(block, end)
            elif count == len(batches):
                if produced and draft is None:
                    draft = follow_all(self.producers.at(end).draft(), batches)
                return Appended(self._write(block, end, batches, draft), first)
            else:
                some, batches = batches[:count], batches[count:]
                draft = follow_all(self.producers.at(end).draft(), some) if produced else None
                end = self._write(block, end, some, draft)
                draft = None
        return Appended(end, first)

    def append_marker(
        self,
        block: ControlBlock,
        end: End,
        producer_id: int,
        producer_epoch: int,
        commit: bool,
        coordinator_epoch: int | None,
        *,
        bumped: bool,
    ) -> bool:
        """Write and publish the marker that ends a transaction; False: it has ended here already.

        `coordinator_epoch` as in `Partition.append_marker`. Needs the append lock. Raises what
        `Draft.check_marker` does, OutOfSpace and StorageFailed.
        """
        end = self._sound(block, end)
        draft = self.producers.at(end).draft()
        found = let_in_marker(
            draft,
            producer_id,
            producer_epoch,
            commit,
            coordinator_epoch,
            bumped=bumped,
            now=self._clock.now(),
        )
        if found is None:
            return False
        checked, aborted = found
        if self.fitting(end, (checked,)) == 0:
            end = self._roll(block, end)
        self._write(block, end, (checked,), draft, aborted)
        return True

    # Before the append lock is taken: with `Access.appending`, so that no other thread appends. It
    # counts if the log still ends at `producers.place` when the lock is held.

    def drafted(self, header: BatchHeader, sequenced: bool) -> Draft | None:
        """The producers once a batch of data is appended; None: see `append`.

        That is when it is there already, or would be refused as far as is known without the lock.
        """
        draft = self.producers.draft()
        if draft is None:
            return None
        try:
            known = check_data(draft, header, sequenced)
        except StreamkitError:
            return None
        if known is not None:
            return None
        draft.follow(header, draft.end_offset)
        return draft

    def drafted_commit(
        self, producer_id: int, producer_epoch: int, coordinator_epoch: int | None, bumped: bool
    ) -> tuple[Buffer, Draft] | None:
        """A marker that commits, and the producers once it is appended; None: see `append_marker`.

        That is also when it would have to abort.
        """
        draft = self.producers.draft()
        if draft is None:
            return None
        try:
            found = let_in_marker(
                draft,
                producer_id,
                producer_epoch,
                True,
                coordinator_epoch,
                bumped=bumped,
                now=self._clock.now(),
            )
        except StreamkitError:
            return None
        if found is None or found[1]:
            return None
        return found[0][0], draft

    def _sound(self, block: ControlBlock, end: End) -> End:
        """The end to append at, once nothing of a killed writer is behind it."""
        if block.errno:
            raise_sticky(block, self._segments)
        if block.dirty or not self.tail_checked:
            try:
                return self._take_back_tail(block, end)
            except OSError as error:
                self.take_back(block, end, error)
        return end

    def _take_back_tail(self, block: ControlBlock, end: End) -> End:
        block.dirty = True
        cut = cut_tail(self._files, self._segments, end)
        if cut is not end:
            block.publish(cut)
        block.dirty = False
        self.tail_checked = True
        return cut

    def fitting(self, end: End, rest: Sequence[Checked]) -> int:
        """How many of the batches go into the active segment now; 0: it is over, roll first.

        Never 0 for an empty segment, though `segment.bytes` may be less now than when the batch
        was checked: it would be rolled for ever.
        """
        config = self.config
        if end.end_position == 0:
            room = config.segment_bytes
        else:
            room = config.segment_bytes - end.end_position
            total = 0
            for _, header in rest:
                total += header.size
            if total > room and total <= config.segment_bytes:
                return 0  # all of them in the next segment, published at once
            rolls = self.rolls
            if rolls[0] is not config or rolls[1] != end.active_base:
                rolls = config, end.active_base, config.roll_ms(self._tp, end.active_base)
                self.rolls = rolls
            age = self._clock.now() - end.segment_created
            # Begun in a time to come, by a clock that was wrong: else it would not end until then.
            if age >= rolls[2] or age < -AHEAD:
                return 0
            if end.index_bytes >= config.segment_index_bytes:
                return 0
        offset = end.end_offset
        count = 0
        for _, header in rest:
            room -= header.size
            offset += header.last_offset_delta + 1
            if room < 0 or offset - 1 - end.active_base > MAX_RELATIVE_OFFSET:
                break
            count += 1
        return count if end.end_position else max(count, 1)

    def _write(
        self,
        block: ControlBlock,
        end: End,
        batches: Sequence[Checked],
        draft: Draft | None,
        aborted: Sequence[Aborted] = (),
    ) -> End:
        """One pwritev, the index entries, and then the publication of all of it.

        `draft`: the producers as they are then, unless none of the batches has one. `aborted`:
        what transactions it aborts.
        """
        tally = Tally(
            end.active_base,
            self.config.index_interval_bytes,
            end.max_timestamp,
            end.max_timestamp_offset,
            end.indexed_timestamp,
            end.unindexed_bytes,
        )
        buffers: list[Buffer] = []
        offset, position, epoch = end.end_offset, end.end_position, end.leader_epoch
        for batch, header in batches:
            buffers += stamp(batch, offset, epoch), memoryview(batch)[16:]
            size, last = header.size, offset + header.last_offset_delta
            tally.add(last, header.max_timestamp, position, size)
            offset = last + 1
            position += size
        base = end.active_base
        block.dirty = True
        try:
            self._segments.current.file(base).write(buffers, end.end_position)
            if tally.index:  # the other one gets an entry only then, too
                self._segments.add_entries(base, tally, end.index_bytes, end.timeindex_bytes)
            if aborted or (draft is not None and end.producers_end < 0):
                # The first producer's segment gets one, though empty: see Segments.create.
                entries = encode_entries(aborted)
                self._segments.add_aborted(base, entries, end.txnindex_bytes)
        except OSError as error:
            self.take_back(block, end, error)
        if draft is not None:
            stable, producers_end = draft.stable_offset, offset
        else:
            # Batches without a producer id open and close nothing: the block alone tells.
            stable = offset if end.stable_offset == end.end_offset else end.stable_offset
            producers_end = end.producers_end
        after = msgspec.structs.replace(
            end,
            end_position=position,
            end_offset=offset,
            stable_offset=stable,
            segment_created=end.segment_created if end.end_position else self._clock.now(),
            max_timestamp=tally.max_timestamp,
            max_timestamp_offset=tally.max_timestamp_offset,
            indexed_timestamp=tally.indexed_timestamp,
            index_bytes=end.index_bytes + len(tally.index),
            timeindex_bytes=end.timeindex_bytes + len(tally.timeindex),
            unindexed_bytes=tally.unindexed,
            txnindex_bytes=end.txnindex_bytes + len(aborted) * ENTRY_BYTES,
            producers_end=producers_end,
        )
        block.publish(after)
        block.dirty = False
        if draft is not None:
            self.producers.adopt(draft, after)
        return after

    def roll(self, block: ControlBlock, end: End) -> End:
        """End the active segment, though it is not full. Needs the append lock."""
        return self._roll(block, self._sound(block, end))

    def _roll(self, block: ControlBlock, end: End) -> End:
        """Finish the active segment and begin the next at the end offset."""
        tally = Tally(
            end.active_base,
            0,
            max_timestamp=end.max_timestamp,
            max_timestamp_offset=end.max_timestamp_offset,
            indexed_timestamp=end.indexed_timestamp,
        )
        tally.seal()
        if self.config.sparse:
            self._bring_in(block, end)
        self.producers.snapshot(end)
        block.dirty = True
        try:
            self._segments.add_entries(end.active_base, tally, end.index_bytes, end.timeindex_bytes)
            self._segments.create(end.end_offset, txnindex=end.producers_end >= 0)
        except OSError as error:
            self.take_back(block, end, error)
        after = end.rolled(self._clock.now())
        block.publish(after)
        block.dirty = False
        return after

    def _bring_in(self, block: ControlBlock, end: End) -> None:
        """Have the active segment on stable storage, with its name, before another one follows.

        A power cut that takes the end of a segment and leaves the next one makes a gap, which a
        walk knows for a loss, and ends there. Where compaction makes such gaps nobody could tell:
        the marker of a transaction could be missing, and all that comes after it be there.
        """
        synced = block.synced()
        if synced is not None and (synced.base, synced.offset) == (end.active_base, end.end_offset):
            return
        try:
            self._segments.file(end.active_base).sync()
            self._files.fsync_dir(self._segments.directory)
        except OSError as error:
            if block.file.gone:  # deleted meanwhile: nothing has failed
                raise
            block.errno = error.errno or errno.EIO  # as in `Syncer`: a second try proves nothing
            raise_sticky(block, self._segments)

    def take_back(self, block: ControlBlock, end: End, error: OSError) -> NoReturn:
        """Undo a write that failed half way, and say why it did."""
        if error.errno in BROKEN:
            block.errno = error.errno or errno.EIO
        with suppress(OSError):  # then it stays dirty, and the next append tries again
            self._take_back_tail(block, end)
        raise_sticky(block, self._segments)
        what = f"{self._tp}@{end.end_offset}: the append to {self._segments.directory} failed"
        if error.errno in FULL:
            raise OutOfSpace(
                f"{what}: {error.strerror}. It was taken back whole; free some space"
            ) from error
        raise StorageFailed(f"{what}: {error}. It was taken back whole") from error
