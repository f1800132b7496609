"""A stop is heard wherever it comes: while Python imports, at any line of the work, at the end."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from streamkit.app import App
from streamkit.backends.locate import open_backend
from streamkit.cli.workers import workers
from streamkit.connect.worker import run as connect
from streamkit.engine.live import run as run_app
from streamkit.engine.signals import stop_on_signals
from streamkit.errors import WorkerFailed
from streamkit.records import TopicPartition

WORKER = """
[connectors.files]
"connector.class" = "FileSource"
path = "{home}/in"
topic = "lines"
"poll.interval" = "10ms"
"topic.creation.default.partitions" = 2

[connectors.out]
"connector.class" = "FileSink"
path = "{home}/out"
topics = ["lines"]
"""

STEPS = 25


class Strike:
    """Sends a signal to this process at the main thread's n-th line; counts them all."""

    def __init__(self, at: int, number: int) -> None:
        self.lines = 0
        self._at = at
        self._number = number

    def __call__(self, frame, event, arg):
        self.lines += 1
        if self.lines == self._at:
            os.kill(os.getpid(), self._number)
        return self

    def __enter__(self):
        self._before = sys.gettrace()
        sys.settrace(self)
        return self

    def __exit__(self, *_):
        sys.settrace(self._before)


@pytest.fixture
def dice():
    seed = random.randrange(1 << 32)
    print("seed", seed)
    return random.Random(seed)


def values(log, topic):
    found = []
    for number in range(log.topic(topic).partitions):
        position = 0
        while batches := log.fetch({TopicPartition(topic, number): position}):
            for batch in batches:
                found += [json.loads(record.value) for record in batch.records()]
                position = batch.next_offset
    return sorted(found, key=lambda value: value["n"])


@pytest.mark.timeout(120)
def test_connectors_end_at_any_line_with_all_they_did_stored_once(tmp_path, dice):
    (tmp_path / "in").mkdir()
    (tmp_path / "worker.toml").write_text(WORKER.format(home=tmp_path))
    written = 0

    def more():
        nonlocal written
        with open(tmp_path / "in" / "lines.jsonl", "a") as file:
            for _ in range(20):
                file.write(f'{{"n": {written}}}\n')
                written += 1

    def once(at, number):
        more()
        with stop_on_signals() as stop, Strike(at, number) as strike:
            connect(tmp_path / "worker.toml", tmp_path / "log", stop_event=stop, until_idle=True)
        return stop.signal, strike.lines

    once(0, 0)  # imports
    _, lines = once(0, 0)
    for _ in range(STEPS):
        number = dice.choice([signal.SIGINT, signal.SIGTERM])
        at = dice.randint(1, lines)
        heard, reached = once(at, number)
        assert heard == (number if reached >= at else 0)
    once(0, 0)
    with open_backend(tmp_path / "log", read_only=True) as log:
        assert values(log, "lines") == [{"n": n} for n in range(written)]
    out = [
        json.loads(line)
        for file in (tmp_path / "out").iterdir()
        for line in file.read_text().splitlines()
    ]
    assert sorted(value["n"] for value in out) == list(range(written))


@pytest.mark.timeout(120)
def test_an_app_ends_at_any_line_with_all_it_did_committed_once(tmp_path, dice):
    app = App("copies")
    app.stream("lines", dict).to("copies")
    topology = app.topology()
    written = 0
    with open_backend(tmp_path / "log") as log:
        log.create_topic("lines", 2)

        def once(at, number):
            nonlocal written
            for partition in range(2):
                some = [b'{"n": %d}' % n for n in range(written, written + 10)]
                log.append(TopicPartition("lines", partition), some)
                written += 10
            with stop_on_signals() as stop, Strike(at, number) as strike:
                run_app(topology, log, stop=stop, until_end=True)
            return stop.signal, strike.lines

        once(0, 0)
        _, lines = once(0, 0)
        for _ in range(STEPS):
            number = dice.choice([signal.SIGINT, signal.SIGTERM])
            at = dice.randint(1, lines)
            heard, reached = once(at, number)
            assert heard == (number if reached >= at else 0)
        once(0, 0)
        assert values(log, "copies") == [{"n": n} for n in range(written)]


IMPORTING = """
import _signal, os, sys
import streamkit.cli

left = int(sys.argv.pop(1))

def strike(frame, event, arg):
    global left
    if left and _signal.getsignal(_signal.SIGINT) is streamkit.cli.end_at_once:
        left -= 1
        if not left:
            os.kill(os.getpid(), _signal.SIGINT)
    return strike

sys.settrace(strike)
streamkit.cli.main()
"""


def test_ctrl_c_during_the_imports_ends_it_with_130_and_without_a_word(tmp_path, dice):
    for _ in range(5):
        at = round(10 ** dice.uniform(0, 5))
        ended = subprocess.run(
            [sys.executable, "-c", IMPORTING, str(at), "--log", str(tmp_path), "topics", "list"],
            capture_output=True,
            text=True,
        )
        assert (ended.returncode, ended.stderr) == (130, ""), at


FINALISING = """
import signal, sys
from importlib import import_module
from streamkit.cli import main

class Finalised:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

def app(prog_name):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    Finalised()
    print("went on")

import_module("streamkit.cli.main").app = app
main()
"""


def test_an_interrupt_inside_a_finaliser_ends_the_command_all_the_same():
    ended = subprocess.run([sys.executable, "-c", FINALISING], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


def deaf():
    """As a shell starts what runs in the background, and a program that has blocked signals."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_one_that_was_started_deaf_hears_the_signal(tmp_path, number, code):
    with open_backend(tmp_path / "log") as log:
        log.create_topic("lines")
        log.append(TopicPartition("lines", 0), [b"one"])
    command = ["--log", str(tmp_path / "log"), "consume", "lines", "--follow"]
    with subprocess.Popen(
        [sys.executable, "-m", "streamkit", *command],
        stdout=subprocess.PIPE,
        preexec_fn=deaf,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout.readline() == b"one\n"
        process.send_signal(number)
        assert process.wait(20) == code


def forever(tmp_path: Path) -> list[str]:
    """A command that ends when it is asked to."""
    (tmp_path / "in").mkdir()
    (tmp_path / "worker.toml").write_text(WORKER.format(home=tmp_path))
    return ["--log", str(tmp_path / "log"), "connect", str(tmp_path / "worker.toml")]


def test_a_stop_that_comes_while_others_come_to_their_end_reaches_them(tmp_path):
    with stop_on_signals() as stop:
        with workers(2, forever(tmp_path), stop):
            until = time.monotonic() + 20
            while not (tmp_path / "out").exists() and time.monotonic() < until:
                time.sleep(0.02)
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
        assert stop.is_set()


def test_workers_that_are_stopped_before_they_can_hear_it_have_not_failed(tmp_path):
    with stop_on_signals() as stop, workers(2, forever(tmp_path), stop):
        stop.set()


def test_a_worker_that_ends_with_an_error_has_failed(tmp_path):
    with (
        stop_on_signals() as stop,
        pytest.raises(WorkerFailed, match="exit code 2"),
        workers(1, ["connect", "--no-such-option"], stop),
    ):
        assert stop.wait(20)


def test_workers_that_are_killed_again_and_again_are_told_as_that(monkeypatch):
    monkeypatch.setattr("streamkit.cli.workers._run", lambda *_: (-signal.SIGKILL, False))
    monkeypatch.setattr("streamkit.cli.workers.PAUSE_SECONDS", 0.0)
    with (
        stop_on_signals() as stop,
        pytest.raises(WorkerFailed, match=r"killed \(SIGKILL\), and 5 times within 60 s before"),
        workers(1, [], stop),
    ):
        assert stop.wait(20)


STUCK = """
import time
from dataclasses import dataclass

from streamkit.connect import source

@dataclass(frozen=True, slots=True)
class Options:
    topic: str

@source(config=Options)
def stuck(config, ctx):
    print("in a call", flush=True)
    time.sleep(1000)
    yield
"""


def test_a_connector_that_is_stuck_in_a_call_does_not_keep_the_worker_from_ending(tmp_path):
    (tmp_path / "stuck.py").write_text(STUCK)
    (tmp_path / "worker.toml").write_text(
        '[connectors.slow]\n"connector.class" = "stuck:stuck"\ntopic = "t"\n'
    )
    with subprocess.Popen(
        [sys.executable, "-m", "streamkit", "--log", "log", "connect", "worker.toml"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "in a call\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 1
        assert "connector slow did not stop within 5 s" in process.stderr.read()
