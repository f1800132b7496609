"""The marker that ends a transaction in one partition: a control batch of one record.

    key      | version int16 (0) | type int16: 0 abort, 1 commit |
    value    | version int16 (0) | coordinator epoch int32 |

The batch has the producer's id and epoch and no sequence. Control records of other types, of which
Kafka has some and may get more, end no transaction.
"""

from functools import lru_cache
from struct import Struct
from struct import error as StructError

import msgspec

from streamkit.codec import HEADER_BYTES, encode, read_header
from streamkit.codec.batch import seal
from streamkit.codec.buffer import Buffer
from streamkit.codec.pure import control_records
from streamkit.errors import InvalidRecord, MalformedBatch

_KEY = Struct(">hh")
_VALUE = Struct(">hi")
_VERSION = 0
_ABORT = 0
_COMMIT = 1


class Marker(msgspec.Struct, frozen=True, gc=False):
    """How a transaction ended, and under which coordinator (epochs only grow)."""

    commit: bool
    coordinator_epoch: int


def encode_marker(
    marker: Marker, *, producer_id: int, producer_epoch: int, timestamp: int, leader_epoch: int = 0
) -> bytes:
    """The control batch at base offset 0; `timestamp` in ms since 1970 UTC."""
    if producer_id < 0 or producer_epoch < 0:
        raise InvalidRecord(
            f"a marker of producer {producer_id} with epoch {producer_epoch}; neither is negative"
        )
    return seal(
        _record(marker.commit, marker.coordinator_epoch),
        count=1,
        base_timestamp=timestamp,
        max_timestamp=timestamp,
        compression="none",
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        transactional=True,
        control=True,
        leader_epoch=leader_epoch,
    )


@lru_cache(maxsize=64)  # one log has nearly always the same two
def _record(commit: bool, coordinator_epoch: int) -> bytes:
    """The one record, as it stands behind a batch's header."""
    try:
        value = _VALUE.pack(_VERSION, coordinator_epoch)
    except StructError:
        raise InvalidRecord(
            f"a marker of coordinator epoch {coordinator_epoch}; it has 32 bits"
        ) from None
    key = _KEY.pack(_VERSION, _COMMIT if commit else _ABORT)
    return encode([value], keys=[key], timestamps=0)[HEADER_BYTES:]


def read_marker(buf: Buffer, position: int = 0) -> Marker | None:
    """The marker in the batch at `position`; None when the batch ends no transaction.

    None is said of batches of data, of control records of other types, and of a control batch that
    compaction has emptied. Versions newer than 0 are read: they may only add fields at the end.
    Raises what `codec.check` does, and MalformedBatch when the record is too short to be one.
    """
    header = read_header(buf, position)
    if not header.control or header.count == 0:
        return None
    record = control_records(buf, position)
    key, value = record.keys[0] or b"", record.values[0] or b""
    if len(key) < _KEY.size:
        raise MalformedBatch(
            f"batch at byte {position}: a control record's key has {len(key)} bytes, not"
            f" {_KEY.size}",
            position,
        )
    _, kind = _KEY.unpack_from(key)
    if kind not in (_ABORT, _COMMIT):
        return None
    if len(value) < _VALUE.size:
        raise MalformedBatch(
            f"batch at byte {position}: the value of a marker has {len(value)} bytes, not"
            f" {_VALUE.size}",
            position,
        )
    _, coordinator_epoch = _VALUE.unpack_from(value)
    return Marker(kind == _COMMIT, coordinator_epoch)
