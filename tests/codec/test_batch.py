"""Both codecs: exact bytes, round trips, and the same answer from both to everything."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.codec import check, headers, pure, stamp
from streamkit.codec.compression import CODECS
from streamkit.errors import ConfigError, InvalidRecord, StreamkitError
from streamkit.records import Record

NOW = 1_700_000_000_123

# One record, key b"k", value b"hello", at NOW: written out by hand from the format's description.
ONE = bytes.fromhex(
    "0000000000000000"  # base offset
    "0000003e"  # batch length: 49 of the header and 13 of the record
    "00000000"  # leader epoch
    "02"  # magic
    "833b048f"  # crc-32c of all that follows, by a bitwise computation
    "0000"  # attributes
    "00000000"  # last offset delta
    "0000018bcfe5687b"  # base timestamp
    "0000018bcfe5687b"  # max timestamp
    "ffffffffffffffff"  # producer id
    "ffff"  # producer epoch
    "ffffffff"  # base sequence
    "00000001"  # count
    "18"  # record length 12
    "00"  # attributes
    "00"  # timestamp delta
    "00"  # offset delta
    "02" + b"k".hex() + "0a" + b"hello".hex() + "00"
)

blob = (
    st.none() | st.binary(max_size=40) | st.sampled_from([b"", b"x" * 63, b"x" * 64, b"y" * 9000])
)
name = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
header = st.tuples(name, blob)
time = st.integers(-1, 2**63 - 1) | st.integers(NOW, NOW + 300)
row = st.tuples(blob, blob, time, st.lists(header, max_size=3).map(tuple))
rows = st.lists(row, min_size=1, max_size=30)


def encode(codec, rows, **options):
    values, keys, times, headers = (list(column) for column in zip(*rows, strict=True))
    return codec.encode(values, keys=keys, timestamps=times, headers=headers, **options)


def test_a_batch_is_laid_out_as_the_format_says(codec):
    assert codec.encode([b"hello"], keys=[b"k"], timestamps=NOW) == ONE
    builder = codec.Builder()
    builder.append(b"hello", b"k", NOW)
    assert builder.build() == ONE


def test_none_and_headers_and_deltas_are_laid_out_as_the_format_says(codec):
    batch = codec.encode(
        [None, b""], timestamps=[1000, 936], headers=[(), (("é", None), ("a", b"z"))]
    )
    assert batch[61:] == bytes.fromhex(
        "0c 00 00 00 01 01 00"  # length 6, deltas 0 and 0, key and value -1, no header
        "1c 00 7f 02 01 00 04 04 c3a9 01 02 61 02 7a"  # length 14, deltas -64 and 1, value empty
    )
    assert check(batch).max_timestamp == 1000


def test_a_thousand_records_need_longer_varints(codec):
    batch = codec.encode([b"v"] * 1000, timestamps=range(0, 1_000_000_000, 1_000_000))
    found = codec.columns(batch)
    assert found.offsets == range(1000)
    assert list(found.timestamps) == list(range(0, 1_000_000_000, 1_000_000))


@settings(max_examples=60, deadline=None)
@given(rows, st.sampled_from(CODECS))
def test_what_is_encoded_is_decoded(codec, rows, compression):
    batch = encode(codec, rows, compression=compression)
    found = codec.columns(batch)
    assert found.offsets == range(len(rows))
    assert found.values == [value for value, _, _, _ in rows]
    assert found.keys == [key for _, key, _, _ in rows]
    assert found.timestamps == [timestamp for _, _, timestamp, _ in rows]
    every = [headers for _, _, _, headers in rows]
    assert found.headers == (every if any(every) else None)
    assert codec.records(batch, "t", 3) == [
        Record("t", 3, offset, timestamp, key, value, headers)
        for offset, (value, key, timestamp, headers) in enumerate(rows)
    ]
    assert check(batch).count == len(rows)


@settings(max_examples=60, deadline=None)
@given(
    rows,
    st.sampled_from(CODECS),
    st.fixed_dictionaries(
        {},
        optional={
            "leader_epoch": st.integers(-1, 2**31 - 1),
            "producer_id": st.integers(-1, 2**63 - 1),
            "producer_epoch": st.integers(-1, 2**15 - 1),
            "base_sequence": st.integers(-1, 2**31 - 1),
            "transactional": st.booleans(),
            "control": st.booleans(),
        },
    ),
)
def test_both_codecs_and_both_ways_to_build_give_the_same_bytes(codec, rows, compression, options):
    batch = encode(pure, rows, compression=compression, **options)
    assert encode(codec, rows, compression=compression, **options) == batch
    builder = codec.Builder(compression)
    for value, key, timestamp, extra in rows:
        size = builder.append(value, key, timestamp, extra)
        assert size == builder.size
    assert builder.build() == encode(pure, rows, compression=compression)


def test_control_batches_are_skipped(codec):
    data = codec.encode([b"a", b"b"], timestamps=NOW)
    end = codec.encode([b"\0\0\0\0\0\0"], keys=[b"\0\0\0\1"], timestamps=NOW, control=True)
    more = codec.encode([b"c"], timestamps=NOW)
    log = data + stamp(end, 2, 0) + end[16:] + stamp(more, 3, 0) + more[16:]
    found = codec.columns(log)
    assert (found.offsets, found.values) == ([0, 1, 3], [b"a", b"b", b"c"])
    assert [record.offset for record in codec.records(log, "t", 0)] == [0, 1, 3]


def test_offsets_below_the_asked_one_are_dropped(codec):
    log = joined([codec.encode([b"a", b"b", b"c"], timestamps=NOW) for _ in range(3)])
    for first in range(11):
        found = codec.columns(log, first)
        assert list(found.offsets) == list(range(first, 9)), first
        assert len(found.values) == len(found.timestamps) == len(found.keys) == max(0, 9 - first)
        assert [r.offset for r in codec.records(log, "t", 0, first)] == list(range(first, 9))
    assert len(codec.columns(log, -5)) == 9
    assert len(codec.columns(log, 2**70)) == 0


def test_headers_only_on_dropped_records_are_no_headers(codec):
    batch = codec.encode([b"a", b"b"], timestamps=NOW, headers=[(("h", b"1"),), ()])
    assert codec.columns(batch, 1).headers is None
    assert codec.columns(batch).headers == [(("h", b"1"),), ()]


def test_no_bytes_are_no_records(codec):
    assert len(codec.columns(b"")) == 0
    assert codec.records(b"", "t", 0) == []


@pytest.mark.parametrize("form", [bytes, bytearray, memoryview])
def test_any_bytes_in_one_piece_can_be_read(codec, form):
    batch = codec.encode([b"a"], keys=[b"k"], timestamps=NOW)
    assert codec.columns(form(batch)).values == [b"a"]
    assert codec.columns(memoryview(b"??" + batch)[2:]).values == [b"a"]
    assert codec.murmur2(form(b"key")) == codec.murmur2(b"key")
    with pytest.raises(TypeError):
        codec.columns(memoryview(batch * 2)[::2])


def test_what_is_read_is_not_tied_to_the_buffer(codec):
    buffer = bytearray(codec.encode([b"value"], keys=[b"k"], timestamps=NOW))
    found = codec.columns(buffer)
    buffer[:] = bytes(len(buffer))
    buffer.clear()  # a buffer still in use could not be resized
    assert found.values == [b"value"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": []}, "at least one"),
        ({"values": [b"a", "b"]}, "value of record 1 is a str"),
        ({"values": [b"a", bytearray(b"b")]}, "value of record 1 is a bytearray"),
        ({"values": [b"a"], "keys": [1]}, "key of record 0 is a int"),
        ({"values": [b"a"], "keys": [b"a", b"b"]}, "2 keys for 1 values"),
        ({"values": [b"a"], "keys": []}, "0 keys for 1 values"),
        ({"values": [b"a"], "headers": []}, "0 headers for 1 values"),
        ({"values": [b"a"], "timestamps": [1, 2]}, "2 timestamps for 1 values"),
        ({"values": [b"a"], "timestamps": []}, "0 timestamps for 1 values"),
        ({"values": [b"a"], "timestamps": -2}, "timestamp of record 0 is -2"),
        ({"values": [b"a"], "timestamps": 2**63}, "timestamp of record 0 is 9223372036854775808"),
        ({"values": [b"a", b"b"], "timestamps": [1, 2.5]}, "timestamp of record 1 is a float"),
        ({"values": [b"a", b"b"], "timestamps": [1, None]}, "timestamp of record 1 is a NoneType"),
        ({"values": [b"a"], "headers": [((b"n", b"v"),)]}, "named by a bytes"),
        ({"values": [b"a"], "headers": [(("n", "v"),)]}, "header 'n' of record 0 is a str"),
        ({"values": [b"a"], "headers": [(("\ud800", b""),)]}, "surrogates not allowed"),
        ({"values": [b"a"], "headers": [{"n": b"v"}]}, "must be pairs"),
        ({"values": [b"a"], "headers": [7]}, "must be pairs"),
        ({"values": [b"a"], "producer_epoch": 40000}, "producer_epoch=40000"),
    ],
)
def test_what_a_record_cannot_hold_is_refused(codec, arguments, message):
    arguments = {"timestamps": NOW} | arguments
    with pytest.raises(InvalidRecord, match=message):
        codec.encode(**arguments)


def test_an_unknown_compression_names_the_nearest(codec):
    with pytest.raises(ConfigError, match="did you mean 'zstd'"):
        codec.encode([b"a"], timestamps=NOW, compression="zstdd")
    with pytest.raises(ConfigError, match="there are: gzip, lz4, none, snappy, zstd"):
        codec.Builder("?")


@settings(max_examples=80, deadline=None)
@given(
    st.lists(blob | st.sampled_from(["text", 1, bytearray(b"b")]), max_size=4),
    st.none() | st.lists(blob | st.just(5), max_size=4),
    st.lists(time | st.sampled_from([None, "1", 2**63, -2, True]), max_size=4) | time,
    st.none() | st.lists(st.sampled_from([(), (("a", b"b"),), None, 3, (("a",),)]), max_size=4),
)
def test_both_codecs_accept_and_refuse_the_same(codec, values, keys, timestamps, headers):
    def attempt(codec):
        try:
            return codec.encode(values, keys=keys, timestamps=timestamps, headers=headers)
        except StreamkitError as error:
            return type(error), str(error)

    assert attempt(codec) == attempt(pure)


def test_sequences_other_than_lists_are_taken(codec):
    batch = codec.encode([b"a", b"b"], keys=[b"k", None], timestamps=[5, 6])
    assert codec.encode((b"a", b"b"), keys=(b"k", None), timestamps=range(5, 7)) == batch
    assert codec.encode([b"a"], timestamps=5, headers=[[("h", b"v")]]) == codec.encode(
        [b"a"], timestamps=5, headers=[(("h", b"v"),)]
    )


def test_stamping_changes_no_checksum(codec):
    batch = codec.encode([b"a", b"b"], timestamps=NOW)
    stamped = stamp(batch, 12345, 7) + batch[16:]
    header = check(stamped)
    assert (header.base_offset, header.next_offset, header.leader_epoch) == (12345, 12347, 7)
    assert header.size == len(batch)
    assert codec.columns(stamped).offsets == range(12345, 12347)


def joined(batches):
    """The batches as they stand in a log, one after the other."""
    log, offset = bytearray(), 0
    for batch in batches:
        log += stamp(batch, offset, 0) + batch[16:]
        offset += check(batch).last_offset_delta + 1
    assert [h.base_offset for _, h in headers(log)][:1] == [0]
    return bytes(log)
