"""A task at work in a log, with a clock that a test sets; and what a stop does not lose."""

import threading

from streamkit import App, tumbling
from streamkit.backends.locate import open_backend
from streamkit.clock import ManualClock
from streamkit.engine.committing import commit
from streamkit.engine.live import run
from streamkit.engine.outputs import Outputs
from streamkit.engine.place import Place
from streamkit.engine.running import Running
from streamkit.engine.settings import Settings
from streamkit.engine.task import Task
from streamkit.engine.topics import create_topics
from streamkit.engine.transaction import WorkTransaction
from streamkit.records import TopicPartition

EVENTS = TopicPartition("events", 0)


def test_an_input_is_silent_until_it_was_last_looked_at_not_until_now(tmp_path):
    """Others had a long turn, or the process was stopped: nobody knows what has come meanwhile.
    And not when there is something after all."""
    app = App("shop")
    events = app.stream("events", str)
    events.window(tumbling("10s", grace="0s"), close_after_idle="1m").count(to="counts", name="c")
    topology, clock = app.topology(), ManualClock()
    with open_backend(str(tmp_path / "log")) as log:
        log.create_topic("events")
        layout, place = create_topics(topology, log), Place(log, "shop")
        task = Task(topology, layout, topology.subtopologies[0], 0)
        outputs = Outputs(log, place.topic, WorkTransaction(log, "shop", "shop-1"))
        one = Running(task, place, outputs, clock)
        one.begin({})
        assert one.restore(clock.monotonic())

        log.append(EVENTS, [b"x"], keys=[b"k"], timestamps=1000)
        while one.step():
            pass
        clock.advance(2 * 60_000)
        log.append(EVENTS, [b"y"], keys=[b"k"], timestamps=2000)
        one.idle()
        while one.step():
            pass
        clock.advance(2 * 60_000)
        one.step()
        log.append(EVENTS, [b"z"], keys=[b"k"], timestamps=3000)
        one.idle()
        while one.step():
            pass
        clock.advance(2 * 60_000)
        one.step()
        one.idle()
        member = log.join("shop", layout.tasks)
        commit([one], place, outputs, member, member.poll().owned)
        # It begins, is about to write here and there, commits offsets, and is committed.
        assert log.offsets(TopicPartition("__transaction_state", 0)).log_end == 4
        assert [
            r.value for b in log.fetch({TopicPartition("counts", 0): 0}) for r in b.records()
        ] == [b"3"]
        assert task.stats.late == {"c": 0}


def test_a_stop_commits_what_was_done_however_far_commits_are_apart(tmp_path):
    app, stop = App("shop"), threading.Event()

    @app.stream("events", str).process(to="out")
    def upper(text: str) -> str:
        if text == "c":
            stop.set()
        return text.upper()

    with open_backend(str(tmp_path / "log")) as log:
        log.create_topic("events")

        sent = [b"a", b"b", b"c"]
        run(
            app.topology(),
            log,
            stop=stop,
            settings=Settings(commit_interval=3600.0),
            on_progress=lambda progress: log.append(EVENTS, [sent.pop(0)]) if sent else None,
        )
        at = TopicPartition("out", 0)
        assert [r.value for b in log.fetch({at: 0}) for r in b.records()] == [b"A", b"B", b"C"]
        assert log.committed("shop")[EVENTS].offset == 3
