"""Nothing is left behind by any path through the codecs, which count references by hand."""

import gc
import sys
from pathlib import Path

import pytest

from streamkit.codec.crc import crc32c
from streamkit.errors import StreamkitError
from streamkit.records import Record

NOW = 1_700_000_000_123


def left_behind(work, times=200) -> int:
    """Blocks of memory that `times` rounds of `work` leave, after some rounds to warm up."""
    for _ in range(20):
        work()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(times):
        work()
    gc.collect()
    return sys.getallocatedblocks() - before


def rows(i: int):
    """Objects that nobody else holds, so that each one that is not freed is seen."""
    values = [b"value %d %d" % (i, n) for n in range(20)]
    keys = [b"key %d %d" % (i, n) for n in range(20)]
    headers = [((f"name {i} {n}", b"header %d %d" % (i, n)),) for n in range(20)]
    return values, keys, [NOW + i * 1000 + n * n for n in range(20)], headers


def test_encoding_and_decoding_leave_nothing(codec):
    counter = iter(range(10_000))

    def work():
        values, keys, times, headers = rows(next(counter))
        batch = codec.encode(values, keys=keys, timestamps=times, headers=headers)
        zipped = codec.encode(values, keys=keys, timestamps=times, compression="lz4")
        builder = codec.Builder()
        for row in zip(values, keys, times, headers, strict=True):
            builder.append(*row)
        assert codec.columns(builder.build(), 7) == codec.columns(batch, 7)
        builder.append(values[0], keys[0], times[0])
        assert len(codec.columns(builder.take())) == 1
        assert len(codec.records(batch, "t", 0, 3)) == 17
        assert len(codec.records(zipped, "t", 0)) == 20
        assert codec.partition_for(keys[0], 12) < 12

    assert left_behind(work) < 50


def test_errors_leave_nothing(codec):
    counter = iter(range(10_000))
    good = codec.encode([b"v" * 10] * 20, timestamps=NOW, headers=[(("h", b"1"),)] * 20)
    # The last header's name is no UTF-8: found after all the others were decoded.
    broken = bytearray(good[:-3] + b"\xff" + good[-2:])
    broken[17:21] = crc32c(broken[21:]).to_bytes(4, "big")

    def work():
        values, keys, times, headers = rows(next(counter))
        builder = codec.Builder()
        builder.append(values[0], keys[0], times[0])
        for attempt in (
            lambda: codec.encode([*values, "text"], timestamps=NOW),
            lambda: codec.encode(values, timestamps=[*times[:-1], None]),
            lambda: codec.encode(
                values, timestamps=NOW, headers=[*headers[:-1], (("\ud800", b""),)]
            ),
            lambda: builder.append(values[1], keys[1], -2),
            lambda: codec.columns(good[:-1]),
            lambda: codec.records(good + b"x", "t", 0),
            lambda: codec.columns(good[:-1] + b"\xff"),
            lambda: codec.columns(broken),
            lambda: codec.records(broken, "t", 0),
        ):
            with pytest.raises(StreamkitError):
                attempt()

    assert left_behind(work) < 50


def test_records_hold_on_to_their_class_only_while_they_live(codec):
    batch = codec.encode([b"v"] * 1000, timestamps=NOW)
    before = sys.getrefcount(Record)
    found = codec.records(batch, "t", 0)
    assert sys.getrefcount(Record) == before + 1000
    found.clear()
    assert sys.getrefcount(Record) == before


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_what_a_round_of_compaction_noted_goes_back_to_the_system():
    sift = pytest.importorskip("streamkit.codec._native", reason="needs the compiled codec")

    def held() -> float:
        """Megabytes of memory of the process that are no file's."""
        status = Path("/proc/self/status").read_text()
        return int(status.split("RssAnon:")[1].split()[0]) / 1024

    batches = []
    for base in range(0, 400_000, 50_000):
        keys = [b"%d" % (base + n) for n in range(50_000)]
        batch = bytearray(sift.encode([b""] * len(keys), keys=keys, timestamps=NOW))
        batch[:8] = base.to_bytes(8, "big")
        batches.append(bytes(batch))
    before, later = held(), []
    for _ in range(3):
        known = sift.LatestOffsets(64 << 20)
        for batch in batches:
            known.add(batch)
        assert held() > before + 10
        later.append([bytes(1000) for _ in range(100)])
        del known
    assert held() < before + 5
