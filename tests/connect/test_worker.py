"""The worker with real logs, and connectors small enough to be read here."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from streamkit.backends.base import Backend
from streamkit.backends.locate import open_backend
from streamkit.backends.values import CommittedOffset
from streamkit.codec import partition_for
from streamkit.connect import (
    Bad,
    Pause,
    Position,
    SourceContext,
    SourceItem,
    SourceRecord,
    sink,
    source,
)
from streamkit.connect.config import WorkerConfig, parse_worker
from streamkit.connect.status import ConnectorStatus
from streamkit.connect.worker import run
from streamkit.errors import (
    BadRow,
    ConfigError,
    ConnectError,
    DataError,
    FatalError,
    RecordTooLarge,
    TransientError,
    UnknownTopic,
)
from streamkit.records import Record, TopicPartition

HERE = Path(__file__).stem
calls: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class NumbersConfig:
    topic: str = "numbers"
    limit: int = 10
    keyed: bool = False
    case: str = ""


@source(config=NumbersConfig)
def numbers(config: NumbersConfig, ctx: SourceContext) -> Iterator[SourceItem]:
    """0, 1, 2 … up to the limit; what else happens is up to the case."""
    place = {"numbers": config.topic}
    case = calls.get(config.case)
    for n in range((ctx.offset(place) or {"next": 0})["next"], config.limit):
        offset = {"next": n + 1}
        if case is not None:
            item = case(n)
            if isinstance(item, Exception):
                raise item
            if isinstance(item, Bad):
                yield Bad(item.error, item.raw, config.topic, place, offset)
                continue
        key = f"k{n}" if config.keyed else None
        yield SourceRecord(config.topic, {"n": n}, key, place, offset, timestamp=1000 + n)
    while True:
        yield Pause(0.01)


@dataclass(frozen=True, slots=True)
class CollectConfig:
    case: str


@sink(config=CollectConfig)
def collect(config: CollectConfig, batch: list[Record[bytes | None]]) -> None:
    calls[config.case](batch)


@pytest.fixture(autouse=True)
def cases(monkeypatch: pytest.MonkeyPatch) -> None:
    # The worker imports this file by its name; both must see the same `calls`.
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    __import__(HERE).calls = calls
    calls.clear()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Backend]:
    with_log = open_backend(str(tmp_path / "log"))
    yield with_log
    with_log.close()


def config(**connectors: dict[str, Any]) -> WorkerConfig:
    document = {"connectors": {name: dict(table) for name, table in connectors.items()}}

    def no_references(provider: str, reference: str) -> str:
        raise ConfigError(provider)

    return parse_worker(document, "w.toml", no_references)


NUMBERS = {"connector.class": f"{HERE}:numbers"}
COLLECT = {"connector.class": f"{HERE}:collect", "topics": ["numbers"], "case": "sink"}
ALL = {"errors.tolerance": "all", "errors.deadletterqueue.topic.name": "bad"}


def values(log: Backend, topic: str = "numbers") -> list[Any]:
    found: list[Any] = []
    for partition in range(log.topic(topic).partitions):
        found += [json.loads(r.value or b"null") for r in read(log, topic, partition)]
    return found


def read(log: Backend, topic: str, partition: int = 0) -> list[Record[bytes | None]]:
    target = TopicPartition(topic, partition)
    position = log.offsets(target).start
    found: list[Record[bytes | None]] = []
    while batches := log.fetch({target: position}):
        for batch in batches:
            found += batch.records()
            position = batch.next_offset
    return found


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 20 s"
        time.sleep(0.01)


class Running:
    """A worker in a thread of its own."""

    def __init__(self, config: WorkerConfig, log: Any, **options: Any) -> None:
        self.stop = Event()
        self.statuses: dict[str, ConnectorStatus] = {}
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(config, log, options))
        self._thread.start()

    def _run(self, config: WorkerConfig, log: Any, options: dict[str, Any]) -> None:
        try:
            run(config, log, stop_event=self.stop, on_progress=self._progress, **options)
        except BaseException as error:
            self.error = error

    def _progress(self, statuses: tuple[ConnectorStatus, ...]) -> None:
        self.statuses = {status.name: status for status in statuses}

    def end(self) -> None:
        self.stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()


def test_records_and_their_position_are_stored_and_a_restart_goes_on(log: Backend) -> None:
    run(config(n=NUMBERS | {"limit": 5}), log, until_idle=True)
    (status,) = run(config(n=NUMBERS | {"limit": 8}), log, until_idle=True)
    assert values(log) == [{"n": n} for n in range(8)]
    assert (status.name, status.state, status.records) == ("n", "stopped", 3)
    last = read(log, "connect-offsets")[-1]
    assert (last.key, last.value) == (b'["n",{"numbers":"numbers"}]', b'{"next":8}')
    assert [record.timestamp for record in read(log, "numbers")] == list(range(1000, 1008))


def test_topics_are_made_as_configured_and_keys_go_where_kafka_sends_them(log: Backend) -> None:
    options = {
        "keyed": True,
        "limit": 50,
        "topic.creation.default.partitions": 4,
        "topic.creation.default.retention.ms": -1,
    }
    run(config(n=NUMBERS | options), log, until_idle=True)
    info = log.topic("numbers")
    assert (info.partitions, info.config["retention.ms"]) == (4, "-1")
    assert log.topic("connect-offsets").config["cleanup.policy"] == "compact"
    for partition in range(4):
        for record in read(log, "numbers", partition):
            assert partition_for(record.key, 4) == partition
    assert sorted(value["n"] for value in values(log)) == list(range(50))


def test_batches_larger_than_the_topic_takes_are_cut_smaller(log: Backend) -> None:
    options = {"limit": 3000, "topic.creation.default.max.message.bytes": 2000}
    run(config(n=NUMBERS | options), log, until_idle=True)
    assert values(log) == [{"n": n} for n in range(3000)]


def test_a_transient_error_is_tried_again_from_the_last_position(log: Backend) -> None:
    failures = [TransientError("the line is cut"), OSError("stale handle")]

    def case(n: int) -> object:
        return failures.pop() if n == 3 and failures else None

    calls["flaky"] = case
    options = {"case": "flaky", "errors.retry.delay.max.ms": 10}
    run(config(n=NUMBERS | options), log, until_idle=True)
    assert values(log) == [{"n": n} for n in range(10)]
    assert not failures


@pytest.mark.parametrize("longest", [10, 60_000])
def test_retries_end_after_the_time_given(
    log: Backend, longest: int, caplog: pytest.LogCaptureFixture
) -> None:
    calls["never"] = lambda n: TransientError("no answer from db.example:5432")
    options = {"case": "never", "errors.retry.timeout": 50, "errors.retry.delay.max.ms": longest}
    with pytest.raises(TransientError, match=r"connector n failed: no answer from db\.example"):
        run(config(n=NUMBERS | options), log)
    pauses = [r.args[2] for r in caplog.records if isinstance(r.args, tuple) and "again" in r.msg]
    assert pauses and all(isinstance(pause, float) and pause <= 0.05 for pause in pauses)


def test_a_bad_row_stops_its_connector_and_no_other_and_stores_what_was_good(
    log: Backend,
) -> None:
    calls["bad"] = lambda n: Bad(BadRow("a.csv:4: 2 values"), b"", "") if n == 3 else None
    two = config(n=NUMBERS | {"case": "bad"}, m=NUMBERS | {"topic": "others"})
    with pytest.raises(BadRow, match=r"connector n failed: a\.csv:4: 2 values"):
        run(two, log, until_idle=True)
    assert values(log) == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert len(values(log, "others")) == 10


def test_tolerated_bad_rows_go_to_the_dead_letter_queue_in_their_place(log: Backend) -> None:
    calls["bad"] = lambda n: Bad(BadRow(f"a.csv:{n}"), b"raw", "") if n % 4 == 3 else None
    (status,) = run(config(n=NUMBERS | ALL | {"case": "bad"}), log, until_idle=True)
    assert [value["n"] for value in values(log)] == [0, 1, 2, 4, 5, 6, 8, 9]
    assert (status.records, status.bad) == (8, 2)
    letters = read(log, "bad")
    assert [letter.value for letter in letters] == [b"raw", b"raw"]
    headers = dict(letters[1].headers)
    assert headers["__connect.errors.exception.message"] == b"a.csv:7"
    assert headers["__connect.errors.connector.name"] == b"n"
    assert headers["__connect.errors.topic"] == b"numbers"
    # And they are not met again.
    (again,) = run(config(n=NUMBERS | ALL | {"case": "bad"}), log, until_idle=True)
    assert again.bad == 0


def test_a_position_without_records_is_stored(log: Backend) -> None:
    @source(config=NumbersConfig)
    def empty(config: NumbersConfig, ctx: SourceContext) -> Iterator[SourceItem]:
        yield Position({"p": 1}, {"done": True})

    __import__(HERE).empty = empty
    run(config(n={"connector.class": f"{HERE}:empty"}), log, until_idle=True)
    assert [record.value for record in read(log, "connect-offsets")] == [b'{"done":true}']


def test_a_position_is_never_stored_when_its_records_were_not(
    log: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.create_topic("numbers", 1, {"cleanup.policy": "compact"})  # refuses records without keys

    @source(config=NumbersConfig)
    def moving(config: NumbersConfig, ctx: SourceContext) -> Iterator[SourceItem]:
        yield Position({"p": 1}, {"n": 0})
        yield SourceRecord("numbers", 1, None, {"p": 1}, {"n": 1})
        yield Position({"p": 2}, {"n": 2})

    __import__(HERE).moving = moving
    with pytest.raises(Exception, match="compact"):
        run(config(n={"connector.class": f"{HERE}:moving"}), log)
    assert read(log, "connect-offsets") == []


def test_an_error_at_the_start_ends_the_worker(log: Backend) -> None:
    calls["wrong"] = lambda n: FatalError("no table 'x'")
    with pytest.raises(FatalError, match="connector m failed: no table 'x'"):
        run(config(n=NUMBERS, m=NUMBERS | {"case": "wrong", "topic": "o"}), log)


def test_a_sink_that_fails_at_its_first_record_ends_the_worker_also_after_idling(
    log: Backend,
) -> None:
    def case(batch: list[Record[bytes | None]]) -> None:
        raise FatalError("no table 'x'")

    calls["sink"] = case
    log.create_topic("numbers", 1)
    worker = Running(config(c=COLLECT), log)
    eventually(lambda: bool(worker.statuses) and worker.statuses["c"].state == "idle")
    log.append(TopicPartition("numbers", 0), [b"1"])
    eventually(lambda: worker.error is not None)
    worker.end()
    assert str(worker.error) == "connector c failed: no table 'x'"


def test_a_connector_that_fails_after_it_worked_leaves_the_others_alone(log: Backend) -> None:
    broken = Event()

    def case(n: int) -> object:
        time.sleep(0.001)  # a source that always has more, but not too much
        return FatalError("it broke") if broken.is_set() else None

    calls["breaks"] = case
    options = {"case": "breaks", "limit": 1_000_000_000, "topic": "o"}
    worker = Running(config(n=NUMBERS, m=NUMBERS | options), log)
    eventually(lambda: bool(worker.statuses) and worker.statuses["m"].records > 0)
    eventually(lambda: worker.statuses["n"].state == "idle")
    broken.set()
    eventually(lambda: worker.statuses["m"].state == "failed")
    assert worker.statuses["n"].state == "idle"
    assert worker.error is None
    worker.end()
    assert str(worker.error) == "connector m failed: it broke"


def test_a_data_error_says_how_to_go_on(log: Backend) -> None:
    calls["bad"] = lambda n: BadRow("a.csv:4: 2 values")
    with pytest.raises(BadRow, match="Mend it and start again"):
        run(config(n=NUMBERS | {"case": "bad"}), log)


def test_an_unexpected_error_names_its_class(log: Backend) -> None:
    calls["bug"] = lambda n: KeyError("id")
    with pytest.raises(ConnectError, match="connector n failed: KeyError: 'id'"):
        run(config(n=NUMBERS | {"case": "bug"}), log)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"connector.class": "FileSorce"}, "did you mean 'FileSource'?"),
        ({"connector.class": "no_such_module:x"}, "No module named 'no_such_module'"),
        ({"connector.class": f"{HERE}:number"}, "did you mean 'numbers'?"),
        ({"connector.class": f"{HERE}:config"}, "not declared with @source or @sink"),
        (NUMBERS | {"limits": 3}, "unknown key 'limits'; did you mean 'limit'?"),
        (NUMBERS | {"topics": "a"}, "'topics' is for sinks"),
        (COLLECT | {"topics": []}, "'topics' is missing"),
        (NUMBERS | {"errors.deadletterqueue.topic.name": "d"}, 'needs errors.tolerance = "all"'),
    ],
)
def test_a_wrong_connector_is_refused_before_anything_starts(
    log: Backend, table: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        run(config(good=NUMBERS, wrong=table), log)
    assert message in str(caught.value)
    assert "[connectors.wrong]" in str(caught.value)
    assert "numbers" not in log.topics()


def test_a_sink_gets_every_record_and_its_group_stands_at_the_end(log: Backend) -> None:
    seen: list[int] = []
    calls["sink"] = lambda batch: seen.extend(json.loads(r.value)["n"] for r in batch)
    options = {"limit": 100, "topic.creation.default.partitions": 3}
    run(config(n=NUMBERS | options, c=COLLECT), log, until_idle=True)
    assert sorted(seen) == list(range(100))
    committed = log.committed("connect-c")
    assert {at: it.offset for at, it in committed.items()} == {
        at: log.offsets(at).end for at in committed
    }
    run(config(c=COLLECT), log, until_idle=True)
    assert len(seen) == 100


def test_a_record_that_a_sink_refuses_is_named_and_what_stands_before_it_is_written(
    log: Backend,
) -> None:
    seen: list[int] = []

    def case(batch: list[Record[bytes | None]]) -> None:
        for record in batch:
            if record.offset == 6:
                raise DataError(f"{record.coordinates}: no")
        seen.extend(record.offset for record in batch)

    calls["sink"] = case
    run(config(n=NUMBERS), log, until_idle=True)
    with pytest.raises(DataError, match="connector c failed: numbers-0@6: no"):
        run(config(c=COLLECT), log)
    assert seen == [0, 1, 2, 3, 4, 5]
    seen.clear()
    (status,) = run(config(c=COLLECT | ALL), log, until_idle=True)
    assert seen == [0, 1, 2, 3, 4, 5, 7, 8, 9]
    (letter,) = read(log, "bad")
    headers = dict(letter.headers)
    assert (status.bad, letter.value) == (1, b'{"n":6}')
    assert headers["__connect.errors.offset"] == b"6"
    assert headers["__connect.errors.stage"] == b"TASK_PUT"


def test_a_sink_waits_for_a_topic_that_comes_later(log: Backend) -> None:
    seen: list[int] = []
    calls["sink"] = lambda batch: seen.extend(record.offset for record in batch)
    worker = Running(config(c=COLLECT), log)
    eventually(lambda: bool(worker.statuses) and worker.statuses["c"].state == "idle")
    run(config(n=NUMBERS), log, until_idle=True)
    eventually(lambda: len(seen) == 10)
    worker.end()
    assert worker.error is None


def test_a_worker_is_not_idle_before_its_sinks_have_read_the_topics_that_its_sources_made(
    log: Backend,
) -> None:
    seen: list[str] = []
    calls["sink"] = lambda batch: seen.extend(record.topic for record in batch)
    log.create_topic("before", 1)
    log.append(TopicPartition("before", 0), [b"{}"] * 5)
    sink_options = COLLECT | {"topics": ["before", "numbers"]}
    run(config(c=sink_options, n=NUMBERS), log, until_idle=True)
    assert sorted(seen) == ["before"] * 5 + ["numbers"] * 10


def test_a_topic_that_its_source_is_about_to_make_is_no_warning(
    log: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    calls["sink"] = lambda batch: None
    log.create_topic("number", 1)
    with caplog.at_level("INFO", "streamkit.connect"):
        run(config(c=COLLECT, n=NUMBERS), log, until_idle=True)
    assert "c: waiting for topic numbers" in caplog.messages
    assert [record for record in caplog.records if record.levelname != "INFO"] == []


@pytest.mark.parametrize(
    ("topic", "guess"), [("nubmer", "; did you mean 'number'?"), ("files", "")]
)
def test_a_topic_that_never_appears_is_an_error_once_everything_else_is_written(
    log: Backend, topic: str, guess: str
) -> None:
    seen: list[str] = []
    calls["sink"] = lambda batch: seen.extend(record.topic for record in batch)
    log.create_topic("number", 1)
    wrong = COLLECT | {"topics": ["numbers", topic]}
    with pytest.raises(UnknownTopic) as caught:
        run(config(n=NUMBERS, c=wrong), log, until_idle=True)
    said = f"connector c: topic {topic} never appeared{guess}"
    assert str(caught.value).startswith(f"{said}\n")
    assert seen == ["numbers"] * 10


def test_a_topic_that_is_shorter_than_the_committed_offset_is_not_skipped_over(
    log: Backend,
) -> None:
    calls["sink"] = lambda batch: None
    run(config(n=NUMBERS, c=COLLECT), log, until_idle=True)
    log.commit("connect-c", {TopicPartition("numbers", 0): CommittedOffset(99)})
    with pytest.raises(FatalError, match="ends at 11, but group connect-c stands at 99"):
        run(config(c=COLLECT), log)


def test_a_topic_made_anew_under_a_running_sink_is_read_from_its_beginning(log: Backend) -> None:
    seen: list[int] = []
    calls["sink"] = lambda batch: seen.extend(json.loads(r.value)["n"] for r in batch)
    run(config(n=NUMBERS), log, until_idle=True)
    worker = Running(config(c=COLLECT | {"errors.retry.delay.max.ms": 10}), log)
    eventually(lambda: bool(worker.statuses) and worker.statuses["c"].records == 10)
    seen.clear()
    log.delete_topic("numbers")
    log.create_topic("numbers", 1)
    log.append(TopicPartition("numbers", 0), [b'{"n":%d}' % n for n in range(20)])
    eventually(lambda: len(seen) == 20)
    worker.end()
    assert worker.error is None
    assert seen == list(range(20))


def test_a_topic_made_anew_between_a_write_and_its_commit_is_read_from_its_beginning(
    log: Backend,
) -> None:
    seen: list[int] = []

    def case(batch: list[Record[bytes | None]]) -> None:
        if not seen:
            log.delete_topic("numbers")
            log.create_topic("numbers", 1)
            log.append(TopicPartition("numbers", 0), [b'{"n":%d}' % n for n in range(100, 120)])
        seen.extend(json.loads(record.value or b"")["n"] for record in batch)

    calls["sink"] = case
    run(config(n=NUMBERS), log, until_idle=True)
    run(config(c=COLLECT | {"errors.retry.delay.max.ms": 10}), log, until_idle=True)
    assert seen == [*range(10), *range(100, 120)]


def test_two_workers_share_the_connectors_and_one_takes_over(tmp_path: Path) -> None:
    names = {f"n{i}": NUMBERS | {"topic": f"t{i}"} for i in range(4)}
    path = str(tmp_path / "log")
    first = Running(config(**names), path)
    eventually(lambda: len(first.statuses) == 4)
    second = Running(config(**names), path)
    eventually(lambda: len(first.statuses) == len(second.statuses) == 2)
    assert first.statuses.keys().isdisjoint(second.statuses.keys())
    first.end()
    eventually(lambda: len(second.statuses) == 4)
    eventually(lambda: all(status.state == "idle" for status in second.statuses.values()))
    second.end()
    assert first.error is None and second.error is None
    with_log = open_backend(path)
    for i in range(4):
        assert len(values(with_log, f"t{i}")) == 10
    with_log.close()


def test_a_stop_ends_a_pause_at_once(log: Backend) -> None:
    @source(config=NumbersConfig)
    def sleepy(config: NumbersConfig, ctx: SourceContext) -> Iterator[SourceItem]:
        yield Pause(3600)

    __import__(HERE).sleepy = sleepy
    worker = Running(config(s={"connector.class": f"{HERE}:sleepy"}), log)
    eventually(lambda: bool(worker.statuses) and worker.statuses["s"].state == "idle")
    worker.end()
    assert worker.statuses["s"].state == "stopped"


def test_more_bad_rows_than_one_batch_holds_are_all_set_aside(log: Backend) -> None:
    calls["bad"] = lambda n: Bad(BadRow(f"row {n}"), b"%d" % n, "") if n != 2999 else None
    (status,) = run(config(n=NUMBERS | ALL | {"limit": 3000, "case": "bad"}), log, until_idle=True)
    assert (status.records, status.bad) == (1, 2999)
    assert [record.value for record in read(log, "bad")] == [b"%d" % n for n in range(2999)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken_syntax:x", "SyntaxError"),
        ("broken_code:x", "ZeroDivisionError"),
        ("broken_import:x", "No module named 'nowhere_to_be_found'"),
        ("..a:x", "'..a' is no module"),
        (":x", "'' is no module"),
    ],
)
def test_a_connectors_module_that_cannot_be_imported_is_a_config_error(
    tmp_path: Path, log: Backend, name: str, message: str
) -> None:
    (tmp_path / "broken_syntax.py").write_text("def (:")
    (tmp_path / "broken_code.py").write_text("1 / 0")
    (tmp_path / "broken_import.py").write_text("import nowhere_to_be_found")
    (tmp_path / "w.toml").write_text(f"[connectors.wrong]\n'connector.class' = '{name}'")
    with pytest.raises(ConfigError, match=r"\[connectors\.wrong\]: connector\.class") as caught:
        run(tmp_path / "w.toml", log)
    assert message in str(caught.value)


def test_a_record_that_the_topic_does_not_take_is_named_by_where_it_was_found(
    log: Backend,
) -> None:
    log.create_topic("numbers", 1, {"max.message.bytes": "50"})
    with pytest.raises(RecordTooLarge, match=r"found in {'numbers': 'numbers'}, before {'next'"):
        run(config(n=NUMBERS), log, until_idle=True)
    assert values(log) == []


def test_a_record_that_is_too_large_is_set_aside_with_what_fits(log: Backend) -> None:
    @source(config=NumbersConfig)
    def growing(config: NumbersConfig, ctx: SourceContext) -> Iterator[SourceItem]:
        place = {"p": 1}
        for n in range((ctx.offset(place) or {"n": 0})["n"], 4):
            yield SourceRecord("numbers", 10 ** (20 * n), f"k{n}", place, {"n": n + 1})
        yield SourceRecord("numbers", "v" * 9000, "k" * 9000, {"p": 2}, {"n": 1})

    __import__(HERE).growing = growing
    log.create_topic("numbers", 1, {"max.message.bytes": "110"})
    log.create_topic("bad", 1, {"max.message.bytes": "4000"})
    (status,) = run(config(n={"connector.class": f"{HERE}:growing"} | ALL), log, until_idle=True)
    assert values(log) == [1, 10**20]
    assert (status.records, status.bad) == (2, 3)
    letters = read(log, "bad")
    assert [(r.key, r.value) for r in letters] == [
        (b"k2", str(10**40).encode()),
        (b"k3", str(10**60).encode()),
        (None, None),
    ]
    headers = dict(letters[-1].headers)
    assert headers["__connect.errors.topic"] == b"numbers"
    assert b"found in {'p': 2}, before {'n': 1}" in headers["__connect.errors.exception.message"]
    left_out = b"the value (9000 bytes), the key (9000 bytes) and its headers: too large"
    assert headers["__connect.errors.left.out"] == left_out


def test_input_that_is_too_large_for_the_dead_letter_queue_is_set_aside_without_its_value(
    log: Backend,
) -> None:
    log.create_topic("bad", 1, {"max.message.bytes": "4000"})
    raw = b"x" * 5000
    calls["bad"] = lambda n: Bad(BadRow("row 3"), raw, "numbers") if n == 3 else None
    (status,) = run(config(n=NUMBERS | ALL | {"case": "bad"}), log, until_idle=True)
    assert (status.records, status.bad) == (9, 1)
    (letter,) = read(log, "bad")
    assert letter.value is None
    headers = dict(letter.headers)
    assert headers["__connect.errors.exception.message"] == b"row 3"
    assert headers["__connect.errors.left.out"] == b"the value (5000 bytes): too large"
