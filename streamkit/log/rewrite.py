"""What stays of each batch in a round of compaction."""

from streamkit.codec import BatchHeader, LatestOffsets, check, keep_latest, read_header
from streamkit.codec.latest import emptied, with_horizon
from streamkit.log.compaction import LastBatches, Transactions, is_last, keeps_tombstones
from streamkit.log.config import TopicConfig
from streamkit.log.files import Buffer
from streamkit.transactions.markers import read_marker
from streamkit.transactions.txnindex import Aborted, encode_entries


class Rewrite:
    """Everything by which a round decides what stays."""

    def __init__(
        self,
        *,
        config: TopicConfig,
        clean_to: int,
        now: int,
        latest: LatestOffsets,
        aborted: list[Aborted] | None,
        last: LastBatches,
    ) -> None:
        """`aborted`: all there are; None when the partition has had no producers."""
        self.config = config
        self._clean_to = clean_to
        self._now = now
        self._horizon = now + config.delete_retention_ms
        self._latest = latest
        self._aborted = aborted
        self._transactions = Transactions(aborted or ())
        self._last = last

    def entries(self, start: int, stop: int) -> bytes | None:
        """The index of aborted transactions of a segment, once its batches were looked at.

        None: there is none.
        """
        if self._aborted is None:
            return None
        return encode_entries(
            entry
            for entry in self._aborted
            if start <= entry.last_offset < stop
            and (entry.last_offset >= self._clean_to or self._transactions.is_needed(entry))
        )

    def kept(
        self, header: BatchHeader, batch: memoryview, *, final: bool
    ) -> tuple[Buffer, int, int] | None:
        """What stays of a batch, its largest timestamp, and how many records went; None: nothing.

        `final`: it is the last one of what becomes a segment. It stays, if only as a header, so
        that the segment ends where the next one begins: what is missing is then seen to be lost.
        """
        if header.base_offset >= self._clean_to:
            return batch, header.max_timestamp, 0
        data: Buffer | None = batch
        stays = header.count
        if header.control:
            marker = read_marker(batch)
            if self._transactions.ends_nothing(header, marker) and header.count:
                if not header.has_delete_horizon:
                    data = with_horizon(batch, self._horizon)
                elif header.base_timestamp <= self._now:
                    stays = 0
        elif self._transactions.is_aborted(header):
            stays = 0
        elif header.count:
            stays, sifted = keep_latest(
                batch,
                self._latest,
                tombstones=keeps_tombstones(header, self._now),
                horizon=self._horizon,
            )
            data = batch if sifted is None else sifted
        if stays:
            assert data is not None
            timestamp = header.max_timestamp if data is batch else read_header(data).max_timestamp
            return data, timestamp, header.count - stays
        whole = header.next_offset == self._clean_to
        if not (final or whole or is_last(header, self._last)):
            return None
        check(batch)  # a damaged header must not get a right checksum
        empty = emptied(header)
        return batch if batch == empty else empty, header.max_timestamp, header.count
