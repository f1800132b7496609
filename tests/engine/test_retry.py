"""Events that a step fails for wait, and are tried again."""

from collections.abc import Iterator
from typing import Any

import pytest

from streamkit import App, Context, FunctionError, State, dlq, retry
from streamkit.engine import letters
from streamkit.testing import TestRun


class Flaky:
    """Fails for some numbers, so many times."""

    def __init__(self, **times: int) -> None:
        self.left = {int(number.removeprefix("n")): count for number, count in times.items()}
        self.calls: list[int] = []

    def check(self, number: int) -> None:
        self.calls.append(number)
        if self.left.get(number, 0) > 0:
            self.left[number] -= 1
            raise ConnectionError(f"{number} cannot be reached")


def shop(flaky: Flaky, on_error: Any, later: Flaky | None = None) -> App:
    """`later` is what a step fails for that follows."""
    app = App("shop")

    @app.stream("numbers", int).process(to="out", on_error=on_error)
    def listed(number: int, seen: State[list[int]], context: Context) -> list[int]:
        numbers = seen.get([])
        numbers.append(number)
        seen.set(numbers)
        context.send("sent", number, key=context.key)
        flaky.check(number)
        return numbers

    if later is not None:
        listed.filter(lambda numbers: later.check(numbers[-1]))
    return app


def started(app: App, *events: tuple[str, int]) -> TestRun:
    run = app.test(1)
    run.create_topic("sent")
    for key, number in events:
        run.send("numbers", number, key=key)
    run.run()
    return run


def test_an_event_is_tried_again_when_it_is_time_and_what_is_behind_it_waits() -> None:
    flaky = Flaky(n2=3)
    with started(shop(flaky, retry(3, backoff="1s")), ("a", 1), ("a", 2), ("b", 3)) as run:
        assert run.values("out") == [[1]]
        assert flaky.calls == [1, 2]
        run.advance("999ms")
        assert flaky.calls == [1, 2]
        run.advance("1ms")  # then 2 s, then 4
        assert flaky.calls == [1, 2, 2]
        run.advance("2s")
        assert flaky.calls == [1, 2, 2, 2]
        assert run.values("out") == [[1]]
        run.advance("4s")
        assert run.values("out") == [[1], [1, 2], [3]]
        assert run.values("sent") == [b"1", b"2", b"3"]


def test_only_the_events_of_its_key_wait_if_that_was_asked_for() -> None:
    flaky = Flaky(n2=1)
    on_error = retry(3, backoff="1s", pause="key")
    with started(shop(flaky, on_error), ("a", 2), ("b", 3), ("a", 4)) as run:
        assert run.values("out") == [[3]]
        run.advance("1s")
        assert run.values("out") == [[3], [2], [2, 4]]


def test_after_the_last_attempt_it_is_set_aside_and_says_how_often() -> None:
    flaky = Flaky(n2=99)
    on_error = retry(2, backoff="1s", factor=1, then=dlq(mode="key"))
    with started(shop(flaky, on_error), ("a", 2), ("b", 3), ("a", 4)) as run:
        run.advance("3s")
        assert run.values("out") == [[3]]
        assert flaky.calls == [2, 2, 2, 3]
        first, second = (letters.read(record.headers) for record in run.topic("shop-dlq"))
        assert first is not None and second is not None
        assert (first.attempts, first.error) == (3, "builtins.ConnectionError")
        assert (second.attempts, second.error) == (0, "")
        run.retry()
        run.advance("1m")  # three more attempts for the first; the other's turn has not come
        assert flaky.calls == [2, 2, 2, 3, 2, 2, 2]
        flaky.left.clear()
        assert run.retry() == 2
        run.run()
        assert run.values("out") == [[3], [2], [2, 4]]
        run.send("numbers", 5, key="a")
        run.run()
        assert run.values("out")[-1] == [2, 4, 5]


def test_after_the_last_attempt_it_is_skipped_or_the_app_stops() -> None:
    with started(shop(Flaky(n1=9), retry(1, backoff="1s", then="skip")), ("a", 1)) as run:
        run.advance("1s")
        assert run.tasks[0].stats.skipped == {"listed": 1}
    run = started(shop(Flaky(n1=9), retry(1, backoff="1s")), ("a", 1))
    with run, pytest.raises(FunctionError, match="1 cannot be reached"):
        run.advance("1s")


def test_what_waits_outlives_its_process_with_the_attempts_it_had() -> None:
    flaky = Flaky(n2=99)
    on_error = retry(2, backoff="10s", factor=1, then="dlq")
    with started(shop(flaky, on_error), ("a", 1), ("a", 2), ("a", 3)) as run:
        run.advance("10s")
        assert flaky.calls == [1, 2, 2]
        run.crash()
        run.rebalance()
        run.run()
        assert flaky.calls == [1, 2, 2]
        run.advance("10s")
        assert flaky.calls == [1, 2, 2, 2, 3]
        assert run.values("out") == [[1], [1, 3]]
        (record,) = run.topic("shop-dlq")
        assert record.value == b"2"


def test_pauses_grow_to_the_longest() -> None:
    policy = retry(10, backoff="1s", factor=3, max="10s")
    assert [policy.wait(attempts) for attempts in (1, 2, 3, 4, 1000)] == [
        1000,
        3000,
        9000,
        10000,
        10000,
    ]


@pytest.mark.parametrize("pause", ["partition", "key"])
def test_where_a_later_step_stops_at_what_went_well_at_last_nothing_of_it_is_left(
    pause: Any,
) -> None:
    app = shop(Flaky(n5=1), retry(2, backoff="1s", pause=pause), Flaky(n5=1))
    with started(app, ("a", 4), ("a", 5), ("a", 6)) as run:
        with pytest.raises(FunctionError, match="5 cannot be reached"):
            run.advance("1s")
        run.advance("5s")
        assert run.values("out") == [[4], [4, 5], [4, 5, 6]]
        assert run.values("sent") == [b"4", b"5", b"6"]


@pytest.mark.parametrize("then", ["stop", dlq(mode="key")])
def test_a_key_is_in_one_task_where_a_step_that_is_retried_keeps_something_of_it(then: Any) -> None:
    app = App("shop")

    @(
        app.stream("numbers", int)
        .by(lambda number: "k", name="k")
        .process(name="counted", to="out", on_error=retry(1, then=then))
    )
    def counted(number: int, seen: State[int]) -> int:
        seen.set(seen.get(0) + 1)
        return seen.get(0)

    with app.test(2) as run:
        for number in range(4):
            run.send("numbers", number, partition=number % 2)
        run.run()
        assert run.values("out") == [1, 2, 3, 4]


@pytest.mark.parametrize("keyed_anew", [False, True])
def test_several_results_are_told_apart_the_same_whether_their_call_had_to_wait(
    keyed_anew: bool,
) -> None:
    def dead(failures: int) -> list[tuple[bytes | None, bytes | None]]:
        app, attempts = App("shop"), [ValueError("not yet")] * failures
        numbers = app.stream("numbers", int)

        @(numbers.by(lambda number: "k", name="k") if keyed_anew else numbers).process(
            name="some", on_error=retry(1, backoff="1s")
        )
        def some(number: int, seen: State[int]) -> Iterator[int]:
            if attempts:
                raise attempts.pop()
            yield from range(3)

        @some.process(name="never", on_error="dlq")
        def never(number: int, context: Context) -> None:
            raise ValueError(f"not {number}")

        with app.test(1) as run:
            for number in range(2):
                run.send("numbers", number, key="a")
            run.run()
            run.advance("1m")
            headers = [dict(record.headers) for record in run.topic("shop-dlq")]
        told = [f"__streamkit.errors.{name}" for name in ("offset", "ordinal", "root")]
        return [tuple(each.get(name) for name in told) for each in headers]

    found = dead(0)
    assert dead(1) == found
    assert len(set(found)) == 6
    assert all(root is not None for *_, root in found) == keyed_anew
