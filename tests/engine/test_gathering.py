"""What a batch is made of, and when."""

from streamkit.engine.operators.gathering import Gathering, Gatherings
from streamkit.engine.waiting import Event


def event(number: int, *, again: bool = False) -> Event:
    return Event(number, "k", number, 0, (), "t", 0, number, 0, None, 0, again=again)


ONE, TWO, THREE = (event(number) for number in range(3))
BACK, BACK_TOO = (event(number, again=True) for number in (8, 9))


def test_a_batch_is_due_when_its_first_has_waited_so_long_and_an_empty_one_never_is() -> None:
    batch = Gathering(3, within=10)
    batch.add(ONE, now=100)
    batch.add(TWO, now=105)
    assert (batch.due_at, batch.is_due(109), batch.is_due(110), batch.room) == (110, False, True, 1)
    assert batch.take() == (ONE, TWO)
    assert (batch.due_at, batch.is_due(110), batch.take()) == (None, False, ())
    batch.add(THREE, now=200)
    assert batch.due_at == 210


def test_what_is_hurried_is_the_batch_that_there_is_and_not_the_next() -> None:
    batch = Gathering(3, within=10)
    assert not batch.hurry()
    batch.add(ONE, now=0)
    assert batch.hurry() and batch.is_due(0)
    batch.take()
    batch.add(TWO, now=0)
    assert not batch.is_due(0)


def test_what_came_back_is_in_batches_of_its_own_which_are_due_as_others_are() -> None:
    batches = Gatherings(2, within=10)
    for at, one in ((7, BACK), (20, ONE)):
        batches.of(one).add(one, at)
    assert not batches.full and batches.due_at == 17
    batches.of(TWO).add(TWO, 21)
    assert [one.take() for one in batches.full] == [(ONE, TWO)]
    assert batches.hurry() and batches.back.is_due(0)
    batches.of(BACK_TOO).add(BACK_TOO, 22)
    assert [one.take() for one in batches.full] == [(BACK, BACK_TOO)]
    assert batches.due_at is None and not batches.hurry()


def test_the_first_of_each_batch_is_kept_with_the_time_at_which_it_is_due() -> None:
    batches = Gatherings(4, within=10)
    for at, one in ((5, BACK), (6, ONE), (7, TWO), (8, BACK_TOO)):
        batches.of(one).add(one, at)
    kept = list(batches.events())
    assert kept == [(ONE, 16), (TWO, None), (BACK, 15), (BACK_TOO, None)]
    after = Gatherings(4, within=10)
    for one, due in kept:
        after.of(one).again(one, due)
    assert list(after.events()) == kept
