"""`.snapshot` files: exact bytes, both ways, and damage."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.codec.crc import crc32c
from streamkit.errors import CorruptLog, StreamkitError, UnsupportedFormat
from streamkit.transactions.producer import Batch, Producer
from streamkit.transactions.snapshot import decode_snapshot, encode_snapshot

FILE = "orders-3/00000000000000000042.snapshot"


def test_a_snapshot_is_kafkas_to_the_byte():
    producer = Producer(7, 3, 2, 1_700_000_000_000, 40, (Batch(4, 30, 0), Batch(9, 41, 4)))
    silent = Producer(8, 1)
    body = (
        bytes.fromhex("00000002")
        + bytes.fromhex("0000000000000007 0003 00000009 0000000000000029 00000004")
        + struct.pack(">q", 1_700_000_000_000)
        + bytes.fromhex("00000002 0000000000000028")
        + bytes.fromhex("0000000000000008 0001 ffffffff ffffffffffffffff 00000000")
        + bytes.fromhex("ffffffffffffffff ffffffff ffffffffffffffff")
    )
    expected = b"\0\1" + struct.pack(">I", crc32c(body)) + body
    assert encode_snapshot([producer, silent]) == expected
    assert decode_snapshot(expected, FILE) == [
        Producer(7, 3, 2, 1_700_000_000_000, 40, (Batch(9, 41, 4),)),
        silent,
    ]


def test_no_producers_make_a_snapshot_of_ten_bytes():
    assert encode_snapshot([]) == b"\0\1" + struct.pack(">I", crc32c(bytes(4))) + bytes(4)
    assert decode_snapshot(encode_snapshot([]), FILE) == []


i16, i32, i64 = (st.integers(-(2**n), 2**n - 1) for n in (15, 31, 63))
producers = st.builds(
    Producer,
    i64,
    i16,
    i32,
    i64,
    i64,
    st.tuples(st.builds(Batch, i32, st.integers(0, 2**63 - 1), i32)) | st.just(()),
)


@given(st.lists(producers, max_size=5))
def test_snapshots_round_trip(some):
    assert decode_snapshot(encode_snapshot(some), FILE) == some


@given(st.data())
def test_any_damage_is_noticed_and_names_the_file(data):
    raw = bytearray(encode_snapshot([Producer(7, 1, 0, 5, -1, (Batch(1, 2, 0),))]))
    if data.draw(st.booleans()):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del raw[data.draw(st.integers(0, len(raw) - 1)) :]
    with pytest.raises(StreamkitError, match=r"00042\.snapshot"):
        decode_snapshot(bytes(raw), FILE)


def test_a_count_that_does_not_fit_the_bytes_is_corruption():
    body = struct.pack(">i", 3) + bytes(46)
    with pytest.raises(CorruptLog, match="3 producers in 56 bytes"):
        decode_snapshot(b"\0\1" + struct.pack(">I", crc32c(body)) + body, FILE)


def test_another_version_is_refused():
    with pytest.raises(UnsupportedFormat, match="version 2"):
        decode_snapshot(b"\0\2" + bytes(8), FILE)
