"""Coroutines, batches and worker processes in a real log: killed, stopped, slow and dead."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from msgspec import Struct

from streamkit import App, Context, retry, tumbling
from streamkit.backends.base import Backend
from streamkit.backends.locate import open_backend
from streamkit.backends.values import CommittedOffset
from streamkit.engine import loop, watch
from streamkit.engine.dead_letters import DeadLetters
from streamkit.engine.live import run
from streamkit.errors import FunctionError, TopologyError, UnsafeChange, UsageError
from streamkit.records import TopicPartition

SECONDS = 60.0


class Order(Struct):
    n: int


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def publish(log: Backend, numbers: Sequence[int], partitions: int = 1) -> None:
    for number in numbers:
        at = TopicPartition("orders", number % partitions)
        log.append(at, [b'{"n":%d}' % number], keys=[b"k%d" % (number % 3)], timestamps=number)


def values(log: Backend, topic: str) -> list[int]:
    found: list[int] = []
    if topic not in log.topics():
        return found
    for number in range(log.topics()[topic].partitions):
        at = TopicPartition(topic, number)
        position = log.offsets(at).start
        while batches := log.fetch({at: position}):
            for batch in batches:
                found += [int(record.value or b"0") for record in batch.records()]
                position = batch.next_offset
    return found


@pytest.fixture
def log() -> Iterator[Backend]:
    with open_backend("memory:") as log:
        log.create_topic("orders")
        yield log


@contextmanager
def at_work(app: App, log: Backend) -> Iterator[threading.Event]:
    """The app runs meanwhile, in a thread."""
    stop, failed = threading.Event(), []

    def work() -> None:
        try:
            run(app.topology(), log, stop=stop)
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(SECONDS)
        assert not thread.is_alive()
    if failed:
        raise failed[0]


def test_calls_go_on_beside_each_other_and_results_keep_their_order(log: Backend) -> None:
    app = App("shop")
    calling, most = 0, 0

    @app.stream("orders", Order).process(to="out", concurrency=8)
    async def slow(order: Order) -> int:
        nonlocal calling, most
        calling += 1
        most = max(most, calling)
        await asyncio.sleep(0.001 * (order.n % 5))
        calling -= 1
        return order.n

    publish(log, range(100))
    run(app.topology(), log, stop=threading.Event(), until_end=True)
    assert values(log, "out") == list(range(100))
    assert most == 8


def test_what_waits_is_committed_and_called_again_after_a_stop_that_waits_for_nothing(
    log: Backend,
) -> None:
    calls: Counter[int] = Counter()
    cancelled: list[int] = []

    def shop(answers: bool) -> App:
        app = App("shop")

        @app.stream("orders", Order).process(to="out", concurrency=4)
        async def slow(order: Order) -> int:
            calls[order.n] += 1
            try:
                if not answers and order.n % 2:
                    await asyncio.sleep(1000)
            except asyncio.CancelledError:
                cancelled.append(order.n)
                raise
            return order.n

        return app

    publish(log, range(10))
    with at_work(shop(answers=False), log):
        # The position goes on though nothing has left but the first.
        until(lambda: values(log, "out") == [0])
        until(lambda: log.committed("shop")[TopicPartition("orders", 0)].offset == 10)
    assert cancelled == [1, 3, 5, 7]
    run(shop(answers=True).topology(), log, stop=threading.Event(), until_end=True)
    assert values(log, "out") == list(range(10))
    assert calls[0] == 1 and calls[1] == calls[3] == 2


def test_to_the_end_means_to_the_last_answer_also_of_other_members(log: Backend) -> None:
    app = App("shop")
    log.create_topic("other-orders", 4)
    release = threading.Event()

    @app.stream("other-orders", Order).process(to="out")
    async def slow(order: Order) -> int:
        await asyncio.to_thread(release.wait)
        return order.n

    for number in range(8):
        log.append(TopicPartition("other-orders", number % 4), [b'{"n":%d}' % number])
    ended = threading.Event()

    def drain() -> None:
        run(app.topology(), log, stop=threading.Event(), until_end=True)
        ended.set()

    threads = [threading.Thread(target=drain) for _ in range(2)]
    for thread in threads:
        thread.start()
    until(lambda: len(log.group("shop").members) == 2 if "shop" in log.groups() else False)
    assert not ended.wait(0.5)
    release.set()
    for thread in threads:
        thread.join(SECONDS)
    assert ended.is_set() and sorted(values(log, "out")) == list(range(8))


def test_a_call_that_takes_too_long_is_an_error(log: Backend) -> None:
    app = App("shop")

    @app.stream("orders", Order).process(timeout="20ms")
    async def slow(order: Order) -> int:
        await asyncio.sleep(1000)
        return order.n

    publish(log, [7])
    with pytest.raises(
        FunctionError, match=r"slow \(.*TimeoutError: no answer within 0.02 s; it was given .*-0@0"
    ):
        run(app.topology(), log, stop=threading.Event(), until_end=True)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
def test_whatever_a_coroutine_raises_ends_its_call_and_not_the_thread_of_all(
    log: Backend, error: BaseException
) -> None:
    app = App("shop")

    @app.stream("orders", Order).process(to="out", on_error="skip")
    async def raises(order: Order) -> int:
        if order.n == 1:
            raise error
        return order.n

    publish(log, range(3))
    run(app.topology(), log, stop=threading.Event(), until_end=True)
    assert values(log, "out") == [0, 2]


def test_too_much_that_waits_stops_reading_and_nothing_else(log: Backend) -> None:
    app = App("shop")
    log.create_topic("visits")
    release = asyncio.Event()
    loops = []

    @app.stream("orders", Order).process(to="out", concurrency=2)
    async def stuck(order: Order) -> int:
        loops.append(asyncio.get_running_loop())
        await release.wait()
        return order.n

    @app.stream("visits", int).process(to="seen")
    def seen(visit: int) -> int:
        return visit

    publish(log, range(3000))
    with at_work(app, log):
        at = TopicPartition("orders", 0)
        until(lambda: at in log.committed("shop") and log.committed("shop")[at].offset == 1000)
        before = time.process_time()
        log.append(TopicPartition("visits", 0), [b"1"])
        until(lambda: values(log, "seen") == [1])
        time.sleep(0.5)
        assert time.process_time() - before < 0.4, "whoever waits for an answer sleeps"
        assert log.committed("shop")[at].offset == 1000
        loops[0].call_soon_threadsafe(release.set)
        until(lambda: len(values(log, "out")) == 3000)
    assert values(log, "out") == list(range(3000))


def test_a_batch_is_complete_when_its_oldest_event_has_waited(log: Backend) -> None:
    app = App("shop")

    @app.stream("orders", Order).process(batch=100, within="50ms", to="out")
    def sizes(orders: list[Order]) -> list[int]:
        return [len(orders)] if len(orders) > 1 else []

    with at_work(app, log):
        publish(log, range(100))
        until(lambda: sum(values(log, "out")) == 100)
        publish(log, range(3))
        until(lambda: sum(values(log, "out")) >= 102)


# Killed.

APP = """
import asyncio, os, random, sys, time
from pathlib import Path
from streamkit import App, Context
app = App("shop", commit_interval="20ms")
orders = app.stream("orders", int)

@orders.process(concurrency=16, order="{order}")
async def slow(order: int) -> int:
    await asyncio.sleep(random.random() / 50)
    return order

@slow.process(batch=7, within="10ms", to="out")
def batched(orders: list[int]) -> list[int]:
    return orders

@orders.process(workers=2, to="squares", on_error="skip")
def square(order: int, context: Context) -> int:
    if order == 13 and not Path("died").exists():
        Path("died").touch()
        os.kill(os.getpid(), 9)
    context.send("sent", order)
    return order * order

@orders.process()
async def stuck(order: int) -> None:
    if Path("stick").exists():
        Path(f"stuck-{{os.getpid()}}").touch()
        await asyncio.sleep(1000)
"""
"""`stuck` lasts; `square` dies once."""


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "streamkit", "--log", "log", "run", "app.py", *arguments]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("order", ["partition", "key"])
def test_killed_at_any_moment_each_event_leaves_once_in_its_order(
    tmp_path: Path, order: str
) -> None:
    (tmp_path / "app.py").write_text(APP.format(order=order))
    count, partitions = 400, 2
    with open_backend(tmp_path / "log") as log:
        for topic in ("orders", "out", "squares"):
            log.create_topic(topic, partitions)
        log.create_topic("sent")
        for number in range(count):
            at = TopicPartition("orders", number % partitions)
            log.append(at, [b"%d" % number], keys=[b"k%d" % (number % 6)])
        for share in (1, 3, 6):
            with running(tmp_path) as process:
                until(
                    lambda share=share: (
                        len(values(log, "out")) >= count * share // 10 or process.poll() is not None
                    )
                )
                assert process.poll() is None, process.stderr.read() if process.stderr else ""
        with running(tmp_path, "--until-end") as process:
            assert process.wait(SECONDS) == 0, process.stderr.read() if process.stderr else ""
        out = values(log, "out")
        assert sorted(out) == list(range(count))
        for rest in range(6 if order == "key" else partitions):
            # Of a key, or a partition; those of a key are in one partition.
            mine = [each for each in out if each % (6 if order == "key" else partitions) == rest]
            assert order != "key" or mine == sorted(mine)
        squares = sorted(values(log, "squares"))
        missing = {n * n for n in range(count)} - set(squares)
        assert len(squares) == len(set(squares)) and missing <= {13 * 13}
        assert sorted(values(log, "sent")) == sorted(round(n**0.5) for n in squares)


def test_a_stop_does_not_wait_for_calls_and_who_comes_next_makes_them_again(
    tmp_path: Path,
) -> None:
    (tmp_path / "app.py").write_text(APP.format(order="partition"))
    (tmp_path / "stick").touch()
    with open_backend(tmp_path / "log") as log:
        log.create_topic("orders")
        log.create_topic("sent")
        log.append(TopicPartition("orders", 0), [b"1", b"2"])
        with running(tmp_path, "--drain", "10s") as process:
            until(lambda: (tmp_path / f"stuck-{process.pid}").exists())
            until(lambda: values(log, "squares") == [1, 4])
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0
        (tmp_path / "stick").unlink()
        with running(tmp_path, "--until-end") as process:
            assert process.wait(SECONDS) == 0
        assert values(log, "out") == [1, 2] and values(log, "squares") == [1, 4]


# Worker processes.

POOLED = """
import os, sys, time
from pathlib import Path
from streamkit import App
app = App("shop")
orders = app.stream("orders", int)

class Odd(Exception):
    def __init__(self, a, b):
        super().__init__(a)

@orders.process(workers=2, to="out", name="{name}", on_error="{on_error}"{more})
def hard(order: int) -> int:
    {body}
    return order
"""


def pooled(folder: Path, body: str, on_error: str = "stop", more: str = "") -> tuple[int, str]:
    """How an app ends whose function does that in a worker process, and what it says."""
    (folder / "app.py").write_text(
        POOLED.format(name="hard", body=body, on_error=on_error, more=more)
    )
    with open_backend(folder / "log") as log:
        log.create_topic("orders")
        log.append(TopicPartition("orders", 0), [b"%d" % n for n in range(5)])
    with running(folder, "--until-end") as process:
        _, said = process.communicate(timeout=SECONDS)
        return process.returncode, said


def test_a_worker_process_that_dies_is_an_error_of_what_it_had_and_is_replaced(
    tmp_path: Path,
) -> None:
    code, said = pooled(tmp_path, "if order == 3: os.kill(os.getpid(), 9)", on_error="skip")
    assert code == 0, said
    with open_backend(tmp_path / "log") as log:
        assert values(log, "out") == [0, 1, 2, 4]
    assert "ended by signal SIGKILL" in said


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("if order == 3: os._exit(5)", "ended with 5"),
        ("if order == 3: sys.exit(5)", "SystemExit: 5"),
        ("if order == 3: raise Odd(1, 2)", "Odd: 1"),
        ("if order == 3: time.sleep(1000)", "no answer within 3 s"),
        ("if order == 3: return lambda: 3", "cannot be handed to another process"),
    ],
)
def test_what_goes_wrong_in_a_worker_process_stops_the_app_and_says_which_record(
    tmp_path: Path, body: str, told: str
) -> None:
    code, said = pooled(tmp_path, body, more=', timeout="3s"' if "sleep" in body else "")
    assert code == 1 and told in said and "orders-0@3" in said, said
    with open_backend(tmp_path / "log") as log:
        assert values(log, "out") == [0, 1, 2]


def test_worker_processes_do_not_outlive_one_that_is_killed(tmp_path: Path) -> None:
    body = "Path(f'at-{os.getpid()}').touch(); time.sleep(1000)"
    (tmp_path / "app.py").write_text(
        POOLED.format(name="hard", body=body, on_error="stop", more="")
    )
    with open_backend(tmp_path / "log") as log:
        log.create_topic("orders")
        log.append(TopicPartition("orders", 0), [b"1", b"2"])
    with running(tmp_path) as process:
        until(lambda: len(list(tmp_path.glob("at-*"))) == 2)
        process.kill()
    pids = [int(path.name.removeprefix("at-")) for path in tmp_path.glob("at-*")]

    def is_there(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        # A zombie that nobody has asked for yet is gone.
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]

    until(lambda: not any(is_there(pid) for pid in pids))


def test_a_function_that_other_processes_cannot_import_is_refused() -> None:
    orders = App("shop").stream("orders", int)
    with pytest.raises(TopologyError, match=r"lambda.*which import it by its name"):
        orders.process(workers=2)(lambda order: order)
    with pytest.raises(TopologyError, match="made inside another function"):

        @orders.process(workers=2)
        def local(order: int) -> int:
            return order


def test_a_call_that_goes_on_though_it_was_cancelled_is_not_waited_for(
    log: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "STOP_SECONDS", 0.1)
    app = App("shop")
    ended = threading.Event()

    @app.stream("orders", Order).process(to="out", timeout="10ms", on_error="skip")
    async def stubborn(order: Order) -> int:
        while order.n == 1 and not ended.is_set():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
        return order.n

    publish(log, [0, 1, 2])
    with at_work(app, log):
        until(lambda: values(log, "out") == [0, 2])
        ended.set()
    assert values(log, "out") == [0, 2]


def test_a_call_that_is_cancelled_comes_to_its_own_end_before_the_app_does(log: Backend) -> None:
    app, begun, ended = App("shop"), [], []

    @app.stream("orders", Order).process(to="out")
    async def asks(order: Order) -> int:
        begun.append(order.n)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)  # to say goodbye
            ended.append(order.n)
        return order.n

    publish(log, [0, 1])
    with at_work(app, log):
        until(lambda: len(begun) == 2)
    assert ended == [0, 1]


def test_what_holds_up_the_thread_of_all_is_told_with_its_line_once_and_a_stop_does_not_wait(
    log: Backend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loop, "STOP_SECONDS", 0.1)
    monkeypatch.setattr(watch, "BLOCKED", 0.05)
    app = App("shop")
    ended = threading.Event()

    @app.stream("orders", Order).process(to="out", concurrency=1)
    async def blocks(order: Order) -> int:
        ended.wait(0.3 if order.n < 2 else SECONDS)
        return order.n

    publish(log, [0, 1, 2])
    with at_work(app, log):
        until(lambda: values(log, "out") == [0, 1])
    try:
        (told,) = [r.getMessage() for r in caplog.records if "held up" in r.getMessage()]
        assert "blocks (" in told and "asyncio.to_thread" in told
        assert f"at {__file__}:" in told and "(ended.wait(" in told
    finally:
        ended.set()


# Plain functions.


def test_a_slow_function_holds_up_commits_others_and_a_stop_by_one_call_only(log: Backend) -> None:
    app = App("shop")
    log.create_topic("visits")
    slow = threading.Event()
    calls = []

    @app.stream("orders", Order).process(to="out")
    def sometimes_slow(order: Order) -> int:
        if slow.is_set():
            calls.append(order.n)
            time.sleep(0.3)
        return order.n

    @app.stream("visits", int).process(to="seen")
    def seen(visit: int) -> int:
        return visit

    count = 100_000
    at = TopicPartition("orders", 0)
    for _ in range(10):
        log.append(at, [b'{"n":1}'] * (count // 10))
    with at_work(app, log):
        until(lambda: len(values(log, "out")) == count)  # by now slices are long
        slow.set()
        log.append(at, [b'{"n":2}'] * 10_000)
        until(lambda: len(calls) > 0)
        before = len(calls)
        log.append(TopicPartition("visits", 0), [b"1"])
        until(lambda: values(log, "seen") == [1])
        assert len(calls) - before <= 6
        before = len(calls)
    assert len(calls) - before <= 2
    committed = log.committed("shop")[at].offset
    assert committed == count + len(calls) == len(values(log, "out"))


@pytest.mark.parametrize(
    "waited", ["retry", "retry by key", "async", "dlq retry", "window", "batch"]
)
def test_what_is_slow_behind_a_queue_holds_up_others_and_a_stop_by_few_calls(
    log: Backend, waited: str
) -> None:
    app = App("shop")
    log.create_topic("visits")
    works = threading.Event()
    count = 200
    failed: list[int] = []
    calls: list[int] = []

    def slow(order: Order) -> int:
        if not works.is_set():
            failed.append(order.n)
            raise ConnectionError("nobody there")
        calls.append(order.n)
        time.sleep(0.2)
        return order.n

    orders = app.stream("orders", Order)
    if waited == "async":

        @orders.process(concurrency=1000)
        async def before(order: Order) -> Order:
            failed.append(order.n)
            while not works.is_set():
                await asyncio.sleep(0.01)
            return order

        before.process(to="out")(slow)
    elif waited == "window":
        works.set()

        @orders.window(tumbling("1s")).reduce(name="latest")
        def latest(first: Order, order: Order) -> Order:
            return order

        latest.process(to="out")(slow)
    elif waited == "batch":
        works.set()

        @orders.process(batch=count + 1)
        def whole(orders: list[Order]) -> list[Order]:
            return orders

        whole.process(to="out")(slow)
    elif waited == "dlq retry":
        orders.process(to="out", on_error="dlq")(slow)
    else:
        pause = "key" if waited == "retry by key" else "partition"
        again = retry(1000, backoff="10ms", max="10ms", pause=pause)
        orders.process(to="out", on_error=again)(slow)

    @app.stream("visits", int).process(to="seen")
    def seen(visit: int) -> int:
        return visit

    at = TopicPartition("orders", 0)
    keys = [b"%d" % number for number in range(count)]
    log.append(at, [b'{"n":1}'] * count, keys=keys, timestamps=1)
    if waited in ("window", "batch"):  # which it closes, or makes whole
        log.append(at, [b'{"n":1}'], keys=[b"0"], timestamps=5000)
    with at_work(app, log):
        until(lambda: log.committed("shop").get(at, CommittedOffset(0)).offset >= count)
        assert len(calls) < count // 2, "a commit waits for few of them"
        works.set()
        if waited == "dlq retry":
            DeadLetters.of(log, "shop").give_back()
        until(lambda: len(calls) > 0)
        before_it = len(calls)
        log.append(TopicPartition("visits", 0), [b"1"])
        until(lambda: values(log, "seen") == [1])
        assert len(calls) - before_it <= 6
        before_it = len(calls)
    assert len(calls) - before_it <= 2
    assert len(values(log, "out")) == len(calls)


def test_a_call_in_a_thread_does_not_hold_up_the_end_of_the_process(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        """
import asyncio, pathlib, threading, time
from streamkit import App
from streamkit.backends.locate import open_backend
from streamkit.engine.live import run
from streamkit.records import TopicPartition

app = App("shop")
stop = threading.Event()

@app.stream("orders", int).process
async def slow(order: int) -> None:
    stop.set()
    await asyncio.to_thread(time.sleep, 1000)

with open_backend("memory:") as log:
    log.create_topic("orders")
    log.append(TopicPartition("orders", 0), [b"1"])
    run(app.topology(), log, stop=stop)
"""
    )
    subprocess.run([sys.executable, "app.py"], cwd=tmp_path, check=True, timeout=SECONDS)


def test_an_error_that_is_no_exception_stops_at_its_record_and_what_was_before_it_counts(
    log: Backend,
) -> None:
    app = App("shop")

    @app.stream("orders", Order).process(to="out")
    def cancelled(order: Order) -> int:
        if order.n == 2:
            raise asyncio.CancelledError
        return order.n

    publish(log, range(5))
    with pytest.raises(FunctionError, match=r"CancelledError.*orders-0@2") as told:
        run(app.topology(), log, stop=threading.Event(), until_end=True)
    assert values(log, "out") == [0, 1]
    assert "--to offset:3" in told.value.__notes__[0]


def test_a_function_that_ends_the_app_is_named_in_the_log(
    log: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    app = App("shop")

    @app.stream("orders", Order).process(to="out", on_error="skip")
    def ends(order: Order) -> None:
        sys.exit(3)

    publish(log, [7])
    with pytest.raises(SystemExit):
        run(app.topology(), log, stop=threading.Event(), until_end=True)
    assert "SystemExit: 3; it was given the record orders-0@0" in caplog.text


def test_a_step_that_waits_no_more_may_change_when_nothing_does(log: Backend) -> None:
    def shop(how: str) -> App:
        app = App("shop")
        orders = app.stream("orders", Order)

        async def later(order: Order) -> int:
            if how == "hangs":
                await asyncio.sleep(1000)
            return order.n

        def now(order: Order) -> int:
            return order.n

        orders.process(to="out", name="step")(now if how == "plain" else later)
        return app

    publish(log, range(3))
    with at_work(shop("hangs"), log):
        until(lambda: log.committed("shop").get(TopicPartition("orders", 0)) is not None)
    with pytest.raises(UnsafeChange, match="events wait there: let the code before it answer"):
        run(shop("plain").topology(), log, stop=threading.Event(), until_end=True)
    run(shop("answers").topology(), log, stop=threading.Event(), until_end=True)
    publish(log, [3])
    run(shop("plain").topology(), log, stop=threading.Event(), until_end=True)
    assert values(log, "out") == [0, 1, 2, 3]


def test_many_events_of_one_record_fill_a_queue_once(log: Backend) -> None:
    app = App("shop")
    answers = threading.Event()
    called: list[int] = []

    @app.stream("orders", Order).flat_map
    def many(order: Order) -> list[int]:
        return list(range(1500))

    @many.process(to="out")
    async def later(n: int) -> int:
        called.append(n)
        while not answers.is_set():
            await asyncio.sleep(0.01)
        return n

    at = TopicPartition("orders", 0)
    log.append(at, [b'{"n":1}'] * 30)
    with at_work(app, log):
        until(lambda: log.committed("shop").get(at, CommittedOffset(0)).offset > 0)
        assert log.committed("shop")[at].offset == 1
        answers.set()
        until(lambda: len(values(log, "out")) == 30 * 1500)


def test_what_is_sent_after_a_call_has_ended_is_refused(log: Backend) -> None:
    app = App("shop")
    log.create_topic("elsewhere")
    kept: list[Context] = []

    @app.stream("orders", Order).process(to="out")
    async def leaves_it(order: Order, context: Context) -> int:
        for earlier in kept:
            with pytest.raises(UsageError, match="its call has ended"):
                earlier.send("elsewhere", 1)
        kept.append(context)
        context.send("elsewhere", order.n)
        return order.n

    publish(log, [0])
    run(app.topology(), log, stop=threading.Event(), until_end=True)
    publish(log, [1])
    run(app.topology(), log, stop=threading.Event(), until_end=True)
    assert values(log, "elsewhere") == [0, 1]
