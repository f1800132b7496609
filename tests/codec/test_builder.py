"""A batch that grows record by record."""

import pytest

from streamkit.codec import HEADER_BYTES, check, compression
from streamkit.codec.compression import CODECS
from streamkit.errors import InvalidRecord, RecordTooLarge

NOW = 1_700_000_000_123


def test_size_is_that_of_the_uncompressed_batch(codec):
    builder = codec.Builder()
    assert builder.size == HEADER_BYTES and len(builder) == 0
    for i in range(1000):
        size = builder.append(b"v" * i, None, NOW + i, (("h", b"x"),))
        assert size == builder.size and len(builder) == i + 1
    assert size == len(builder.build())


@pytest.mark.parametrize("compression", CODECS)
def test_a_builder_is_empty_after_build_and_serves_again(codec, compression):
    builder = codec.Builder(compression)
    for start in (5, 1000, 2):
        for i in range(3):
            builder.append(b"v", b"k", start - i)
        batch = builder.build()
        assert (len(builder), builder.size) == (0, HEADER_BYTES)
        header = check(batch)
        assert (header.base_timestamp, header.max_timestamp) == (start, start)
        assert header.count == 3
        assert list(codec.columns(batch).timestamps) == [start, start - 1, start - 2]


def test_an_empty_builder_builds_nothing(codec):
    with pytest.raises(InvalidRecord, match="at least one record"):
        codec.Builder().build()


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
