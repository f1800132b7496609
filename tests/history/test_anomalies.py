"""Each anomaly in the smallest history that has it, beside the nearest history that has none."""

import pytest

from streamkit.errors import DataError
from streamkit.history.operations import UNASKED, Assign, Commit, Poll, Scan, Seek, Send


def test_a_history_without_anomalies(history):
    history("w", Send("p", "a", 0))
    history("w", Send("p", "b", 1), outcome="info")
    history("w2", Send("p", "never"), outcome="fail")
    history("t", Send("p", "c", 2), Send("q", "d", 0), txn=True)
    history("r", Assign(["p"]))
    history("r", Poll("p", [(0, "a"), (1, "b")]))
    history("r", Poll("p", [(2, "c")]))
    history("f", Scan("p", 0, 4, [(0, "a"), (1, "b"), (2, "c")]), Scan("q", 0, 2, [(0, "d")]))
    assert history.kinds() == {}
    assert "no anomaly" in str(history.report())


# What is there, and where.


def test_an_acknowledged_record_that_readers_passed_is_lost(history):
    lost = history("w", Send("p", "a", 0))
    history("w", Send("p", "b", 1))
    history("r", Poll("p", [(1, "b")]))
    assert history.kinds() == {"lost-write": 1}
    (anomaly,) = history.report().anomalies
    assert anomaly.operations == (lost,)
    assert "'a' at p@0" in str(anomaly)


def test_an_acknowledged_record_that_a_scan_lacks_is_lost_even_if_it_was_seen_before(history):
    history("w", Send("p", "a", 0))
    history("r", Poll("p", [(0, "a")]))
    history("f", Scan("p", 0, 1, []))
    assert history.kinds() == {"lost-write": 1}


def test_a_record_of_unknown_outcome_that_was_seen_stays(history):
    history("w", Send("p", "a"), outcome="info")
    history("f", Scan("p", 0, 1, []))
    assert history.kinds() == {}
    history("r", Poll("p", [(0, "a")]))
    assert history.kinds() == {}
    history("f", Scan("p", 0, 1, []))
    assert history.kinds() == {"lost-write": 1}


def test_what_retention_removed_is_not_lost(history):
    history("w", Send("p", "a", 0), Send("p", "b"))
    history("w", Send("p", "c", 2))
    history("f", Scan("p", 2, 3, [(2, "c")]))
    assert history.kinds() == {}


def test_an_acknowledged_record_that_nobody_came_to_is_unseen(history):
    history("r", Poll("p", []))
    history("w", Send("p", "a", 0))
    history("w", Send("p", "b"))
    assert history.kinds() == {"unseen": 2}
    history("r", Poll("p", [(0, "a"), (1, "b")]))
    assert history.kinds() == {}


def test_a_record_stands_in_one_place(history):
    history("w", Send("p", "a", 0))
    history("r", Poll("p", [(0, "a"), (1, "a")]))
    assert history.kinds() == {"duplicate": 1}


def test_a_record_stands_in_one_partition(history):
    history("w", Send("p", "a", 0))
    history("r", Poll("p", [(0, "a")]))
    history("r", Poll("q", [(0, "a")]))
    assert history.kinds() == {"duplicate": 1}


def test_a_place_holds_one_record(history):
    history("w", Send("p", "a", 0))
    history("w2", Send("p", "b"), outcome="info")
    history("r", Poll("p", [(0, "b")]))
    assert history.kinds()["inconsistent-offsets"] == 1


def test_a_record_stands_in_the_partition_it_was_sent_to(history):
    history("w", Send("p", "a"))
    history("r", Poll("q", [(0, "a")]))
    assert history.kinds() == {"inconsistent-offsets": 1}


def test_a_record_that_nobody_sent_is_not_read(history):
    history("r", Poll("p", [(0, "a")]))
    assert history.kinds() == {"unwritten-read": 1}


# Compaction.


def test_a_record_may_give_way_to_a_later_one_of_its_key(history):
    history("w", Send("p", "a", 0, "k"))
    history("w", Send("p", "b", 1, "k"))
    history("r", Poll("p", [(1, "b")]))
    history("f", Scan("p", 0, 2, [(1, "b")]))
    assert history.kinds() == {}


def test_the_last_record_of_a_key_stays(history):
    history("w", Send("p", "a", 0, "k"))
    history("w", Send("p", "b", 1, "other"))
    history("f", Scan("p", 0, 2, [(1, "b")]))
    assert history.kinds() == {"lost-write": 1}


def test_a_record_does_not_give_way_to_one_that_the_scan_lacks_too(history):
    history("w", Send("p", "a", 0, "k"))
    history("w", Send("p", "b", 1, "k"))
    history("f", Scan("p", 0, 2, []))
    assert history.kinds() == {"lost-write": 2}


def test_of_a_deleted_key_nothing_need_be_left(history):
    history("w", Send("p", "a", 0, "k"))
    history("w", Send("p", "gone", 1, "k", True))
    history("w", Send("p", "b", 2, "other"))
    history("f", Scan("p", 0, 3, [(2, "b")]))
    assert history.kinds() == {}
    history("r", Poll("p", [(0, "a")]))
    history("r", Poll("p", [(2, "b")]))
    assert history.kinds() == {}


def test_a_key_may_have_been_deleted_by_who_was_killed(history):
    history("w", Send("p", "a", 0, "k"))
    history("w", Send("p", "gone", None, "k", True), outcome="info")
    history("f", Scan("p", 0, 3, []))
    assert history.kinds() == {}


def test_a_key_was_deleted_by_who_does_not_know_where(history):
    history("w", Send("p", "a", None, "k"))
    history("w", Send("p", "gone", None, "k", True))
    history("f", Scan("p", 0, 3, []))
    assert history.kinds() == {}


def test_a_deletion_that_was_refused_deletes_nothing(history):
    history("w", Send("p", "a", 0, "k"))
    history("w", Send("p", "gone", None, "k", True), outcome="fail")
    history("f", Scan("p", 0, 3, []))
    assert history.kinds() == {"lost-write": 1}


def test_a_deleted_record_does_not_come_back(history):
    history("w", Send("p", "a", 0, "k"))
    history("w", Send("p", "gone", 1, "k", True))
    history("f", Scan("p", 0, 2, [(0, "a")]))
    assert history.kinds() == {"lost-write": 1}


# Transactions.


def test_what_was_not_committed_is_not_read(history):
    writer = history("t", Send("p", "a", 0), txn=True, outcome="fail", asked=UNASKED)
    reader = history("r", Poll("p", [(0, "a")]))
    assert history.kinds() == {"G1a": 1}
    assert history.report().anomalies[0].operations == (writer, reader)


def test_what_was_refused_is_not_read(history):
    history("w", Send("p", "a"), outcome="fail")
    history("r", Poll("p", [(0, "a")]))
    assert history.kinds() == {"G1a": 1}


def test_nothing_is_read_before_its_commit_was_asked_for(history):
    history("t", Send("p", "a", 0), txn=True, begun=100, asked=200, ended=210)
    history("r", Poll("p", [(0, "a")]), begun=190, ended=205)
    assert history.kinds() == {}
    history("r2", Poll("p", [(0, "a")]), begun=190, ended=199)
    assert history.kinds() == {"precommitted-read": 1}


def test_a_transaction_does_not_read_its_own_records(history):
    history("t", Send("p", "a", 0), Poll("p", [(0, "a")]), txn=True)
    assert history.kinds() == {"precommitted-read": 1}


@pytest.mark.parametrize("offset", [0, None])
def test_a_transaction_is_there_whole(history, offset):
    history("t", Send("p", "a", 0), Send("q", "b", offset), txn=True, outcome="info")
    history("r", Poll("p", [(0, "a")]))
    assert history.kinds() == {}, "q may be late"
    history("f", Scan("q", 0, 0, []), begun=1, ended=2)
    assert history.kinds() == {}, "that was before"
    history("f", Scan("q", 0, 2, []))
    assert history.kinds() == {"torn-transaction": 1}


def test_a_transaction_of_unknown_outcome_may_be_absent_whole(history):
    history("t", Send("p", "a", 0), Send("q", "b", 0), txn=True, outcome="info")
    history("f", Scan("p", 0, 2, []), Scan("q", 0, 2, []))
    assert history.kinds() == {}


# Order.


def three(history):
    for offset, value in enumerate("abc"):
        history("w", Send("p", value, offset))
    history("f", Scan("p", 0, 3, [(0, "a"), (1, "b"), (2, "c")]))


def test_a_reader_reads_on_without_a_gap(history):
    three(history)
    history("r", Poll("p", [(0, "a")]))
    history("r", Poll("p", [(2, "c")]))
    assert history.kinds() == {"poll-skip": 1}


def test_a_reader_is_followed_through_records_that_contradict_each_other(history):
    history("w", Send("p", "c", 0))
    history("t", Send("p", "a", 3), txn=True, outcome="fail", asked=UNASKED)
    history("w", Send("p", "b"))
    history("r", Poll("p", [(0, "c"), (3, "b")]))
    assert history.kinds() == {"inconsistent-offsets": 1}


def test_a_reader_does_not_go_back(history):
    three(history)
    history("r", Poll("p", [(0, "a"), (1, "b")]))
    history("r", Poll("p", [(1, "b"), (2, "c")]))
    assert history.kinds() == {"nonmonotonic-poll": 1}


def test_the_same_within_one_operation(history):
    three(history)
    history("r", Poll("p", [(0, "a")]), Poll("p", [(2, "c")]))
    history("r2", Poll("p", [(1, "b"), (0, "a"), (1, "b"), (2, "c")]))
    assert history.kinds() == {"int-poll-skip": 1, "int-nonmonotonic-poll": 1}


def test_who_seeks_reads_from_there(history):
    three(history)
    history("r", Poll("p", [(0, "a"), (1, "b"), (2, "c")]))
    history("r", Seek("p", 1))
    history("r", Poll("p", [(1, "b")]))
    assert history.kinds() == {}
    history("r", Seek("p", 0))
    history("r", Poll("p", [(1, "b")]))
    assert history.kinds() == {"poll-skip": 1}


def test_who_is_assigned_a_partition_anew_begins_anywhere(history):
    three(history)
    history("r", Assign(["p", "q"], "g"))
    history("r", Poll("p", [(0, "a")]))
    history("r", Assign(["q"], "g"))
    history("r", Assign(["p", "q"], "g"))
    history("r", Poll("p", [(2, "c")]))
    assert history.kinds() == {}


def test_what_was_read_before_the_first_assignment_does_not_count(history):
    three(history)
    history("r", Poll("p", [(0, "a")]))
    history("r", Assign(["p"]))
    history("r", Poll("p", [(2, "c")]))
    assert history.kinds() == {}


def test_an_assignment_that_leaves_a_partition_in_place_is_no_excuse(history):
    three(history)
    history("r", Assign(["p"], "g"))
    history("r", Poll("p", [(0, "a")]))
    history("r", Assign(["p", "q"], "g"))
    history("r", Poll("p", [(2, "c")]))
    assert history.kinds() == {"poll-skip": 1}


def test_a_gap_without_records_is_no_gap(history):
    history("w", Send("p", "a", 0))
    history("t", Send("p", "x", 1), txn=True, outcome="fail", asked=UNASKED)
    history("w", Send("p", "c", 3))
    history("r", Poll("p", [(0, "a")]))
    history("r", Poll("p", [(3, "c")]))
    assert history.kinds() == {}


def test_what_was_removed_or_replaced_may_be_passed(history):
    for offset, value in enumerate("abc"):
        history("w", Send("p", value, offset, "k"))
        history("w", Send("q", f"{value}2", offset))
    history("f", Scan("q", 2, 3, [(2, "c2")]), Scan("p", 0, 3, [(2, "c")]))
    for partition, mark in (("p", ""), ("q", "2")):
        history("r", Poll(partition, [(0, f"a{mark}")]))
        history("r", Poll(partition, [(2, f"c{mark}")]))
    assert history.kinds() == {}


def test_what_one_process_sends_stands_in_the_order_of_sending(history):
    history("w", Send("p", "a", 1), begun=1, ended=9)
    history("w", Send("p", "b", 0), begun=2, ended=9)
    history("w", Send("q", "c", 1), Send("q", "d", 0), begun=3, ended=9)
    history("r", Poll("p", [(0, "b"), (1, "a")]), Poll("q", [(0, "d"), (1, "c")]))
    assert history.kinds() == {"nonmonotonic-send": 1, "int-nonmonotonic-send": 1}


def test_what_was_written_before_stands_before(history):
    history("w", Send("p", "a", 1), begun=10, ended=20)
    history("v", Send("p", "b", 0), begun=20, ended=30)
    history("r", Poll("p", [(0, "b"), (1, "a")]))
    assert history.kinds() == {}, "they overlap"
    history("v", Send("p", "c", 3), begun=40, ended=50)
    history("w", Send("p", "d", 2), begun=51, ended=60)
    history("r", Poll("p", [(2, "d"), (3, "c")]))
    assert history.kinds() == {"reordered": 1}


# Groups.


def test_a_group_was_given_everything_before_its_committed_offset(history):
    three(history)
    history("m1", Assign(["p"], "g"))
    history("m1", Poll("p", [(0, "a")]))
    history("m2", Assign(["p"], "g"))
    history("m2", Poll("p", [(1, "b")]))
    history("m2", Commit("g", "p", 2))
    history("alone", Poll("p", [(2, "c")]))
    assert history.kinds() == {}
    history("m2", Commit("g", "p", 3), outcome="info")
    assert history.kinds() == {}
    history("m2", Commit("g", "p", 3))
    assert history.kinds() == {"unprocessed": 1}


def test_committed_offsets_do_not_go_back(history):
    history("m1", Commit("g", "p", 5), begun=10, ended=20)
    history("m2", Commit("g", "p", 4), begun=20, ended=30)
    history("m1", Commit("other", "p", 1), begun=31, ended=35)
    assert history.kinds() == {}, "they overlap"
    history("m3", Commit("g", "p", 3), begun=41, ended=50)
    assert history.kinds() == {"nonmonotonic-commit": 1}


# Circles.


def test_two_transactions_do_not_read_each_other(history):
    history("t", Send("p", "a", 0), Poll("q", [(0, "b")]), txn=True, begun=1, ended=9, asked=1)
    history("u", Send("q", "b", 0), Poll("p", [(0, "a")]), txn=True, begun=1, ended=9, asked=1)
    history("f", Scan("p", 0, 2, [(0, "a")]), Scan("q", 0, 2, [(0, "b")]))
    assert history.kinds() == {"G1c": 1}
    assert "2 transactions follow each other in a circle (wr, wr)" in str(history.report())


def test_circles_of_three_are_found_and_chains_are_none(history):
    for number in range(50):
        read = [Poll(f"p{number - 1}", [(0, f"v{number - 1}")])] if number else []
        history("t", *read, Send(f"p{number}", f"v{number}", 0), txn=True, asked=0)
    history("r", Poll("p49", [(0, "v49")]))
    assert history.kinds() == {}
    history.operations[10].steps.append(Poll("p12", [(0, "v12")]))
    history.operations[10:13] = [
        type(operation)(operation.process, n, "ok", operation.steps, 1, 1, 9, True)
        for n, operation in enumerate(history.operations[10:13])
    ]
    assert history.kinds()["G1c"] == 1
    found = next(a for a in history.report().anomalies if a.kind == "G1c")
    assert len(found.operations) == 3


def test_transactions_may_stand_in_a_circular_order(history):
    history("t", Send("p", "a", 0), Send("q", "c", 1), txn=True, begun=1, ended=9)
    history("u", Send("p", "b", 1), Send("q", "d", 0), txn=True, begun=1, ended=9)
    history("r", Poll("p", [(0, "a"), (1, "b")]), Poll("q", [(0, "d"), (1, "c")]))
    assert history.kinds() == {}
    assert [anomaly.kind for anomaly in history.report().allowed] == ["G0"]


def test_a_circle_by_order_and_reading_is_allowed_too(history):
    history("t", Send("p", "a", 0), Poll("q", [(0, "b")]), txn=True, begun=1, asked=1, ended=9)
    history("u", Send("p", "c", 1), Send("q", "b", 0), txn=True, begun=1, asked=1, ended=9)
    history("r", Poll("p", [(0, "a"), (1, "c")]))
    assert history.kinds() == {}
    assert [anomaly.kind for anomaly in history.report().allowed] == ["G1c-ww"]


def test_a_value_that_is_sent_twice_makes_a_history_useless(history):
    history("w", Send("p", "a", 0))
    history("v", Send("p", "a", 1))
    with pytest.raises(DataError, match="'a' is sent twice, by w:1 and v:2"):
        history.report()
