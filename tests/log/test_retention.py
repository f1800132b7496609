"""Which segments retention takes, by time, by size and for the whole disk."""

from hypothesis import given
from hypothesis import strategies as st

from streamkit.log.config import TopicConfig
from streamkit.log.retention import Extent, Removal, expired, next_expiry, over
from streamkit.records import TopicPartition

NOW = 1_000_000
A, B = TopicPartition("a", 0), TopicPartition("b", 0)


def extents(*pairs: tuple[int, int]) -> list[Extent]:
    """Segments of ten offsets each: (size, ms since the last append)."""
    return [
        Extent(number * 10, number * 10 + 10, size, NOW - age)
        for number, (size, age) in enumerate(pairs)
    ]


def config(**configs: str) -> TopicConfig:
    return TopicConfig.parse({name.replace("_", "."): value for name, value in configs.items()})


def gone(segments: list[Extent], config: TopicConfig, *, start: int = 0, stable: int = 10**9):
    return expired(segments, config, start=start, stable=stable, now=NOW)


def test_segments_go_when_their_last_append_is_longer_ago_than_retention_ms():
    segments = extents((100, 901), (100, 900), (100, 0))
    assert gone(segments, config(retention_ms="900")) == Removal(10, 1, 100, "retention.ms")
    assert gone(segments, config(retention_ms="901")) is None


def test_only_a_prefix_goes_whatever_the_times_of_later_segments():
    assert gone(extents((100, 5), (100, 5000), (100, 0)), config(retention_ms="900")) is None


def test_the_active_segment_goes_as_well_when_it_is_too_old():
    segments = extents((100, 950), (100, 940))
    assert gone(segments, config(retention_ms="900")) == Removal(20, 2, 200, "retention.ms")


def test_an_empty_active_segment_stays():
    assert gone(extents((0, 5000)), config(retention_ms="900")) is None
    segments = extents((100, 5000), (0, 5000))
    assert gone(segments, config(retention_ms="900")) == Removal(10, 1, 100, "retention.ms")


def test_a_finished_segment_that_compaction_has_emptied_keeps_nothing_behind_it():
    segments = extents((0, 5000), (100, 5000), (100, 0))
    assert gone(segments, config(retention_ms="900")) == Removal(20, 2, 100, "retention.ms")


def test_by_size_no_more_goes_than_leaves_retention_bytes():
    segments = extents((100, 0), (100, 0), (100, 0))
    assert gone(segments, config(retention_bytes="150")) == Removal(10, 1, 100, "retention.bytes")
    assert gone(segments, config(retention_bytes="200")) == Removal(10, 1, 100, "retention.bytes")
    assert gone(segments, config(retention_bytes="201")) is None
    assert gone(segments, config(retention_bytes="0")) == Removal(30, 3, 300, "retention.bytes")


def test_without_limits_all_is_kept():
    segments = extents((100, 10**6), (100, 10**6))
    assert gone(segments, config(retention_ms="-1", retention_bytes="-1")) is None


def test_a_topic_that_is_only_compacted_loses_nothing_to_time_or_size():
    segments = extents((100, 10**6), (100, 0))
    only = config(cleanup_policy="compact", retention_ms="1", retention_bytes="1")
    both = config(cleanup_policy="compact,delete", retention_ms="1")
    assert gone(segments, only) is None
    assert gone(segments, both) == Removal(10, 1, 100, "retention.ms")


def test_segments_below_the_start_go_whatever_the_policy():
    segments = extents((100, 0), (100, 0), (100, 0))
    only = config(cleanup_policy="compact")
    assert gone(segments, only, start=19) == Removal(10, 1, 100, "start")
    assert gone(segments, only, start=20) == Removal(20, 2, 200, "start")
    assert gone(segments, only, start=30) == Removal(20, 2, 200, "start")  # never the active one


def test_nothing_of_an_open_transaction_goes():
    segments = extents((100, 5000), (100, 5000), (100, 5000))
    assert gone(segments, config(retention_ms="900"), stable=19) == Removal(
        10, 1, 100, "retention.ms"
    )
    assert gone(segments, config(retention_bytes="0"), stable=9) is None


def test_the_next_segment_expires_when_the_first_one_does():
    segments = extents((100, 300), (100, 0))
    due = next_expiry(segments, config(retention_ms="900"))
    assert due == NOW + 601
    limits = config(retention_ms="900")
    assert expired(segments, limits, start=0, stable=99, now=due - 1) is None
    assert expired(segments, limits, start=0, stable=99, now=due) is not None
    assert next_expiry(segments, config(retention_ms="-1")) is None
    assert next_expiry(segments, config(cleanup_policy="compact")) is None
    assert next_expiry(extents((0, 300)), config(retention_ms="900")) is None


def test_over_the_disk_limit_the_oldest_of_all_topics_go_first():
    finished = {A: extents((100, 50), (100, 20)), B: extents((100, 40), (100, 30))}
    assert over(400, 400, finished) == {}
    assert over(400, 399, finished) == {A: 10}
    assert over(400, 299, finished) == {A: 10, B: 10}
    assert over(400, 199, finished) == {A: 10, B: 20}
    assert over(400, 0, finished) == {A: 20, B: 20}


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), max_size=8),
    st.integers(0, 600),
)
def test_the_disk_limit_takes_as_few_segments_as_it_can(first, second, limit):
    finished = {A: extents(*first), B: extents(*second)}
    total = sum(extent.size for part in finished.values() for extent in part)
    before = over(total, limit, finished)
    taken = [e for tp, part in finished.items() for e in part if e.end <= before.get(tp, 0)]
    left = total - sum(extent.size for extent in taken)
    assert left <= limit
    if taken:  # the last one taken was still needed
        lasts = [max(e.end for e in finished[tp] if e.end <= at) for tp, at in before.items()]
        sizes = [e.size for tp, part in finished.items() for e in part if e.end in lasts]
        assert left + max(sizes) > limit
