"""Rows of tables that are left on disk: what a start reads, and what it does without them."""

import shutil

import pytest

from streamkit.app import App
from streamkit.backends.embedded import EmbeddedBackend
from streamkit.backends.locate import open_backend
from streamkit.backends.offsets_topic import OffsetsTopic
from streamkit.clock import ManualClock, SystemClock
from streamkit.engine.journal import Tables, decode
from streamkit.engine.live import run
from streamkit.engine.settings import Settings
from streamkit.engine.state.beside import Beside
from streamkit.engine.state.budget import Budget
from streamkit.engine.state.versions import VersionRows
from streamkit.engine.topics import create_topics
from streamkit.engine.worker import Worker
from streamkit.log.directory import Log
from streamkit.records import Columns, TopicPartition
from streamkit.serde import serde_for

NAMES, WORLD, EVENTS, OUT = (
    TopicPartition(topic, 0) for topic in ("names", "world", "events", "out")
)
JOURNAL = TopicPartition("shop-events-journal", 0)


@pytest.fixture
def log(tmp_path):
    with open_backend(tmp_path / "log") as log:
        for topic in ("events", "names", "world"):
            log.create_topic(topic, 1)
        yield log


def joined(history="1h"):
    app = App("shop")
    events, names, world = (
        app.stream("events", str),
        app.table("names", str),
        app.global_table("world", str),
    )

    @events.join(names, how="left")
    def now(event: str, name: str | None) -> str:
        return f"{event}{name}"

    @now.join(names, how="left", history=history)
    def then(event: str, name: str | None) -> str:
        return f"{event}{name}"

    @then.join(world, how="left", on=lambda event: event[0], to="out")
    def everywhere(event: str, name: str | None) -> str:
        return f"{event}{name}"

    return app


def put(log, at, value, time, key=b"k"):
    log.append(at, [value], keys=[key], timestamps=time)


def to_the_end(log, **settings):
    run(joined().topology(), log, until_end=True, settings=Settings(**settings))


def given(log):
    found, position = [], 0
    while batches := log.fetch({OUT: position}):
        found += [record.value.decode() for batch in batches for record in batch.records()]
        position = batches[-1].next_offset
    return found


def loaded(log):
    """What the journal says that tables were read to at starts."""
    found, position = [], 0
    while batches := log.fetch({JOURNAL: position}):
        found += [decode(record.value, JOURNAL) for batch in batches for record in batch.records()]
        position = batches[-1].next_offset
    return [entry.to for entry in found if isinstance(entry, Tables)]


def rows_on_disk(log):
    return log.state_directory(JOURNAL)


def begin(log, topology=None):
    topology = topology or joined().topology()
    worker = Worker(topology, log, create_topics(topology, log), Settings(), SystemClock())
    while not worker.tasks:
        worker.turn()
    return worker


def test_a_start_reads_on_where_the_disk_is_and_needs_nothing_that_is_before(log):
    put(log, NAMES, b"A", 10)
    put(log, NAMES, b"B", 20)
    put(log, WORLD, b"W", 20, b"e")
    put(log, EVENTS, b"e", 15)
    to_the_end(log)
    assert given(log) == ["eBAW"]
    for at in (NAMES, WORLD):
        log.delete_records(at, -1)
    put(log, NAMES, b"C", 30)
    for time in (16, 25, 35):
        put(log, EVENTS, b"e", time)
    worker = begin(log)
    try:
        (one,) = worker.running
        assert one.restoring.total == 0
    finally:
        worker.close()
    to_the_end(log)
    assert given(log)[1:] == ["eBAW", "eBBW", "eCCW"]
    assert loaded(log) == [{"names-0": 2}]


def test_without_the_disk_rows_are_what_they_were_at_the_last_commit(log):
    put(log, NAMES, b"A", 10)
    put(log, EVENTS, b"e", 15)
    to_the_end(log)
    put(log, EVENTS, b"e", 15)
    put(log, NAMES, b"B", 20)
    put(log, EVENTS, b"e", 25)
    shutil.rmtree(rows_on_disk(log))
    to_the_end(log)
    assert given(log) == ["eAANone", "eAANone", "eBBNone"]
    assert loaded(log) == [{"names-0": 1}]


def test_where_the_rows_of_a_compacted_topic_cannot_be_known_any_more_it_is_read_to_its_end(log):
    log.alter_topic("names", {"cleanup.policy": "compact", "min.compaction.lag.ms": "3600000"})
    put(log, NAMES, b"A", 10)
    put(log, EVENTS, b"e", 15)
    to_the_end(log)
    put(log, EVENTS, b"e", 15)
    put(log, NAMES, b"B", 20)
    shutil.rmtree(rows_on_disk(log))
    to_the_end(log)
    assert given(log) == ["eAANone", "eBANone"]
    assert loaded(log) == [{"names-0": 1}, {"names-0": 2}]


def test_a_row_is_gone_whose_deletion_was_compacted_away_while_the_app_was_stopped(tmp_path):
    config = {"cleanup.policy": "compact", "delete.retention.ms": "0", "segment.bytes": "1024"}
    app = App("shop")
    events, names = app.stream("events", str), app.table("names", str)
    events.join(names, how="left", to="out")(lambda event, name: f"{event}{name}")
    topology = app.topology()
    with Log.open(tmp_path / "log", fsync="never", maintenance=False) as log:
        backend = EmbeddedBackend(log, OffsetsTopic(log, SystemClock()), closing=lambda: None)
        backend.create_topic("events", 1)
        backend.create_topic("names", 1, config)
        put(backend, NAMES, b"A", 10)
        put(backend, EVENTS, b"e", 10)
        run(topology, backend, until_end=True)
        put(backend, NAMES, None, 10)
        trimmer = log.partition(NAMES).trimmer
        for _ in range(2):  # the second one finds tombstones that the first one has seen
            put(backend, NAMES, b"B", 10, b"other")
            trimmer.roll(log.partition(NAMES).published())
            while (step := trimmer.compact(force=True)) is not None and not step.done:
                pass
        assert [batch.columns().keys for batch in backend.fetch({NAMES: 0})] == [[b"other"]]
        put(backend, EVENTS, b"e", 10)
        run(topology, backend, until_end=True)
        assert given(backend) == ["eA", "eNone"]


def test_versions_are_the_same_after_a_kill_in_the_middle_of_writing_them(log, monkeypatch):
    monkeypatch.setattr("streamkit.engine.state.disk._TOGETHER", 2)
    log.create_topic(JOURNAL.topic, 1)
    times = [1, 48 * 3_600_000, 6, 9, 48 * 3_600_000]
    keys, values = [b"k", b"other", b"k", b"k", b"other"], [b"early", b"1", b"late", None, b"2"]
    columns = Columns(range(5), times, keys, values)

    def begun():
        store = VersionRows("names", serde_for(str), at_once=True)
        beside = Beside(log, Budget(1 << 30), ManualClock(), print)
        beside.attach_table(store, JOURNAL, {NAMES: 5})
        return store

    killed = begun()
    killed.take(0, columns, 0, 2)
    assert killed.flush()
    killed.take(0, columns, 2, 5)
    put = killed._backing._put

    def dies(*some):
        put(*some)
        raise KeyboardInterrupt

    monkeypatch.setattr(killed._backing, "_put", dies)
    with pytest.raises(KeyboardInterrupt):
        killed.flush()
    killed._backing.let_go()
    store = begun()
    store.take(0, columns, 0, 5)
    assert [store.as_of(b"k", time) for time in (1, 6, 9)] == ["early", "late", None]
    store.close()


def test_a_group_that_begins_anew_finds_versions_that_had_been_dropped(log, monkeypatch):
    for number in range(20):
        put(log, NAMES, b"%d" % number, number * 3_600_000)
        put(log, EVENTS, b"e", number * 3_600_000)
    to_the_end(log)
    for number in range(5):  # some is dropped with each commit
        put(log, EVENTS, b"e", 20 * 3_600_000 + number)
        to_the_end(log)
    worker = begin(log)
    try:
        (versions,) = worker.tasks[0].ahead_rows["names"].stores
        assert versions.trimmed and len(list(versions.scan(b""))) < 5
    finally:
        worker.close()
    before = len(given(log))
    log.delete_group("shop")
    to_the_end(log)
    again = given(log)[before:]
    assert [each.removesuffix("None")[len("e19") :] for each in again[:20]] == [
        str(number) for number in range(20)
    ]


def test_tasks_of_a_process_share_a_global_table_and_each_process_has_a_disk_of_its_own(tmp_path):
    app = App("shop")
    events, world = app.stream("events", str), app.global_table("world", str)
    events.join(world, on=lambda event: event, how="left", to="out")(lambda event, row: row or "-")
    topology = app.topology()
    with open_backend(tmp_path / "log") as log:
        log.create_topic("events", 4)
        log.create_topic("world", 2)
        put(log, WORLD, b"W", 1, b"e")
        workers = [
            Worker(topology, log, create_topics(topology, log), Settings(), SystemClock())
            for _ in range(2)
        ]
        try:
            for _ in range(50):
                for worker in workers:
                    worker.turn()
                    worker.commit()
            assert [len(worker.tasks) for worker in workers] == [2, 2]
            stores = [
                {id(store) for task in worker.tasks for store in task.ahead_rows["world"].stores}
                for worker in workers
            ]
            assert [len(each) for each in stores] == [1, 1]
            assert stores[0] != stores[1]
        finally:
            for worker in workers:
                worker.close()
        folders = log.state_directory(JOURNAL) / "rows" / "world"
        assert sorted(each.name for each in folders.iterdir()) == ["0", "1"]
        log.delete_records(WORLD, -1)
        for number in range(4):
            put(log, TopicPartition("events", number), b"e", 5)
        run(topology, log, until_end=True)
        assert sum(log.offsets(TopicPartition("out", n)).end > 0 for n in range(4)) == 1
        found = [b.records() for n in range(4) for b in log.fetch({TopicPartition("out", n): 0})]
        assert {record.value for records in found for record in records} == {b"W"}
