"""`.snapshot`: the producers of a partition up to the offset in the file's name.

    0         2        6                10
    | version | crc-32c | entry count ... |
    |  int16  | uint32  |     int32       |

and per entry, 46 bytes:

    0             8       10              14            22
    | producer id | epoch | last sequence | last offset | offset delta |
    |    int64    | int16 |     int32     |    int64    |    int32     |
    26          34                  38                            46
    | timestamp | coordinator epoch | first offset of the open transaction (−1: none) |
    |   int64   |       int32       |      int64                                      |

The checksum covers all that follows it. Of each producer's last batches only the newest is kept:
an older one that comes again after a recovery is refused as out of order, not appended twice.
"""

from collections.abc import Iterable
from struct import Struct

from streamkit.codec.crc import crc32c
from streamkit.errors import CorruptLog, UnsupportedFormat
from streamkit.transactions.producer import NONE, Batch, Producer

_HEAD = Struct(">hI")
_COUNT = Struct(">i")
_ENTRY = Struct(">qhiqiqiq")
_VERSION = 1


def encode_snapshot(producers: Iterable[Producer]) -> bytes:
    """The file's bytes; iterate over `Producers` for the same bytes of the same state."""
    entries = [_encode(producer) for producer in producers]
    body = _COUNT.pack(len(entries)) + b"".join(entries)
    return _HEAD.pack(_VERSION, crc32c(body)) + body


def decode_snapshot(raw: bytes, file: str) -> list[Producer]:
    """The producers in a file; its name is for messages.

    Raises CorruptLog when a bit is not what was written, and UnsupportedFormat for another version.
    Either way an older snapshot, or none, and a longer replay give the same state.
    """
    head = _HEAD.size + _COUNT.size
    if len(raw) < head:
        raise CorruptLog(f"{file}: {len(raw)} bytes, and a snapshot of producers has {head}")
    version, crc = _HEAD.unpack_from(raw)
    if version != _VERSION:
        raise UnsupportedFormat(
            f"{file}: a snapshot of producers of version {version}; {_VERSION} can be read"
        )
    body = raw[_HEAD.size :]
    found = crc32c(body)
    if found != crc:
        raise CorruptLog(f"{file}: checksum {found:08x}, expected {crc:08x}; use an older snapshot")
    (count,) = _COUNT.unpack_from(body)
    if len(body) != _COUNT.size + count * _ENTRY.size:
        raise CorruptLog(f"{file}: {count} producers in {len(raw)} bytes")
    return [_decode(*fields) for fields in _ENTRY.iter_unpack(body[_COUNT.size :])]


def _encode(producer: Producer) -> bytes:
    last = producer.batches[-1] if producer.batches else Batch(NONE, NONE, 0)
    return _ENTRY.pack(
        producer.producer_id,
        producer.epoch,
        last.last_sequence,
        last.last_offset,
        last.offset_delta,
        producer.timestamp,
        producer.coordinator_epoch,
        producer.open_from,
    )


def _decode(
    producer_id: int,
    epoch: int,
    sequence: int,
    last_offset: int,
    delta: int,
    timestamp: int,
    coordinator_epoch: int,
    open_from: int,
) -> Producer:
    batches = (Batch(sequence, last_offset, delta),) if last_offset >= 0 else ()
    return Producer(producer_id, epoch, coordinator_epoch, timestamp, open_from, batches)
