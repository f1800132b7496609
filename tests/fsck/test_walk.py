"""Walking over damage: every good batch is found, and nothing else is taken for one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.codec import encode, stamp
from streamkit.fsck.walk import Damage, Stands, walk


def segment(*sizes: int, base: int = 0) -> tuple[bytes, list[tuple[int, int]]]:
    """A segment of batches of these many records, and the (start, end) of each."""
    data, places, offset = b"", [], base
    for size in sizes:
        batch = encode([b"value %d" % (offset + n) for n in range(size)], timestamps=offset)
        places.append((len(data), len(data) + len(batch)))
        data += stamp(batch, offset, 0) + batch[16:]
        offset += size
    return data, places


def walked(data: bytes, **options: int) -> list[Stands | Damage]:
    options.setdefault("offset", 0)
    return list(walk(lambda at, size: data[at : at + size], len(data), **options))


def kinds(found: list[Stands | Damage]) -> list[tuple[str, int, int]]:
    return [
        ("damage", one.position, one.size)
        if isinstance(one, Damage)
        else ("batch", one.position, one.header.size)
        for one in found
    ]


def test_every_batch_of_a_good_segment_stands():
    data, places = segment(1, 5, 2)
    assert kinds(walked(data)) == [("batch", a, b - a) for a, b in places]
    assert [bytes(one.data) for one in walked(data)] == [data[a:b] for a, b in places]


@pytest.mark.parametrize("at", [0, 7, 8, 9, 11, 16, 17, 23, 40, 57, 61, 70])
def test_one_wrong_byte_costs_its_batch_and_no_other(at):
    data, places = segment(3, 3, 3)
    start, end = places[1]
    data = bytearray(data)
    data[start + at] ^= 0x55
    found = walked(bytes(data))
    assert kinds(found) == [
        ("batch", 0, start),
        ("damage", start, end - start),
        ("batch", end, len(data) - end),
    ]
    assert found[1].offset == 3
    assert found[1].problem and "batch at byte" not in found[1].problem


def test_a_torn_end_is_damage_to_the_end():
    data, places = segment(3, 3)
    for cut in (1, 60, 61, places[1][1] - places[1][0] - 1):
        assert kinds(walked(data[: places[1][0] + cut])) == [
            ("batch", 0, places[0][1]),
            ("damage", places[1][0], cut),
        ]


def test_a_batch_with_offsets_of_the_next_segment_or_of_before_is_damage():
    data, places = segment(3, 3, 3)
    assert kinds(walked(data, below=6))[2:] == [("damage", places[2][0], len(data) - places[2][0])]
    assert [kind for kind, *_ in kinds(walked(data + data))] == ["batch"] * 3 + ["damage"]


def test_a_file_that_is_shorter_than_was_said_ends_in_damage():
    data, _ = segment(3)
    found = list(walk(lambda at, size: data[at : at + size], len(data) + 50, offset=0))
    assert kinds(found) == [("batch", 0, len(data)), ("damage", len(data), 50)]


def test_batches_over_the_size_of_a_read_are_whole(monkeypatch):
    monkeypatch.setattr("streamkit.fsck.walk.READ_BYTES", 100)
    data, places = segment(1, 40, 1, 7, 1)
    assert kinds(walked(data)) == [("batch", a, b - a) for a, b in places]
    bad = bytearray(data)
    bad[places[1][0] + 8] = 1
    assert kinds(walked(bytes(bad)))[2:] == [("batch", a, b - a) for a, b in places[2:]]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4),
)
def test_whatever_is_overwritten_all_untouched_batches_are_found(sizes, writes):
    data, places = segment(*sizes)
    bad = bytearray(data)
    for at, byte in writes:
        bad[at % len(bad)] = byte
    found = walked(bytes(bad))
    assert sum(size for _, _, size in kinds(found)) == len(data)
    at = 0
    for _, position, size in kinds(found):
        assert position == at
        at += size
    good = {
        (one.position, one.position + one.header.size) for one in found if isinstance(one, Stands)
    }
    # The base offset is not under the checksum: a changed one may cost its neighbours.
    touched = [a for a, b in places if bad[a : a + 8] != data[a : a + 8]]
    if not touched:
        assert {(a, b) for a, b in places if bad[a:b] == data[a:b]} <= good
    assert good <= set(places)
