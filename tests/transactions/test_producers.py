"""One partition's producers: what may be appended, what comes again, what is open."""

import msgspec
import pytest

from streamkit import codec
from streamkit.codec import read_header
from streamkit.errors import (
    CoordinatorFenced,
    InvalidProducerEpoch,
    InvalidRecord,
    InvalidTxnState,
    OutOfOrderSequence,
)
from streamkit.transactions.markers import Marker
from streamkit.transactions.producer import MAX_SEQUENCE, Batch, Producer
from streamkit.transactions.producers import Producers
from streamkit.transactions.snapshot import decode_snapshot, encode_snapshot
from streamkit.transactions.txnindex import Aborted


def test_batches_of_one_producer_follow_each_other(partition):
    assert [partition.send(7, 0, 0, 3), partition.send(7, 0, 3), partition.send(7, 0, 4)] == [
        0,
        3,
        4,
    ]
    assert partition.producers.get(7).last_sequence == 4
    assert partition.producers.stable_offset == partition.producers.end_offset == 5


def test_a_batch_that_comes_again_is_given_the_offsets_it_has(partition):
    for sequence in range(0, 18, 3):
        partition.send(7, 0, sequence, 3)
    for sequence in range(3, 18, 3):
        known = partition.send(7, 0, sequence, 3)
        assert (known.first_offset, known.last_offset) == (sequence, sequence + 2)
    with pytest.raises(OutOfOrderSequence, match=r"orders-3@18: producer 7: sequence 0 .* 18"):
        partition.send(7, 0, 0, 3)
    assert partition.producers.end_offset == 18


def test_a_batch_that_overlaps_another_is_no_duplicate(partition):
    partition.send(7, 0, 0, 3)
    for sequence, count in ((0, 2), (1, 2), (0, 4), (2, 1)):
        with pytest.raises(OutOfOrderSequence):
            partition.send(7, 0, sequence, count)


def test_a_gap_is_out_of_order(partition):
    partition.send(7, 0, 0)
    with pytest.raises(OutOfOrderSequence, match="sequence 2 in epoch 0, expected 1"):
        partition.send(7, 0, 2)


def test_an_unknown_producer_may_start_anywhere_unless_asked_to_start_at_zero(partition):
    assert partition.send(7, 0, 500) == 0
    with pytest.raises(OutOfOrderSequence, match="not known here, expected 0"):
        partition.send(8, 0, 500, transactional=True, from_zero=True)
    assert partition.send(8, 0, 0, transactional=True, from_zero=True) == 1


def test_sequences_go_on_at_zero_after_the_largest(partition):
    partition.send(7, 0, MAX_SEQUENCE)
    assert partition.send(7, 0, 0) == 1
    partition.send(8, 0, MAX_SEQUENCE - 1, 4)
    assert partition.producers.get(8).last_sequence == 1
    assert partition.send(8, 0, MAX_SEQUENCE - 1, 4) == Batch(1, 5, 3)
    assert partition.send(8, 0, 2) == 6


def test_a_new_epoch_starts_at_zero_and_ends_the_old_one(partition):
    partition.send(7, 1, 0, 5)
    with pytest.raises(OutOfOrderSequence, match="sequence 5 in epoch 2, expected 0"):
        partition.send(7, 2, 5)
    assert partition.send(7, 2, 0, 5) == 5
    assert partition.send(7, 2, 0, 5).first_offset == 5, "not the one of the epoch before"
    with pytest.raises(InvalidProducerEpoch, match="epoch 1, but 2 is the present one"):
        partition.send(7, 1, 0, 5)


def test_batches_without_a_producer_are_none_of_its_business(partition):
    assert [partition.plain(2), partition.plain()] == [0, 2]
    assert len(partition.producers) == 0 and partition.producers.end_offset == 3


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"producer_id": -1, "transactional": True}, "has a producer id"),
        ({"producer_id": -2}, "none is negative"),
        ({"producer_id": 7, "producer_epoch": -1}, "epoch is not negative"),
        ({"producer_id": 7, "producer_epoch": 0, "base_sequence": -1}, "has a sequence"),
        ({"producer_id": 7, "producer_epoch": 0, "control": True}, "coordinators only"),
        ({"control": True}, "coordinators only"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(fields, problem):
    header = read_header(codec.encode([b"x"], timestamps=1, **fields))
    with pytest.raises(InvalidRecord, match=problem):
        Producers("orders-3").draft().check(header)


def test_the_last_stable_offset_is_where_the_earliest_open_transaction_begins(partition):
    partition.plain(2)
    partition.send(7, 0, 0, 2, transactional=True)
    partition.send(8, 0, 0, 2, transactional=True)
    partition.send(7, 0, 2, 2, transactional=True)
    assert partition.producers.open_transactions == {2: 7, 4: 8}
    assert partition.producers.stable_offset == 2
    partition.mark(7, 0, commit=True)
    assert partition.producers.stable_offset == 4
    partition.mark(8, 0, commit=False)
    assert partition.producers.stable_offset == partition.producers.end_offset == 10
    assert partition.index == [Aborted(8, 4, 9, 10)]


def test_an_abort_behind_an_open_transaction_notes_where_that_begins(partition):
    partition.send(7, 0, 0, transactional=True)
    partition.send(8, 0, 0, transactional=True)
    partition.mark(8, 0, commit=False)
    assert partition.index == [Aborted(8, 1, 2, 0)]


def test_a_plain_batch_inside_of_a_transaction_is_refused(partition):
    partition.send(7, 0, 0, transactional=True)
    with pytest.raises(InvalidTxnState, match="one open since offset 0"):
        partition.send(7, 0, 1)
    partition.mark(7, 0, commit=True)
    assert partition.send(7, 0, 1) == 2


def test_offsets_committed_in_a_transaction_have_no_sequence(partition):
    assert partition.send(7, 0, -1, 2, transactional=True, sequenced=False) == 0
    assert partition.send(7, 0, -1, 2, transactional=True, sequenced=False) == 2
    assert partition.producers.get(7).batches[-1] == Batch(-1, 3, 1)
    partition.mark(7, 1, commit=True, bumped=True)
    with pytest.raises(InvalidProducerEpoch):
        partition.send(7, 0, -1, transactional=True, sequenced=False)


def test_a_marker_of_version_2_raises_the_epoch_so_that_late_batches_are_refused(partition):
    partition.send(7, 0, 0, 4, transactional=True)
    assert partition.mark(7, 1, commit=True, bumped=True) == 4
    with pytest.raises(InvalidProducerEpoch):
        partition.send(7, 0, 4, transactional=True)
    assert partition.send(7, 1, 0, transactional=True) == 5


def test_a_marker_that_stands_already_is_not_written_again(partition):
    partition.send(7, 0, 0, transactional=True)
    partition.mark(7, 1, commit=True, bumped=True)
    assert partition.mark(7, 1, commit=True, bumped=True) is None
    partition.send(8, 0, 0, transactional=True)
    partition.mark(8, 0, commit=False)
    assert partition.mark(8, 0, commit=False) is None


def test_a_marker_of_version_2_can_not_end_the_transaction_after_its_own(partition):
    partition.send(7, 0, 0, transactional=True)
    partition.mark(7, 1, commit=True, bumped=True)
    partition.send(7, 1, 0, transactional=True)
    with pytest.raises(InvalidProducerEpoch, match="with a transaction open"):
        partition.mark(7, 1, commit=False, bumped=True)
    with pytest.raises(InvalidProducerEpoch, match="is over"):
        partition.mark(7, 0, commit=False, bumped=True)
    assert partition.producers.stable_offset == 2


def test_a_marker_where_nothing_was_written_still_fences(partition):
    assert partition.mark(7, 4, commit=False, bumped=True) == 0
    with pytest.raises(InvalidProducerEpoch):
        partition.send(7, 3, 0, transactional=True)
    assert partition.index == []


def test_the_marker_of_an_earlier_coordinator_is_refused(partition):
    partition.mark(7, 0, commit=True, coordinator_epoch=5)
    partition.send(7, 0, 0, transactional=True)
    with pytest.raises(CoordinatorFenced, match="coordinator 4, but 5"):
        partition.mark(7, 0, commit=True, coordinator_epoch=4)
    assert partition.mark(7, 0, commit=True, coordinator_epoch=5) == 2


def test_a_marker_needs_a_producer():
    header = read_header(codec.encode([b"x"], timestamps=1, control=True, transactional=True))
    with pytest.raises(InvalidRecord, match="without a producer"):
        Producers("orders-3").draft().check_marker(header, Marker(True, 0), bumped=True)


def test_sequences_go_on_after_a_marker_of_the_same_epoch(partition):
    partition.send(7, 0, 0, 2, transactional=True)
    partition.mark(7, 0, commit=True)
    assert partition.send(7, 0, 0, 2, transactional=True) == Batch(1, 1, 1)
    assert partition.send(7, 0, 2, transactional=True) == 3


def test_a_draft_that_is_not_adopted_leaves_nothing_behind(partition):
    partition.send(7, 0, 0, transactional=True)
    before = encode_snapshot(partition.producers), partition.producers.stable_offset
    draft = partition.producers.draft()
    batch = read_header(
        codec.encode(
            [b"x"] * 3,
            timestamps=1,
            producer_id=8,
            producer_epoch=0,
            base_sequence=0,
            transactional=True,
        )
    )
    assert draft.check(batch) is None
    draft.follow(batch, 1)
    assert draft.check(batch) == Batch(2, 3, 2), "a draft sees what it has followed itself"
    assert draft.stable_offset == 0 and draft.end_offset == 4
    assert (encode_snapshot(partition.producers), partition.producers.stable_offset) == before
    partition.producers.adopt(draft)
    assert partition.producers.open_transactions == {0: 7, 1: 8}


def test_two_drafts_of_the_same_state_are_not_both_adopted(partition):
    header = read_header(codec.encode([b"x"], timestamps=1))
    one, other = partition.producers.draft(), partition.producers.draft()
    for draft in (one, other):
        draft.follow(header, 0)
    partition.producers.adopt(one)
    with pytest.raises(AssertionError, match="before another was adopted"):
        partition.producers.adopt(other)


def test_a_transaction_that_is_opened_and_ended_in_one_draft_was_never_open(partition):
    opened = read_header(
        codec.encode(
            [b"x"],
            timestamps=1,
            producer_id=8,
            producer_epoch=0,
            base_sequence=0,
            transactional=True,
        )
    )
    draft = partition.producers.draft()
    draft.follow(opened, 0)
    ended = draft.follow(
        msgspec.structs.replace(opened, attributes=0x30, base_offset=1), 1, Marker(False, 0)
    )
    assert ended == Aborted(8, 0, 1, 2)
    partition.producers.adopt(draft)
    assert partition.producers.open_transactions == {}


def test_an_idle_producer_is_forgotten_and_may_then_go_on_anywhere(partition):
    partition.send(7, 0, 0, timestamp=1000)
    partition.send(8, 0, 0, timestamp=1500)
    partition.send(9, 0, 0, timestamp=10, transactional=True)
    partition.send(6, 0, 0, timestamp=10)
    assert partition.producers.expire(2000, 1000, keep={6}) == [7]
    assert sorted(producer.producer_id for producer in partition.producers) == [6, 8, 9]
    assert partition.producers.stable_offset == 2, "a producer in a transaction stays"
    assert partition.send(7, 0, 77) == 4


def test_a_transaction_that_compaction_has_emptied_does_not_open_again():
    batch = read_header(
        codec.encode(
            [b"x"] * 3,
            timestamps=1,
            producer_id=7,
            producer_epoch=0,
            base_sequence=5,
            transactional=True,
        )
    )
    producers = Producers("orders-3")
    producers.follow(msgspec.structs.replace(batch, count=0), 100)
    assert producers.open_transactions == {}
    assert producers.get(7).last_sequence == 7, "what its header is kept for"
    assert producers.end_offset == 103


def test_control_records_of_other_types_change_nothing():
    header = read_header(
        codec.encode([b"x"], timestamps=1, producer_id=7, producer_epoch=3, control=True)
    )
    producers = Producers("orders-3")
    assert producers.follow(header, 0, None) is None
    assert len(producers) == 0 and producers.end_offset == 1


def test_producers_go_on_from_a_snapshot_as_if_there_had_been_no_restart(partition):
    partition.send(7, 0, 0, 3)
    partition.send(8, 2, 0, 3, transactional=True)
    raw = encode_snapshot(partition.producers)
    partition.producers = Producers("orders-3", decode_snapshot(raw, "00006.snapshot"), 6)
    assert partition.producers.open_transactions == {3: 8}
    assert partition.send(7, 0, 0, 3) == Batch(2, 2, 2)
    assert partition.send(7, 0, 3) == 6
    assert partition.mark(8, 2, commit=False) == 7
    assert partition.index == [Aborted(8, 3, 7, 8)]


def test_open_transactions_keep_their_order_over_a_snapshot(partition):
    partition.send(9, 0, 0, transactional=True)
    partition.send(7, 0, 0, transactional=True)
    entries = decode_snapshot(encode_snapshot(partition.producers), "00002.snapshot")
    assert [entry.producer_id for entry in entries] == [7, 9]
    producers = Producers("orders-3", entries, 2)
    assert list(producers.open_transactions) == [0, 1]
    assert producers.stable_offset == 0


def test_what_was_followed_once_is_not_followed_again(partition):
    partition.send(7, 0, 0, 3)
    with pytest.raises(AssertionError, match=r"orders-3@0 was followed before"):
        partition.producers.follow(read_header(partition.batches[0]), 0)


def test_iteration_is_by_producer_id(partition):
    for producer_id in (9, 3, 7):
        partition.send(producer_id, 0, 0)
    assert [p.producer_id for p in partition.producers] == [3, 7, 9]
    assert partition.producers.get(3) == Producer(3, 0, -1, 1000, -1, (Batch(0, 1, 0),))
