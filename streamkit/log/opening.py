"""Opening a partition: its control block as it is, or rebuilt when it cannot be believed."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from streamkit.log.block import ControlBlock
from streamkit.log.boot import UNKNOWN, boot_id
from streamkit.log.config import TopicConfig
from streamkit.log.control import CUT, PAGE_BYTES, End, Synced
from streamkit.log.files import Files, OpenFile
from streamkit.log.recovery import Recovered, holds, last_epoch, recover
from streamkit.log.segments import Segments
from streamkit.transactions.txnindex import Aborted

CONTROL = "control"


class EndSource(Protocol):
    """Who knows where a partition ends."""

    def end(self) -> End | None: ...
    def synced(self) -> Synced | None: ...


def believable(files: Files, segments: Segments, block: ControlBlock) -> bool:
    """Whether the block speaks of the files that are there, and of this boot."""
    end = block.end()
    if end is None or end.boot_id != boot_id() or end.boot_id == UNKNOWN:
        return False
    try:
        # A copy made while somebody appended can have a block younger than its segment.
        if segments.size(end.active_base) < end.end_position:
            return False
    except FileNotFoundError:
        return False
    return not written_by_another(files, segments, block, end)


def written_by_another(files: Files, segments: Segments, block: ControlBlock, end: End) -> bool:
    """Whether somebody was here since who knows of no block, as a Kafka broker does.

    A broker that starts notes its leader epoch, and one of us who is killed leaves the block dirty
    (though a power cut can leave it clean).
    """
    if last_epoch(files, segments.directory) not in (None, end.leader_epoch):
        return True
    if end.boot_id != boot_id():
        return False
    longer = segments.size(end.active_base) > end.end_position
    if not longer and max(segments.listed()) == end.active_base:
        return False
    # Asked in this order: whoever of us wrote these bytes meanwhile publishes, then is clean again.
    return not block.dirty and block.end() == end


def last_said(
    files: Files, segments: Segments, block: ControlBlock, config: TopicConfig
) -> tuple[End | None, Synced | None]:
    """What of a block that is not believable a walk may go by."""
    end, synced = block.end(), block.synced()
    try:
        another = end is not None and written_by_another(files, segments, block, end)
    except FileNotFoundError:
        another = False
    known = None if another else end
    if not another and block.errno != CUT:
        return known, synced
    if synced is None or not holds(segments, segments.listed(), synced):
        return known, synced
    # A broker also compacts and deletes: then no batch need begin there any more. Nor where it has
    # gone on with a log that was cut.
    fits = segments.begins_at(synced, config.index_interval_bytes)
    return known, synced if fits else None


def open_block(
    files: Files,
    segments: Segments,
    sync_lock: Callable[[], AbstractContextManager[None]],
    *,
    config: TopicConfig,
    now: int,
) -> ControlBlock:
    """The control block, made or rebuilt when it has to be. Raises FileNotFoundError."""
    path = os.path.join(segments.directory, CONTROL)
    while True:
        file = OpenFile(files, path, os.O_RDWR | os.O_CREAT)
        if file.size() >= PAGE_BYTES:
            block = ControlBlock(file, writable=True)
            if believable(files, segments, block):
                return block  # without the lock: a stopped writer keeps no reader out
        try:
            file.lock()
            if file.gone:
                continue  # what has this name by now is somebody else's, who may be appending
            file.allocate(PAGE_BYTES)
            block = ControlBlock(file, writable=True)
            if not believable(files, segments, block):
                with sync_lock():
                    rebuild(files, segments, block, config=config, now=now)
            return block
        finally:
            file.unlock()


def rebuild(
    files: Files, segments: Segments, block: ControlBlock, *, config: TopicConfig, now: int
) -> None:
    """Walk the log and publish what is there. Needs the append and the sync lock.

    Where synced records are missing at the end, appends are refused from then on.
    """
    known, synced = last_said(files, segments, block, config)
    found = recover(files, segments, known, synced, config=config, now=now, writable=True)
    if found.cut:
        block.errno = CUT  # first: an end that is published is believed, and appended at
    block.publish_synced(found.synced)
    block.publish(found.end)
    if found.cut or (known is not None and found.end.end_offset < known.end_offset):
        # What it says of the lost end must not come back and be believed of what follows now; and
        # an older synced position must not, of a log that was cut.
        block.flush()
    if not found.cut:
        block.errno = 0
    block.dirty = False


class ReadOnlyEnd:
    """Where a partition ends, for somebody who may not write.

    When the control block cannot be believed, the log is walked, and again when it has grown, until
    somebody who may write has rebuilt the block.
    """

    def __init__(self, files: Files, segments: Segments, *, config: TopicConfig) -> None:
        self._files = files
        self._segments = segments
        self.config = config
        self._block: ControlBlock | None = None
        self._walked: tuple[tuple[int, int], Recovered] | None = None

    def close(self) -> None:
        """Look anew when asked again."""
        self._block = None
        self._walked = None

    def end(self) -> End | None:
        if self._block is None or self._block.file.gone:
            self._block = self._believable_block()
        return self._block.end() if self._block is not None else self._walk().end

    def synced(self) -> Synced | None:
        return self._block.synced() if self._block is not None else self._walk().synced

    def aborted(self, base: int) -> list[Aborted] | None:
        """The aborted transactions of a segment that was walked; None: its index tells, or none."""
        return None if self._block is not None else self._walk().aborted.get(base)

    @property
    def cut(self) -> bool:
        """Records are missing at the end that were synced: appends are refused."""
        return self._block.errno == CUT if self._block is not None else self._walk().cut

    @property
    def walks(self) -> bool:
        """There is no control block to believe, as with a broker's files."""
        return self._block is None

    def _open(self) -> ControlBlock | None:
        path = os.path.join(self._segments.directory, CONTROL)
        try:
            file = OpenFile(self._files, path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        if file.size() < PAGE_BYTES:
            return None
        return ControlBlock(file, writable=False)

    def _believable_block(self) -> ControlBlock | None:
        block = self._open()
        if block is None or not believable(self._files, self._segments, block):
            return None
        return block

    def _walk(self) -> Recovered:
        bases = self._segments.listed()
        size = (bases[-1], self._segments.size(bases[-1])) if bases else (-1, 0)
        if self._walked is None or self._walked[0] != size:
            block = self._open()
            known, synced = None, None
            if block is not None:
                known, synced = last_said(self._files, self._segments, block, self.config)
            found = recover(
                self._files,
                self._segments,
                known,
                synced,
                config=self.config,
                now=0,
                writable=False,
            )
            self._walked = (size, found)
        return self._walked[1]
