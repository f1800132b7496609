"""Zig-zag varints."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.codec import varint


@pytest.mark.parametrize(
    ("number", "encoded"),
    [
        (0, "00"),
        (-1, "01"),
        (1, "02"),
        (63, "7e"),
        (-64, "7f"),
        (64, "8001"),
        (-65, "8101"),
        (8191, "fe7f"),
        (8192, "808001"),
        (2**31 - 1, "feffffff0f"),
        (-(2**31), "ffffffff0f"),
        (2**63 - 1, "feffffffffffffffff01"),
        (-(2**63), "ffffffffffffffffff01"),
    ],
)
def test_known_forms(number, encoded):
    data = bytes.fromhex(encoded)
    assert varint.encode(number) == data
    assert varint.decode64(b"." + data + b".", 1) == (number, 1 + len(data))
    if -(2**31) <= number < 2**31:
        assert varint.decode32(data, 0) == (number, len(data))


@given(st.integers(-(2**63), 2**63 - 1))
def test_numbers_come_back(number):
    data = varint.encode(number)
    assert varint.decode64(data, 0) == (number, len(data))
    with pytest.raises(ValueError, match="cut off"):
        varint.decode64(data[:-1], 0)


@given(st.integers(2**31, 2**63 - 1) | st.integers(-(2**63), -(2**31) - 1))
def test_numbers_beyond_32_bits_are_refused_where_32_are_due(number):
    with pytest.raises(ValueError, match="longer than 32 bits"):
        varint.decode32(varint.encode(number), 0)
