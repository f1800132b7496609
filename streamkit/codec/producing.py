"""Setting whose a finished batch is: a producer's id, epoch and sequence."""

from struct import Struct
from struct import error as StructError

from streamkit.codec.buffer import Encoded
from streamkit.codec.crc import crc32c
from streamkit.codec.header import CRC_START, TRANSACTIONAL
from streamkit.errors import InvalidRecord

_ATTRIBUTES = Struct(">h")
_PRODUCER = Struct(">qhi")
_CRC = Struct(">I")
_PRODUCER_AT = 43


def of_producer(
    batch: Encoded,
    producer_id: int,
    producer_epoch: int,
    base_sequence: int,
    *,
    transactional: bool = False,
) -> Encoded:
    """The batch with these in its header, and the checksum that goes with them.

    A sequence is only known when a batch is about to be appended, long after its records were
    encoded. Raises InvalidRecord for numbers that a header cannot hold.
    """
    stamped = bytearray(batch)
    (attributes,) = _ATTRIBUTES.unpack_from(stamped, CRC_START)
    if transactional:
        attributes |= TRANSACTIONAL
    try:
        _ATTRIBUTES.pack_into(stamped, CRC_START, attributes)
        _PRODUCER.pack_into(stamped, _PRODUCER_AT, producer_id, producer_epoch, base_sequence)
    except StructError as error:
        raise InvalidRecord(
            f"a batch header cannot hold producer_id={producer_id} producer_epoch={producer_epoch}"
            f" base_sequence={base_sequence}: {error}"
        ) from error
    _CRC.pack_into(stamped, CRC_START - 4, crc32c(memoryview(stamped)[CRC_START:]))
    return bytes(stamped)
