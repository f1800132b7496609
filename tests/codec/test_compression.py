"""The four compressions: framings, limits, and data that lies about its size."""

import gzip
import subprocess
import sys

import cramjam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.codec.compression import CODECS, MAX_INFLATED, compress, decompress

ZIPPED = CODECS[1:]
TEXT = b"".join(b'{"order":%d,"state":"shipped"}' % (i * 7919) for i in range(9000))

zstd_frame = bytes.fromhex("28b52ffd")


def rle_blocks(count: int) -> bytes:
    """Zstandard blocks that repeat one byte 128 KB long each, in 4 bytes each."""
    repeat = 1 << 1 | (128 << 10) << 3
    blocks = [(repeat | (i == count - 1)).to_bytes(3, "little") + b"a" for i in range(count)]
    return b"".join(blocks)


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=1, max_size=300), st.integers(1, 3000), st.sampled_from(CODECS))
def test_what_is_compressed_is_inflated(data, times, name):
    assert decompress(name, compress(name, data * times)) == data * times


@pytest.mark.parametrize("name", ZIPPED)
def test_compression_makes_text_smaller(name):
    assert len(compress(name, TEXT)) < len(TEXT) / 2


def test_framings_are_those_that_java_reads():
    assert compress("gzip", TEXT).startswith(b"\x1f\x8b\x08")
    assert gzip.decompress(compress("gzip", TEXT)) == TEXT
    snappy = compress("snappy", TEXT)
    assert snappy.startswith(b"\x82SNAPPY\0\0\0\0\1\0\0\0\1")
    # Version 1, independent blocks, no content size, no content checksum; blocks of 64 KB.
    lz4 = compress("lz4", TEXT)
    assert lz4.startswith(b"\x04\x22\x4d\x18") and lz4[4] & 0b1110_1101 == 0b0110_0000
    assert lz4[5] == 0x40
    assert compress("zstd", TEXT).startswith(zstd_frame)


def test_compressing_twice_gives_the_same_bytes():
    for name in ZIPPED:
        assert compress(name, TEXT) == compress(name, TEXT)


def test_other_writers_framings_are_read():
    assert decompress("snappy", bytes(cramjam.snappy.compress_raw(TEXT))) == TEXT
    assert decompress("gzip", gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:])) == TEXT
    for linked in (True, False):
        for checksum in (True, False):
            lz4 = cramjam.lz4.Compressor(content_checksum=checksum, block_linked=linked)
            lz4.compress(TEXT)
            assert decompress("lz4", bytes(lz4.finish())) == TEXT
    zstd = cramjam.zstd.Compressor(level=3)  # which does not say how large the content is
    zstd.compress(TEXT)
    assert decompress("zstd", bytes(zstd.finish())) == TEXT
    skippable = bytes.fromhex("502a4d18 03000000") + b"abc"
    assert decompress("zstd", skippable + compress("zstd", TEXT)) == TEXT


@pytest.mark.parametrize("name", ZIPPED)
def test_the_limit_is_kept(name):
    zipped = compress(name, TEXT)
    assert decompress(name, zipped, limit=len(TEXT) + (64 << 10)) == TEXT
    with pytest.raises(ValueError, match="may hold"):
        decompress(name, zipped, limit=len(TEXT) - (64 << 10))
    if name in ("gzip", "zstd", "snappy"):  # the bound of a compressed LZ4 block is not exact
        assert decompress(name, zipped, limit=len(TEXT)) == TEXT
        with pytest.raises(ValueError, match="may hold"):
            decompress(name, zipped, limit=len(TEXT) - 1)


@pytest.mark.parametrize("name", ZIPPED)
def test_the_most_that_may_be_written_can_be_read(name):
    most = bytes(MAX_INFLATED)
    assert decompress(name, compress(name, most)) == most


BOMBS = {
    "gzip": compress("gzip", bytes(8 << 20)) * 20,
    "lz4": compress("lz4", bytes(8 << 20)) * 20,
    "snappy": b"\xff\xff\xff\xff\x0f" + b"\xfe\1\0" * 10,
    "zstd, no size": zstd_frame + b"\x00\x50" + rle_blocks(3000),
    "zstd, size too small": zstd_frame + b"\xa0" + (100).to_bytes(4, "little") + rle_blocks(3000),
    "zstd, size too large": zstd_frame + b"\xe0" + b"\xff" * 8 + rle_blocks(1),
    "zstd, windowed": zstd_frame + b"\x80\x50" + (90).to_bytes(4, "little") + rle_blocks(3000),
}


DEFUSE = """
import resource, sys
from streamkit.codec.compression import decompress

with open("/proc/self/statm") as statm:
    now = int(statm.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (64 << 20),) * 2)
try:
    decompress(sys.argv[1], sys.stdin.buffer.read(), 16 << 20)
except ValueError as error:
    print(error)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the memory limit is Linux's")
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_before_it_takes_memory(bomb):
    name = bomb.split(",")[0]
    done = subprocess.run(
        [sys.executable, "-c", DEFUSE, name], input=BOMBS[bomb], capture_output=True, check=True
    )
    said = done.stdout.decode()
    assert any(why in said for why in ("may hold", "declared", "says it inflates", "broken")), said


@pytest.mark.parametrize("name", ZIPPED)
def test_every_cut_is_noticed(name):
    zipped = compress(name, TEXT[:2000])
    for size in range(1, len(zipped)):
        try:
            found = decompress(name, zipped[:size])
        except ValueError:
            continue
        # Xerial's framing has no end mark: what is cut between blocks is a shorter whole.
        assert name == "snappy" and TEXT.startswith(found)
