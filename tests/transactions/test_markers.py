"""Markers: exact bytes, what other clients read in them, and what is no marker."""

import struct
import warnings

import pytest

from streamkit import codec
from streamkit.codec import columns, read_header
from streamkit.codec.crc import crc32c
from streamkit.errors import InvalidRecord, MalformedBatch
from streamkit.transactions.markers import Marker, encode_marker, read_marker

with warnings.catch_warnings():
    # kafka-python reads its schemas in a way that Python 3.11 calls deprecated, once, at import.
    warnings.simplefilter("ignore", DeprecationWarning)
    from aiokafka.record.control_record import ABORT_MARKER, COMMIT_MARKER, ControlRecord
    from aiokafka.record.memory_records import MemoryRecords as AioRecords
    from kafka.record import MemoryRecords as KafkaRecords

NOW = 1_700_000_000_123


def control(key: bytes | None, value: bytes | None) -> bytes:
    return codec.encode(
        [value],
        keys=[key],
        timestamps=NOW,
        producer_id=7,
        producer_epoch=1,
        control=True,
        transactional=True,
    )


def test_a_commit_marker_is_kafkas_to_the_byte():
    made = encode_marker(
        Marker(True, 5), producer_id=7, producer_epoch=3, timestamp=NOW, leader_epoch=2
    )
    body = (
        bytes.fromhex("0030")  # transactional, control
        + bytes(4)  # last offset delta
        + struct.pack(">qq", NOW, NOW)
        + struct.pack(">qhii", 7, 3, -1, 1)  # producer, epoch, no sequence, one record
        + bytes.fromhex("20 00 00 00")  # 16 bytes, attributes, deltas
        + bytes.fromhex("08 0000 0001")  # key: version 0, type 1
        + bytes.fromhex("0c 0000 00000005")  # value: version 0, coordinator epoch 5
        + b"\0"  # no headers
    )
    head = struct.pack(">qiib", 0, len(body) + 9, 2, 2) + struct.pack(">I", crc32c(body))
    assert made == head + body


def test_an_abort_marker_differs_in_the_type_alone():
    commit, abort = (
        encode_marker(Marker(how, 5), producer_id=7, producer_epoch=3, timestamp=NOW)
        for how in (True, False)
    )
    differing = [at for at in range(len(commit)) if commit[at] != abort[at] and not 17 <= at < 21]
    assert [(commit[at], abort[at]) for at in differing] == [(1, 0)]


@pytest.mark.parametrize("commit", [True, False])
def test_other_clients_read_the_marker(commit):
    made = encode_marker(Marker(commit, 9), producer_id=7, producer_epoch=3, timestamp=NOW)
    theirs = KafkaRecords(made).next_batch()
    assert theirs.is_control_batch and theirs.is_transactional and theirs.validate_crc()
    assert (theirs.producer_id, theirs.producer_epoch, theirs.base_sequence) == (7, 3, -1)
    record = next(iter(theirs))
    assert (record.commit, record.abort, record.version) == (commit, not commit, 0)
    theirs = AioRecords(made).next_batch()
    assert theirs.is_control_batch and theirs.is_transactional
    found = ControlRecord.parse(next(iter(theirs)).key)
    assert found == (COMMIT_MARKER if commit else ABORT_MARKER)


@pytest.mark.parametrize("marker", [Marker(True, 0), Marker(False, 2**31 - 1), Marker(True, -1)])
def test_a_marker_is_read_back_anywhere_in_a_run(marker):
    before = codec.encode([b"x"], timestamps=NOW)
    made = encode_marker(marker, producer_id=7, producer_epoch=3, timestamp=NOW)
    assert read_marker(before + made, len(before)) == marker
    assert len(columns(made)) == 0


def test_data_and_control_records_of_other_types_are_no_markers():
    assert read_marker(codec.encode([b"x"], timestamps=NOW, producer_id=7)) is None
    for kind in (2, 3, 6, 99):
        assert read_marker(control(struct.pack(">hh", 0, kind), b"anything")) is None


def test_a_control_batch_that_compaction_has_emptied_ends_nothing():
    batch = bytearray(control(struct.pack(">hh", 0, 1), struct.pack(">hi", 0, 0))[:61])
    batch[57:61] = bytes(4)
    batch[8:12] = struct.pack(">i", 49)
    batch[17:21] = struct.pack(">I", crc32c(bytes(batch[21:])))
    assert read_header(bytes(batch)).count == 0
    assert read_marker(bytes(batch)) is None


def test_a_newer_version_of_a_marker_is_read_as_far_as_it_is_known():
    made = control(struct.pack(">hhh", 1, 1, 5), struct.pack(">hiq", 1, 4, 77))
    assert read_marker(made) == Marker(True, 4)


@pytest.mark.parametrize(
    ("key", "value"),
    [(None, b"v"), (b"\0\0\0", b"v"), (b"\0\0\0\1", None), (b"\0\0\0\1", b"short")],
)
def test_a_marker_that_is_too_short_is_malformed(key, value):
    with pytest.raises(MalformedBatch, match="bytes, not"):
        read_marker(control(key, value))


def test_a_marker_needs_a_producer_and_fits_its_fields():
    with pytest.raises(InvalidRecord, match="producer -1"):
        encode_marker(Marker(True, 0), producer_id=-1, producer_epoch=0, timestamp=NOW)
    with pytest.raises(InvalidRecord, match="32 bits"):
        encode_marker(Marker(True, 2**31), producer_id=1, producer_epoch=0, timestamp=NOW)
