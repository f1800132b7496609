"""A batch's header, read without its records."""

from struct import pack_into

import pytest

from streamkit import codec
from streamkit.codec import BatchHeader, check, encode, headers, pure, read_header, stamp
from streamkit.codec.compression import CODECS
from streamkit.codec.crc import crc32c

NOW = 1_700_000_000_123


def test_every_field_is_read():
    batch = encode(
        [b"a", b"b"],
        timestamps=[NOW, NOW + 5],
        compression="lz4",
        leader_epoch=3,
        producer_id=2**40,
        producer_epoch=9,
        base_sequence=77,
        transactional=True,
    )
    batch = stamp(batch, 1000, 4) + batch[16:]
    header = read_header(batch)
    assert header == BatchHeader(
        base_offset=1000,
        size=len(batch),
        leader_epoch=4,
        crc=crc32c(batch[21:]),
        attributes=0x10 | 3,
        last_offset_delta=1,
        base_timestamp=NOW,
        max_timestamp=NOW + 5,
        producer_id=2**40,
        producer_epoch=9,
        base_sequence=77,
        count=2,
    )
    assert (header.last_offset, header.next_offset) == (1001, 1002)
    assert header == check(batch)


@pytest.mark.parametrize("name", CODECS)
def test_compression_is_told_by_name(name):
    assert check(encode([b"a"], timestamps=0, compression=name)).compression == name


@pytest.mark.parametrize(
    ("bit", "name"),
    [
        (0x08, "log_append_time"),
        (0x10, "transactional"),
        (0x20, "control"),
        (0x40, "has_delete_horizon"),
    ],
)
def test_each_attribute_is_a_bit_of_its_own(bit, name):
    batch = bytearray(encode([b"a"], timestamps=0))
    pack_into(">h", batch, 21, bit)
    header = read_header(batch)  # the checksum does not fit, and is not asked for
    flags = ("log_append_time", "transactional", "control", "has_delete_horizon")
    assert [flag for flag in flags if getattr(header, flag)] == [name]


def test_headers_walks_whole_batches():
    batches = [encode([b"x" * i], timestamps=i) for i in range(1, 6)]
    log = b"".join(batches)
    walked = list(headers(log))
    assert [position for position, _ in walked] == [
        sum(map(len, batches[:i])) for i in range(len(batches))
    ]
    assert [header.size for _, header in walked] == [len(batch) for batch in batches]
    assert list(headers(log, walked[3][0])) == walked[3:]
    assert list(headers(b"")) == []


def test_positions_inside_a_larger_buffer_count_from_its_start():
    batch = encode([b"a"], timestamps=NOW)
    assert check(b"1234567" + batch, 7) == check(memoryview(batch + b"rest")) == check(batch)


def test_crc_is_castagnolis():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(memoryview(b"123456789")) == 0xE3069283
    assert crc32c(bytearray()) == 0


def test_the_package_serves_the_compiled_codec_when_it_is_built():
    try:
        from streamkit.codec import _native
    except ImportError:
        assert codec.BACKEND == "python"
        serving = pure
    else:
        assert codec.BACKEND == "cython"
        assert _native.makes_records_directly()
        serving = _native
    for name in pure.__all__:
        assert getattr(codec, name) is getattr(serving, name)
        assert name in codec.__all__
