"""A batch that grows record by record."""

import pytest

from streamkit.codec import HEADER_BYTES, check, compression
from streamkit.codec.compression import CODECS
from streamkit.errors import CorruptBatch, InvalidRecord, RecordTooLarge

NOW = 1_700_000_000_123


def test_size_is_that_of_the_uncompressed_batch(codec):
    builder = codec.Builder()
    assert builder.size == HEADER_BYTES and len(builder) == 0
    for i in range(1000):
        size = builder.append(b"v" * i, None, NOW + i, (("h", b"x"),))
        assert size == builder.size and len(builder) == i + 1
    assert size == len(builder.build())


@pytest.mark.parametrize("out", ["build", "take"])
@pytest.mark.parametrize("compression", CODECS)
def test_a_builder_is_empty_after_build_and_serves_again(codec, compression, out):
    builder = codec.Builder(compression)
    for start in (5, 1000, 2):
        for i in range(3):
            builder.append(b"v", b"k", start - i)
        batch = getattr(builder, out)()
        assert (len(builder), builder.size) == (0, HEADER_BYTES)
        header = check(batch)
        assert (header.base_timestamp, header.max_timestamp) == (start, start)
        assert header.count == 3
        assert list(codec.columns(batch).timestamps) == [start, start - 1, start - 2]


@pytest.mark.parametrize("compression", ["none", "lz4"])
@pytest.mark.parametrize("out", ["build", "take"])
def test_an_empty_builder_builds_nothing(codec, compression, out):
    with pytest.raises(InvalidRecord, match="at least one record"):
        getattr(codec.Builder(compression), out)()


def test_what_is_taken_is_what_would_be_built_and_stays_so_while_somebody_has_it(codec):
    builder = codec.Builder()
    kept, expected = [], []
    for size in (10, 100_000, 300_000, 5, 70_000, *range(60_000, 60_020)):
        for out, into in ((builder.build, expected), (builder.take, kept)):
            builder.append(bytes([size % 251]) * size, b"k", NOW)
            into.append(out())
        if size % 3:
            kept[-1] = kept[-1][:]  # a view of a view holds the memory, too
    assert kept == expected
    checked = getattr(codec, "check", check)
    assert [checked(batch) for batch in kept] == [check(batch) for batch in expected]
    with pytest.raises(TypeError):
        kept[0][30] = 1


def test_a_part_of_what_was_taken_is_checked_as_anything_else(codec):
    builder = codec.Builder()
    builder.append(b"v" * 100, None, NOW)
    batch = builder.take()
    for part in (batch[:-1], batch[1:], batch[::-1]):
        with pytest.raises((CorruptBatch, BufferError)):
            getattr(codec, "check", check)(part)


@pytest.mark.parametrize(
    "arguments",
    [
        ("text", None, NOW),
        (b"v", "text", NOW),
        (b"v", None, None),
        (b"v", None, -2),
        (b"v", None, 2**63),
        (b"v", None, NOW, (("name", "text"),)),
        (b"v", None, NOW, (("\udc00", b""),)),
    ],
)
def test_a_refused_record_leaves_the_batch_as_it_was(codec, arguments):
    builder = codec.Builder()
    builder.append(b"before", None, NOW)
    size = builder.size
    with pytest.raises(InvalidRecord, match="record 1"):
        builder.append(*arguments)
    assert (len(builder), builder.size) == (1, size)
    builder.append(b"after", None, NOW + 1)
    assert codec.columns(builder.build()).values == [b"before", b"after"]


def test_a_first_record_that_is_refused_sets_no_base_time(codec):
    builder = codec.Builder()
    with pytest.raises(InvalidRecord):
        builder.append("text", None, 5)
    builder.append(b"v", None, NOW)
    assert check(builder.build()).base_timestamp == NOW


def test_a_compressed_batch_holds_no_more_than_can_be_read_again(codec):
    half = bytes(compression.MAX_INFLATED // 2)
    builder = codec.Builder("zstd")
    builder.append(half, None, NOW)
    with pytest.raises(RecordTooLarge, match="append fewer records"):
        builder.append(half, None, NOW)
    assert [len(value) for value in codec.columns(builder.build()).values] == [len(half)]
    with pytest.raises(RecordTooLarge):
        codec.encode([half, half], timestamps=NOW, compression="zstd")
