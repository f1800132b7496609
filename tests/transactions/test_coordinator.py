"""All transactional ids together: reading them back, time-outs, who has to finish what."""

import pytest

from streamkit.errors import (
    ConcurrentTransactions,
    InvalidProducerId,
    InvalidTxnTimeout,
    ProducerFenced,
    UsageError,
)
from streamkit.records import TopicPartition
from streamkit.transactions.coordinator import Coordinator
from streamkit.transactions.records import encode_key, encode_value
from streamkit.transactions.state import State
from streamkit.transactions.transaction import Transaction

A = TopicPartition("a", 0)
WEEK = 7 * 24 * 3600 * 1000


def begin(coordinator, name="app", *, now=0, timeout=1000, spare_id=7, expected=None):
    step = coordinator.begin(name, timeout=timeout, now=now, spare_id=spare_id, expected=expected)
    coordinator.put(step)
    return step


def opened(coordinator, name="app", *, now=0, timeout=1000, spare_id=7):
    one = begin(coordinator, name, now=now, timeout=timeout, spare_id=spare_id)
    one = one.add(one.producer_id, one.producer_epoch, [A], now=now)
    coordinator.put(one)
    return one


def test_a_new_transactional_id_gets_the_spare_producer_id():
    coordinator = Coordinator()
    assert begin(coordinator) == Transaction("app", 7, 0, 1000, updated_at=0)
    assert begin(coordinator, now=5, spare_id=8).producer_epoch == 1
    assert coordinator.require("app").producer_id == 7


def test_state_read_from_the_log_is_the_state_that_was_written():
    coordinator, other = Coordinator(), Coordinator()
    opened(coordinator, "x")
    begin(coordinator, "y", spare_id=8)
    for one in coordinator:
        other.apply(encode_key(one.transactional_id), encode_value(one))
    assert list(other) == list(coordinator)
    other.apply(encode_key("x"), None)
    other.apply(b"\0\7of a newer Kafka", b"anything")
    other.apply(encode_key("never"), None)
    dead = Transaction("y", 8, 0, 1000, State.DEAD)
    other.apply(encode_key("y"), encode_value(dead))
    assert list(other) == []
    with pytest.raises(InvalidProducerId, match="'x'; it was never begun"):
        other.require("x")


def test_a_producer_that_begins_while_its_predecessor_has_a_transaction_open_aborts_that_first():
    coordinator = Coordinator()
    opened(coordinator)
    step = begin(coordinator, now=10)
    assert (step.state, step.producer_epoch) == (State.PREPARE_ABORT, 1)
    assert coordinator.unfinished() == [step]
    with pytest.raises(ConcurrentTransactions):
        begin(coordinator, now=11)
    coordinator.put(step.complete(12))
    assert coordinator.unfinished() == []
    assert begin(coordinator, now=13).producer_epoch == 2


def test_a_producer_that_goes_on_with_its_transaction_open_keeps_its_place():
    coordinator = Coordinator()
    opened(coordinator)
    with pytest.raises(ProducerFenced):
        begin(coordinator, expected=(7, 5))
    step = begin(coordinator, now=10, expected=(7, 0))
    coordinator.put(step.complete(11))
    assert begin(coordinator, now=12, expected=(7, 0)).producer_epoch == 1


@pytest.mark.parametrize("timeout", [0, -1, 900_001])
def test_a_time_out_that_the_log_does_not_allow_is_refused(timeout):
    with pytest.raises(InvalidTxnTimeout, match=r"transaction\.max\.timeout\.ms"):
        begin(Coordinator(), timeout=timeout)


def test_a_transactional_id_is_not_empty():
    with pytest.raises(UsageError):
        begin(Coordinator(), "")


def test_an_open_transaction_is_due_when_it_times_out():
    coordinator = Coordinator()
    assert coordinator.wake_at() is None
    opened(coordinator, "slow", now=100, timeout=5000)
    fast = opened(coordinator, "fast", now=200, timeout=1000, spare_id=8)
    assert coordinator.wake_at() == 1200
    assert coordinator.due(1199) == []
    assert coordinator.due(1200) == [fast]
    coordinator.put(fast.fence(now=1200, spare_id=9))
    assert coordinator.due(1200) == []
    assert coordinator.wake_at() == 5100


def test_a_transaction_that_is_decided_never_times_out():
    coordinator = Coordinator()
    one = opened(coordinator)
    coordinator.put(one.end(7, 0, commit=True, now=10, spare_id=8))
    assert coordinator.wake_at() is None
    assert coordinator.due(10**9) == []


def test_a_fence_that_was_left_half_done_is_due_at_once():
    coordinator = Coordinator()
    half = Transaction(
        "app", 7, 1, 1000, State.PREPARE_EPOCH_FENCE, frozenset({A}), started_at=5, updated_at=9
    )
    coordinator.put(half)
    assert coordinator.wake_at() == 9
    assert coordinator.due(9) == [half]
    assert half.fence(now=9, spare_id=8).producer_epoch == 1


def test_an_id_that_was_not_used_for_a_week_is_forgotten():
    coordinator = Coordinator()
    begin(coordinator, now=100)
    opened(coordinator, "busy", now=100, timeout=1000, spare_id=8)
    assert coordinator.unused(WEEK + 99) == []
    assert coordinator.unused(WEEK + 100) == ["app"]
    coordinator.forget("app")
    assert coordinator.get("app") is None
    assert coordinator.wake_at() == 1100
