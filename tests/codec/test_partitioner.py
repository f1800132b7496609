"""Keys go where Kafka's Java client sends them."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2 as kafka_python

from streamkit.codec import pure


@pytest.mark.parametrize(
    ("key", "signed"),
    [  # signed, as Java prints them
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_known_hashes(codec, key, signed):
    assert codec.murmur2(key) == signed & 0xFFFFFFFF


@given(st.binary(max_size=70), st.integers(1, 10_000))
@example(b"", 3)
def test_hashes_and_partitions_are_those_of_kafka_python(codec, key, count):
    assert codec.murmur2(key) == kafka_python(key) & 0xFFFFFFFF
    assert codec.partition_for(key, count) == (kafka_python(key) & 0x7FFFFFFF) % count


def test_bytes_above_127_are_not_negative(codec):
    for length in range(1, 9):
        key = bytes(range(255, 255 - length, -1))
        assert codec.murmur2(key) == kafka_python(key) & 0xFFFFFFFF


def test_no_partitions_is_an_error_for_both(codec):
    with pytest.raises(ZeroDivisionError):
        codec.partition_for(b"k", 0)
    assert codec.partition_for(b"k", 2**40) == pure.partition_for(b"k", 2**40)
