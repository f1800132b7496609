"""What compaction decides, by values."""

import pytest

from streamkit.codec import encode, read_header
from streamkit.codec.latest import with_horizon
from streamkit.log.compaction import (
    Dirt,
    Transactions,
    grouped,
    is_last,
    keeps_tombstones,
    last_batches,
    measured,
)
from streamkit.log.config import TopicConfig
from streamkit.log.retention import Extent
from streamkit.transactions.markers import Marker
from streamkit.transactions.producer import Batch, Producer
from streamkit.transactions.txnindex import Aborted

NOW = 1_000_000


def extents(*segments: tuple[int, int]) -> list[Extent]:
    """Segments of ten offsets each: (size, ms since the last append)."""
    return [
        Extent(10 * number, 10 * number + 10, size, NOW - age)
        for number, (size, age) in enumerate(segments)
    ]


def dirt(segments: list[Extent], first_dirty: int, *, stable=None, oldest=NOW, **config) -> Dirt:
    end = segments[-1].end if segments else 0
    return measured(
        segments,
        first_dirty,
        TopicConfig(cleanup_policy="compact", **config),
        active_base=end,
        stable_offset=end + 5 if stable is None else stable,
        oldest_dirty=oldest,
        now=NOW,
    )


def test_what_comes_after_the_last_round_is_dirty():
    segments = extents((100, 0), (50, 0), (30, 0))
    assert dirt(segments, 10) == Dirt(10, 30, 100, 80, False)
    assert dirt(segments, 0) == Dirt(0, 30, 0, 180, False)
    assert dirt(segments, 30) == Dirt(30, 30, 180, 0, False)
    assert dirt(segments, 15) == Dirt(15, 30, 100, 80, False), "a segment that is half clean"
    assert dirt([], 0) == Dirt(0, 0, 0, 0, False)


@pytest.mark.parametrize("first_dirty", [-1, 31, 10**9])
def test_a_round_that_cannot_have_been_counts_for_nothing(first_dirty):
    assert dirt(extents((100, 0), (50, 0), (30, 0)), first_dirty).first_dirty == 0


def test_records_of_open_transactions_are_not_to_be_cleaned_yet():
    segments = extents((100, 0), (50, 0), (30, 0))
    assert dirt(segments, 0, stable=12) == Dirt(0, 12, 0, 150, False)
    assert dirt(segments, 20, stable=12) == Dirt(20, 20, 150, 0, False)


def test_segments_are_left_alone_for_the_min_compaction_lag_and_all_after_them():
    segments = extents((100, 500), (50, 100), (30, 500))
    assert dirt(segments, 0, min_compaction_lag_ms=200).uncleanable == 10
    assert dirt(segments, 0, min_compaction_lag_ms=100).uncleanable == 30
    assert dirt(segments, 20, min_compaction_lag_ms=200).uncleanable == 30, "cleaned before"


def test_it_is_due_when_more_than_the_ratio_is_dirty():
    config = TopicConfig(min_cleanable_dirty_ratio=0.5)
    assert not Dirt(0, 9, 50, 50, False).due(config)
    assert Dirt(0, 9, 49, 50, False).due(config)
    assert not Dirt(0, 9, 0, 0, False).due(config)
    assert Dirt(0, 9, 1000, 1, True).due(config)


def test_it_is_overdue_after_the_max_compaction_lag():
    segments = extents((100, 0))
    assert not dirt(segments, 0, oldest=NOW - 70, max_compaction_lag_ms=70).overdue
    assert dirt(segments, 0, oldest=NOW - 71, max_compaction_lag_ms=70).overdue
    assert not dirt(segments, 10, oldest=NOW - 71, max_compaction_lag_ms=70).overdue


def test_neighbours_become_one_segment_while_they_fit_it():
    segments = extents((60, 0), (40, 0), (1, 0), (200, 0), (30, 0), (70, 0), (1, 0))
    sizes = [[extent.size for extent in group] for group in grouped(segments, 100)]
    assert sizes == [[60, 40], [1], [200], [30, 70], [1]]


def test_a_segment_does_not_span_more_offsets_than_its_indexes_hold():
    segments = [Extent(0, 5, 1, 0), Extent(5, 2**31, 1, 0), Extent(2**31, 2**31 + 1, 1, 0)]
    assert [len(group) for group in grouped(segments, 100)] == [2, 1]


def header(offset, *, producer=1, epoch=0, transactional=True, control=False, count=1):
    batch = bytearray(
        encode(
            [b""] * count,
            timestamps=0,
            producer_id=producer,
            producer_epoch=epoch,
            base_sequence=-1 if control else 0,
            transactional=transactional,
            control=control,
        )
    )
    batch[:8] = offset.to_bytes(8, "big")
    return read_header(bytes(batch))


def marker(offset, **more):
    return header(offset, control=True, **more)


COMMIT, ABORT = Marker(True, 0), Marker(False, 0)


def test_a_batch_is_aborted_when_the_marker_that_follows_it_aborts():
    found = Transactions([Aborted(1, 5, 9, 9), Aborted(2, 7, 20, 20), Aborted(1, 15, 19, 19)])
    assert [found.is_aborted(header(offset)) for offset in (4, 5, 8, 10, 15, 18, 20)] == [
        False,
        True,
        True,
        False,
        True,
        True,
        False,
    ]
    assert found.is_aborted(header(8, producer=2))
    assert not found.is_aborted(header(8, producer=3))
    assert not found.is_aborted(header(5, transactional=False))


def test_a_marker_ends_nothing_once_no_batch_of_its_transaction_was_seen():
    found = Transactions([Aborted(1, 5, 9, 9), Aborted(1, 15, 19, 19)])
    assert found.is_aborted(header(5))
    assert not found.ends_nothing(marker(9), ABORT)
    assert found.ends_nothing(marker(19), ABORT)
    assert not found.is_aborted(header(20))
    assert not found.ends_nothing(marker(21), COMMIT)
    assert found.ends_nothing(marker(23), COMMIT), "the batch at 20 belongs to the one before"
    assert found.is_needed(Aborted(1, 5, 9, 9))
    assert not found.is_needed(Aborted(1, 15, 19, 19))


def test_control_batches_of_other_kinds_end_nothing_only_when_they_are_empty():
    found = Transactions([])
    assert not found.ends_nothing(marker(3), None)


def test_the_last_batch_of_each_producer_is_known_by_its_offset_else_by_its_epoch():
    last = last_batches(
        [
            Producer(1, epoch=4, batches=(Batch(0, 10, 0), Batch(1, 12, 0))),
            Producer(2, epoch=5),
        ]
    )
    assert is_last(header(12), last)
    assert not is_last(header(10), last)
    assert not is_last(marker(13, epoch=4), last)
    assert is_last(marker(20, producer=2, epoch=5), last)
    assert not is_last(marker(20, producer=2, epoch=4), last)
    assert not is_last(header(20, producer=2, epoch=5), last)
    assert not is_last(header(12, producer=3), last)


def test_tombstones_stay_without_a_horizon_and_up_to_it():
    plain = encode([None], keys=[b"k"], timestamps=0)
    assert keeps_tombstones(read_header(plain), 2**62)
    marked = read_header(with_horizon(plain, 500))
    assert keeps_tombstones(marked, 499)
    assert not keeps_tombstones(marked, 500)
