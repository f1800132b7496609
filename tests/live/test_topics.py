"""What an app does about topics that others delete, or that are not its own."""

import threading

import pytest

from streamkit import App, Context, State
from streamkit.backends.locate import open_backend
from streamkit.engine.live import run
from streamkit.engine.settings import Settings
from streamkit.errors import FunctionError, TopologyError, UnknownTopic, UnsafeChange
from streamkit.records import TopicPartition

EVENTS = TopicPartition("events", 0)


@pytest.fixture
def log(tmp_path):
    with open_backend(str(tmp_path / "log")) as log:
        log.create_topic("events")
        yield log


def to_the_end(app, log):
    run(
        app.topology(),
        log,
        until_end=True,
        stop=threading.Event(),
        settings=Settings(commit_interval=0.0),
    )


def values(log, topic):
    at = TopicPartition(topic, 0)
    return [record.value for batch in log.fetch({at: 0}) for record in batch.records()]


def test_a_topic_made_anew_under_an_app_is_not_read_from_the_old_position(log):
    app = App("shop")

    @app.stream("events", str).process(to="seen")
    def see(event: str) -> str:
        if event == "old":
            log.delete_topic("events")
            log.create_topic("events")
            log.append(EVENTS, [b"1", b"2", b"3"])
        return event

    log.append(EVENTS, [b"old"])
    with pytest.raises(UnknownTopic, match="events was deleted and made anew while shop ran"):
        to_the_end(app, log)
    to_the_end(app, log)
    assert values(log, "seen")[-3:] == [b"1", b"2", b"3"]


@pytest.mark.parametrize(
    ("topic", "timestamp", "message"),
    [
        ("__consumer_offsets", None, "the log's own"),
        ("shop-send-seen-changelog", None, "keeps there what it needs"),
        ("no/name", None, "only letters"),
        ("other", -7, "no time"),
        ("other", "soon", "no time"),
    ],
)
def test_a_function_cannot_send_what_would_break_something(log, topic, timestamp, message):
    app = App("shop")

    @app.stream("events", str).process
    def send(event: str, context: Context, seen: State[int]) -> None:
        context.send(topic, event, timestamp=timestamp)

    log.create_topic("other")
    log.append(EVENTS, [b"x"], keys=[b"k"])
    with pytest.raises(FunctionError, match=f"send .*{message}.*events-0@0"):
        to_the_end(app, log)
    assert log.committed("shop")[EVENTS].offset == 0


def counting(app, function):
    app = App(app)

    def count(event: str, seen: State[int]) -> int:
        seen.set(seen.get(0) + 1)
        return seen.get(0)

    app.stream("events", str).process(to="counts", name=function)(count)
    return app


def test_two_apps_do_not_share_a_changelog_by_the_chance_of_their_names(log):
    log.append(EVENTS, [b"x"], keys=[b"k"])
    to_the_end(counting("shop", "eu-count"), log)
    with pytest.raises(TopologyError, match="shop-eu-count-seen-changelog belongs to app 'shop'"):
        to_the_end(counting("shop-eu", "count"), log)
    to_the_end(counting("shop-eu", "total"), log)


def test_an_app_whose_input_grows_stops_and_says_so(log):
    app = App("shop")

    @app.stream("events", str).process(to="seen")
    def see(event: str) -> str:
        if event == "grow":
            log.add_partitions("events", 3)
            log.append(TopicPartition("events", 2), [b"new"])
        return event

    log.append(EVENTS, [b"grow", b"more"])
    with pytest.raises(TopologyError, match="events has 3 partitions by now, and had 1") as told:
        run(app.topology(), log, stop=threading.Event(), settings=Settings(commit_interval=0.0))
    assert "start it again" in str(told.value) and "name=" not in str(told.value)
    assert log.committed("shop")[EVENTS].offset in (1, 2), "what it had done is committed"
    to_the_end(app, log)
    assert sorted(values(log, "seen")) == [b"grow", b"more", b"new"]


def test_an_app_that_runs_to_the_end_does_not_overlook_partitions_that_came(log):
    app = App("shop")

    @app.stream("events", str).process(to="seen")
    def see(event: str) -> str:
        log.add_partitions("events", 2)
        return event

    log.append(EVENTS, [b"x"])
    with pytest.raises(TopologyError, match="events has 2 partitions by now"):
        run(
            app.topology(),
            log,
            until_end=True,
            stop=threading.Event(),
            settings=Settings(commit_interval=3600),
        )
    assert values(log, "seen") == [b"x"]


def test_an_app_that_hands_events_over_goes_on_with_an_input_that_has_grown(log):
    app = App("shop")
    app.stream("events", str).by(str.upper, name="word").count(to="counts", name="n")
    log.append(EVENTS, [b"x", b"y"])
    to_the_end(app, log)
    log.add_partitions("events", 3)
    log.append(TopicPartition("events", 2), [b"x", b"x"])
    to_the_end(app, log)
    log.append(TopicPartition("events", 1), [b"y"])
    to_the_end(app, log)
    assert sorted(values(log, "counts")) == [b"1", b"1", b"2", b"2", b"3"]
    assert log.topic("shop-events-journal").partitions == 3, "each task has its own"


def test_an_app_with_state_is_told_what_becomes_of_it_when_its_input_grows(log):
    app = counting("shop", "count")
    log.append(EVENTS, [b"x"], keys=[b"k"])
    to_the_end(app, log)
    log.add_partitions("events", 2)
    with pytest.raises(UnsafeChange, match="count-seen: 2 tasks instead of 1: keys move"):
        to_the_end(app, log)
    with pytest.raises(UnsafeChange, match="count-seen: is not used any more"):
        to_the_end(counting("shop", "count-2"), log)
    run(counting("shop", "count-2").topology(), log, until_end=True, accept=True)


def test_an_app_with_state_whose_input_grows_under_it_says_what_to_do(log):
    app = counting("shop", "count")
    log.append(EVENTS, [b"x"], keys=[b"k"])
    to_the_end(app, log)
    threading.Timer(0.2, lambda: log.add_partitions("events", 2)).start()
    with pytest.raises(TopologyError, match=r"'count-seen': give the .* groups reset shop --to ea"):
        run(app.topology(), log, stop=threading.Event(), settings=Settings(commit_interval=0.0))


def test_results_go_to_the_partitions_that_their_topic_has_by_now(log):
    app = App("shop")

    @app.stream("events", str).process(to="seen")
    def see(event: str) -> str:
        if event == "grow":
            log.add_partitions("seen", 4)
            log.append(EVENTS, [b"x"] * 50, keys=keys)
        return event

    keys = [b"%d" % number for number in range(50)]
    log.append(EVENTS, [b"x"] * 49 + [b"grow"], keys=keys)
    run(app.topology(), log, until_end=True, stop=threading.Event())
    found = [
        sum(len(batch) for batch in log.fetch({TopicPartition("seen", number): 0}))
        for number in range(4)
    ]
    assert sum(found) == 100 and min(found) > 0
