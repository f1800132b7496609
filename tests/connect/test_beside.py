"""Sources and sinks of an app: declared, run beside its tasks, shared by its processes."""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from msgspec import Struct

from streamkit import tumbling
from streamkit.app import App
from streamkit.backends.base import Backend
from streamkit.backends.locate import open_backend
from streamkit.connect import Pause, SourceContext, SourceItem, SourceRecord, sink, source
from streamkit.connect.worker import Plan, Worker
from streamkit.dsl.mermaid import mermaid
from streamkit.dsl.outline import outline
from streamkit.dsl.tree import tree
from streamkit.engine.live import run
from streamkit.engine.plan import plan
from streamkit.errors import (
    ConfigError,
    DataError,
    FatalError,
    FunctionError,
    TopologyError,
    UnsafeChange,
    UsageError,
)
from streamkit.records import Record, TopicPartition


class Number(Struct):
    n: int


@dataclass(frozen=True, slots=True)
class NumbersConfig:
    topic: str
    limit: int = 10
    fails_at: int = -1
    key_by: tuple[str, ...] = ()


@source(config=NumbersConfig)
def numbers(config: NumbersConfig, ctx: SourceContext) -> Iterator[SourceItem]:
    place = {"numbers": "all"}
    for n in range((ctx.offset(place) or {"next": 0})["next"], config.limit):
        if n == config.fails_at:
            raise DataError(f"number {n} is bad")
        yield SourceRecord(config.topic, {"n": n}, f"k{n}", place, {"next": n + 1})
    while True:
        yield Pause(0.01)


@source(config=NumbersConfig)
def slow_numbers(config: NumbersConfig, ctx: SourceContext) -> Iterator[SourceItem]:
    place = {"numbers": "slow"}
    for n in range((ctx.offset(place) or {"next": 0})["next"], config.limit):
        time.sleep(0.01)
        yield SourceRecord(config.topic, {"n": n}, f"k{n}", place, {"next": n + 1})
    while True:
        yield Pause(0.01)


def same_key(number: Number) -> str:
    return "all"


@dataclass(frozen=True, slots=True)
class KeptConfig:
    case: str
    fails: bool = False


kept: dict[str, list[Any]] = {}


@sink(config=KeptConfig)
def keep(config: KeptConfig, records: list[Record[bytes | None]]) -> None:
    if config.fails:
        raise FatalError("nothing can be kept")
    kept.setdefault(config.case, []).extend(json.loads(r.value or b"")["n"] for r in records)


def even_numbers(case: str, *, limit: int = 10, partitions: int = 2) -> App:
    app = App("count")
    given = app.source(numbers, Number, to="numbers", partitions=partitions, limit=limit)
    even = given.filter(lambda number: number.n % 2 == 0, name="even")
    even.sink(keep, case=case)
    return app


def start(app: App, backend: Backend, **options: Any) -> None:
    run(app.topology(), backend, companions=app.connectors(), **options)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Backend]:
    with open_backend(str(tmp_path / "log")) as backend:
        yield backend


def values(backend: Backend, topic: str) -> list[Any]:
    found: list[Any] = []
    for number in range(backend.topic(topic).partitions):
        at = TopicPartition(topic, number)
        position = backend.offsets(at).start
        while batches := backend.fetch({at: position}):
            for batch in batches:
                found += [json.loads(record.value or b"")["n"] for record in batch.records()]
                position = batch.next_offset
    return found


def test_what_a_source_brings_comes_out_of_a_sink_once(log: Backend, tmp_path: Path) -> None:
    case = str(tmp_path)
    app = even_numbers(case)
    start(app, log, until_end=True)
    assert sorted(kept[case]) == [0, 2, 4, 6, 8]
    assert log.topic("numbers").partitions == 2
    assert sorted(values(log, "numbers")) == list(range(10))

    # Run again, with more: each goes on where it stood.
    start(even_numbers(case, limit=20), log, until_end=True)
    assert sorted(kept[case]) == list(range(0, 20, 2))
    assert sorted(values(log, "numbers")) == list(range(20))


def test_the_end_waits_for_a_source_that_has_something_to_come(
    log: Backend, tmp_path: Path
) -> None:
    @source(config=NumbersConfig)
    def slow(config: NumbersConfig, ctx: SourceContext) -> Iterator[SourceItem]:
        place = {"numbers": "all"}
        yield Pause(1.5, idle=False)  # much longer than all others look for something to do
        for n in range(config.limit):
            yield SourceRecord(config.topic, {"n": n}, None, place, {"next": n + 1})
        yield Pause(60)

    app = App("count")
    app.source(slow, Number, to="numbers", limit=3).sink(keep, case=str(tmp_path))
    start(app, log, until_end=True)
    assert kept[str(tmp_path)] == [0, 1, 2]


def test_the_end_waits_for_sinks_that_are_behind(log: Backend, tmp_path: Path) -> None:
    app = even_numbers(str(tmp_path), limit=300)
    start(app, log, until_end=True)

    late = App("late")
    stream = late.stream("count-even-sink", Number).to("copied")
    run(late.topology(), log, until_end=True)  # its steps have nothing to do any more
    stream.sink(keep, case=f"{tmp_path} late")
    start(late, log, until_end=True)
    assert sorted(kept[f"{tmp_path} late"]) == list(range(0, 300, 2))


def test_a_sink_reads_the_topic_that_its_stream_is_written_to(log: Backend, tmp_path: Path) -> None:
    case = str(tmp_path)
    app = App("count")
    given = app.source(numbers, Number, to="numbers", limit=3)

    @given.process(to="doubled")
    def double(number: Number) -> Number:
        return Number(number.n * 2)

    double.sink(keep, case=case)
    given.to("copied").sink(keep, name="copies", case=f"{case} copies")
    assert [one.topic for one in app.topology().connectors] == ["numbers", "doubled", "copied"]
    start(app, log, until_end=True)
    assert kept[case] == [0, 2, 4]
    assert kept[f"{case} copies"] == [0, 1, 2]
    assert not [topic for topic in log.topics() if topic.endswith("-sink")]


def test_a_source_may_go_straight_into_a_sink(log: Backend, tmp_path: Path) -> None:
    app = App("copy")
    app.source(numbers, Number, to="numbers", limit=3).sink(keep, case=str(tmp_path))
    start(app, log, until_end=True)
    assert kept[str(tmp_path)] == [0, 1, 2]


def test_a_source_that_fails_for_good_ends_the_app_with_its_error(
    log: Backend, tmp_path: Path
) -> None:
    app = App("count")
    given = app.source(numbers, Number, to="numbers", limit=10, fails_at=4)
    given.sink(keep, case=str(tmp_path))
    with pytest.raises(DataError, match="connector count-numbers-source failed: number 4 is bad"):
        start(app, log, stop=Event())
    assert values(log, "numbers") == [0, 1, 2, 3]

    def mended() -> App:
        app = App("count")
        app.source(numbers, Number, to="numbers", limit=6).sink(keep, case=str(tmp_path))
        return app

    start(mended(), log, until_end=True)
    assert kept[str(tmp_path)] == list(range(6))


def test_a_sink_that_fails_ends_the_app_with_its_error(log: Backend, tmp_path: Path) -> None:
    app = App("count")
    app.source(numbers, Number, to="numbers").sink(keep, case=str(tmp_path), fails=True)
    with pytest.raises(FatalError, match="count-numbers-sink failed: nothing can be kept"):
        start(app, log, stop=Event())


def test_a_step_that_fails_ends_its_connectors_too(log: Backend, tmp_path: Path) -> None:
    app = App("count")

    @app.source(numbers, Number, to="numbers").process(to="out")
    def fail(number: Number) -> Number:
        raise ValueError("no")

    fail.sink(keep, case=str(tmp_path))
    with pytest.raises(FunctionError):
        start(app, log, stop=Event())
    assert not [t.name for t in threading.enumerate() if t.name.startswith("connector")]
    assert not log.group("count-connect").members


def test_two_processes_share_the_connectors_and_both_come_to_an_end(tmp_path: Path) -> None:
    case = str(tmp_path)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with open_backend(str(tmp_path / "log")) as backend:
                start(even_numbers(case, limit=2000), backend, until_end=True)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not errors
    assert sorted(kept[case]) == list(range(0, 2000, 2))


def finish_in_two(app: App, log: Path) -> None:
    """Run it in what are two processes to each other until both have come to the end."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with open_backend(str(log)) as backend:
                start(app, backend, until_end=True, finish=True)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert not errors


@pytest.mark.parametrize("partitions", [1, 2], ids=["who-has-the-source-may-have-no-task", "each"])
def test_two_processes_of_which_one_has_the_source_finish_what_is_open(
    tmp_path: Path, partitions: int
) -> None:
    """The one has to know that no more comes, and waits for the tasks of the other."""
    app = App("count")
    given = app.source(numbers, Number, to="numbers", partitions=partitions, limit=500)
    given.window(tumbling("365d")).count().map(Number, name="counted").to("counts")
    with open_backend(str(tmp_path / "log")) as log:
        finish_in_two(app, tmp_path / "log")
        assert len(values(log, "counts")) == 500


def test_two_processes_with_a_source_each_close_nothing_before_both_sources_have_come_to_an_end(
    tmp_path: Path,
) -> None:
    """What the one has is settled long before what the other has: that is no end."""
    app = App("count")
    for case, how, limit in (("quick", numbers, 20), ("slow", slow_numbers, 80)):
        given = app.source(how, Number, to=case, partitions=2, limit=limit)
        counted = given.by(same_key, name=case).window(tumbling("365d")).count(name=case)
        counted.map(Number, name=f"{case}-named").to(f"{case}-count")
    with open_backend(str(tmp_path / "log")) as log:
        finish_in_two(app, tmp_path / "log")
        assert values(log, "quick-count") == [20]
        assert values(log, "slow-count") == [80]


def test_a_stop_ends_everything_and_the_next_run_goes_on(log: Backend, tmp_path: Path) -> None:
    case = str(tmp_path)
    stop = Event()

    @sink(config=KeptConfig)
    def stopping(config: KeptConfig, records: list[Record[bytes | None]]) -> None:
        kept.setdefault(config.case, []).extend(json.loads(r.value or b"")["n"] for r in records)
        stop.set()

    app = App("count")
    app.source(numbers, Number, to="numbers", limit=50).sink(stopping, case=case)
    start(app, log, stop=stop)
    again = App("count")
    again.source(numbers, Number, to="numbers", limit=60).sink(keep, case=case)
    start(again, log, until_end=True)
    assert kept[case] == list(range(60))


def test_progress_says_how_connectors_are(log: Backend, tmp_path: Path) -> None:
    told: list[tuple[str, ...]] = []
    app = even_numbers(str(tmp_path))
    start(app, log, until_end=True, on_progress=lambda progress: told.append(progress.notes))
    assert told[-1] == (
        "count-numbers-source idle, 10 records",
        "count-even-sink idle, 5 records",
    )


def test_a_connector_that_is_ours_but_has_not_begun_is_waited_for(
    log: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Worker._start

    def late(self: Worker, plan: Plan) -> None:
        time.sleep(1.0)
        begin(self, plan)

    log.create_topic("numbers", 1)
    log.append(TopicPartition("numbers", 0), [b'{"n": 1}'])
    app = App("count")
    stream = app.stream("numbers", Number).to("copied")
    run(app.topology(), log, until_end=True)
    stream.sink(keep, case=str(tmp_path))
    monkeypatch.setattr(Worker, "_start", late)
    start(app, log, until_end=True)
    assert kept[str(tmp_path)] == [1]


def test_a_log_in_memory_has_them_too(tmp_path: Path) -> None:
    with open_backend("memory:") as backend:
        start(even_numbers(str(tmp_path)), backend, until_end=True)
    assert sorted(kept[str(tmp_path)]) == [0, 2, 4, 6, 8]


# In tests.


def test_in_a_test_sources_do_not_run_and_sinks_collect() -> None:
    app = even_numbers("none")
    with app.test() as t:
        t.run()
        assert t.values("numbers") == []
        for n in range(4):
            t.send("numbers", Number(n), key="a")
        t.run()
        assert [record.value for record in t.sunk("even")] == [Number(0), Number(2)]
        with pytest.raises(UsageError, match="no sink 'evn'; did you mean 'even'"):
            t.sunk("evn")
    assert "none" not in kept


# Declaring.


BAD = {
    "an option that there is not": (
        lambda app: app.source("FileSource", Number, to="a", path="in", patern="*"),
        ConfigError,
        "source bad-a-source: unknown key 'patern'; did you mean 'pattern'",
    ),
    "an option of several words": (
        lambda app: app.stream("a", Number).sink("SqlSink", conection_url="sqlite://"),
        ConfigError,
        "unknown key 'conection_url'; did you mean 'connection_url'",
    ),
    "one that begins another": (
        lambda app: app.stream("a", Number).sink("SqlSink", table_name="a"),
        ConfigError,
        "unknown key 'table_name'; did you mean 'table_name_format'",
    ),
    "a missing one of several words": (
        lambda app: app.stream("a", Number).sink("SqlSink"),
        ConfigError,
        "'connection_url' is missing",
    ),
    "a missing option": (
        lambda app: app.source("FileSource", Number, to="a"),
        ConfigError,
        "'path' is missing",
    ),
    "a value that does not fit": (
        lambda app: app.source("FileSource", Number, to="a", path="in", poll_interval=5),
        ConfigError,
        "poll_interval = '5': expected a time with its unit",
    ),
    "a connector that there is not": (
        lambda app: app.source("FileSorce", Number, to="a", path="in"),
        ConfigError,
        "no such connector; did you mean 'FileSource'",
    ),
    "a sink as a source": (
        lambda app: app.source("FileSink", Number, to="a", path="in"),
        ConfigError,
        r"FileSink is for stream.sink\(...\)",
    ),
    "a source as a sink": (
        lambda app: app.stream("a", Number).sink("FileSource", path="in"),
        ConfigError,
        r"FileSource is for app.source\(...\)",
    ),
    "what is no connector": (
        lambda app: app.source(print, Number, to="a"),
        ConfigError,
        "is no connector",
    ),
    "the topic twice": (
        lambda app: app.source("FileSource", Number, to="a", path="in", topic="b"),
        ConfigError,
        "'topic' is said by to=",
    ),
    "two sinks of a stream without names": (
        lambda app: app.stream("a", Number).sink("FileSink", path="b").sink("FileSink", path="c"),
        TopologyError,
        "two sinks of app 'bad' would be called 'a'",
    ),
    "several tables": (
        lambda app: app.source(
            "SqlSource", Number, to="a", connection_url="sqlite://", mode="bulk", tables=["b", "c"]
        ),
        ConfigError,
        "topic is for a query or one table",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said_where_it_is_declared(name: str) -> None:
    declare, error, text = BAD[name]
    with pytest.raises(error, match=text):
        declare(App("bad"))


def test_a_source_without_an_option_topic_is_refused() -> None:
    @source(config=KeptConfig)
    def anywhere(config: KeptConfig, ctx: SourceContext) -> Iterator[SourceItem]:
        yield Pause(1)

    with pytest.raises(ConfigError, match="has no option 'topic'"):
        App("bad").source(anywhere, Number, to="a", case="b")


def test_options_are_looked_up_in_the_environment_and_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DB_PASSWORD", "s3cret")
    app = App("shop")
    url = "postgresql://shop:${env:DB_PASSWORD}@localhost/shop"
    app.stream("a", Number).sink("SqlSink", connection_url=url)
    (one,) = app.topology().connectors
    assert "s3cret" in one.plan.options.connection_url
    assert "s3cret" not in repr(one) + str(one)
    assert "s3cret" not in tree(outline(app.topology()))


def test_lists_and_mappings_are_options_too() -> None:
    app = App("files")
    app.source(
        "FileSource",
        Number,
        to="a",
        path=Path("in"),
        key_fields=("n", "m"),
        csv_types={"n_m": "int"},
        topic_creation_default={"retention.ms": "-1"},
        partitions=3,
    )
    (one,) = app.stream("b", Number).sink("FileSink", path="x")._graph.connectors[:1]
    assert one.plan.options.key_fields == ("n", "m")
    assert one.plan.options.csv_types == {"n_m": "int"}
    assert (one.partitions, one.settings) == (3, {"retention.ms": "-1"})


# Shown.


def test_connectors_are_drawn() -> None:
    topology = even_numbers("none").topology()
    assert tree(outline(topology)).splitlines()[:3] == [
        "app count",
        "  source count-numbers-source: numbers → numbers",
        "  sink count-even-sink: count-even-sink → keep",
    ]
    assert '[/"numbers"/]' in mermaid(outline(topology))


def test_a_plan_makes_the_topics_of_sources_and_waits_for_none(log: Backend) -> None:
    found = plan(even_numbers("none").topology(), log)
    assert {topic: spec.partitions for topic, spec in found.create.items()} == {
        "numbers": 2,
        "count-even-sink": 2,
    }
    assert not [change for change in found.changes if change.what == "waits"]


def test_a_connector_that_was_renamed_would_begin_anew_and_is_refused(
    log: Backend, tmp_path: Path
) -> None:
    start(even_numbers(str(tmp_path)), log, until_end=True)
    app = App("count")
    app.source(numbers, Number, to="numbers", name="all").to("copied")
    with pytest.raises(UnsafeChange, match="was it renamed\\? give it name='numbers'") as caught:
        start(app, log, until_end=True)
    assert "--forget" not in str(caught.value)
    changes = {c.subject: c.what for c in plan(app.topology(), log).changes}
    assert changes["count-even-sink"] == "gone"
    start(app, log, until_end=True, accept=True)
    assert sorted(values(log, "numbers")) == sorted([*range(10), *range(10)])


def test_rows_of_a_table_come_into_a_topic_of_any_name(log: Backend, tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "in.db")
    db.execute("CREATE TABLE rows (n INTEGER PRIMARY KEY)")
    db.executemany("INSERT INTO rows VALUES (?)", [(n,) for n in range(1, 4)])
    db.commit()
    db.close()
    app = App("copy")
    app.source(
        "SqlSource",
        Number,
        to="numbers",
        connection_url=f"sqlite:///{tmp_path}/in.db",
        tables=["rows"],
        mode="incrementing",
    ).sink("SqlSink", connection_url=f"sqlite:///{tmp_path}/out.db", table_name_format="copied")
    start(app, log, until_end=True)
    out = sqlite3.connect(tmp_path / "out.db")
    assert sorted(out.execute("SELECT n FROM copied")) == [(1,), (2,), (3,)]
    out.close()
