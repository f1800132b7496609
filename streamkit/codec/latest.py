"""What compaction does to a batch: the latest record of every key stays, in Python.

The compiled module has the same, and asks this one when a batch is not as it should be.
"""

from collections.abc import Iterator

from streamkit.codec import varint
from streamkit.codec.buffer import Buffer, view
from streamkit.codec.compression import compress, decompress
from streamkit.codec.crc import crc32c
from streamkit.codec.header import (
    CRC_START,
    DELETE_HORIZON,
    HEADER_BYTES,
    LAYOUT,
    LOG_APPEND_TIME,
    BatchHeader,
    open_batch,
)
from streamkit.codec.pure import columns
from streamkit.errors import MalformedBatch

ENTRY_BYTES = 120
"""About what a key takes here beside its own bytes."""


class LatestOffsets:
    """The offset of the latest record of each key, among the batches that were added.

    `memory` is in bytes and says when it is `full`; adding goes on to work, so that one batch is
    always taken whole. Not for use from two threads at once.
    """

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._taken = 0
        self._offsets: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._offsets)

    @property
    def full(self) -> bool:
        return self._taken >= self._memory

    def get(self, key: bytes) -> int:
        """-1 for a key that no added batch has."""
        return self._offsets.get(key, -1)

    def add(self, batch: Buffer, from_offset: int = 0) -> int:
        """Note the keys of one whole batch of data, from `from_offset` on; how many records it was.

        Batches are added in the order of their offsets. Raises what `codec.columns` does.
        """
        found = columns(batch, from_offset)
        for key, offset in zip(found.keys, found.offsets, strict=True):
            if key is not None:
                if key not in self._offsets:
                    self._taken += len(key) + ENTRY_BYTES
                self._offsets[key] = offset
        return len(found.keys)


def keep_latest(
    batch: Buffer, latest: LatestOffsets, *, tombstones: bool, horizon: int
) -> tuple[int, bytes | None]:
    """How many records of one whole batch of data stay, and the batch with those alone.

    None instead of a batch: it stays as it is; with 0 records it is empty bytes. A record stays
    when it has a key and `latest` knows no later one of that key; one without a value only with
    `tombstones`. A batch that has not had its delete horizon yet (in ms) and keeps a record without
    a value is given `horizon`. Offsets and sequences stay what they were. Raises what
    `codec.columns` does.
    """
    header, body = open_batch(view(batch), 0)
    found = columns(batch)
    kept: list[bool] = []
    empty = 0
    for key, offset, value in zip(found.keys, found.offsets, found.values, strict=True):
        stays = key is not None and offset >= latest.get(key) and (tombstones or value is not None)
        kept.append(stays)
        empty += stays and value is None
    count = sum(kept)
    begins = empty > 0 and not header.has_delete_horizon
    if count == 0:
        return 0, None if header.count == 0 else b""
    if count == header.count and not begins:
        return count, None
    payload = body[HEADER_BYTES - CRC_START :]
    data = decompress(header.compression, payload)
    # Time deltas are relative to the field that the horizon takes.
    shift = header.base_timestamp - horizon if begins else 0
    parts = [
        _moved(data, start, end, shift, header, horizon)
        for (start, end), stays in zip(_spans(data, header.count), kept, strict=True)
        if stays
    ]
    times = [time for time, stays in zip(found.timestamps, kept, strict=True) if stays]
    return count, resealed(
        header,
        b"".join(parts),
        count=count,
        max_timestamp=header.max_timestamp if header.log_append_time else max(times),
        horizon=horizon if begins else None,
    )


def with_horizon(batch: Buffer, horizon: int) -> bytes:
    """The same batch with a delete horizon (ms), which it has not had yet: records, times and all.

    For the markers of transactions. Raises TruncatedBatch, BadCrc, MalformedBatch.
    """
    header, body = open_batch(view(batch), 0)
    data = decompress(header.compression, body[HEADER_BYTES - CRC_START :])
    try:
        parts = [
            _moved(data, start, end, header.base_timestamp - horizon, header, horizon)
            for start, end in _spans(data, header.count)
        ]
    except ValueError as error:
        raise MalformedBatch(f"batch at byte 0: {error}") from error
    return resealed(
        header,
        b"".join(parts),
        count=header.count,
        max_timestamp=header.max_timestamp,
        horizon=horizon,
    )


def emptied(header: BatchHeader) -> bytes:
    """A batch without records that keeps the offsets, the producer and the sequence of another."""
    attributes = header.attributes & ~(DELETE_HORIZON | 0x07)
    return _sealed(
        header,
        b"",
        attributes=attributes,
        base_timestamp=-1,
        max_timestamp=header.max_timestamp,
        count=0,
    )


def resealed(
    header: BatchHeader, records: bytes, *, count: int, max_timestamp: int, horizon: int | None
) -> bytes:
    """A batch around some of another's records; `horizon` None leaves the base timestamp."""
    return _sealed(
        header,
        compress(header.compression, records),
        attributes=header.attributes if horizon is None else header.attributes | DELETE_HORIZON,
        base_timestamp=header.base_timestamp if horizon is None else horizon,
        max_timestamp=max_timestamp,
        count=count,
    )


def _sealed(
    header: BatchHeader,
    payload: bytes,
    *,
    attributes: int,
    base_timestamp: int,
    max_timestamp: int,
    count: int,
) -> bytes:
    fields = LAYOUT.pack(
        header.base_offset,
        HEADER_BYTES + len(payload) - 12,
        header.leader_epoch,
        2,
        0,
        attributes,
        header.last_offset_delta,
        base_timestamp,
        max_timestamp,
        header.producer_id,
        header.producer_epoch,
        header.base_sequence,
        count,
    )
    body = fields[CRC_START:] + payload
    return fields[: CRC_START - 4] + crc32c(body).to_bytes(4, "big") + body


def _spans(data: bytes, count: int) -> Iterator[tuple[int, int]]:
    """Where the records of a batch stand that was decoded before."""
    position = 0
    for _ in range(count):
        length, inner = varint.decode32(data, position)
        yield position, inner + length
        position = inner + length


def _moved(
    data: bytes, start: int, end: int, shift: int, header: BatchHeader, horizon: int
) -> bytes:
    """The record at `start`, its time delta greater by `shift`."""
    if shift == 0:
        return data[start:end]
    _, at = varint.decode32(data, start)
    delta, rest = varint.decode64(data, at + 1)
    if header.attributes & LOG_APPEND_TIME:
        delta = header.max_timestamp - horizon  # it counts for nothing; say what is true
    else:
        delta += shift
    body = data[at : at + 1] + varint.encode(delta) + data[rest:end]
    return varint.encode(len(body)) + body
