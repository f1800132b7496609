"""The control block's bytes: two copies, of which one is always whole."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.log.control import END, PAGE_BYTES, SYNCED, Copies, End, Synced

LONG = st.integers(-(2**63), 2**63 - 1)
ENDS = st.builds(
    End,
    **dict.fromkeys(End.__struct_fields__, LONG)
    | {"boot_id": st.binary(min_size=16, max_size=16), "leader_epoch": st.integers(0, 2**31 - 1)},
)
SYNCEDS = st.builds(Synced, LONG, LONG, LONG)


def end(offset: int) -> End:
    return End(bytes(16), 3, 100, 2000, offset, 0, offset, 7, 8, 9, 8, 80, 120, 55, 34, 1, -1)


def test_an_empty_page_has_no_copy():
    assert END.decode(bytes(PAGE_BYTES)) is None
    assert SYNCED.decode(bytes(PAGE_BYTES)) is None


@given(st.lists(ENDS, min_size=1, max_size=4), st.lists(SYNCEDS, min_size=1, max_size=4))
def test_what_was_stored_last_is_what_is_read(ends, synceds):
    page = bytearray(PAGE_BYTES)
    for value in ends:
        END.store(page, value)
    for value in synceds:
        SYNCED.store(page, value)
    assert END.decode(page) == (len(ends), ends[-1])
    assert SYNCED.decode(page) == (len(synceds), synceds[-1])


@pytest.mark.parametrize(
    ("copies", "old", "new"), [(END, end(10), end(11)), (SYNCED, Synced(1, 2, 3), Synced(1, 5, 6))]
)
def test_a_writer_killed_at_any_byte_of_a_store_leaves_the_old_or_the_new(copies: Copies, old, new):
    page = bytearray(PAGE_BYTES)
    for value in (old, old, old):
        copies.store(page, value)
    whole = bytearray(page)
    copies.store(whole, new)
    changed = [i for i in range(PAGE_BYTES) if page[i] != whole[i]]
    first, last = changed[0], changed[-1]
    for cut in range(first, last + 2):
        torn = bytearray(page)
        torn[first:cut] = whole[first:cut]
        found = copies.decode(torn)
        assert found is not None
        assert found[1] == (new if cut == last + 1 else old)
        # And the next writer stores over the torn copy, never over the one that is whole.
        copies.store(torn, new)
        assert copies.decode(torn)[1] == new


def test_a_torn_copy_is_what_the_next_store_overwrites():
    page = bytearray(PAGE_BYTES)
    END.store(page, end(1))
    END.store(page, end(2))
    page[4:12] = b"\xff" * 8  # a torn generation, greater than any
    assert END.decode(page) == (1, end(1))
    whole = bytes(page[512:1024])
    END.store(page, end(3))
    assert END.decode(page) == (2, end(3))
    assert page[512:1024] == whole


def test_copies_that_are_both_damaged_are_none():
    page = bytearray(PAGE_BYTES)
    END.store(page, end(1))
    END.store(page, end(2))
    page[20] ^= 1
    page[512 + 20] ^= 1
    assert END.decode(page) is None
    END.store(page, end(3))
    assert END.decode(page)[1] == end(3)


def test_the_layout_is_the_documented_one():
    page = bytearray(PAGE_BYTES)
    END.store(page, msgspec.structs.replace(end(0x0102), boot_id=b"0123456789abcdef"))
    copy = page[512:]  # generation 1 is odd: copy B
    assert copy[:4] == b"SKE1"
    assert int.from_bytes(copy[4:12], "big") == 1
    assert copy[12:28] == b"0123456789abcdef"
    assert int.from_bytes(copy[28:32], "big") == 3  # leader epoch
    assert int.from_bytes(copy[32:40], "big") == 100  # active base
    assert int.from_bytes(copy[40:48], "big") == 2000  # end position
    assert int.from_bytes(copy[48:56], "big") == 0x0102  # end offset
    SYNCED.store(page, Synced(4, 5, 6))
    assert page[1536:1540] == b"SKS1"
    assert [int.from_bytes(page[1548 + 8 * i : 1556 + 8 * i], "big") for i in range(3)] == [4, 5, 6]
