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


def test_results_of_one_window_belong_together_whatever_their_timestamp():
    ours = record(b"a", b"1", 5, window=b"w")
    theirs = record(b"a", b"1", 6, window=b"w")
    assert counts([ours], [theirs]) == (1, 0, 0, 0)


def test_a_window_with_more_events_is_changed():
    ours = record(b"a", b"8", window=b'["store",0,60000,8]')
    theirs = record(b"a", b"4", window=b'["store",0,60000,4]')
    assert counts([ours], [theirs]) == (0, 1, 0, 0)
    (sample,) = compare([ours], [theirs], "window").samples
    assert (sample.replayed, sample.published) == (ours, theirs)
    other = record(b"a", b"4", window=b'["store",60000,120000,4]')
    assert counts([ours], [other]) == (0, 0, 1, 1)


def test_windows_of_a_step_that_was_renamed_are_the_same():
    theirs = [
        record(b"a", b"4", window=b'["hourly",0,60000,4]'),
        record(b"a", b"9", window=b'["daily",0,60000,9]'),
    ]
    ours = [record(b"a", b"5", window=b'["per-hour",0,60000,4]'), theirs[1]]
    found = compare(ours, theirs, "window")
    assert (found.renamed, found.same, found.changed) == (("per-hour", "hourly"), 1, 1)
    both = [*ours, record(b"a", b"5", window=b'["third",0,60000,4]')]
    assert compare(both, theirs, "window").renamed is None, "nobody knows which of the two it was"


def test_updates_of_a_window_are_held_against_those_after_as_many_events():
    def updates(*values):
        return [
            record(b"a", value, window=b'["store",0,60000,%d]' % count)
            for count, value in enumerate(values, 1)
        ]

    assert counts(updates(b"1", b"2", b"3"), updates(b"1", b"2")) == (2, 0, 1, 0)
    assert counts(updates(b"1", b"3"), updates(b"1", b"2", b"4")) == (1, 1, 0, 1)


def test_a_windows_result_that_was_given_again_after_a_kill_is_no_difference():
    once = record(b"a", b"2", window=b"w")
    assert counts([once], [once, once]) == (1, 0, 0, 0)
    assert counts([once], [record(b"a", b"1", window=b"w"), once, once]) == (1, 0, 0, 1)
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
