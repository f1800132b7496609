"""The append that nearly all appends are, in one function."""

import msgspec

from streamkit.codec.header import BatchHeader, stamp
from streamkit.log.access import Access
from streamkit.log.append import Appender
from streamkit.log.control import DIRTY_AT, End
from streamkit.log.drafts import OF_PRODUCERS
from streamkit.log.files import Buffer
from streamkit.log.segments import Segments


class Quick:
    """Appends one batch of no producer to a segment that has room, while nothing is special.

    `Appender` does the same and everything else. But where many processes append on few
    processors, each finds the caches full of the others' things, and then it is not what a
    function does that takes time but that it is one more: some microseconds each. So this one
    calls as few as it can. It obeys the same order: dirty, bytes, publish, clean.
    """

    def __init__(self, access: Access, appender: Appender, segments: Segments) -> None:
        self._access = access
        self._appender = appender
        self._segments = segments

    def append(self, batch: Buffer, header: BatchHeader) -> End | None:
        """What is published then; None: nothing was done, as it is not for here.

        Raises OSError, and what `Appender.append` does when a write fails.
        """
        if header.producer_id != -1 or header.attributes & OF_PRODUCERS:
            return None
        access, appender = self._access, self._appender
        with access.appending:
            block = access.block or access.open()
            try:
                block.file.lock()
                end = block.end()
                if (
                    end is None
                    or block.troubled
                    or block.file.gone
                    or not appender.tail_checked
                    or end.end_position == 0
                    or end.unindexed_bytes > appender.config.index_interval_bytes
                    or appender.fitting(end, ((batch, header),)) == 0
                ):
                    return None
                offset, position, size = end.end_offset, end.end_position, header.size
                latest, latest_at = end.max_timestamp, end.max_timestamp_offset
                if header.max_timestamp > latest:
                    latest, latest_at = header.max_timestamp, offset + header.last_offset_delta
                following = offset + header.last_offset_delta + 1
                after = msgspec.structs.replace(
                    end,
                    end_position=position + size,
                    end_offset=following,
                    stable_offset=following if end.stable_offset == offset else end.stable_offset,
                    max_timestamp=latest,
                    max_timestamp_offset=latest_at,
                    unindexed_bytes=end.unindexed_bytes + size,
                )
                buffers = (stamp(batch, offset, end.leader_epoch), memoryview(batch)[16:])
                block.page[DIRTY_AT] = 1
                try:
                    self._segments.current.file(end.active_base).write(buffers, position)
                except OSError as error:
                    appender.take_back(block, end, error)
                block.publish(after)
                block.page[DIRTY_AT] = 0
                return after
            finally:
                block.file.unlock()
