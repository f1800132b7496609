"""One transactional id: epochs, fencing, retries, and what is left to do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streamkit.errors import (
    ConcurrentTransactions,
    InvalidProducerId,
    InvalidTxnState,
    ProducerFenced,
    TransactionError,
)
from streamkit.records import TopicPartition
from streamkit.transactions.state import TRANSITIONS, State
from streamkit.transactions.transaction import LAST_EPOCH, RollForward, Transaction

A, B = TopicPartition("a", 0), TopicPartition("b", 1)
SPARE = 900
NEW = Transaction("app", 7, 0, 60_000, updated_at=10)
OPEN = NEW.add(7, 0, [B, A], now=20)


def end(transaction, epoch, *, commit=True, producer_id=7, version=2, now=30):
    return transaction.end(
        producer_id, epoch, commit=commit, now=now, spare_id=SPARE, version=version
    )


def begin(transaction, expected=None, now=50):
    return transaction.begin(timeout=5000, now=now, spare_id=SPARE, expected=expected)


def test_the_first_partition_begins_a_transaction_and_another_joins_it():
    first = NEW.add(7, 0, [A], now=20)
    assert (first.state, first.started_at, first.updated_at) == (State.ONGOING, 20, 20)
    assert first.times_out_at == 60_020
    second = first.add(7, 0, [B], now=25)
    assert second.partitions == {A, B}
    assert (second.started_at, second.updated_at) == (20, 25)
    assert second.add(7, 0, [A], now=30) is second, "nothing new to write"


def test_an_end_of_version_2_raises_the_epoch_and_says_what_is_left_to_do():
    prepared = end(OPEN, 0)
    assert prepared.state is State.PREPARE_COMMIT
    assert prepared.roll_forward() == RollForward(7, 1, True, True, (A, B))
    done = prepared.complete(40)
    assert (done.state, done.producer_epoch, done.partitions) == (
        State.COMPLETE_COMMIT,
        1,
        frozenset(),
    )
    assert done.roll_forward() is None
    assert (done.started_at, done.updated_at, done.times_out_at) == (20, 40, None)
    assert done.add(7, 1, [A], now=50).started_at == 50


def test_an_end_of_version_1_keeps_the_epoch():
    opened = NEW.add(7, 0, [A], now=20, version=1)
    prepared = end(opened, 0, commit=False, version=1)
    assert prepared.roll_forward() == RollForward(7, 0, False, False, (A,))
    done = prepared.complete(40)
    assert done.producer_epoch == 0
    for asked in (prepared, done):
        assert end(asked, 0, commit=False, version=1) is asked
        with pytest.raises(InvalidTxnState, match="cannot become PrepareCommit"):
            end(asked, 0, commit=True, version=1)


def test_an_end_that_is_asked_for_again_is_answered_and_not_done_twice():
    prepared = end(OPEN, 0)
    done = prepared.complete(40)
    assert end(prepared, 0) is prepared
    assert end(done, 0) is done
    for asked in (prepared, done):
        with pytest.raises(ProducerFenced):
            end(asked, 0, commit=False)


def test_a_late_end_can_not_touch_the_next_transaction():
    following = end(OPEN, 0).complete(40).add(7, 1, [A], now=50)
    with pytest.raises(ProducerFenced, match="epoch 1; producer 7 with epoch 0 is over"):
        end(following, 0)


def test_abort_of_nothing_is_possible_with_version_2_only():
    prepared = end(NEW, 0, commit=False)
    assert prepared.roll_forward() == RollForward(7, 1, False, True, ())
    assert prepared.started_at == 30
    with pytest.raises(InvalidTxnState, match="'app' is Empty"):
        end(NEW, 0)
    with pytest.raises(InvalidTxnState):
        end(NEW, 0, commit=False, version=1)


def test_requests_of_another_producer_are_refused():
    for call in (
        lambda: OPEN.add(8, 0, [A], now=1),
        lambda: end(OPEN, 0, producer_id=8),
    ):
        with pytest.raises(InvalidProducerId, match="belongs to producer 7, not 8"):
            call()
    for call in (
        lambda: OPEN.add(7, 1, [A], now=1),
        lambda: end(OPEN, 1),
    ):
        with pytest.raises(ProducerFenced):
            call()


def test_nothing_is_added_while_the_last_transaction_is_being_finished():
    prepared = end(OPEN, 0)
    with pytest.raises(ConcurrentTransactions, match="still being finished; try again"):
        prepared.add(7, 1, [A], now=40)
    with pytest.raises(ConcurrentTransactions):
        begin(prepared)


def test_a_new_producer_raises_the_epoch_and_fences_the_one_before():
    begun = begin(NEW)
    assert (begun.state, begun.producer_epoch, begun.timeout) == (State.EMPTY, 1, 5000)
    with pytest.raises(ProducerFenced):
        begun.add(7, 0, [A], now=60)
    with pytest.raises(InvalidTxnState):
        begin(OPEN)


def test_a_fenced_transaction_is_aborted_with_a_raised_epoch():
    for version in (1, 2):
        opened = NEW.add(7, 0, [A], now=20, version=version)
        fenced = opened.fence(now=30, spare_id=SPARE)
        assert fenced.roll_forward() == RollForward(7, 1, False, version == 2, (A,))
        with pytest.raises(ProducerFenced):
            end(fenced, 0, commit=True, version=version)
    with pytest.raises(InvalidTxnState):
        NEW.fence(now=30, spare_id=SPARE)


def test_a_producer_that_goes_on_says_what_it_has():
    begun = begin(NEW, (7, 0))
    assert begun.producer_epoch == 1
    assert begin(begun, (7, 0)) is begun, "the answer was lost, and is given again"
    assert begin(begun, (7, 1)).producer_epoch == 2
    another = begin(begun)
    for expected in ((7, 0), (7, 1), (8, 2)):
        with pytest.raises(ProducerFenced):
            begin(another, expected)


def test_a_producer_that_goes_on_from_its_own_open_transaction_is_let_in():
    done = OPEN.fence(now=30, spare_id=SPARE, goes_on=True).complete(40)
    assert begin(done, (7, 0)) is done
    assert done.producer_epoch == 1
    done = OPEN.fence(now=30, spare_id=SPARE).complete(40)
    with pytest.raises(ProducerFenced):
        begin(done, (7, 0))


def test_when_the_epochs_are_used_up_another_producer_id_is_taken():
    last = replace(NEW, producer_epoch=LAST_EPOCH)
    assert last.exhausted
    begun = begin(last)
    assert (begun.producer_id, begun.producer_epoch) == (SPARE, 0)
    begun = begin(last, (7, LAST_EPOCH))
    assert begin(begun, (7, LAST_EPOCH)) is begun


@pytest.mark.parametrize("how", ["commit", "abort", "fence"])
def test_the_last_epoch_is_kept_to_end_the_last_transaction_with(how):
    opened = replace(NEW, producer_epoch=LAST_EPOCH).add(7, LAST_EPOCH, [A], now=20)
    if how == "fence":
        prepared = opened.fence(now=30, spare_id=SPARE)
    else:
        prepared = end(opened, LAST_EPOCH, commit=how == "commit")
    assert prepared.roll_forward() == RollForward(7, 32767, how == "commit", True, (A,))
    done = prepared.complete(40)
    assert (done.producer_id, done.producer_epoch, done.next_producer_id) == (SPARE, 0, -1)
    if how != "fence":
        assert end(done, LAST_EPOCH, commit=how == "commit") is done
        assert end(prepared, LAST_EPOCH, commit=how == "commit") is prepared


def test_an_epoch_that_could_not_be_raised_begins_no_transaction():
    with pytest.raises(ProducerFenced):
        replace(NEW, producer_epoch=32767).add(7, 32767, [A], now=20)


calls = st.lists(
    st.tuples(
        st.sampled_from(["begin", "go on", "add", "commit", "abort", "fence", "complete"]),
        st.sampled_from([0, 0, 0, 1]),  # how old an epoch the caller has
        st.sampled_from([1, 2, 2]),
    ),
    max_size=30,
)


@given(calls, st.sampled_from([0, LAST_EPOCH - 1, LAST_EPOCH]))
def test_whatever_is_called_only_steps_of_the_table_are_taken_and_epochs_only_rise(script, epoch):
    one = replace(NEW, producer_epoch=epoch)
    spare = 900
    for now, (call, behind, version) in enumerate(script):
        spare += 1
        mine = (one.producer_id, one.producer_epoch - behind)
        options = {"now": now, "spare_id": spare}
        try:
            match call:
                case "begin":
                    to = one.begin(timeout=1, **options)
                case "go on":
                    to = one.begin(timeout=1, expected=mine, **options)
                case "add":
                    to = one.add(*mine, [A], now=now, version=version)
                case "fence":
                    to = one.fence(**options)
                case "complete":
                    to = one.complete(now)
                case _:
                    to = one.end(*mine, commit=call == "commit", version=version, **options)
        except TransactionError:
            continue
        if to is one:
            continue
        assert to.state in TRANSITIONS[one.state]
        assert to.producer_epoch >= one.producer_epoch or to.producer_id > one.producer_id
        assert to.state.decided or to.producer_epoch <= LAST_EPOCH
        assert (to.roll_forward() is not None) == to.state.decided
        assert to.partitions == one.partitions or to.state in (
            State.ONGOING,
            State.EMPTY,
            State.COMPLETE_COMMIT,
            State.COMPLETE_ABORT,
        )
        one = to
