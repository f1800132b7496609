"""Records whose times a topic does not take."""

import pytest

from streamkit.clock import ManualClock
from streamkit.codec import encode
from streamkit.errors import InvalidRequiredAcks, InvalidTimestamp
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)
BOUNDS = {"message.timestamp.before.max.ms": "1000", "message.timestamp.after.max.ms": "500"}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def log(tmp_path, clock):
    with Log.open(tmp_path, fsync="never", clock=clock, maintenance=False) as log:
        yield log


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_record_too_early_or_too_late_refuses_its_batch(log, clock, compression):
    log.create_topic("events", 1, BOUNDS)
    partition, now = log.partition(TP), clock.now()

    def batch(*times: int) -> bytes:
        return encode([b"x"] * len(times), timestamps=list(times), compression=compression)

    partition.append([batch(now - 1000, now, now + 500)])
    with pytest.raises(InvalidTimestamp, match=r"1001 ms before now.*before\.max\.ms is 1000"):
        partition.append([batch(now, now - 1001, now)])
    with pytest.raises(InvalidTimestamp, match=r"501 ms after now.*after\.max\.ms is 500"):
        partition.append([batch(now, now + 501)])
    assert partition.end_offset == 3


def test_the_time_of_appending_is_never_out_of_bounds(log):
    log.create_topic("events", 1, BOUNDS | {"message.timestamp.type": "LogAppendTime"})
    log.partition(TP).append([encode([b"x"], timestamps=0)])


def test_without_bounds_every_time_is_taken(log):
    log.create_topic("events")
    log.partition(TP).append([encode([b"x"] * 2, timestamps=[0, 2**62])])


@pytest.mark.parametrize("acks", ["1", 0, -1, "ALL", None])
def test_an_unknown_acks_is_refused(log, acks):
    log.create_topic("events")
    with pytest.raises(InvalidRequiredAcks, match='it is "all" or 1'):
        log.partition(TP).append([encode([b"x"], timestamps=0)], acks=acks)
    assert log.partition(TP).end_offset == 0
