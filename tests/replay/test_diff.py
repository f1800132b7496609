from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from streamkit.records import Record
from streamkit.replay.diff import compare


def record(key, value, timestamp=0, window=None):
    headers = () if window is None else (("window", window),)
    return Record("t", 0, 0, timestamp, key, value, headers)


def counts(replayed, published):
    found = compare(replayed, published, "window")
    return found.same, found.changed, found.only_in_replay, found.only_in_published


def test_equal_records_are_the_same_in_any_order():
    records = [record(b"a", b"1"), record(b"b", b"2"), record(None, b"3")]
    difference = compare(records, reversed(records), "window")
    assert difference.same == 3
    assert not difference


def test_another_value_for_the_same_key_and_time_is_a_change():
    assert counts([record(b"a", b"1")], [record(b"a", b"2")]) == (0, 1, 0, 0)


def test_another_time_is_another_thing():
    assert counts([record(b"a", b"1", 5)], [record(b"a", b"1", 6)]) == (0, 0, 1, 1)


def result(value, count=1, *, step="hourly", start=0, end=60_000, key=b"a"):
    window = b'["%s",%d,%d,%d]' % (step.encode(), start, end, count)
    return record(key, value, end - 1, window=window)


def test_a_window_with_more_events_is_changed():
    ours, theirs = result(b"8", 8), result(b"4", 4)
    assert counts([ours], [theirs]) == (0, 1, 0, 0)
    (sample,) = compare([ours], [theirs], "window").samples
    assert (sample.replayed, sample.published) == (ours, theirs)
    assert counts([ours], [result(b"4", 4, start=60_000, end=120_000)]) == (0, 0, 1, 1)


def test_of_the_updates_of_a_window_the_last_counts_whatever_came_before():
    ours = [result(b"1"), result(b"3", 2), result(b"7", 3)]
    theirs = [result(b"4"), result(b"6", 2), result(b"7", 3), result(b"7", 3)]
    assert counts(ours, theirs) == (1, 0, 0, 0)
    assert counts(ours[:2], theirs) == (0, 1, 0, 0)
    assert counts(ours[:0], theirs) == (0, 0, 0, 1)


def test_a_session_that_became_part_of_another_has_no_result():
    alone = result(b"1", start=30_000)
    whole = result(b"3", 3, start=10_000)
    gone = result(None, start=30_000)
    assert counts([alone, result(b"2", 2, start=10_000, end=50_000), gone, whole], [whole]) == (
        1,
        0,
        0,
        0,
    )


def test_what_a_function_made_of_one_result_is_all_compared():
    ours = [result(b"x", 2), result(b"y", 2), result(b"y", 2)]
    assert counts(ours, ours[:2]) == (2, 0, 0, 0)
    assert counts(ours, [result(b"x", 2), result(b"z", 2)]) == (1, 1, 0, 0)


def test_windows_of_a_step_that_was_renamed_are_the_same():
    theirs = [result(b"4", 4), result(b"9", 9, step="daily")]
    ours = [result(b"5", 4, step="per-hour"), theirs[1]]
    found = compare(ours, theirs, "window")
    assert (found.renamed, found.same, found.changed) == (("per-hour", "hourly"), 1, 1)
    both = [*ours, result(b"5", step="third")]
    assert compare(both, theirs, "window").renamed is None, "nobody knows which of the two it was"


def test_what_was_published_twice_has_nothing_that_tells_it_from_two_alike():
    assert counts([record(b"a", b"2")], [record(b"a", b"2")] * 2) == (1, 0, 0, 1)


def test_equal_values_are_paired_before_different_ones():
    ours = [record(b"a", b"1"), record(b"a", b"2")]
    theirs = [record(b"a", b"0"), record(b"a", b"1"), record(b"a", b"2")]
    assert counts(ours, theirs) == (2, 0, 0, 1)


def test_a_tombstone_differs_from_a_value():
    assert counts([record(b"a", None)], [record(b"a", b"")]) == (0, 1, 0, 0)


def test_the_first_differences_are_shown():
    ours = [record(b"%d" % number, b"1") for number in range(30)]
    theirs = [record(b"%d" % number, b"2") for number in range(29)]
    found = compare(ours, theirs, "window")
    assert (found.changed, found.only_in_replay) == (29, 1)
    assert len(found.samples) == 10
    assert (found.samples[0].replayed, found.samples[0].published) == (ours[0], theirs[0])
    assert found.samples[1].published is None, "of each way some"


records = st.lists(
    st.builds(
        record,
        st.sampled_from([None, b"a", b"b"]),
        st.sampled_from([None, b"", b"1", b"2"]),
        st.integers(0, 2),
    )
)


@given(records, records)
def test_every_record_is_counted_once(ours, theirs):
    same, changed, left, right = counts(ours, theirs)
    assert same + changed + left == len(ours)
    assert same + changed + right == len(theirs)
    identity = Counter((r.key, r.timestamp, r.value) for r in ours)
    assert same == (identity & Counter((r.key, r.timestamp, r.value) for r in theirs)).total()


@given(records, records)
def test_the_sides_can_be_exchanged(ours, theirs):
    same, changed, left, right = counts(ours, theirs)
    assert counts(theirs, ours) == (same, changed, right, left)
