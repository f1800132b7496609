"""Resources of an app that runs: open before its first event, closed after its last, told of."""

import asyncio
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from streamkit import App
from streamkit.backends.base import Backend
from streamkit.backends.locate import open_backend
from streamkit.clock import SystemClock
from streamkit.engine import callers, loop, opened
from streamkit.engine.live import run
from streamkit.engine.worker import Worker
from streamkit.errors import Fenced, FunctionError, UsageError
from streamkit.records import TopicPartition
from streamkit.replay.begin import begin
from streamkit.replay.run import run as run_replay

SECONDS = 60.0
ORDERS = TopicPartition("orders", 0)


@pytest.fixture
def log() -> Iterator[Backend]:
    with open_backend("memory:") as log:
        log.create_topic("orders")
        yield log


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def values(log: Backend, topic: str) -> list[bytes | None]:
    batches = log.fetch({TopicPartition(topic, 0): 0}) if topic in log.topics() else []
    return [record.value for batch in batches for record in batch.records()]


class Shop:
    """An app with two resources, of which the second is `async`, and what was done with them."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.app = App("shop")
        self.opening = self.closing = lambda: None

        @self.app.resource
        def rate() -> Iterator[int]:
            self.told.append("rate opened")
            yield 2
            self.told.append("rate closed")

        @self.app.resource
        async def client() -> AsyncIterator[asyncio.AbstractEventLoop]:
            self.opening()
            self.told.append("client opened")
            yield asyncio.get_running_loop()
            self.closing()
            self.told.append("client closed")

        orders = self.app.stream("orders", int)

        @orders.process(to="asked")
        async def ask(order: int) -> int:
            assert client() is asyncio.get_running_loop()
            self.told.append(f"asked {order}")
            if order == 13:
                try:
                    await asyncio.Event().wait()
                finally:
                    await asyncio.sleep(0.05)  # with what it still has to say to the client
                    self.told.append("left")
            return order * rate()

        @orders.process(to="plain")
        def plain(order: int) -> int:
            if order == 14:
                raise ValueError("fourteen")
            return order * rate()


def test_they_are_open_from_before_the_first_event_to_after_the_last(log: Backend) -> None:
    shop = Shop()
    log.append(ORDERS, [b"1", b"2"])
    for _ in range(2):
        run(shop.app.topology(), log, until_end=True)
    assert values(log, "asked")[:2] == values(log, "plain")[:2] == [b"2", b"4"]
    opened, closed = ["rate opened", "client opened"], ["client closed", "rate closed"]
    assert shop.told == [*opened, "asked 1", "asked 2", *closed, *opened, *closed]


def test_they_are_closed_after_calls_that_are_cancelled_and_after_an_error(log: Backend) -> None:
    shop = Shop()
    log.append(ORDERS, [b"13"])
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(shop.app.topology(), log), kwargs={"stop": stop})
    thread.start()
    until(lambda: "asked 13" in shop.told)
    with pytest.raises(UsageError, match="open already"):
        run(shop.app.topology(), log, until_end=True)
    stop.set()
    thread.join()
    assert shop.told[-3:] == ["left", "client closed", "rate closed"]
    log.append(ORDERS, [b"14"])
    with pytest.raises(FunctionError, match="fourteen"):
        run(shop.app.topology(), log, until_end=True)
    assert shop.told[-2:] == ["client closed", "rate closed"]


def test_they_belong_to_the_process_and_outlast_its_tasks(
    log: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, commit, fenced = Shop(), Worker._commit, iter([True])

    def fenced_once(worker: Worker) -> None:
        if next(fenced, False):
            raise Fenced("another has its tasks")
        commit(worker)

    monkeypatch.setattr(Worker, "_commit", fenced_once)
    log.append(ORDERS, [b"1", b"2"])
    run(shop.app.topology(), log, until_end=True)
    assert values(log, "asked")[:2] == [b"2", b"4"]
    assert [what for what in shop.told if "ed 1" not in what and "ed 2" not in what] == [
        *("rate opened", "client opened"),
        *("client closed", "rate closed"),
    ]


def test_where_one_cannot_be_opened_nothing_is_done_and_no_task_taken(log: Backend) -> None:
    shop = Shop()
    shop.opening = lambda: 1 / 0  # type: ignore[assignment, return-value]
    before = set(log.topics())
    with pytest.raises(FunctionError, match=r"resource client \(.*could not be opened: ZeroDiv"):
        run(shop.app.topology(), log, until_end=True)
    assert shop.told == ["rate opened", "rate closed"]
    assert set(log.topics()) == before and "shop" not in log.groups()


def test_where_one_cannot_be_closed_that_is_told_and_the_others_are(
    log: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop()
    shop.closing = lambda: 1 / 0  # type: ignore[assignment, return-value]
    run(shop.app.topology(), log, until_end=True)
    (error,) = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert "resource client (" in error and "could not be closed: ZeroDivisionError" in error
    assert f"at {__file__}:" in error
    assert shop.told[-1] == "rate closed"


def test_what_takes_long_to_open_is_named_and_a_stop_ends_it(
    log: Backend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(opened, "LONG", 0.01)
    shop = Shop()

    @shop.app.resource
    async def never() -> AsyncIterator[int]:
        try:
            await asyncio.Event().wait()
            yield 1
        finally:
            shop.told.append("given up")

    stop = threading.Event()
    thread = threading.Thread(target=run, args=(shop.app.topology(), log), kwargs={"stop": stop})
    thread.start()
    until(lambda: any("never (" in r.getMessage() for r in caplog.records))
    stop.set()
    thread.join()
    assert shop.told == [
        *("rate opened", "client opened", "given up"),
        *("client closed", "rate closed"),
    ]
    assert "asked" not in log.topics()


def test_what_they_have_begun_and_left_to_itself_is_cancelled(
    log: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop()
    tasks = []

    async def poll() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            shop.told.append("cancelled")

    @shop.app.resource
    async def polling() -> int:
        tasks.append(asyncio.create_task(poll()))
        return 1

    run(shop.app.topology(), log, until_end=True)
    assert shop.told[-1] == "cancelled" and tasks[0].cancelled()
    assert not [r for r in caplog.records if r.name == "asyncio"]


@pytest.mark.parametrize("blocking", [False, True])
def test_one_that_does_not_close_is_left(
    log: Backend,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    blocking: bool,
) -> None:
    monkeypatch.setattr(callers, "STOP_SECONDS", 0.05)
    monkeypatch.setattr(loop, "STOP_SECONDS", 0.05)
    monkeypatch.setattr(loop, "GIVE_UP_SECONDS", 0.05)
    shop, ended = Shop(), threading.Event()

    @shop.app.resource
    async def stays() -> AsyncIterator[int]:
        yield 1
        if blocking:
            ended.wait(SECONDS)
        await asyncio.Event().wait()

    try:
        run(shop.app.topology(), log, until_end=True)
        told = " ".join(r.getMessage() for r in caplog.records)
        assert "stays (" in told and "could not be closed: TimeoutError" in told
        assert shop.told[-1] == "rate closed"
    finally:
        ended.set()
    until(lambda: all(one.name != "streamkit-async" for one in threading.enumerate()))


def test_a_replay_opens_them_as_it_calls_what_uses_them(log: Backend) -> None:
    shop = Shop()
    log.append(ORDERS, [b"1"])
    run(shop.app.topology(), log, until_end=True)
    shop.told.clear()
    now = SystemClock().now()
    topology = shop.app.topology()
    session = begin(topology, log, name="r", from_text="earliest", to_text="latest", now=now)
    assert shop.told == []
    run_replay(topology, log, session, stop=threading.Event())
    assert shop.told == [
        *("rate opened", "client opened", "asked 1"),
        *("client closed", "rate closed"),
    ]
    assert values(log, "asked.replay.r") == [b"2"]


APP = """
import asyncio, os
from streamkit import App
app = App("shop")
orders = app.stream("orders", int)

def tell(what):
    with open("told", "a") as file:
        file.write(f"{os.getpid()} {what}\\n")

@app.resource
def rate():
    tell("opened")
    yield 2
    tell("closed")

@app.resource
async def client():
    tell("client opened")
    yield 1
    tell("client closed")

@orders.process(workers=1, to="hard")
def hard(order: int) -> int:
    tell("hard")
    return order * rate()
"""


def test_processes_of_a_function_have_their_own_and_sigterm_closes_all(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    command = [sys.executable, "-m", "streamkit", "--log", "log", "run", "app.py"]
    with open_backend(tmp_path / "log") as log:
        log.create_topic("orders")
        log.append(ORDERS, [b"21"])
        with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
            try:
                until(lambda: values(log, "hard") == [b"42"])
                process.send_signal(signal.SIGTERM)
                _, said = process.communicate(timeout=SECONDS)
            finally:
                process.kill()
        assert process.returncode == 0, said
    told: dict[str, list[str]] = {}
    for line in (tmp_path / "told").read_text().splitlines():
        number, what = line.split(" ", 1)
        told.setdefault(number, []).append(what)
    assert told.pop(str(process.pid)) == ["opened", "client opened", "client closed", "closed"]
    assert list(told.values()) == [["hard", "opened", "closed"]]
