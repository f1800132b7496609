"""A wall clock that is set back, or forward and back, while a log is in use."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamkit.clock import ManualClock
from streamkit.codec import encode
from streamkit.fsck.check import check
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)
HOUR = 3_600_000
DAY = 24 * HOUR
YEAR = 365 * DAY


class SetClock(ManualClock):
    """One whose wall clock somebody sets; the monotonic one runs on."""

    def set(self, milliseconds: int) -> None:
        self._now += milliseconds


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def log(tmp_path: Path, clock: SetClock) -> Iterator[Log]:
    with Log.open(tmp_path / "log", fsync="never", clock=clock, maintenance=False) as log:
        yield log


def append(log: Log, clock: SetClock, text: bytes = b"x", **producer: int) -> int:
    batch = encode([text], timestamps=clock.now(), **producer)  # type: ignore[arg-type]
    # What the clock says is what the file system says, too.
    offset = log.partition(TP).append([batch], acks=1)
    for path in newest(log):
        os.utime(path, (clock.now() / 1000, clock.now() / 1000))
    return offset


def newest(log: Log) -> list[Path]:
    return sorted((Path(log.path) / "events-0").glob("*.log"))[-1:]


def bases(log: Log) -> list[int]:
    return sorted(int(path.stem) for path in (Path(log.path) / "events-0").glob("*.log"))


@pytest.mark.parametrize("jumps", [[-DAY], [YEAR, -YEAR], [YEAR, -YEAR - DAY, HOUR]])
def test_whatever_the_clock_is_set_to_all_is_kept_read_and_found(log, clock, everything, jumps):
    log.create_topic("events", 1, {"segment.ms": str(HOUR), "retention.ms": "-1"})
    expected = []
    for jump in [0, *jumps]:
        clock.set(jump)
        for _ in range(3):
            clock.advance(30 * 60_000)
            offset = len(expected)
            assert append(log, clock, b"%d" % offset) == offset
            assert all("the clock" in problem for problem in log.maintain().problems)
            expected.append((offset, b"%d" % offset))
    assert everything(log.partition(TP)) == expected
    assert log.partition(TP).offset_at(0) == 0
    log.partition(TP).sync()
    with Log.open(log.path, fsync="never", clock=clock, maintenance=False) as other:
        assert everything(other.partition(TP)) == expected
    assert check(log.path, now=clock.now()).findings == []


@pytest.mark.parametrize("by", ["the next append", "maintenance"])
def test_a_segment_begun_in_a_time_to_come_ends_and_others_end_by_their_age_again(log, clock, by):
    log.create_topic("events", 1, {"segment.ms": str(HOUR), "retention.ms": "-1"})
    clock.set(YEAR)
    append(log, clock)
    clock.set(-YEAR)
    if by == "maintenance":
        log.maintain()
        assert bases(log) == [0, 1]
    append(log, clock)
    assert bases(log) == [0, 1]
    append(log, clock)
    log.maintain()
    assert bases(log) == [0, 1], "now it is dated"
    clock.advance(HOUR)
    append(log, clock)
    assert bases(log) == [0, 1, 3]


def test_a_clock_set_back_by_a_little_ends_no_segment(log, clock):
    log.create_topic("events", 1, {"segment.ms": str(HOUR)})
    append(log, clock)
    clock.set(-30_000)
    append(log, clock)
    log.maintain()
    assert bases(log) == [0]


@pytest.mark.parametrize("jumps", [[-DAY], [-YEAR], [YEAR, -YEAR]])
def test_a_clock_set_back_keeps_what_is_there_for_as_long_as_from_now_on(log, clock, jumps):
    config = {"segment.ms": str(HOUR), "retention.ms": str(7 * DAY)}
    log.create_topic("events", 1, config)
    for jump in [0, *jumps]:
        clock.set(jump)
        append(log, clock)
    for _ in range(6):
        clock.advance(DAY)
        log.maintain()
        assert log.partition(TP).start_offset == 0
    clock.advance(
        HOUR + 2 * DAY
    )  # a segment that seemed to be of a time to come was dated by the first pass
    log.maintain()
    assert log.partition(TP).start_offset == log.partition(TP).end_offset


def test_a_producer_that_works_is_not_forgotten_when_the_clock_is_set_forward(log, clock):
    log.create_topic("events", 1, {"segment.ms": str(HOUR)})
    first = encode([b"a"], timestamps=clock.now(), producer_id=7, producer_epoch=0, base_sequence=0)
    partition = log.partition(TP)
    assert partition.append([first], acks=1) == 0
    clock.set(YEAR)
    assert append(log, clock) == 1, "in a new segment, at which producers are forgotten"
    assert partition.append([first], acks=1) == 0, "it comes again"
    assert partition.end_offset == 2
    clock.advance(DAY)
    append(log, clock)
    assert partition.append([first], acks=1) == 3, "a day without a word is long"
