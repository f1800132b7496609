"""What one partition knows of one producer id."""

import msgspec

from streamkit.codec import BatchHeader

WINDOW = 5
"""Batches per producer that are recognized when they come again, as in Kafka."""

MAX_SEQUENCE = 2**31 - 1
NONE = -1
"""The epoch, sequence, offset or id that there is not."""


class Batch(msgspec.Struct, frozen=True, gc=False):
    """Where a batch of a producer stands. Its last sequence is −1 when it came without sequences,
    as offsets committed within a transaction do."""

    last_sequence: int
    last_offset: int
    offset_delta: int

    @property
    def first_offset(self) -> int:
        return self.last_offset - self.offset_delta


class Producer(msgspec.Struct, frozen=True):
    """What a partition knows of one producer id.

    `timestamp` is the largest of its last batch or marker, in ms. `open_from` is the first offset
    of its open transaction (−1: none). `batches` are the last few of its present epoch.
    """

    producer_id: int
    epoch: int = NONE
    coordinator_epoch: int = NONE
    timestamp: int = NONE
    open_from: int = NONE
    batches: tuple[Batch, ...] = ()

    @property
    def last_sequence(self) -> int:
        return self.batches[-1].last_sequence if self.batches else NONE


def sequence_after(sequence: int, count: int) -> int:
    """The sequence `count` records after another; 2^31 − 1 is followed by 0."""
    return sequence + count & MAX_SEQUENCE


def last_sequence(header: BatchHeader) -> int:
    """The sequence of a batch's last record; −1 when it has none."""
    if header.base_sequence < 0:
        return NONE
    return sequence_after(header.base_sequence, header.last_offset_delta)
