"""What a segment's bytes mean."""

from struct import pack_into, unpack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.codec import encode, headers, stamp
from streamkit.errors import BadCrc, CorruptBatch, MalformedBatch, TruncatedBatch, UnknownMagic
from streamkit.log import segment
from streamkit.log.segment import Tally, base_of, file_name, scan, whole_batches


def at(offset: int, *values: bytes, time: int = 0) -> bytes:
    """A batch as it stands in a segment, from `offset` on."""
    encoded = encode(list(values), timestamps=time)
    return stamp(encoded, offset, 0) + encoded[16:]


def scanned(data: bytes, *, base: int = 0, interval: int = 4096, check_from: int = 0):
    return scan(
        lambda position, size: data[position : position + size],
        len(data),
        Tally(base, interval),
        offset=base,
        check_from=check_from,
    )


THREE = [at(0, b"a"), at(1, b"b", b"c"), at(3, b"d" * 50)]
DATA = b"".join(THREE)


def test_names_are_20_digits_and_back():
    assert file_name(42, ".log") == "00000000000000000042.log"
    assert base_of("00000000000000000042.log") == 42
    for other in ("00000000000000000042.index", "42.log", "control", "0000000000000000004x.log"):
        assert base_of(other) is None


def test_good_batches_are_walked_to_the_end():
    found = scanned(DATA)
    assert (found.end, found.next_offset, found.problem) == (len(DATA), 4, None)


def test_a_tail_torn_at_every_length_ends_the_scan_at_the_last_whole_batch():
    ends = [0, len(THREE[0]), len(THREE[0]) + len(THREE[1]), len(DATA)]
    for length in range(len(DATA)):
        found = scanned(DATA[:length])
        assert found.end == max(end for end in ends if end <= length)
        assert (found.problem is None) == (length in ends)


@pytest.mark.parametrize(
    ("byte", "problem"),
    [
        (16, UnknownMagic),
        (20, BadCrc),
        (70, BadCrc),
        (11, TruncatedBatch),
        (8, (MalformedBatch, TruncatedBatch)),
    ],
)
def test_a_damaged_batch_ends_the_scan_and_is_named(byte, problem):
    damaged = bytearray(DATA)
    damaged[len(THREE[0]) + byte] ^= 0x80
    found = scanned(bytes(damaged))
    assert found.end == len(THREE[0])
    assert isinstance(found.problem, problem)


def test_checksums_are_only_looked_at_from_where_they_are_asked_for():
    damaged = bytearray(DATA)
    damaged[len(THREE[0]) - 1] ^= 1
    assert scanned(bytes(damaged)).end == 0
    assert scanned(bytes(damaged), check_from=len(THREE[0])).end == len(DATA)


def test_offsets_that_go_back_end_the_scan():
    found = scanned(at(0, b"a", b"b") + at(1, b"c"))
    assert found.next_offset == 2
    assert "offset 1" in str(found.problem)


def test_offsets_below_the_base_are_no_part_of_the_segment():
    assert scanned(at(5, b"a"), base=6).end == 0


def test_zeros_where_the_disk_lost_its_power_are_a_torn_tail():
    assert scanned(DATA + bytes(5000)).end == len(DATA)


@settings(max_examples=50)
@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=12), st.integers(61, 400), st.integers(0, 4)
)
def test_a_scan_finds_the_same_whatever_the_size_of_its_reads(sizes, chunk, torn):
    data = b"".join(at(i, b"x" * size) for i, size in enumerate(sizes))
    data = data[: len(data) - torn]
    whole = scanned(data)
    before, segment.SCAN_BYTES = segment.SCAN_BYTES, chunk
    try:
        pieces = scanned(data)
    finally:
        segment.SCAN_BYTES = before
    assert (pieces.end, pieces.next_offset) == (whole.end, whole.next_offset)
    assert (pieces.problem is None) == (whole.problem is None)


def test_an_index_entry_names_the_last_offset_of_a_batch_and_where_it_starts():
    batches = [at(i * 2, b"x" * 20, b"y" * 20, time=i * 10) for i in range(6)]
    size = len(batches[0])
    found = scanned(b"".join(batches), interval=size)  # an entry once more than one batch passed
    entries = [unpack(">ii", found.tally.index[i : i + 8]) for i in range(0, 16, 8)]
    assert entries == [(5, 2 * size), (9, 4 * size)]
    times = [unpack(">qi", found.tally.timeindex[i : i + 12]) for i in range(0, 24, 12)]
    assert times == [(20, 5), (40, 9)]
    found.tally.seal()
    assert unpack(">qi", found.tally.timeindex[24:]) == (50, 11)


def test_the_time_index_only_ever_rises():
    tally = Tally(100, 0)
    for number, time in enumerate([50, 40, 60, 60, 10]):
        tally.add(100 + number, time, number * 10, 10)
    tally.seal()
    entries = [
        unpack(">qi", tally.timeindex[i : i + 12]) for i in range(0, len(tally.timeindex), 12)
    ]
    assert entries == [(50, 0), (60, 2)]
    assert (tally.max_timestamp, tally.max_timestamp_offset) == (60, 102)


@settings(max_examples=200)
@given(st.data())
def test_whole_batches_begin_with_the_one_that_holds_the_offset(data):
    counts = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=8))
    bases, batches = [], []
    for count in counts:
        bases.append(sum(counts[: len(bases)]))
        batches.append(at(bases[-1], *[b"v"] * count))
    everything = b"".join(batches)
    offset = data.draw(st.integers(0, sum(counts) - 1))
    given_bytes = everything[: data.draw(st.integers(0, len(everything)))]
    found = whole_batches(given_bytes, offset, len(everything))
    held = [(p, h) for p, h in headers(given_bytes[: found.end]) if p >= found.start]
    if held:
        assert held[0][1].base_offset <= offset < held[0][1].next_offset
        assert found.next_offset == held[-1][1].next_offset
        assert sum(h.size for _, h in held) == found.end - found.start
    else:
        assert found.start == found.end
        assert found.wanted > len(given_bytes) - found.start or given_bytes[found.start :] == b""


@pytest.mark.parametrize("byte", [8, 16])
def test_bytes_that_are_no_batch_are_corrupt_at_the_first_and_an_end_later(byte):
    damaged = bytearray(DATA)
    damaged[len(THREE[0]) + byte] ^= 0x40
    assert whole_batches(bytes(damaged), 0, len(DATA)).end == len(THREE[0])
    with pytest.raises(CorruptBatch) as error:
        whole_batches(bytes(damaged), 1, len(DATA))
    assert error.value.position == len(THREE[0])


def test_a_batch_that_reaches_beyond_the_segment_is_corrupt():
    lying = bytearray(DATA)
    pack_into(">i", lying, 8, len(DATA))
    with pytest.raises(CorruptBatch, match="bytes are left"):
        whole_batches(bytes(lying), 0, len(DATA))


def test_too_few_bytes_for_a_header_at_a_segments_end_are_corrupt():
    with pytest.raises(TruncatedBatch):
        whole_batches(DATA[:30], 0, 30)
