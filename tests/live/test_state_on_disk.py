"""State that is left beside its changelog: what a start reads, and what a small budget does."""

import os
import subprocess
import sys
from collections import Counter

import pytest

from streamkit.app import App
from streamkit.backends.locate import open_backend
from streamkit.clock import SystemClock
from streamkit.dsl.state import ListState, MapState, State
from streamkit.dsl.windows import every, session, sliding, tumbling
from streamkit.engine import plan
from streamkit.engine.live import run
from streamkit.engine.settings import Settings
from streamkit.engine.state.cache import Cache
from streamkit.engine.topics import create_topics
from streamkit.engine.worker import Worker
from streamkit.errors import SerdeError
from streamkit.records import TopicPartition

EVENTS = TopicPartition("events", 0)
KEYS = [b"k%03d" % n for n in range(600)]


@pytest.fixture
def log(tmp_path):
    with open_backend(tmp_path / "log") as log:
        log.create_topic("events", 1)
        yield log


def counting(type_=int):
    app = App("shop")

    @app.stream("events", str).process(to="counts")
    def counted(
        value: str,
        times: State[type_],
        by: MapState[str, int],
        last: ListState[str],
        day: State[int] = State(ttl="1d"),  # noqa: B008
    ) -> int:
        times.set(times.get(0) + 1)
        by[value] = by.get(value, 0) + 1
        last.append(value)
        if len(last) > 2:
            last.popleft()
        day.set(day.get(0) + 1)
        assert sum(by.values()) == times.get() == day.get()
        assert list(last)[-1] == value
        return times.get()

    return app


def publish(log, keys):
    for at in range(0, len(keys), 500):
        some = keys[at : at + 500]
        log.append(EVENTS, [key[-1:] for key in some], keys=some, timestamps=[5] * len(some))


def to_the_end(log, app=None, accept=False, **settings):
    topology = (app or counting()).topology()
    run(topology, log, until_end=True, accept=accept, settings=Settings(**settings))


def counts(log):
    found, position = {}, 0
    at = TopicPartition("counts", 0)
    while batches := log.fetch({at: position}):
        for record in (record for batch in batches for record in batch.records()):
            assert int(record.value) == found.get(record.key, 0) + 1, "once, and in order"
            found[record.key] = int(record.value)
        position = batches[-1].next_offset
    return found


@pytest.mark.parametrize("memory", [1, 50_000, 1 << 30])
def test_counts_are_right_whatever_the_budget_and_however_often_it_is_started(
    log, memory, monkeypatch
):
    monkeypatch.setattr("streamkit.engine.state.cache._FEW", 50)
    sent = []
    for turn in range(4):
        sent += [KEYS[(n * 7 + turn * n) % len(KEYS)] for n in range(900)]
        publish(log, sent[-900:])
        to_the_end(log, memory=memory)
    assert counts(log) == dict(Counter(sent))


def test_a_start_reads_what_the_changelog_has_more_than_the_disk(log):
    publish(log, KEYS)
    to_the_end(log)
    topology = counting().topology()
    worker = Worker(topology, log, create_topics(topology, log), Settings(), SystemClock())
    try:
        while not worker.tasks:
            worker.turn()
        one = worker.running[0]
        assert one.restoring.total <= 4  # the markers of the last transaction
        changelogs = one.task.stores
        assert len(changelogs) == 4
        for changelog, store in changelogs.items():
            folder = log.state_directory(TopicPartition(changelog, 0))
            assert (folder / "rows.mdb").exists()
            assert 0 < store.position <= log.offsets(TopicPartition(changelog, 0)).end
    finally:
        worker.close()


def test_a_start_that_looks_at_all_open_windows_leaves_them_on_disk(log, monkeypatch):
    monkeypatch.setattr("streamkit.engine.state.cache._FEW", 50)
    find, found = Cache._find, []
    monkeypatch.setattr(Cache, "_find", lambda self, key: found.append(key) or find(self, key))
    app = App("shop")
    events = app.stream("events", str)
    events.window(session("1h")).count(name="sessions")
    events.window(sliding("1h", grace="1h")).count(name="slides")
    events.window(tumbling("1h")).count(name="hours", emit=every("1m"))
    for keys in (KEYS, KEYS[:1]):
        publish(log, keys)
        found.clear()
        to_the_end(log, app, memory=1)
    assert len(found) < 50


def test_a_start_that_looks_at_all_events_kept_for_their_order_leaves_them_on_disk(
    log, monkeypatch
):
    monkeypatch.setattr("streamkit.engine.state.cache._FEW", 50)
    find, found = Cache._find, []
    monkeypatch.setattr(Cache, "_find", lambda self, key: found.append(key) or find(self, key))
    app = App("shop")
    events = app.stream("events", str, out_of_order="1h")
    events.by(str.upper, name="upper").window(tumbling("1h")).collect(9, name="hours")
    for keys in (KEYS, KEYS[:1]):
        publish(log, keys)
        found.clear()
        to_the_end(log, app, memory=1)
    assert len(found) < 50


def test_state_that_is_gone_from_disk_comes_from_the_changelog(log):
    publish(log, KEYS)
    to_the_end(log)
    for topic in list(log.topics()):
        if topic.endswith("-changelog"):
            (log.state_directory(TopicPartition(topic, 0)) / "rows.mdb").unlink()
    publish(log, KEYS)
    to_the_end(log)
    assert set(counts(log).values()) == {2}


def test_a_group_that_was_reset_begins_anew_whatever_the_disk_has(log):
    publish(log, KEYS)
    to_the_end(log)
    log.delete_group("shop")
    to_the_end(log)
    found, position = [], 0
    at = TopicPartition("counts", 0)
    while batches := log.fetch({at: position}):
        found += [record.value for batch in batches for record in batch.records()]
        position = batches[-1].next_offset
    assert found == [b"1"] * 2 * len(KEYS)


def test_state_on_disk_of_another_type_is_told_as_from_the_changelog(log, monkeypatch):
    publish(log, KEYS)
    to_the_end(log)
    publish(log, KEYS)
    # It tries some of the values: as if these were others.
    monkeypatch.setattr(plan, "_unreadable", lambda *_: None)
    with pytest.raises(
        SerdeError, match=r"counted-times-changelog.*state was kept as another type"
    ):
        to_the_end(log, counting(dict[str, int]), accept=True)


_KILLED = """
import os, signal, sys, threading
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import streamkit.engine.state.cache as cache
import streamkit.engine.state.disk as disk
from streamkit.backends.locate import open_backend
from streamkit.engine.live import run
from streamkit.engine.settings import Settings
from test_state_on_disk import counting
cache._FEW, disk._TOGETHER, disk.FLUSH_AFTER = 50, 16, 0.0
threading.Timer(float(sys.argv[3]), os.kill, [os.getpid(), signal.SIGKILL]).start()
with open_backend(Path(sys.argv[1])) as log:
    run(counting().topology(), log, settings=Settings(memory=50_000, commit_interval=0.005))
"""


def test_processes_that_are_killed_leave_counts_that_are_right(tmp_path):
    with open_backend(tmp_path / "log") as log:
        log.create_topic("events", 1)
        sent = [KEYS[n * 31 % len(KEYS)] for n in range(30_000)]
        publish(log, sent)
        for turn in range(5):
            done = subprocess.run(
                [
                    sys.executable,
                    "-c",
                    _KILLED,
                    str(tmp_path / "log"),
                    os.path.dirname(__file__),
                    str(0.8 + turn / 7),
                ],
                check=False,
                timeout=60,
            )
            assert done.returncode == -9
        to_the_end(log, memory=50_000)
        assert counts(log) == dict(Counter(sent))
