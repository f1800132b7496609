"""What becomes of events that a step fails for: nothing of the call is left, and what on_error says
is done."""

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from streamkit import (
    App,
    Context,
    FunctionError,
    ListState,
    MapState,
    SerdeError,
    State,
    Timer,
    TopologyError,
    dlq,
    retry,
)
from streamkit.engine import letters
from streamkit.testing import TestRun


class Order(msgspec.Struct):
    amount: int
    at: int = 0


def dead(run: TestRun, topic: str = "shop-dlq") -> list[tuple[Any, Any, letters.Letter]]:
    found = []
    for record in run.topic(topic):
        letter = letters.read(record.headers)
        assert letter is not None
        found.append((record.key, record.value, letter))
    return found


def test_a_record_that_fails_is_skipped_counted_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = App("shop")

    @app.stream("numbers", int).process(to="halves", on_error="skip")
    def half(number: int) -> int:
        if number % 2:
            raise ValueError(f"{number} is odd")
        return number // 2

    with app.test(1) as run:
        for number in range(5):
            run.send("numbers", number)
        run.run()
        assert run.values("halves") == [0, 1, 2]
        (task,) = run.tasks
        assert task.stats.skipped == {"half": 2}
        said, *others = caplog.messages
        assert said.startswith("step half: an event was skipped: numbers-0@1: ValueError: ")
        assert "raise ValueError" in said
        assert others == []  # for a while
        run.advance("1m")
        run.send("numbers", 5)
        run.run()
        assert caplog.messages[1:] == [
            "step half: 2 more were skipped, the last: numbers-0@5: ValueError: 5 is odd"
        ]


@pytest.mark.parametrize("waited_for", [False, True])
def test_an_event_that_is_to_be_tried_again_is_told_when_it_fails(
    caplog: pytest.LogCaptureFixture, waited_for: bool
) -> None:
    app = App("shop")

    def half(number: int) -> int:
        raise ConnectionError("nobody there")

    async def later(number: int) -> int:
        return half(number)

    step = app.stream("numbers", int).process(
        to="halves", name="half", on_error=retry(2, backoff="10s", then="skip")
    )
    step(later if waited_for else half)
    with app.test(1) as run:
        run.send("numbers", 4)
        run.run()
        (said,) = caplog.messages
        assert said.startswith(
            "step half: an event was put off, to be tried again: numbers-0@0: ConnectionError: "
        )
        assert "raise ConnectionError" in said
        run.advance("30s")
        assert caplog.messages[1].startswith("step half: an event was skipped: numbers-0@0: ")
        run.advance("1m")
        run.send("numbers", 5)
        run.run()
        assert caplog.messages[2:] == [
            "step half: 2 more were put off, to be tried again, the last: numbers-0@1: "
            "ConnectionError: nobody there"
        ]


def test_what_is_no_value_of_the_type_has_no_traceback_and_is_told_in_a_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = App("shop")
    app.stream("numbers", int, on_error="dlq").to("same")
    with app.test(1) as run:
        run.send("numbers", b"seven")
        run.run()
        ((_, value, letter),) = dead(run)
        assert (value, letter.trace) == (b"seven", "")
        assert "expected int" in letter.message
        (said,) = caplog.messages
        assert said.count("expected int") == 1
        assert "\n" not in said


def test_a_dead_letter_has_what_the_step_was_given_and_why_it_failed() -> None:
    app = App("shop")
    orders = app.stream("orders", Order, time="at")
    doubled = orders.map(lambda order: Order(order.amount * 2, order.at), on_error="stop")

    @orders.process(to="checked", on_error="dlq")
    def check(order: Order) -> Order:
        if order.amount < 0:
            raise ValueError("less than nothing")
        return order

    assert doubled
    with app.test(2) as run:
        run.send("orders", Order(1, 10), key="a", partition=1)
        run.send("orders", Order(-1, 20), key="a", partition=1, headers=(("trace", b"7"),))
        run.run()
        assert run.values("checked") == [Order(1, 10)]
        ((record,), ((key, value, letter),)) = run.topic("shop-dlq"), dead(run)
        assert (key, value, record.timestamp) == (b"a", b'{"amount":-1,"at":20}', 20)
        assert (letter.app, letter.step, letter.task) == ("shop", "check", 1)
        assert (letter.source, letter.attempts) == ("orders-1@1", 1)
        assert (letter.error, letter.message) == ("builtins.ValueError", "less than nothing")
        assert letter.trace.startswith("Traceback")
        assert "streamkit/engine" not in letter.trace
        assert letter.headers == (("trace", b"7"),)


def test_nothing_of_a_call_that_failed_is_left() -> None:
    app = App("shop")

    @app.stream("orders", Order).process(to="seen", on_error="skip")
    def see(
        order: Order,
        context: Context,
        last: State[list[int]],
        all_: ListState[int],
        by: MapState[str, int],
    ) -> Iterator[int]:
        kept = last.get([])
        kept.append(order.amount)
        last.set(kept)
        all_.append(order.amount)
        by[str(order.amount)] = order.amount
        context.send("sent", order.amount)
        yield len(all_)
        if order.amount < 0:
            all_.clear()
            by.clear()
            raise ValueError
        yield sum(kept) + sum(by.values())

    with app.test(1) as run:
        run.create_topic("sent")
        for amount in (1, -1, 2, -2, 3):
            run.send("orders", Order(amount), key="a")
        run.run()
        assert run.values("seen") == [1, 2, 2, 6, 3, 12]
        assert run.values("sent") == [b"1", b"2", b"3"]


def test_what_is_kept_or_given_or_sent_of_another_type_fails_the_call_too() -> None:
    app = App("shop")

    @app.stream("numbers", int).process(to="out", on_error="dlq")
    def wrong(number: int, kept: State[int], context: Context) -> int:
        if number == 1:
            kept.set("one")  # type: ignore[arg-type]
            return number
        if number == 2:
            return object()  # type: ignore[return-value]
        if number == 3:
            context.send("__other", 1)
        kept.set(number)
        return kept.get(0)

    with app.test(1) as run:
        for number in range(1, 5):
            run.send("numbers", number, key="a")
        run.run()
        assert run.values("out") == [4]
        serde = "streamkit.errors.SerdeError"
        errors = [letter.error for _, _, letter in dead(run)]
        assert errors == [serde, serde, "streamkit.errors.InvalidTopic"]


@pytest.mark.parametrize("batched", [False, True])
def test_an_answer_that_its_topic_does_not_take_is_a_failure_of_its_event(batched: bool) -> None:
    app = App("shop")
    numbers = app.stream("numbers", int)
    if batched:

        @numbers.process(batch=2, to="answers", on_error="dlq")
        def ask_all(some: list[int]) -> list[str]:
            return ["x" * number for number in some]

    else:

        @numbers.process(to="answers", on_error="dlq")
        async def ask(number: int) -> str:
            return "x" * number

    with app.test(1) as run:
        for number in (1, 2, 3, 2_000_000, 4, 5):
            run.send("numbers", number)
        run.run()
        answered = {len(answer) for answer in run.values("answers")}
        assert answered == ({1, 2, 4, 5} if batched else {1, 2, 3, 4, 5})
        errors = {letter.error for _, _, letter in dead(run)}
        assert errors == {"streamkit.errors.RecordTooLarge"}


def test_records_that_are_not_of_the_type_are_set_aside_as_they_are() -> None:
    app = App("shop")
    orders = app.stream("orders", Order, time="at", on_error=dlq("bad"))

    @orders.process(to="amounts")
    def amount(order: Order) -> int:
        return order.amount

    with app.test(1) as run:
        run._backend.append(_at("orders"), [b'{"amount":1}'], timestamps=5)
        run._backend.append(_at("orders"), [b"{"], keys=[b"k"], timestamps=6)
        run._backend.append(_at("orders"), [b'{"amount":2,"at":-9}'], timestamps=7)
        run._backend.append(_at("orders"), [b'{"amount":3}'], timestamps=8)
        run.run()
        assert run.values("amounts") == [1, 3]
        first, second = dead(run, "bad")
        assert first[:2] == (b"k", b"{")
        assert (first[2].source, first[2].step) == ("orders-0@1", "orders")
        assert first[2].error == "streamkit.errors.SerdeError"
        assert second[2].error == "streamkit.errors.DataError"
        assert [record.timestamp for record in run.topic("bad")] == [6, 7]


def test_what_a_later_step_raises_is_not_the_streams_fault() -> None:
    app = App("shop")

    @app.stream("numbers", int, on_error="skip").process
    def fail(number: int) -> int:
        raise ValueError

    with app.test(1) as run:
        run.send("numbers", 1)
        with pytest.raises(FunctionError, match="numbers-0@0"):
            run.run()


def test_what_was_kept_of_another_type_is_no_fault_of_what_is_read_meanwhile() -> None:
    def declared(type_: Any) -> App:
        app = App("shop")

        @app.stream("numbers", type_, out_of_order="5s", on_error="skip").process(
            on_error=retry(1, pause="key")
        )
        def given(number: Any) -> type_:
            return number

        @given.process
        def noted(number: type_, context: Context) -> None:
            context.timer(after="1s")

        @noted.on_timer
        def told(timer: Timer) -> None: ...

        return app

    with declared(int).test(1) as run:
        run.send("numbers", 1, key="a", timestamp=1000)
        run.run()
        run._topology = declared(Order).topology()
        run.crash()
        run._backend.append(_at("numbers"), [b'{"amount":2}'], keys=[b"a"], timestamps=60_000)
        with pytest.raises(SerdeError, match="numbers-0@0: event kept for noted, of another type"):
            run.run()


def test_what_a_later_step_raises_is_not_an_earlier_steps_fault() -> None:
    app = App("shop")

    @app.stream("numbers", int).process(on_error="skip")
    def good(number: int) -> int:
        return number

    @good.process(to="out")
    def bad(number: int) -> int:
        raise ValueError

    with app.test(1) as run:
        run.send("numbers", 1)
        with pytest.raises(FunctionError, match="bad"):
            run.run()


@pytest.mark.parametrize("mode", ["map", "filter", "flat_map", "join", "reduce", "aggregate"])
def test_each_kind_of_step_goes_on(mode: str) -> None:
    app = App("shop")
    numbers = app.stream("numbers", int)

    def check(number: int) -> int:
        if number == 2:
            raise ValueError
        return number

    match mode:
        case "map":
            numbers.map(check, on_error="skip").to("out")
        case "filter":
            numbers.filter(check, on_error="skip").to("out")
        case "flat_map":
            numbers.flat_map(lambda n: [check(n)], on_error="skip").to("out")
        case "join":
            table = app.table("rows", int)

            @numbers.join(table, how="left", to="out", on_error="skip")
            def joined(number: int, row: int | None) -> int:
                return check(number)
        case "reduce":

            @numbers.reduce(to="out", on_error="skip")
            def last(before: int, number: int) -> int:
                return check(number)
        case "aggregate":

            @numbers.aggregate(to="out", on_error="skip")
            def listed(sofar: list[int] | None, number: int) -> list[int]:
                sofar = [] if sofar is None else sofar
                sofar.append(number)
                check(number)
                return sofar

    with app.test(1) as run:
        for number in (1, 2, 3):
            run.send("numbers", number, key="a")
        run.run()
        wanted = {"aggregate": [[1], [1, 3]]}.get(mode, [1, 3])
        assert [msgspec.json.decode(value) for value in _raw(run, "out")] == wanted
        assert sum(run.tasks[0].stats.skipped.values()) == 1


def test_it_stops_where_nothing_else_was_said() -> None:
    app = App("shop")

    @app.stream("numbers", int).process(to="out")
    def fail(number: int) -> int:
        raise ValueError

    with app.test(1) as run:
        run.send("numbers", 1)
        with pytest.raises(FunctionError):
            run.run()


def test_a_crash_loses_and_doubles_no_dead_letter() -> None:
    app = App("shop")

    @app.stream("numbers", int).process(to="out", on_error="dlq")
    def even(number: int, seen: State[int]) -> int:
        seen.set(seen.get(0) + 1)
        if number % 2:
            raise ValueError
        return seen.get(0)

    with app.test(1) as run:
        for number in range(10):
            run.send("numbers", number, key="a")
        run.step()
        run.crash()
        run.run()
        assert run.values("out") == [1, 2, 3, 4, 5]
        assert [value for _, value, _ in dead(run)] == [b"1", b"3", b"5", b"7", b"9"]


def test_at_least_once_a_dead_letter_is_still_there_once() -> None:
    app = App("shop", guarantee="at_least_once")

    @app.stream("numbers", int).process(to="out", on_error=dlq(mode="key"))
    def fail(number: int) -> int:
        if number == 1:
            raise ValueError
        return number

    with app.test(1) as run:
        for number in range(3):
            run.send("numbers", number, key="a")
        run.step()
        run.crash()
        run.run()
        assert run.values("out") == [0, 0]  # at once, and again
        assert [value for _, value, _ in dead(run)] == [b"1", b"2"]


@pytest.mark.parametrize(
    ("declare", "text"),
    [
        (lambda app: app.stream("s", int).process(on_error="retry")(str), "it is"),
        (lambda app: app.stream("s", int).map(lambda n: n, on_error="dlq"), "no name"),
        (lambda app: app.stream("s", int).map(lambda n: n).map(str, on_error="dlq"), "unknown"),
        (lambda app: app.stream("s", int).map(_same, on_error=dlq("s")), "of their own"),
        (lambda app: app.stream("s", int).map(_same, on_error=dlq("t")).to("t"), "of their own"),
        (lambda app: dlq(mode="keys"), "mode="),
        (lambda app: app.stream("s", int).map(_same, on_error=retry(3)), "for process"),
        (lambda app: app.stream("s", int, on_error=retry(3)), "will not be later"),
        (lambda app: retry(0), "once more"),
        (lambda app: retry(3, then=retry(2)), "one of them"),
        (lambda app: retry(3, factor=0.5), "not shorter"),
    ],
)
def test_what_does_not_fit_is_refused(declare: Any, text: str) -> None:
    app = App("shop")
    with pytest.raises(TopologyError, match=text):
        declare(app)
        app.topology()


def test_two_steps_of_one_name_cannot_both_set_aside() -> None:
    app = App("shop")
    numbers = app.stream("s", int)
    numbers.map(_same, on_error="dlq")
    with pytest.raises(TopologyError, match="_same"):
        numbers.map(_same, on_error="dlq")
    numbers.map(_same, on_error="dlq", name="again")


def test_state_that_cannot_be_read_is_no_fault_of_the_event() -> None:
    app = App("shop")

    @app.stream("numbers", int).process(on_error="skip")
    def count(number: int, seen: State[int]) -> int:
        return seen.get(0)

    with app.test(1) as run:
        run.send("numbers", 1, key="a")
        run.step()
        store = run.tasks[0].stores["shop-count-seen-changelog"]
        store.remember = _broken
        run.send("numbers", 2, key="a")
        with pytest.raises((SerdeError, FunctionError, OSError)):
            run.run()


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


@pytest.mark.parametrize("wait", ["no", "retry", "async", "batch"])
@pytest.mark.parametrize("error", [Mute, asyncio.CancelledError, GeneratorExit, StopIteration])
def test_whatever_a_function_raises_is_a_failure_of_its_event(
    wait: str, error: type[BaseException]
) -> None:
    app = App("shop")
    numbers = app.stream("numbers", int)

    def odd(number: int, seen: State[list[int]]) -> list[int]:
        seen.set([*seen.get([]), number])
        if number % 2:
            seen.get().append(-1)
            raise error
        return seen.get()

    async def odd_later(number: int) -> list[int]:
        if number % 2:
            raise error
        return [number]

    def odd_together(some: list[int]) -> list[list[int]]:
        if some[0] % 2:
            raise error
        return [some]

    if wait == "no":
        numbers.process(to="out", on_error="dlq", name="step")(odd)
    elif wait == "retry":
        numbers.process(to="out", on_error=retry(1, then="dlq"), name="step")(odd)
    elif wait == "async":
        numbers.process(to="out", on_error="dlq", name="step")(odd_later)
    else:
        numbers.process(to="out", on_error="dlq", name="step", batch=1)(odd_together)
    with app.test(1) as run:
        for number in (2, 3, 4):
            run.send("numbers", number, key="k")
        run.run()
        run.advance("2s")
        assert run.values("out") == ([[2], [2, 4]] if wait in ("no", "retry") else [[2], [4]])
        ((_, value, letter),) = dead(run)
        assert value == b"3"
        assert error.__name__ in letter.error + letter.message + letter.trace


def test_an_error_without_a_text_stops_at_its_record() -> None:
    app = App("shop")

    @app.stream("numbers", int).process
    def mute(number: int) -> None:
        raise Mute

    with app.test(1) as run:
        run.send("numbers", 1)
        with pytest.raises(FunctionError, match=r"mute .* raised Mute: .*numbers-0@0"):
            run.run()


def _broken(_: bytes) -> Any:
    raise OSError("the disk is gone")


def _same(number: int) -> int:
    return number


def _at(topic: str) -> Any:
    from streamkit import TopicPartition

    return TopicPartition(topic, 0)


def _raw(run: TestRun, topic: str) -> list[bytes]:
    return [
        record.value
        for batch in run._backend.fetch({_at(topic): 0})
        for record in batch.records()
        if record.value is not None
    ]


def test_what_stopped_the_app_is_not_in_a_letter_about_something_else() -> None:
    app = App("shop")

    @app.stream("numbers", int).process(on_error="dlq")
    def check(number: int) -> int:
        if number == 1:
            raise ValueError("it is one")
        return number

    @check.process
    def count(number: int, seen: State[int]) -> None:
        seen.set(seen.get(0) + 1)
        if number == 2:
            raise RuntimeError("it is two")

    with app.test(1) as run:
        for number in (1, 2):
            run.send("numbers", number, key="a")
        with pytest.raises(FunctionError, match="it is two"):
            run.run()  # what was before it is done again, and committed
        (letter,) = run.topic("shop-dlq")
        trace = dict(letter.headers)["__streamkit.errors.exception.stacktrace"].decode()
        assert "it is one" in trace and "it is two" not in trace
