"""Setting one partition right. A kill at any instant leaves it as it was, or further.

1  what is there is synced; a damaged active segment is ended by a roll
2  per damaged segment: the bad bytes to <offset>.damaged, the rest to a new file with empty
   batches in their place, its indexes away, the new file over the old one
3  indexes, index of aborted transactions and control block anew, by walking all of it with
   checksums; synced; then, and only then, an error of the storage is forgotten
"""

import os
from collections.abc import Iterator

import msgspec

from streamkit.errors import StorageFailed
from streamkit.fsck.filler import fillers
from streamkit.fsck.partition import Checked, check_partition
from streamkit.fsck.place import Hole, Place
from streamkit.log.block import ControlBlock
from streamkit.log.checkpoints import (
    EPOCHS,
    PARTITION_METADATA,
    encode_epochs,
    encode_partition_metadata,
)
from streamkit.log.control import CUT, End, Synced
from streamkit.log.failure import failure
from streamkit.log.files import Files, OpenFile, write_new
from streamkit.log.opening import open_block
from streamkit.log.recovery import cut_tail, recover
from streamkit.log.segment import INDEX, LOG, SNAPSHOT, TIMEINDEX, TXNINDEX, file_name
from streamkit.log.segments import Segments
from streamkit.log.sync import Syncer
from streamkit.log.view import existing

DAMAGED = ".damaged"
COPY_BYTES = 4 << 20


def mend(files: Files, place: Place, now: int) -> list[str]:
    """Repair what `check_partition` finds; says what was done. Nobody else may have the log open.

    Raises StorageFailed when the disk fails again: then it has to be replaced first.
    """
    try:
        return list(_Mending(files, place, now).run())
    except OSError as error:
        if not isinstance(error, StorageFailed):
            raise failure(error, f"{place.directory}: the repair failed") from error
        raise


class _Mending:
    def __init__(self, files: Files, place: Place, now: int) -> None:
        self._files = files
        self._place = place
        self._now = now
        self._segments = Segments(files, place.directory, writable=True)
        self._syncer = Syncer(files, self._segments)

    def run(self) -> Iterator[str]:
        name = str(self._place.tp)
        found = check_partition(self._files, self._place)
        kinds = {one.kind for one in found.findings if one.severity != "note"}
        if "topic-id" in kinds and self._place.topic_id:
            path = os.path.join(self._place.directory, PARTITION_METADATA)
            if not any(one.kind == "topic-id" and not one.repair for one in found.findings):
                topic_id = bytes.fromhex(self._place.topic_id)
                write_new(self._files, path, encode_partition_metadata(topic_id))
                yield f"{name}: {PARTITION_METADATA} written again"
        if "epochs" in kinds:
            epoch = found.end.leader_epoch if found.end is not None else 0
            path = os.path.join(self._place.directory, EPOCHS)
            write_new(self._files, path, encode_epochs([(epoch, 0)]))
            yield f"{name}: {EPOCHS} made anew"
        # As whoever opens the log to write does: it cuts torn tails, also those of killed writers.
        block = open_block(
            self._files,
            self._segments,
            self._syncer.locked,
            config=self._place.config,
            now=self._now,
        )
        end = block.end()
        assert end is not None, "it was just opened"
        if block.dirty:
            end = cut_tail(self._files, self._segments, end)
            block.publish(end)
            block.dirty = False
        found = check_partition(self._files, self._place)
        wrong = [one for one in found.findings if one.severity != "note"]
        self._remove_leftovers()
        for one in found.findings:
            if one.kind == "snapshot":
                self._files.unlink(os.path.join(self._place.directory, os.path.basename(one.file)))
        if not wrong:
            return
        yield from self._close_holes(block, found)
        yield from self._rebuild(block)

    def _remove_leftovers(self) -> None:
        """Files that nothing goes on from. What a cleaner left, the next one finishes."""
        names = set(self._files.listdir(self._place.directory))
        for name in names:
            stem, suffix = os.path.splitext(name)
            indexes_nothing = suffix in (INDEX, TIMEINDEX, TXNINDEX) and stem + LOG not in names
            if indexes_nothing or suffix in (".tmp", ".deleted"):
                self._files.unlink(os.path.join(self._place.directory, name))

    def _close_holes(self, block: ControlBlock, found: Checked) -> Iterator[str]:
        end = block.end()
        assert end is not None and found.end == end, "nobody else is here"
        if not found.holes:
            return
        self._sync_all()
        self._forget_snapshots(found.holes[0].first)
        holes = list(found.holes)
        tail = holes[-1]
        if tail.base == end.active_base and tail.last == end.end_offset - 1 and not tail.size:
            end = self._fill(block, end, holes.pop())
            yield self._said(tail)
        if (
            block.errno != CUT
        ):  # else what it says of the missing end is needed until that is closed
            block.publish_synced(Synced(end.active_base, end.end_position, end.end_offset))
        if any(hole.base == end.active_base for hole in holes):
            end = self._roll(block, end)
        for base in sorted({hole.base for hole in holes}):
            some = [hole for hole in holes if hole.base == base]
            self._rewrite(base, some, end.leader_epoch)
            for hole in some:
                yield self._said(hole)

    def _said(self, hole: Hole) -> str:
        lost = f"offsets {hole.first} to {hole.last} lost" if hole.lost else "none lost"
        kept = f"{hole.size:,} bytes put aside, " if hole.size else ""
        return f"{self._place.tp}@{hole.first}: {kept}{lost}; readers pass over it"

    def _fill(self, block: ControlBlock, end: End, hole: Hole) -> End:
        """Append empty batches for offsets that the log has given and has lost from its end."""
        filler = fillers(hole.first, hole.last, end.leader_epoch)
        file = self._segments.file(end.active_base)
        block.dirty = True  # killed before it is published, the next repair begins anew
        file.write([filler], end.end_position)
        file.sync()
        end = msgspec.structs.replace(end, end_position=end.end_position + len(filler))
        block.publish(end)
        block.dirty = False
        return end

    def _roll(self, block: ControlBlock, end: End) -> End:
        """End the active segment: only of a finished one can the file be replaced."""
        block.dirty = True  # killed before it is published, a broker seems to have made the segment
        self._segments.create(end.end_offset, txnindex=end.producers_end >= 0)
        self._files.fsync_dir(self._place.directory)
        end = end.rolled(self._now)
        block.publish(end)
        block.publish_synced(Synced(end.active_base, 0, end.end_offset))
        block.dirty = False
        block.flush()
        return end

    def _forget_snapshots(self, offset: int) -> None:
        """What a producer wrote in the damage is not in the log any more: it cannot go on there."""
        for name in self._files.listdir(self._place.directory):
            stem = name.removesuffix(SNAPSHOT)
            if stem != name and stem.isdecimal() and int(stem) > offset:
                self._files.unlink(os.path.join(self._place.directory, name))

    def _rewrite(self, base: int, holes: list[Hole], leader_epoch: int) -> None:
        """Put the bad bytes of a finished segment aside, and empty batches in their place."""
        path = self._segments.path(base)
        old = OpenFile(self._files, path, os.O_RDONLY)
        new = OpenFile(self._files, f"{path}.tmp", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        read = written = 0
        for hole in holes:
            written = _copy(old, read, hole.position, new, written)
            if hole.size:
                self._put_aside(old, hole)
            filler = fillers(hole.first, hole.last, leader_epoch)
            if filler:
                new.write([filler], written)
                written += len(filler)
            read = hole.position + hole.size
        _copy(old, read, old.size(), new, written)
        new.sync()
        for suffix in (INDEX, TIMEINDEX, TXNINDEX):
            index = self._segments.path(base, suffix)
            if self._files.exists(index):
                self._files.unlink(index)
        self._files.rename(f"{path}.tmp", path)
        self._files.fsync_dir(self._place.directory)
        self._segments.close()

    def _put_aside(self, old: OpenFile, hole: Hole) -> None:
        path = os.path.join(self._place.directory, file_name(hole.first, DAMAGED))
        kept = OpenFile(self._files, f"{path}.tmp", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        _copy(old, hole.position, hole.position + hole.size, kept, 0)
        kept.sync()
        self._files.rename(f"{path}.tmp", path)

    def _rebuild(self, block: ControlBlock) -> Iterator[str]:
        """Everything that is made from the batches, and the block; then the log is as new."""
        known = block.end()
        bases = existing(self._files, self._place.directory, known) if known is not None else []
        first = bases[0] if bases else 0
        failed = block.errno
        recovered = recover(
            self._files,
            self._segments,
            known,
            Synced(first, 0, first),
            config=self._place.config,
            now=self._now,
            writable=True,
        )
        end = recovered.end
        self._sync_all()
        block.publish(end)
        block.publish_synced(Synced(end.active_base, end.end_position, end.end_offset))
        block.flush()
        if failed:
            block.errno = 0
            block.flush()
        if failed == CUT:
            yield (
                f"{self._place.tp}: appends go on at offset {end.end_offset}; no offset that was"
                " lost is given again"
            )
        elif failed:
            yield (
                f"{self._place.tp}: synced up to offset {end.end_offset} with every checksum looked"
                f" at; the storage's error ({os.strerror(failed)}) is forgotten, appends go on"
            )
        yield f"{self._place.tp}: indexes and control block made anew, {end.end_offset} is the end"

    def _sync_all(self) -> None:
        for name in sorted(self._files.listdir(self._place.directory)):
            path = os.path.join(self._place.directory, name)
            if os.path.isfile(path):
                OpenFile(self._files, path, os.O_RDWR).sync()
        self._files.fsync_dir(self._place.directory)


def _copy(source: OpenFile, start: int, end: int, target: OpenFile, at: int) -> int:
    """Copy bytes; gives where they end in the target."""
    while start < end:
        data = source.read(min(COPY_BYTES, end - start), start)
        if not data:
            raise StorageFailed(f"{source.path}: ends at byte {start}, {end} were there before")
        target.write([data], at)
        start += len(data)
        at += len(data)
    return at
