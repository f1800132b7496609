"""Whatever is done to a batch's bytes: one named error, the same from both codecs, and no harm."""

import random
import tracemalloc
from struct import pack, pack_into

import pytest

from streamkit.codec import check, headers, pure, read_header, varint
from streamkit.codec.compression import CODECS, compress
from streamkit.codec.crc import crc32c
from streamkit.errors import (
    BadCrc,
    CorruptBatch,
    CorruptLog,
    MalformedBatch,
    TruncatedBatch,
    UnknownMagic,
)

NOW = 1_700_000_000_123
LENGTH, MAGIC, CRC, ATTRIBUTES, LAST_DELTA, BASE_TIME, COUNT = 8, 16, 17, 21, 23, 27, 57


def resealed(batch: bytes | bytearray) -> bytes:
    """The batch with a length and a checksum that fit it, whatever is in it."""
    batch = bytearray(batch)
    pack_into(">i", batch, LENGTH, len(batch) - 12)
    pack_into(">I", batch, CRC, crc32c(batch[21:]))
    return bytes(batch)


def with_field(batch: bytes, at: int, layout: str, value: int) -> bytes:
    batch = bytearray(batch)
    pack_into(layout, batch, at, value)
    return resealed(batch)


def batch_of(payload: bytes, count: int = 1, last_delta: int | None = None, attributes=0) -> bytes:
    """A batch with this for its records, sealed with the right checksum."""
    batch = bytearray(pure.encode([b""], timestamps=NOW)[:61]) + payload
    pack_into(">h", batch, ATTRIBUTES, attributes)
    pack_into(">i", batch, LAST_DELTA, count - 1 if last_delta is None else last_delta)
    pack_into(">i", batch, COUNT, count)
    return resealed(batch)


def record(body: bytes, length: int | None = None) -> bytes:
    return varint.encode(len(body) if length is None else length) + body


WHOLE = pure.encode([b"value"] * 3, keys=[b"key"] * 3, timestamps=NOW)
GOOD = b"\0\0\0\1\1\0"  # attributes, two deltas, no key, no value, no headers


def refused(codec, buf, error, message, position=0):
    for read in (codec.columns, lambda buf: codec.records(buf, "t", 0)):
        with pytest.raises(error, match=message) as caught:
            read(buf)
        assert type(caught.value) is error
        assert caught.value.position == position
        assert isinstance(caught.value, CorruptBatch) and isinstance(caught.value, CorruptLog)


@pytest.mark.parametrize("size", [1, 11, 12, 16, 17, 60, 61, len(WHOLE) - 1])
def test_a_cut_tail(codec, size):
    refused(codec, WHOLE[:size], TruncatedBatch, "only .* are there")
    refused(codec, WHOLE + stamped_next()[:size], TruncatedBatch, "only", position=len(WHOLE))
    with pytest.raises(TruncatedBatch):
        check(WHOLE[:size])
    walk = headers(WHOLE + stamped_next()[:size])
    assert next(walk)[0] == 0
    with pytest.raises(TruncatedBatch) as caught:
        next(walk)
    assert caught.value.position == len(WHOLE)


def stamped_next() -> bytes:
    return pack(">q", 3) + WHOLE[8:]


def test_every_other_magic(codec):
    for magic in (0, 1, 3, 255):
        broken = WHOLE[:MAGIC] + bytes([magic]) + WHOLE[17:]
        refused(codec, broken, UnknownMagic, "format version")
        with pytest.raises(UnknownMagic):
            read_header(broken)


def test_a_changed_bit_anywhere_under_the_checksum(codec):
    for position in range(CRC, len(WHOLE)):
        broken = bytearray(WHOLE)
        broken[position] ^= 1 << position % 8
        refused(codec, bytes(broken), BadCrc, "batch at byte 0 .offset 0, .* checksum")


@pytest.mark.parametrize("length", [-(2**31), -1, 0, 48])
def test_a_length_below_the_header(codec, length):
    broken = WHOLE[:LENGTH] + pack(">i", length) + WHOLE[12:]
    refused(codec, broken, MalformedBatch, "less than its header")
    with pytest.raises(MalformedBatch):
        read_header(broken)


def test_a_length_beyond_the_end(codec):
    broken = WHOLE[:LENGTH] + pack(">i", 2**31 - 1) + WHOLE[12:]
    refused(codec, broken, TruncatedBatch, "2147483659 bytes long")
    assert read_header(broken).size == 2147483659


@pytest.mark.parametrize(
    ("at", "layout", "value", "message"),
    [
        (0, ">q", -1, "offsets -1 to 1"),
        (0, ">q", 2**63 - 2, "offsets"),
        (LAST_DELTA, ">i", -1, "offsets 0 to -1"),
        (LAST_DELTA, ">i", -(2**31), "offsets"),
        (LAST_DELTA, ">i", 1, "3 records in 2 offsets"),
        (COUNT, ">i", -1, "-1 records"),
        (COUNT, ">i", 4, "4 records in 3 offsets"),
        (COUNT, ">i", 2**31 - 1, "2147483647 records"),
        (ATTRIBUTES, ">h", 5, "compression codec 5"),
        (ATTRIBUTES, ">h", 7, "compression codec 7"),
    ],
)
def test_header_fields_that_contradict_each_other(codec, at, layout, value, message):
    broken = with_field(WHOLE, at, layout, value)
    refused(codec, broken, MalformedBatch, message)
    for look in (read_header, check):
        with pytest.raises(MalformedBatch, match=message):
            look(broken)


def test_a_count_that_lies_within_the_offsets(codec):
    refused(codec, with_field(WHOLE, COUNT, ">i", 2), MalformedBatch, "bytes after the last record")
    holes = with_field(WHOLE, LAST_DELTA, ">i", 100)
    assert list(codec.columns(holes).offsets) == [0, 1, 2]
    refused(codec, with_field(holes, COUNT, ">i", 4), MalformedBatch, "record 3: a varint is cut")
    refused(codec, with_field(holes, COUNT, ">i", 100), MalformedBatch, "100 records in")


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (record(GOOD) + b"\0", "1 bytes after the last record"),
        (record(GOOD, 7), "7 bytes long where 6 are left"),
        (record(GOOD, 5), "5 bytes long"),
        (record(GOOD, -1), "-1 bytes long"),
        (record(GOOD, 2**31 - 1), "2147483647 bytes long"),
        (b"\xff" * 5 + b"\x0f" + GOOD, "longer than 32 bits"),
        (b"\xff\xff\xff\xff\x1f" + GOOD, "longer than 32 bits"),
        (record(b"\0\0\0\1\1" + b"\x80" * 5 + b"\0"), "longer than 32 bits"),
        (record(b"\0" + b"\x80" * 10 + b"\0" + GOOD[2:]), "longer than 64 bits"),
        (record(b"\0" + b"\x80" * 9 + b"\x02" + GOOD[2:]), "longer than 64 bits"),
        (record(b"\xff" * 9), "a varint is cut off"),
        (record(b"\0\0\1\1\1\0"), "offset delta -1 after -1"),
        (record(b"\0\0\2\1\1\0"), "offset delta 1 after -1, with 0 the last"),
        (record(b"\0\0\0\3\1\0"), "key of -2 bytes"),
        (record(b"\0\0\0\x0a\1\0"), "key of 5 bytes where 2 are left"),
        (record(b"\0\0\0\1\3\0"), "value of -2 bytes"),
        (record(b"\0\0\0\1\4\0"), "value of 2 bytes where 1 are left"),
        (record(b"\0\0\0\1\xfe\xff\xff\xff\x0f\0"), "value of 2147483647 bytes"),
        (record(b"\0\0\0\1\1\1"), "-1 headers"),
        (record(b"\0\0\0\1\1\2"), "1 headers where 0 bytes"),
        (record(b"\0\0\0\1\1\xfe\xff\xff\xff\x0f"), "2147483647 headers where 0 bytes"),
        (record(b"\0\0\0\1\1\2\1\1"), "a header without a name"),
        (record(b"\0\0\0\1\1\2\2\1"), "header value|header name|contents|varint"),
        (record(b"\0\0\0\1\1\2\2\xff\1"), "invalid start byte"),
        (record(b"\0\0\0\1\1\2\0\4\1"), "header value of 2 bytes where 1 are left"),
        (record(GOOD + b"\0"), "contents end -1 bytes from its end"),
        (record(b"\0\0\0\1\1\2\0\1\0"), "contents end -1 bytes from its end"),
        (record(b"\0\0\0\1\1\x80") + b"\0", "contents end .1 bytes from its end"),
    ],
)
def test_records_that_lie(codec, payload, message):
    broken = batch_of(payload)
    check(broken)  # the outside is in order
    refused(codec, broken, MalformedBatch, message)
    refused(codec, WHOLE + pack(">q", 3) + broken[8:], MalformedBatch, message, len(WHOLE))
    for number, name in enumerate(CODECS[1:], 1):
        zipped = batch_of(compress(name, payload), attributes=number)
        refused(codec, zipped, MalformedBatch, message)


def test_offset_deltas_that_do_not_increase(codec):
    twice = record(GOOD) * 2
    refused(codec, batch_of(twice, 2, 5), MalformedBatch, "record 1: offset delta 0 after 0")


def test_a_timestamp_beyond_64_bits(codec):
    later = batch_of(record(b"\0\2\0\1\1\0"))
    late = with_field(later, BASE_TIME, ">q", 2**63 - 1)
    refused(codec, late, MalformedBatch, "timestamp 9223372036854775808")
    early = with_field(batch_of(record(b"\0\1\0\1\1\0")), BASE_TIME, ">q", -(2**63))
    refused(codec, early, MalformedBatch, "timestamp -9223372036854775809")
    appended = with_field(late, ATTRIBUTES, ">h", 8)  # log append time: the delta does not count
    assert list(codec.columns(appended).timestamps) == [NOW]


def test_a_long_way_to_write_a_number_is_read(codec):
    batch = batch_of(b"\x8e\x80\x00" + b"\0\0\x80\0\1\1\0")
    assert codec.columns(batch).values == [None]


def test_batches_whose_offsets_go_back(codec):
    refused(codec, WHOLE + WHOLE, MalformedBatch, "begins at offset 0", position=len(WHOLE))


def test_a_batch_emptied_by_compaction_is_legal(codec):
    empty = with_field(batch_of(b"", 0, 7), BASE_TIME, ">q", -1)
    assert len(codec.columns(empty)) == 0
    assert check(empty).next_offset == 8
    assert len(codec.columns(with_field(empty, ATTRIBUTES, ">h", 4))) == 0
    refused(codec, batch_of(b"\0", 0, 7), MalformedBatch, "1 bytes after the last record")


def test_deltas_count_from_a_delete_horizon(codec):
    horizon = batch_of(record(b"\0\1\0\1\1\0"), attributes=0x40)
    assert check(horizon).has_delete_horizon
    assert list(codec.columns(horizon).timestamps) == [NOW - 1]


@pytest.mark.parametrize("number", range(1, 5))
def test_broken_compressed_data(codec, number):
    whole = compress(CODECS[number], record(GOOD))
    for data in (whole[:-1], whole[:4], b"", b"\0" * 30, b"\xff" * 30):
        refused(codec, batch_of(data, attributes=number), MalformedBatch, "batch at byte 0: ")


@pytest.mark.parametrize("number", range(1, 5))
def test_a_count_beyond_what_was_compressed_takes_no_memory(codec, number):
    lie = batch_of(compress(CODECS[number], record(GOOD)), 2**31 - 1, attributes=number)
    tracemalloc.start()
    refused(codec, lie, MalformedBatch, "2147483647 records in 7 bytes")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def damaged(rng: random.Random, batch: bytes) -> bytes:
    """The batch after a few random changes, mostly where lengths and counts are."""
    broken = bytearray(batch)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        if not broken:
            break
        at = rng.randrange(min(len(broken), rng.choice((8, 64, 100, len(broken)))))
        match rng.randrange(6):
            case 0:
                broken[at] ^= 1 << rng.randrange(8)
            case 1:
                broken[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                broken[at : at + 4] = rng.choice((b"\xff" * 4, b"\x7f" + b"\xff" * 3, bytes(4)))
            case 3:
                broken[at:at] = rng.randbytes(rng.randrange(1, 6))
            case 4:
                del broken[at : at + rng.randrange(1, 6)]
            case 5:
                del broken[at:]
    return bytes(broken)


@pytest.mark.parametrize("seed", range(8))
def test_random_damage_gives_the_same_error_from_both_and_takes_little_memory(codec, seed):
    rng = random.Random(seed)
    rows = range(rng.choice((1, 3, 40)))
    batches = [
        pure.encode(
            [rng.choice((None, b"", b"v" * 70, rng.randbytes(9))) for _ in rows],
            keys=[rng.choice((None, b"key")) for _ in rows],
            timestamps=[NOW + rng.randrange(-100, 9**9) for _ in rows],
            headers=[rng.choice(((), (("h", b"1"), ("é", None)))) for _ in rows],
            compression=name,
        )
        for name in CODECS
    ]
    outcomes = set()
    tracemalloc.start()
    for _ in range(1500):
        broken = damaged(rng, rng.choice(batches))
        if len(broken) >= 61 and rng.random() < 0.9:
            broken = broken[:MAGIC] + b"\2" + broken[17:]
            broken = resealed(broken)  # so that the damage is not found by the checksum
        expected, found = outcome(pure, broken), outcome(codec, broken)
        assert found == expected, f"seed {seed}: {broken.hex()}"
        outcomes.add(found[0])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert {"fine", MalformedBatch, TruncatedBatch} <= outcomes
    assert peak < 8 << 20


def outcome(codec, buf: bytes):
    try:
        found = codec.columns(buf)
        again = codec.records(buf, "t", 0)
    except CorruptBatch as error:
        return type(error), str(error), error.position
    assert [record.value for record in again] == found.values
    return (
        "fine",
        list(found.offsets),
        list(found.timestamps),
        found.keys,
        found.values,
        found.headers,
        [record.headers for record in again],
    )
