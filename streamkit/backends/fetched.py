"""What was fetched of one partition, decoded when asked."""

from collections.abc import Callable
from typing import TypeVar

from streamkit import codec
from streamkit.errors import CorruptBatch
from streamkit.log.partition import Partition
from streamkit.records import Columns, Record

T = TypeVar("T")


class EmbeddedBatch:
    """Whole record batches as they stand in the file; decoded, and checked, when asked.

    `raw` are those that can be seen, `next_offset` is behind all that were looked at.
    """

    __slots__ = ("_from_offset", "_source", "next_offset", "partition", "raw")

    def __init__(self, source: Partition, raw: bytes, from_offset: int, next_offset: int) -> None:
        self.partition = source.tp
        self.next_offset = next_offset
        self._source = source
        self.raw = raw
        self._from_offset = from_offset

    def __len__(self) -> int:
        headers = [header for _, header in codec.headers(self.raw)]
        if headers and headers[0].base_offset < self._from_offset:
            return len(self.columns())  # begins inside a batch; only decoding tells how far
        return sum(header.count for header in headers if not header.control)

    def columns(self) -> Columns:
        return self._decoded(lambda: codec.columns(self.raw, self._from_offset))

    def records(self) -> list[Record[bytes | None]]:
        return self._decoded(lambda: codec.records(self.raw, *self.partition, self._from_offset))

    def _decoded(self, decode: Callable[[], T]) -> T:
        """Everything up to the first damaged batch; the error when there is nothing before it."""
        try:
            return decode()
        except CorruptBatch as error:
            sound = error.position
            damaged = codec.read_header(self.raw, sound).base_offset
            if sound == 0:
                self._source.verify(max(damaged, self._from_offset))  # knows file and byte
                raise
            self.next_offset = damaged
            self.raw = self.raw[:sound]
        return decode()
