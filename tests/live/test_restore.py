"""State comes back as it was committed, wherever the process died."""

import threading
from collections import Counter
from contextlib import suppress

import pytest

from streamkit.app import App
from streamkit.backends.locate import open_backend
from streamkit.dsl.state import State
from streamkit.engine.live import run
from streamkit.engine.restore import restore
from streamkit.errors import FunctionError
from streamkit.records import Record, TopicPartition

CHANGELOG = TopicPartition("changes", 0)


@pytest.fixture
def log(tmp_path):
    with open_backend(tmp_path / "log") as log:
        yield log


def write(log, *pairs):
    keys, values = zip(*pairs, strict=True)
    return log.append(CHANGELOG, values, keys=keys) + len(pairs)


def load(log, committed):
    """What is loaded, and what has to be taken back."""
    state = {}

    def take(columns):
        state.update(zip(columns.keys, columns.values, strict=True))

    return state, restore(log, CHANGELOG, committed, take)


def test_what_was_committed_is_loaded_and_the_rest_taken_back(log):
    log.create_topic("changes", 1, {"cleanup.policy": "compact"})
    write(log, (b"a", b"1"), (b"b", b"1"))
    committed = write(log, (b"a", b"2"), (b"c", None))
    write(log, (b"a", b"3"), (b"c", b"9"), (b"new", b"1"))
    state, taken_back = load(log, committed)
    assert state == {b"a": b"2", b"b": b"1", b"c": None}
    assert taken_back == {b"a": b"2", b"c": None, b"new": None}


def test_a_committed_end_within_a_batch_is_respected(log):
    log.create_topic("changes", 1, {"cleanup.policy": "compact"})
    write(log, (b"a", b"1"), (b"a", b"2"), (b"a", b"3"))
    assert load(log, 2) == ({b"a": b"2"}, {b"a": b"2"})


def test_with_nothing_committed_everything_is_taken_back(log):
    log.create_topic("changes", 1, {"cleanup.policy": "compact"})
    write(log, (b"a", b"1"), (b"b", b"1"))
    assert load(log, 0) == ({}, {b"a": None, b"b": None})


def test_an_end_beyond_the_log_is_the_logs_end(log):
    log.create_topic("changes", 1, {"cleanup.policy": "compact"})
    write(log, (b"a", b"1"))
    assert load(log, 99) == ({b"a": b"1"}, {})


def counting(refused=None):
    app = App("shop")
    events = app.stream("events", str)

    @events.filter
    def fine(event: Record[str]) -> bool:
        if event.key == refused:
            raise ValueError("not this one")
        return True

    @fine.process(to="counts")
    def count(event: str, seen: State[int]) -> int:
        seen.set(seen.get(0) + 1)
        return seen.get(0)

    return app.topology()


class Killed(BaseException):
    """The process is gone: nothing after this runs that would not run after SIGKILL."""


@pytest.mark.parametrize("survived", range(3))
def test_changes_that_were_written_and_not_committed_do_not_count_ever(log, monkeypatch, survived):
    log.create_topic("events")
    events = TopicPartition("events", 0)
    expected = Counter()

    def publish(*keys):
        log.append(events, [b"x"] * len(keys), keys=keys)
        expected.update(keys)

    def run_to_the_end(refused=None):
        topology = counting(refused)
        run(topology, log, until_end=True, stop=threading.Event(), commit_interval=0.0)

    publish(b"a", b"b", b"a")
    run_to_the_end()
    publish(b"a", b"c")
    commits = []
    commit = log.commit

    def dies(*arguments, **options):
        commits.append(arguments)
        if len(commits) > survived:
            raise Killed
        commit(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(log, "commit", dies)
        with suppress(Killed):
            run_to_the_end()
    if not survived:
        # This one comes less far, and commits: behind its end now stands what did not count.
        with pytest.raises(FunctionError, match="not this one"):
            run_to_the_end(refused="c")
    for _ in range(2):
        publish(b"b", b"d")
        run_to_the_end()
    highest = Counter()
    partition = TopicPartition("counts", 0)
    for batch in log.fetch({partition: 0}, max_bytes=1 << 20):
        for record in batch.records():
            highest[record.key] = max(highest[record.key], int(record.value))
    assert highest == expected
