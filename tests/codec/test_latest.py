"""What compaction keeps of a batch, in Python and compiled."""

import struct
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.codec import check, columns, encode, latest, pure
from streamkit.codec.compression import CODECS
from streamkit.codec.latest import emptied, with_horizon
from streamkit.errors import BadCrc, MalformedBatch

NOW = 1_700_000_000_000
HORIZON = NOW + 86_400_000

keys = st.one_of(st.none(), st.sampled_from([b"", b"a", b"b", b"12345678", b"123456789" * 9]))
values = st.one_of(st.none(), st.binary(max_size=20))
headers = st.lists(st.tuples(st.text(max_size=3), values), max_size=2).map(tuple)
rows = st.lists(st.tuples(keys, values, st.integers(-1, 2**50), headers), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def sift(codec: ModuleType) -> ModuleType:
    return latest if codec is pure else codec


def batch_of(rows, *, at=0, compression="none", **more):
    """A batch of (key, value, timestamp, headers) at offset `at`."""
    encoded = bytearray(
        encode(
            [value for _, value, _, _ in rows],
            keys=[key for key, _, _, _ in rows],
            timestamps=[time for _, _, time, _ in rows],
            headers=[headers for _, _, _, headers in rows],
            compression=compression,
            **more,
        )
    )
    struct.pack_into(">q", encoded, 0, at)
    return bytes(encoded)


def rows_of(batch):
    """All (offset, key, value, timestamp, headers), decoded with the checksum looked at."""
    found = columns(batch)
    every = found.headers or [()] * len(found.keys)
    return list(zip(found.offsets, found.keys, found.values, found.timestamps, every, strict=True))


def added(sift, *batches, memory=1 << 20):
    known = sift.LatestOffsets(memory)
    for batch in batches:
        known.add(batch)
    return known


@given(first=rows, second=rows, compression=st.sampled_from(CODECS), tombstones=st.booleans())
def test_the_latest_record_of_every_key_stays_with_all_it_has(
    sift, first, second, compression, tombstones
):
    batches = [
        batch_of(first, compression=compression),
        batch_of(second, at=len(first), compression=compression),
    ]
    everything = rows_of(batches[0]) + rows_of(batches[1])
    last = {key: offset for offset, key, *_ in everything if key is not None}
    expected = [
        row
        for row in everything
        if last.get(row[1]) == row[0] and (tombstones or row[2] is not None)
    ]
    known = added(sift, *batches)
    assert len(known) == len(last)
    assert {key: known.get(key) for key in last} == last
    found = []
    for batch in batches:
        count, kept = sift.keep_latest(batch, known, tombstones=tombstones, horizon=HORIZON)
        before = check(batch)
        if kept is None:
            kept = batch
            assert count == before.count
        if not count:
            assert kept == b""
            continue
        after = check(kept)
        stayed = rows_of(kept)
        assert (after.count, after.base_offset, after.last_offset) == (
            count,
            before.base_offset,
            before.last_offset,
        )
        assert after.max_timestamp == max(time for *_, time, _ in stayed)
        empty = any(value is None for _, _, value, _, _ in stayed)
        assert after.has_delete_horizon == empty
        assert after.base_timestamp == (HORIZON if empty else before.base_timestamp)
        found += stayed
    assert found == expected


@given(rows=rows, compression=st.sampled_from(CODECS), tombstones=st.booleans(), of=rows)
def test_both_codecs_make_the_same_bytes(codec, rows, compression, tombstones, of):
    if codec is pure:
        return
    batch, others = batch_of(rows, compression=compression), batch_of(of, at=20)
    here, there = added(latest, batch, others), added(codec, batch, others)
    options = {"tombstones": tombstones, "horizon": HORIZON}
    assert codec.keep_latest(batch, there, **options) == latest.keep_latest(batch, here, **options)


def test_a_batch_of_which_all_stays_is_left_as_it_is(sift):
    batch = batch_of([(b"a", b"1", NOW, ()), (b"b", b"2", NOW, ())])
    assert sift.keep_latest(batch, added(sift, batch), tombstones=True, horizon=HORIZON) == (
        2,
        None,
    )


def test_records_that_were_not_added_stay(sift):
    batch = batch_of([(b"a", b"1", NOW, ()), (b"b", b"2", NOW, ())], at=7)
    known = sift.LatestOffsets(1 << 20)
    assert known.add(batch, 8) == 1
    assert (known.get(b"a"), known.get(b"b"), known.get(b"c")) == (-1, 8, -1)
    assert sift.keep_latest(batch, known, tombstones=True, horizon=HORIZON) == (2, None)


def test_a_delete_horizon_is_given_once_and_then_kept(sift):
    batch = batch_of([(b"a", None, NOW, ()), (b"b", b"2", NOW + 5, ()), (b"c", b"3", NOW, ())])
    known = added(sift, batch)
    _, first = sift.keep_latest(batch, known, tombstones=True, horizon=HORIZON)
    assert check(first).base_timestamp == HORIZON
    assert sift.keep_latest(first, known, tombstones=True, horizon=HORIZON + 9) == (3, None)
    known.add(batch_of([(b"b", b"", NOW, ())], at=3))
    count, second = sift.keep_latest(first, known, tombstones=True, horizon=HORIZON + 9)
    assert (count, check(second).base_timestamp) == (2, HORIZON)
    count, third = sift.keep_latest(second, known, tombstones=False, horizon=HORIZON + 9)
    assert (count, check(third).base_timestamp) == (1, HORIZON)
    assert rows_of(third) == [(2, b"c", b"3", NOW, ())]


def test_what_else_a_batch_says_of_itself_stays(sift):
    batch = batch_of(
        [(b"a", b"1", NOW, ()), (b"a", None, NOW, ()), (b"c", b"3", NOW, ())],
        at=40,
        compression="lz4",
        leader_epoch=3,
        producer_id=9,
        producer_epoch=2,
        base_sequence=11,
        transactional=True,
    )
    _, kept = sift.keep_latest(batch, added(sift, batch), tombstones=True, horizon=HORIZON)
    before, after = check(batch), check(kept)
    for name in ("leader_epoch", "producer_id", "producer_epoch", "base_sequence", "last_offset"):
        assert getattr(after, name) == getattr(before, name)
    assert after.transactional
    assert after.compression == "lz4"


def test_the_time_of_the_append_stays_the_time_of_every_record(sift):
    batch = bytearray(batch_of([(b"a", b"1", NOW, ()), (b"b", None, NOW, ())]))
    header = check(bytes(batch))
    batch = latest._sealed(
        header,
        bytes(batch[61:]),
        attributes=0x08,
        base_timestamp=NOW,
        max_timestamp=NOW + 77,
        count=2,
    )
    known = added(sift, batch, batch_of([(b"a", b"2", NOW, ())], at=2))
    _, kept = sift.keep_latest(batch, known, tombstones=True, horizon=HORIZON)
    assert rows_of(kept) == [(1, b"b", None, NOW + 77, ())]
    assert check(kept).log_append_time


def test_it_says_when_it_is_full_and_takes_a_batch_whole_nevertheless(sift):
    known = sift.LatestOffsets(1 << 14)
    added_at = 0
    while not known.full:
        known.add(batch_of([(b"key %d" % added_at, b"", NOW, ())], at=added_at))
        added_at += 1
        assert added_at < 1000
    assert added_at > 50
    many = [(b"more %d" % number, b"", NOW, ()) for number in range(5000)]
    known.add(batch_of(many, at=added_at))
    assert len(known) == added_at + 5000
    assert known.get(b"more 4999") == added_at + 4999
    assert known.get(b"key 3") == 3


def test_keys_of_every_length_are_told_apart(sift):
    texts = [bytes([byte]) * length for length in range(40) for byte in (0, 1, 255)]
    keys = sorted(set(texts))
    known = added(sift, batch_of([(key, b"", NOW, ()) for key in keys]))
    assert [known.get(key) for key in keys] == list(range(len(keys)))


@pytest.mark.parametrize("byte", [30, 65, -1])
def test_damaged_bytes_are_not_laundered(sift, byte):
    batch = bytearray(batch_of([(b"a", b"1", NOW, ()), (b"b", None, NOW, ())]))
    known = added(sift, bytes(batch))
    batch[byte] ^= 1
    with pytest.raises(BadCrc):
        known.add(bytes(batch))
    with pytest.raises(BadCrc):
        sift.keep_latest(bytes(batch), known, tombstones=True, horizon=HORIZON)


def test_a_malformed_record_is_named(sift):
    good = batch_of([(b"a", b"1", NOW, ())])
    bad = latest._sealed(
        check(good), b"\x05" + good[62:], attributes=0, base_timestamp=0, max_timestamp=0, count=1
    )
    known = sift.LatestOffsets(1 << 10)
    with pytest.raises(MalformedBatch, match="record 0"):
        known.add(bad)
    with pytest.raises(MalformedBatch, match="record 0"):
        sift.keep_latest(bad, known, tombstones=True, horizon=HORIZON)


def test_an_empty_batch_keeps_the_place_and_the_producer_of_another():
    header = check(
        batch_of(
            [(b"a", b"1", NOW, ())] * 3,
            at=5,
            compression="zstd",
            producer_id=4,
            producer_epoch=1,
            base_sequence=6,
            transactional=True,
        )
    )
    found = check(emptied(header))
    assert (found.count, found.size, found.compression) == (0, 61, "none")
    assert (found.base_offset, found.last_offset, found.base_sequence) == (5, 7, 6)
    assert (found.producer_id, found.producer_epoch, found.transactional) == (4, 1, True)
    assert (found.base_timestamp, found.max_timestamp) == (-1, NOW)
    assert rows_of(emptied(header)) == []


def test_an_empty_batch_stays_as_it_is(sift):
    empty = emptied(check(batch_of([(b"a", b"1", NOW, ())])))
    known = added(sift, empty)
    assert len(known) == 0
    assert sift.keep_latest(empty, known, tombstones=True, horizon=HORIZON) == (0, None)


def test_a_marker_gets_a_delete_horizon_and_keeps_its_time():
    marker = encode(
        [b"\0\0\0\0\0\x07"],
        keys=[b"\0\0\0\1"],
        timestamps=NOW,
        producer_id=1,
        producer_epoch=2,
        transactional=True,
        control=True,
    )
    found = with_horizon(marker, HORIZON)
    header = check(found)
    assert (header.base_timestamp, header.has_delete_horizon) == (HORIZON, True)
    control = pure.control_records(found)
    assert control.timestamps == [NOW]
    assert control == pure.control_records(marker)
