"""Transactions and groups while the wall clock is set back, or forward and back."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from streamkit.backends.embedded import EmbeddedBackend
from streamkit.backends.offsets_topic import OffsetsTopic
from streamkit.backends.values import CommittedOffset
from streamkit.clients.lag import position_of
from streamkit.clients.producer import Producer
from streamkit.clock import ManualClock
from streamkit.errors import ProducerFenced
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)
MINUTE = 60_000
DAY = 24 * 60 * MINUTE


class SetClock(ManualClock):
    """One whose wall clock somebody sets; the monotonic one runs on."""

    def set(self, milliseconds: int) -> None:
        self._now += milliseconds


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def backend(tmp_path: Path, clock: SetClock) -> Iterator[EmbeddedBackend]:
    log = Log.open(tmp_path / "log", fsync="never", clock=clock, maintenance=False)
    offsets = OffsetsTopic(log, clock)
    with EmbeddedBackend(log, offsets, clock=clock) as backend:
        backend.create_topic("events")
        yield backend
    log.close()


@pytest.mark.parametrize("jump", [-DAY, -365 * DAY])
def test_a_transaction_times_out_by_another_clock_when_this_one_was_set_back(backend, clock, jump):
    with (
        Producer(backend, transactional_id="x", transaction_timeout=60.0) as producer,
        pytest.raises(ProducerFenced),
        producer.transaction() as transaction,
    ):
        transaction.send("events", b"a")
        producer.flush()
        clock.set(jump)
        backend._log.maintain()
        assert backend.offsets(TP).end == 0, "it is not aborted because of the clock"
        clock.advance(59_000)
        backend._log.maintain()
        assert backend.offsets(TP).end == 0
        clock.advance(2000)
        backend._log.maintain()
        assert backend.offsets(TP).end == 2, "it had its minute"


def test_a_transaction_that_goes_on_is_committed_when_the_clock_is_set_back(backend, clock):
    with Producer(backend, transactional_id="x") as producer:
        for jump in (0, -DAY, 3 * DAY, -2 * DAY):
            with producer.transaction() as transaction:
                transaction.send("events", b"a")
                producer.flush()
                clock.set(min(jump, 0))
                backend._log.maintain()
                transaction.send("events", b"b")
            clock.set(max(jump, 0))
        assert backend.offsets(TP).end == 4 * 3


def test_lag_is_never_negative(backend, clock):
    backend.append(TP, [b"a"])
    backend.commit("g", {TP: CommittedOffset(0)})
    clock.set(-DAY)
    found = position_of(backend, TP, CommittedOffset(0), clock.now())
    assert (found.lag, found.behind) == (1, 0.0)


@pytest.mark.parametrize("jump", [-DAY, DAY])
def test_a_static_member_that_is_away_keeps_its_units_or_gives_them_up(backend, clock, jump):
    """Whichever: somebody has them, and when it is back it has them."""
    member = backend.join("g", {"events": 1}, instance_id="one", session_timeout=60.0)
    assert member.poll().owned == {TP}
    member.leave()
    clock.set(jump)
    other = backend.join("g", {"events": 1})
    clock.advance(1000)
    assert other.poll().owned == {TP}, "how long it was away cannot be known"
    back = backend.join("g", {"events": 1}, instance_id="one", session_timeout=60.0)
    clock.advance(1000)
    held = other.poll()
    other.release(held.revoking)
    clock.advance(1000)
    assert len(back.poll().owned) + len(other.poll().owned) == 1
