"""The queue of a step that waits for answers, against a model that is a list."""

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.engine.hot.moment import FOREVER
from streamkit.engine.waiting import Answer, Call, Event, Queue


def event(number, key="", held=None):
    data = key.encode() or None
    held = number if held is None else held
    return Event(number, key, number, 0, (), "in", 0, number, 0, None, held, data, b"")


def leave(queue, call):
    for one in call.events:
        queue.left(one)
    queue.leave(call)


moves = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from(["", "a", "b", "c"])),
        st.tuples(st.just("ready"), st.integers(0, 5)),
        st.tuples(st.sampled_from(["answer", "fail"]), st.integers(0, 9)),
        st.tuples(st.just("leave"), st.integers(0, 3)),
    ),
    max_size=120,
)


@given(moves, st.integers(1, 4), st.booleans())
@settings(max_examples=300)
def test_everything_is_called_and_leaves_once_in_its_order(moves, concurrency, in_order):
    queue = Queue(concurrency, in_order=in_order)
    now, added, calling, left, attempts = 0, [], {}, [], defaultdict(int)

    def let_leave(limit):
        calls = queue.leaving()
        expected = [number for number in added if number not in left]
        if in_order:
            assert [call.number for call in calls] == expected[: len(calls)]
        for call in calls[:limit]:
            leave(queue, call)
            left.append(call.number)

    def start():
        for call in queue.ready(now):
            assert call.number not in calling and call.number not in left
            assert call.due is None or call.due <= now
            calling[call.number] = call
        assert len(calling) <= concurrency

    for move, value in moves:
        if move == "add":
            number = len(added)
            one = event(number, value)
            queue.hold(one)
            queue.add(Call((one,), None if in_order else one.data))
            added.append(number)
        elif move == "ready":
            now += value
            start()
            lanes = [call.lane for call in calling.values() if call.lane is not None]
            assert len(lanes) == len(set(lanes)), "one of a key at a time"
        elif move == "leave":
            let_leave(value)
        elif calling:
            number = sorted(calling)[value % len(calling)]
            call = calling.pop(number)
            if move == "answer":
                queue.answered(call, Answer(number))
            else:
                attempts[number] += 1
                queue.again(call, now + value if value % 2 else None)
                assert call.attempts == attempts[number]
        waiting = [number for number in added if number not in left]
        assert list(queue.events) == waiting
        assert queue.held == (waiting[0] if waiting else FOREVER)
        assert queue.running == len(calling)
        due = queue.due
        assert due is None or due in [call.due for call in queue.calls.values()]
    for _ in range(len(added) * 3 + 3):
        now += 10
        start()
        for number in list(calling):
            queue.answered(calling.pop(number), Answer(number))
        let_leave(1 << 30)
    assert sorted(left) == added and not queue.events and not queue.bytes
    if in_order:
        assert left == added


def test_a_call_that_left_as_a_journal_said_is_not_made_any_more():
    queue = Queue(1, in_order=True)
    first = event(0)
    queue.hold(first)
    queue.add(call := Call((first,)))
    leave(queue, call)
    assert list(queue.ready(0)) == []


def test_what_is_due_later_waits_for_its_time_and_does_not_keep_others_back():
    queue = Queue(1, in_order=False)
    events = [event(0, "a"), event(1, "b"), event(2, "a")]
    for one in events:
        queue.hold(one)
        queue.add(Call((one,), one.data))
    (first,) = queue.ready(0)
    queue.again(first, 50)
    assert queue.due == 50
    (second,) = queue.ready(0)
    assert second.number == 1  # of another key
    queue.answered(second, Answer())
    leave(queue, second)
    assert list(queue.ready(49)) == []  # the third is behind the first
    assert [call.number for call in queue.ready(50)] == [0]
