"""Resources in a test: opened with its first run, closed at its end, or given by it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from streamkit import App, FunctionError, Resource, UsageError

told: list[str] = []


@pytest.fixture(autouse=True)
def nothing_told() -> None:
    told.clear()


class Client:
    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()

    async def get(self, number: int) -> int:
        assert asyncio.get_running_loop() is self.loop
        await asyncio.sleep(1)
        return 2 * number


class Fake:
    async def get(self, number: int) -> int:
        return -number


app = App("shop")
orders = app.stream("orders", int)


@app.resource
def rate() -> Iterator[int]:
    told.append("rate opened")
    try:
        yield 3
    finally:
        told.append("rate closed")


@app.resource
async def client() -> AsyncIterator[Client | Fake]:
    told.append(f"client opened, {rate()}")
    async with asyncio.TaskGroup():  # which the task has to leave that has entered it
        yield Client()
    told.append(f"client closed, {rate()}")


@app.resource(lazy=True)
def model() -> str:
    told.append("model made")
    return "model"


@orders.process(to="answers")
async def ask(order: int) -> int:
    return await client().get(order)


@orders.process(to="names")
def name(order: int) -> str | None:
    return model() if order > 100 else None


@orders.process(to="far", workers=2, on_error="skip")
def far(order: int) -> int:
    return order * rate() if order < 1000 else len(str(client()))


def test_they_are_opened_in_their_order_once_and_closed_in_the_other() -> None:
    with app.test(partitions=2, members=2) as t:
        assert told == []
        for partition in range(2):
            t.send("orders", 1 + partition, partition=partition)
        t.run()
        assert t.values("answers") == [2, 4]
        assert told[:2] == ["rate opened", "client opened, 3"]
        t.crash(1)
        t.send("orders", 101, partition=1)
        t.send("orders", 102, partition=0)
        t.run()
        assert t.values("names") == ["model", "model"]
        assert told.count("client opened, 3") == 1 and told.count("model made") == 1
        # Its own for what would be other processes, opened as it asks.
        assert t.values("far") == [3, 306, 6, 303]
        assert told.count("rate opened") == 2
    assert told[-2:] == ["client closed, 3", "rate closed"]
    with pytest.raises(UsageError):
        rate()


def test_what_is_killed_begins_with_others() -> None:
    with app.test() as t:
        t.send("orders", 1)
        t.run()
        t.crash()
        assert told.count("client closed, 3") == 1
        t.send("orders", 2)
        t.run()
        assert t.values("answers") == [2, 4]
        assert told.count("client opened, 3") == 2


def test_a_test_gives_what_it_likes_and_nothing_is_opened_for_it() -> None:
    with app.test(resources={client: Fake(), rate: 7}) as t:
        assert rate() == 7
        t.send("orders", 5)
        t.run()
        assert t.values("answers") == [-5]
        assert t.values("far") == [35]
        t.crash()
        t.send("orders", 6)
        t.run()
        assert t.values("answers") == [-5, -6]
    assert told == []


def test_two_runs_at_once_have_their_own() -> None:
    with app.test(resources={rate: 1}) as one, app.test(resources={rate: 2}) as two:
        for run in (one, two, one):
            run.send("orders", 10)
            run.run()
        assert (one.values("far"), two.values("far")) == ([10, 10], [20])


def test_what_the_app_does_not_have_is_refused() -> None:
    other = App("other")

    @other.resource
    def clients() -> int:
        return 1

    with pytest.raises(UsageError, match="no resource 'clients'; did you mean 'client'"):
        app.test(resources={clients: 1})


def test_one_that_is_only_called_like_the_apps_is_refused() -> None:
    other = App("other")

    @other.resource(lazy=True)
    def rate() -> int:
        return 1

    with pytest.raises(UsageError, match=r"give the resource itself.* resources={rate: \.\.\.}"):
        app.test(resources={"rate": 1})  # type: ignore[dict-item]
    with pytest.raises(UsageError, match=r"rate \(.*\) is not this app's: its own is rate \("):
        app.test(resources={rate: 1})


def test_what_cannot_be_opened_when_it_is_asked_for_is_told_with_its_own_cause_alone() -> None:
    app = App("shop")

    @app.resource(lazy=True)
    def model() -> int:
        raise ConnectionError("nobody there")

    app.stream("orders", int).map(lambda order: model(), name="asked").to("out")
    with app.test() as t, pytest.raises(FunctionError) as raised:
        t.send("orders", 1)
        t.run()
    causes = []
    cause: BaseException | None = raised.value
    while cause is not None:
        causes.append(type(cause))
        cause = cause.__cause__ or cause.__context__
    assert causes == [FunctionError, FunctionError, ConnectionError]


def test_one_that_belongs_to_coroutines_is_refused_to_other_processes_as_live() -> None:
    with app.test() as t:
        t.send("orders", 1000)
        t.run()
        assert t.values("far") == []
        assert [task.stats.failed for task in t.tasks] == [1, 0, 0, 0]


def opening(call: object) -> App:
    """An app with `call` for a resource, after one that tells."""
    app = App("shop")

    @app.resource
    def first() -> Iterator[int]:
        yield 1
        told.append("first closed")

    app.resource(call)  # type: ignore[call-overload]
    app.stream("orders", int).map(lambda order: first(), name="ones").to("out")
    return app


def refuses() -> Iterator[int]:
    raise ConnectionError("wrong password")
    yield 1


async def refuses_later() -> AsyncIterator[int]:
    await asyncio.sleep(10)
    raise ConnectionError("wrong password")
    yield 1


async def leaves() -> int:
    raise SystemExit("wrong password")


async def waits() -> int:
    await asyncio.Event().wait()
    return 1


def gives_nothing() -> Iterator[int]:
    yield from ()


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (refuses, "ConnectionError: wrong password"),
        (refuses_later, "ConnectionError: wrong password"),
        (leaves, "SystemExit: wrong password"),
        (waits, "waits for what does not come"),
        (gives_nothing, "didn't yield"),
    ],
)
def test_what_cannot_be_opened_is_named_and_what_is_open_closed(call: object, why: str) -> None:
    with pytest.raises(FunctionError, match=rf"could not be opened: .*{why}") as raised:  # noqa: SIM117
        with opening(call).test() as t:
            t.send("orders", 1)
            t.run()
    assert call.__name__ in str(raised.value)
    assert told == ["first closed"]


def closes_badly() -> Iterator[int]:
    yield 1
    raise ConnectionError("gone")


async def closes_badly_later() -> AsyncIterator[int]:
    yield 1
    raise ConnectionError("gone")


def goes_on() -> Iterator[int]:
    yield 1
    yield 2


@pytest.mark.parametrize(
    ("call", "why"),
    [(closes_badly, "gone"), (closes_badly_later, "gone"), (goes_on, "didn't stop")],
)
def test_what_cannot_be_closed_is_told_and_the_others_are_closed(call: object, why: str) -> None:
    with pytest.raises(FunctionError, match=f"could not be closed: .*{why}"):  # noqa: SIM117
        with opening(call).test() as t:
            t.run()
    assert told == ["first closed"]


def test_a_test_that_fails_fails_with_what_it_says() -> None:
    with pytest.raises(AssertionError, match="mine"), opening(closes_badly).test() as t:
        t.run()
        raise AssertionError("mine")
    assert told == ["first closed"]


def test_one_that_comes_to_its_end_by_itself_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def breaks() -> AsyncIterator[int]:
        async def broken() -> None:
            raise ConnectionError("gone")

        async with asyncio.TaskGroup() as group:
            group.create_task(broken())
            yield 1

    with opening(breaks).test() as t:
        t.run()
    (said,) = [r.getMessage() for r in caplog.records]
    assert "breaks (" in said and "came to its end by itself: ExceptionGroup" in said


def asking(first_asks: bool) -> App:
    app = App("shop")
    later: list[Resource[int]] = []

    @app.resource(lazy=not first_asks)
    def one() -> int:
        return later[0]() + 1

    @app.resource(lazy=not first_asks)
    def two() -> int:
        return 1 if first_asks else one()

    later.append(two)
    app.stream("orders", int).map(lambda order: one(), name="ones").to("out")
    return app


def test_one_that_is_declared_later_is_not_there_yet() -> None:
    with pytest.raises(FunctionError, match=r"two \(.*is not open yet when one \(.*declare it bef"):  # noqa: SIM117
        with asking(True).test() as t:
            t.run()


def test_one_that_is_closed_is_not_there_for_those_that_were_opened_before() -> None:
    app = App("shop")
    later: list[Resource[int]] = []

    @app.resource
    def first() -> Iterator[int]:
        yield 1
        later[0]()

    later.append(app.resource(lambda: 1))
    app.stream("orders", int).to("out")
    with pytest.raises(FunctionError, match=r"first \(.*could not be closed: .*is not open"):  # noqa: SIM117
        with app.test() as t:
            t.run()


def test_those_that_ask_for_each_other_end() -> None:
    with asking(False).test() as t:
        t.send("orders", 1)
        with pytest.raises(FunctionError, match=r"one \(.*is not open yet when two \("):
            t.run()


timed = App("timed")
ended = threading.Event()


@timed.stream("orders", int).process(workers=1, timeout="500ms", to="out", on_error="dlq")
def slow(order: int) -> int:
    if order == 2:
        ended.wait(60)
    return order


def test_a_call_for_another_process_has_its_time_also_in_a_test() -> None:
    try:
        with timed.test(1) as t:
            for order in (1, 2, 3):
                t.send("orders", order)
            t.run()
            assert t.values("out") == [1, 3]
            (letter,) = t.topic("timed-dlq")
            assert b"no answer within 0.5 s" in b"".join(v or b"" for _, v in letter.headers)
            assert not ended.is_set()
    finally:
        ended.set()
