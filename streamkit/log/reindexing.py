"""Making the indexes of a partition's segments anew, where they are lost or wrong."""

import errno
import logging
import os

import msgspec

from streamkit.log.access import Access
from streamkit.log.control import End
from streamkit.log.files import Files, write_new
from streamkit.log.producer_state import load
from streamkit.log.segment import TXNINDEX, Tally
from streamkit.log.segments import Segments
from streamkit.log.snapshots import Snapshots
from streamkit.records import TopicPartition
from streamkit.transactions.txnindex import Aborted, encode_entries

logger = logging.getLogger(__name__)


class Reindexing:
    """For readers that find an index wanting. Takes the append lock; used from any thread."""

    def __init__(
        self,
        tp: TopicPartition,
        segments: Segments,
        snapshots: Snapshots,
        access: Access,
        *,
        files: Files,
        read_only: bool,
    ) -> None:
        self._tp = tp
        self._segments = segments
        self._snapshots = snapshots
        self._access = access
        self._files = files
        self._read_only = read_only

    def reindex(self, base: int) -> None:
        """Make a segment's indexes anew from its batches' headers."""
        if self._read_only:
            return  # a walk from the segment's start finds everything, too
        with self._access.locked() as block:
            end = self._access.believed(block.end())
            if block.dirty:
                return  # a writer died; the next append sets that right first
            active = base == end.active_base
            self._segments.relist()  # what is open may have been replaced
            size = end.end_position if active else self._segments.size(base)
            tally = Tally(base, self._access.config.index_interval_bytes)
            found = self._segments.scan(base, size, tally, check_from=size)
            if found.problem is not None:
                # What lies behind the damage is found by the old index only.
                logger.error(
                    "%s: corrupt at byte %d: %s",
                    self._segments.path(base),
                    found.end,
                    found.problem,
                )
                return
            if not active:
                tally.seal()
            self._segments.rewrite_indexes(base, tally)
            if active:
                block.publish(
                    msgspec.structs.replace(
                        end,
                        indexed_timestamp=tally.indexed_timestamp,
                        index_bytes=len(tally.index),
                        timeindex_bytes=len(tally.timeindex),
                        unindexed_bytes=tally.unindexed,
                    )
                )

    def rebuild_aborted(self, base: int) -> list[Aborted]:
        """Make a segment's index of aborted transactions anew. Raises FileNotFoundError."""
        if self._read_only:
            # What there is of a broker's files is all: it makes none where nothing was aborted.
            return [] if self._access.frozen.walks else self._aborted_of(self._access.end(), base)
        with self._access.locked() as block:
            end = self._access.believed(block.end())
            self._segments.relist()  # what is open may have been replaced
            entries = self._aborted_of(end, base)
            data = encode_entries(entries)
            if base != end.active_base:
                write_new(self._files, self._segments.path(base, TXNINDEX), data)
                self._segments.relist()
                return entries
            self._segments.rewrite_aborted(base, data)
            if len(data) != end.txnindex_bytes:
                block.publish(msgspec.structs.replace(end, txnindex_bytes=len(data)))
        return entries

    def _aborted_of(self, end: End, base: int) -> list[Aborted]:
        found = load(self._tp, self._segments, self._snapshots, end, reach=base, last=base)
        if base not in found.aborted:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), base)
        return found.aborted[base]
