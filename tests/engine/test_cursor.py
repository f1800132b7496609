"""Which of a record's events is at hand."""

from hypothesis import given
from hypothesis import strategies as st

from streamkit.engine.cursor import Cursor, Numbers

parts = st.none() | st.integers(0, 3)
places = st.lists(st.tuples(st.integers(0, 2), parts), max_size=20)


@given(places=places, cuts=st.frozensets(st.integers(0, 20)))
def test_events_of_each_part_are_numbered_by_themselves_also_after_a_restart(places, cuts):
    numbers, known, at = Numbers(), {}, None
    for index, (offset, part) in enumerate(places):
        place = ("t", 0, offset, part)
        if at is not None and index in cuts:
            marks, numbers = numbers.marks(at), Numbers()
            numbers.begin_at(at, marks)
        if at is not None and at[2] != offset:
            known = {}
        known[part] = known.get(part, -1) + 1
        assert numbers.next(place) == known[part]
        at = place


def test_no_two_events_of_a_record_have_one_number():
    cursor, found = Cursor(), []
    for part in (None, *range(40)):
        cursor.go_to(("t", 0, 0, part))
        found += [cursor.numbered(count) for count in range(40)]
    assert len(found) == len(set(found))
