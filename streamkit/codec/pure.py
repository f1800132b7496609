"""Record batches in Python: the definition of what the codec does.

The compiled module must give the same bytes, the same records and the same errors, and asks this
one whenever something is not as it should be.

One record, all numbers but the attributes being varints:

    length | attributes (0) | timestamp delta | offset delta | key length (-1: none) | key
           | value length (-1: none) | value | header count
           | header key length | header key (UTF-8) | header value length (-1: none) | header value
"""

from collections.abc import Sequence

from streamkit.codec import varint
from streamkit.codec.batch import MAX_BATCH, MAX_TIMESTAMP, require_room, seal
from streamkit.codec.buffer import Buffer, Encoded, view
from streamkit.codec.compression import Compression, codec_number, decompress
from streamkit.codec.header import CRC_START, HEADER_BYTES, SHORTEST_RECORD, BatchHeader, open_batch
from streamkit.codec.partitioner import murmur2, partition_for
from streamkit.errors import InvalidRecord, MalformedBatch
from streamkit.records import NO_TIMESTAMP, Columns, Headers, Record

__all__ = ["Builder", "columns", "encode", "murmur2", "partition_for", "records"]

_NULL = varint.encode(-1)
_ZERO = varint.encode(0)
_RECORDS_AT = HEADER_BYTES - CRC_START


def encode(
    values: Sequence[bytes | None],
    *,
    timestamps: Sequence[int] | int,
    keys: Sequence[bytes | None] | None = None,
    headers: Sequence[Headers] | None = None,
    compression: Compression = "none",
    leader_epoch: int = 0,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    transactional: bool = False,
    control: bool = False,
) -> bytes:
    """One record batch at base offset 0 of these records, at least one.

    `timestamps` are in ms (-1: none); one int serves all. Raises InvalidRecord when something is
    not what a record can hold, and RecordTooLarge when the batch would be over 2 GiB, or over
    `MAX_INFLATED` before it is compressed.
    """
    count = len(values)
    if count == 0:
        raise InvalidRecord("a batch holds at least one record; none were given")
    times = [timestamps] * count if isinstance(timestamps, int) else timestamps
    for what, column in (("keys", keys), ("timestamps", times), ("headers", headers)):
        if column is not None and len(column) != count:
            raise InvalidRecord(f"{len(column)} {what} for {count} values")
    codec_number(compression)
    require_timestamp(times[0], 0)
    base = times[0]
    parts: list[bytes] = []
    size = 0
    for delta, value in enumerate(values):
        key = None if keys is None else keys[delta]
        record = encode_record(
            delta, base, times[delta], key, value, () if headers is None else headers[delta]
        )
        size += len(record)
        parts.append(record)
    require_room(size, compression)
    return seal(
        b"".join(parts),
        count=count,
        base_timestamp=base,
        max_timestamp=max(times),
        compression=compression,
        leader_epoch=leader_epoch,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        transactional=transactional,
        control=control,
    )


class Builder:
    """A batch that grows record by record. Not for use from two threads at once."""

    __slots__ = ("_base", "_compression", "_count", "_max", "_records")

    def __init__(self, compression: Compression = "none") -> None:
        codec_number(compression)
        self._compression = compression
        self._records = bytearray()
        self._count = 0
        self._base = NO_TIMESTAMP
        self._max = NO_TIMESTAMP

    def __len__(self) -> int:
        return self._count

    @property
    def size(self) -> int:
        """Bytes of the batch so far, before compression."""
        return HEADER_BYTES + len(self._records)

    def append(
        self, value: bytes | None, key: bytes | None, timestamp: int, headers: Headers = ()
    ) -> int:
        """Add a record and return `size`. `timestamp` in ms.

        Raises InvalidRecord or RecordTooLarge, and the batch is then as it was before.
        """
        require_timestamp(timestamp, self._count)
        base = self._base if self._count else timestamp
        record = encode_record(self._count, base, timestamp, key, value, headers)
        require_room(len(self._records) + len(record), self._compression)
        self._records += record
        self._count += 1
        self._base = base
        self._max = timestamp if self._count == 1 else max(self._max, timestamp)
        return HEADER_BYTES + len(self._records)

    def build(self) -> bytes:
        """The batch, at base offset 0; the builder is then empty and may be used again.

        Raises InvalidRecord when no record was appended.
        """
        if self._count == 0:
            raise InvalidRecord("a batch holds at least one record; none were appended")
        batch = seal(
            bytes(self._records),
            count=self._count,
            base_timestamp=self._base,
            max_timestamp=self._max,
            compression=self._compression,
        )
        empty = bytearray()
        # Without a call in between, no interrupt comes between emptying it and returning.
        self._records, self._count = empty, 0
        return batch

    def take(self) -> Encoded:
        """As `build`, for who appends the batch and then lets go of it.

        Compiled, it stays in the memory that it was made in, which then comes round again, and
        `check` takes no checksum, as nobody can have changed it.
        """
        return self.build()


def columns(buf: Buffer, from_offset: int = 0) -> Columns:
    """The records of all batches in `buf`, without control batches and offsets below `from_offset`.

    `buf` holds whole batches and nothing else. Raises TruncatedBatch, UnknownMagic, BadCrc and
    MalformedBatch; nothing is given out when a later batch is broken.
    """
    seen = view(buf)
    rows = _Rows(from_offset)
    position = reached = 0
    while position < len(seen):
        header, body = open_batch(seen, position)
        if header.base_offset < reached:
            raise MalformedBatch(
                f"batch at byte {position}: begins at offset {header.base_offset}, but the one"
                f" before it ends at {reached - 1}",
                position,
            )
        reached = header.next_offset
        if not header.control and header.next_offset > from_offset:
            try:
                rows.read(header, body)
            except ValueError as error:
                raise MalformedBatch(f"batch at byte {position}: {error}", position) from error
        position += header.size
    return rows.columns()


def control_records(batch: Buffer, position: int = 0) -> Columns:
    """The records of the control batch at `position`, which `columns` leaves out.

    Raises what `columns` does.
    """
    header, body = open_batch(view(batch), position)
    rows = _Rows(header.base_offset)
    try:
        rows.read(header, body)
    except ValueError as error:
        raise MalformedBatch(f"batch at byte {position}: {error}", position) from error
    return rows.columns()


def records(
    buf: Buffer, topic: str, partition: int, from_offset: int = 0
) -> list[Record[bytes | None]]:
    """What `columns` gives, as records."""
    found = columns(buf, from_offset)
    rows = zip(found.offsets, found.timestamps, found.keys, found.values, strict=True)
    if found.headers is None:
        return [Record(topic, partition, o, t, key, value) for o, t, key, value in rows]
    return [
        Record(topic, partition, o, t, key, value, headers)
        for (o, t, key, value), headers in zip(rows, found.headers, strict=True)
    ]


def require_timestamp(timestamp: int, record: int) -> None:
    """Raises InvalidRecord unless it is an int from -1 (none) to 2**63-1."""
    if not isinstance(timestamp, int):
        raise InvalidRecord(
            f"the timestamp of record {record} is a {type(timestamp).__name__}; it must be an int,"
            " milliseconds since 1970-01-01 UTC"
        )
    if not NO_TIMESTAMP <= timestamp <= MAX_TIMESTAMP:
        raise InvalidRecord(
            f"the timestamp of record {record} is {timestamp}; it must be in milliseconds since"
            " 1970-01-01 UTC, or -1 for none"
        )


def encode_record(
    delta: int,
    base: int,
    timestamp: int,
    key: bytes | None,
    value: bytes | None,
    headers: Headers,
) -> bytes:
    """One record, `delta` being its place in the batch and `base` the first record's timestamp."""
    require_timestamp(timestamp, delta)
    body = (
        b"\x00"
        + varint.encode(timestamp - base)
        + varint.encode(delta)
        + _sized(key, "key", delta)
        + _sized(value, "value", delta)
        + (_headers(headers, delta) if headers else _ZERO)
    )
    return varint.encode(len(body)) + body


def _sized(data: bytes | None, what: str, record: int) -> bytes:
    if data is None:
        return _NULL
    if not isinstance(data, bytes):
        raise InvalidRecord(
            f"the {what} of record {record} is a {type(data).__name__}; it must be bytes or None"
        )
    if len(data) > MAX_BATCH:
        require_room(len(data), "none")
    return varint.encode(len(data)) + data


def _headers(headers: Headers, record: int) -> bytes:
    try:
        pairs = [(name, value) for name, value in headers]
    except (TypeError, ValueError):
        raise InvalidRecord(
            f"the headers of record {record} must be pairs of a str and bytes or None"
        ) from None
    parts = [varint.encode(len(pairs))]
    for name, value in pairs:
        if not isinstance(name, str):
            raise InvalidRecord(
                f"a header of record {record} is named by a {type(name).__name__}; it must be a str"
            )
        try:
            encoded = name.encode()
        except UnicodeEncodeError as error:
            raise InvalidRecord(f"a header's name in record {record}: {error}") from error
        parts += (varint.encode(len(encoded)), encoded, _sized(value, f"header {name!r}", record))
    return b"".join(parts)


class _Rows:
    """Columns while they are filled."""

    def __init__(self, from_offset: int) -> None:
        self.from_offset = from_offset
        self.offsets: list[int] = []
        self.timestamps: list[int] = []
        self.keys: list[bytes | None] = []
        self.values: list[bytes | None] = []
        self.headers: list[Headers] = []

    def columns(self) -> Columns:
        offsets: Sequence[int] = self.offsets
        if offsets and offsets[-1] - offsets[0] == len(offsets) - 1:
            offsets = range(offsets[0], offsets[-1] + 1)
        headers = self.headers if any(self.headers) else None
        return Columns(offsets, self.timestamps, self.keys, self.values, headers)

    def read(self, header: BatchHeader, body: bytes) -> None:
        """Add the records of one batch; `body` is the batch from byte 21. Raises ValueError."""
        if header.attributes & 7 == 0 or (header.count == 0 and len(body) == _RECORDS_AT):
            data, position = body, _RECORDS_AT
        else:
            data, position = decompress(header.compression, body[_RECORDS_AT:]), 0
        end = len(data)
        if header.count * SHORTEST_RECORD > end - position:
            raise ValueError(f"{header.count} records in {end - position} bytes")
        last_delta = -1
        for index in range(header.count):
            try:
                position, last_delta = self._record(header, data, position, last_delta)
            except ValueError as error:
                raise ValueError(f"record {index}: {error}") from error
        if position != end:
            raise ValueError(f"{end - position} bytes after the last record")

    def _record(
        self, header: BatchHeader, data: bytes, position: int, last_delta: int
    ) -> tuple[int, int]:
        length, position = varint.decode32(data, position)
        end = position + length
        if not SHORTEST_RECORD - 1 <= length <= len(data) - position:
            raise ValueError(f"{length} bytes long where {len(data) - position} are left")
        time_delta, position = varint.decode64(data, position + 1)
        delta, position = varint.decode32(data, position)
        if not last_delta < delta <= header.last_offset_delta:
            raise ValueError(
                f"offset delta {delta} after {last_delta}, with {header.last_offset_delta} the last"
            )
        key, position = _slice(data, position, end, "key")
        value, position = _slice(data, position, end, "value")
        count, position = varint.decode32(data, position)
        headers: Headers = ()
        if count:
            headers, position = _read_headers(data, position, end, count)
        if position != end:
            raise ValueError(f"its contents end {position - end:+d} bytes from its end")
        timestamp = header.base_timestamp + time_delta
        if header.attributes & 0x08:
            timestamp = header.max_timestamp
        elif not -MAX_TIMESTAMP - 1 <= timestamp <= MAX_TIMESTAMP:
            raise ValueError(f"timestamp {timestamp}")
        offset = header.base_offset + delta
        if offset >= self.from_offset:
            self.offsets.append(offset)
            self.timestamps.append(timestamp)
            self.keys.append(key)
            self.values.append(value)
            self.headers.append(headers)
        return position, delta


def _slice(data: bytes, position: int, end: int, what: str) -> tuple[bytes | None, int]:
    length, position = varint.decode32(data, position)
    if length == -1:
        return None, position
    if not 0 <= length <= end - position:
        raise ValueError(f"a {what} of {length} bytes where {end - position} are left")
    return data[position : position + length], position + length


def _read_headers(data: bytes, position: int, end: int, count: int) -> tuple[Headers, int]:
    # A header takes two bytes at least.
    if not 0 < count <= (end - position) // 2:
        raise ValueError(f"{count} headers where {end - position} bytes are left")
    found: list[tuple[str, bytes | None]] = []
    for _ in range(count):
        name, position = _slice(data, position, end, "header name")
        if name is None:
            raise ValueError("a header without a name")
        value, position = _slice(data, position, end, "header value")
        found.append((name.decode(), value))
    return tuple(found), position
