"""A batch's header, read without its records."""

from collections.abc import Callable
from struct import pack_into

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit import codec
from streamkit.codec import BatchHeader, check, encode, headers, pure, read_header, stamp
from streamkit.codec.compression import CODECS
from streamkit.codec.crc import crc32c
from streamkit.codec.header import check as pure_check
from streamkit.errors import CorruptBatch

try:
    from streamkit.codec import _native as native
except ImportError:
    native = None

not_built = pytest.mark.skipif(native is None, reason="the compiled codec is not built")

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


@not_built
@given(st.data())
def test_the_compiled_check_says_what_the_other_does_of_any_batch(data: st.DataObject) -> None:
    values = data.draw(st.lists(st.binary(max_size=20), min_size=1, max_size=3))
    given_ids = data.draw(st.sampled_from([(-1, -1, -1), (7, 3, 9), (2**40, 32767, 2**31 - 1)]))
    batch = bytearray(
        encode(
            values,
            timestamps=data.draw(st.integers(0, 2**40)),
            compression=data.draw(st.sampled_from(["none", "lz4"])),
            producer_id=given_ids[0],
            producer_epoch=given_ids[1],
            base_sequence=given_ids[2],
            leader_epoch=data.draw(st.sampled_from([0, 5, 2**31 - 1])),
        )
    )
    before = data.draw(st.binary(max_size=3))
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.integers(0, 60))
        batch[at] = data.draw(st.sampled_from([0, 1, 2, 127, 128, 255]))
    if data.draw(st.booleans()):
        batch[17:21] = crc32c(bytes(batch[21:])).to_bytes(4, "big")  # else nothing else is seen
    cut = data.draw(st.integers(0, len(batch)))
    some = before + bytes(batch) + b"rest" if data.draw(st.booleans()) else before + batch[:cut]
    kind = data.draw(st.sampled_from([bytes, bytearray, memoryview]))

    def told(check: Callable[..., BatchHeader]) -> object:
        try:
            return check(kind(some), len(before))
        except CorruptBatch as error:
            return type(error), str(error), error.position

    assert told(native.check) == told(pure_check)
