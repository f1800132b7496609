"""`.txnindex` files and the question that they answer."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import UnsupportedFormat
from streamkit.transactions.txnindex import (
    ENTRY_BYTES,
    Aborted,
    Found,
    aborted_in,
    bytes_below,
    decode_entries,
    encode_entries,
)

FILE = "orders-3/00000000000000000000.txnindex"
FIRST = Aborted(7, 10, 15, 12)
SECOND = Aborted(8, 12, 20, 18)
THIRD = Aborted(7, 18, 25, 26)


def test_an_entry_is_kafkas_to_the_byte():
    raw = encode_entries([FIRST])
    assert raw == b"\0\0" + struct.pack(">qqqq", 7, 10, 15, 12)
    assert len(raw) == ENTRY_BYTES == 34
    assert decode_entries(raw, FILE) == [FIRST]


def test_an_entry_that_was_cut_short_is_left_out():
    raw = encode_entries([FIRST, SECOND])
    assert decode_entries(raw[:-1], FILE) == [FIRST]
    assert decode_entries(b"", FILE) == []


def test_an_entry_of_a_newer_version_is_refused():
    with pytest.raises(UnsupportedFormat, match=r"txnindex at byte 34: .* version 1"):
        decode_entries(encode_entries([FIRST]) + b"\0\1" + bytes(32), FILE)


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        (0, 10, Found([], True)),
        (0, 11, Found([FIRST], True)),
        (15, 16, Found([FIRST, SECOND], True)),
        (16, 19, Found([SECOND, THIRD], True)),
        (16, 26, Found([SECOND, THIRD], True)),
        (21, 40, Found([THIRD], False)),
        (26, 40, Found([], False)),
    ],
)
def test_the_transactions_that_overlap_a_fetch_are_found(start, end, found):
    assert aborted_in([FIRST, SECOND, THIRD], start, end) == found


def test_what_the_scan_does_not_reach_could_not_matter():
    def entries():
        yield from (FIRST, SECOND)
        raise AssertionError("read on after the last stable offset had reached the end")

    assert aborted_in(entries(), 10, 17) == Found([FIRST, SECOND], True)


@given(st.lists(st.builds(Aborted, *[st.integers(0, 2**63 - 1)] * 4), max_size=6))
def test_entries_round_trip(entries):
    assert decode_entries(encode_entries(entries), FILE) == entries


@pytest.mark.parametrize(("offset", "kept"), [(15, 0), (16, 1), (20, 1), (21, 2), (99, 3)])
def test_a_log_that_is_cut_keeps_the_entries_of_the_markers_that_stay(offset, kept):
    assert bytes_below([FIRST, SECOND, THIRD], offset) == kept * ENTRY_BYTES
