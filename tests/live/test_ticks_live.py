"""Ticks on a real clock: one process has them, and when it is killed another goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from streamkit.backends.locate import open_backend
from streamkit.records import TopicPartition

SOURCE = """
from streamkit import App, Context, State, Tick, Timer

app = App("shop")

@app.every("50ms", missed="all", to="beats")
def beat(tick: Tick, count: State[int]) -> int:
    count.set(count.get(0) + 1)
    return count.get(0)

@beat.process
def watch(count: int, context: Context) -> None:
    context.timer(str(count), after="500ms")

@watch.on_timer(to="fired")
def fired(timer: Timer) -> str:
    return timer.name
"""


class App(subprocess.Popen):
    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "streamkit", "--log", str(folder / "log"), "run"]
        super().__init__(
            [*command, str(folder / "app.py")], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )


def read(folder: Path, topic: str) -> list[tuple[int, int]]:
    """Value and time of each record."""
    found, at = [], TopicPartition(topic, 0)
    with open_backend(str(folder / "log")) as log:
        if topic not in log.topics():
            return []
        position = log.offsets(at).start
        while batches := log.fetch({at: position}):
            for batch in batches:
                found += [(int(r.value.strip(b'"')), r.timestamp) for r in batch.records()]
                position = batch.next_offset
    return found


def wait_for(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(read(folder, "beats")) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_each_is_given_once_whoever_is_killed(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(SOURCE)
    apps: list[App] = []
    try:
        with open_backend(str(tmp_path / "log")):
            pass
        for count in (10, 40, 70):
            apps += [App(tmp_path), App(tmp_path)]
            wait_for(tmp_path, count)
            for app in apps:
                os.kill(app.pid, signal.SIGKILL)
                app.communicate()
            apps.clear()
        apps = [App(tmp_path)]
        wait_for(tmp_path, len(read(tmp_path, "beats")) + 20)
        apps[0].send_signal(signal.SIGTERM)
        _, err = apps[0].communicate(timeout=30)
        assert apps[0].returncode == 0, err
    finally:
        for app in apps:
            app.kill()
            app.communicate()
    beats = read(tmp_path, "beats")
    assert [count for count, _ in beats] == list(range(1, len(beats) + 1))
    first = beats[0][1]
    assert first % 50 == 0
    assert [stamp for _, stamp in beats] == [first + 50 * n for n in range(len(beats))]
    fired = read(tmp_path, "fired")
    assert [number for number, _ in fired] == list(range(1, len(fired) + 1))
    assert [stamp for _, stamp in fired] == [first + 50 * n + 500 for n in range(len(fired))]
    assert len(fired) >= len(beats) - 11
