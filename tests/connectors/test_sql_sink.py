"""The SQL sink on SQLite: tables, keys, deletions, and what it refuses."""

import re
import sqlite3
import threading
from pathlib import Path

import pytest

from streamkit.backends.locate import open_backend
from streamkit.connect import CommittedOffset
from streamkit.connect.status import ConnectorStatus
from streamkit.connect.testing import PARTITION, opened, records
from streamkit.connect.worker import run
from streamkit.connectors.sql_sink import SqlSink, SqlSinkConfig
from streamkit.errors import ConfigError, DataError, FatalError, SerdeError
from streamkit.records import Record, TopicPartition

START = CommittedOffset(0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.db"


def config(path: Path, **options: object) -> SqlSinkConfig:
    return SqlSinkConfig(f"sqlite:///{path}", **options)  # type: ignore[arg-type]


def upsert(path: Path, mode: str = "record_value", **options: object) -> SqlSinkConfig:
    options = {"pk_fields": ("id",)} | options
    return config(path, insert_mode="upsert", pk_mode=mode, **options)


def rows(path: Path, sql: str = "SELECT * FROM events") -> list[tuple[object, ...]]:
    db = sqlite3.connect(path)
    try:
        return db.execute(sql).fetchall()
    finally:
        db.close()


def write(config: SqlSinkConfig, *batches: list[bytes | None]) -> None:
    with opened(SqlSink, config) as sink:
        sink.resume(PARTITION, START)
        first = 0
        for values in batches:
            sink.write(records(values, first=first))
            first += len(values)


def test_a_table_is_made_with_types_from_the_values(path: Path) -> None:
    write(
        config(path),
        [b'{"i":1,"x":2,"b":true,"s":"a","o":{"k":[1]},"none":null}', b'{"i":2,"x":2.5}'],
    )
    assert rows(path) == [(1, 2.0, 1, "a", '{"k":[1]}'), (2, 2.5, None, None, None)]
    columns = rows(path, "SELECT name, type FROM pragma_table_info('events')")
    assert columns == [
        ("i", "BIGINT"),
        ("x", "DOUBLE"),
        ("b", "BOOLEAN"),
        ("s", "TEXT"),
        ("o", "JSON"),
    ]


def test_new_fields_become_columns(path: Path) -> None:
    write(config(path), [b'{"a":1}'], [b'{"a":2,"new: 50% \\"x\\"":"y","later":null}'])
    assert rows(path) == [(1, None), (2, "y")]


def test_fields_named_like_sql_are_only_names(path: Path) -> None:
    write(upsert(path, pk_fields=("select",)), [b'{"select":1,"drop table":2}'] * 2)
    assert rows(path) == [(1, 2)]


def test_an_upsert_keeps_the_last_value_of_a_key_and_fields_that_are_absent(path: Path) -> None:
    write(
        upsert(path),
        [b'{"id":1,"a":1,"b":1}', b'{"id":2,"a":1,"b":1}', b'{"id":1,"a":2}'],
        [b'{"id":2,"b":3}'],
    )
    assert sorted(rows(path)) == [(1, 2, 1), (2, 1, 3)]


def test_a_row_that_is_only_a_key_is_written_once(path: Path) -> None:
    write(upsert(path), [b'{"id":1}'], [b'{"id":1}'])
    assert rows(path) == [(1,)]


def test_the_record_key_is_the_primary_key_and_a_tombstone_deletes_its_row(path: Path) -> None:
    deleting = upsert(path, "record_key", delete_enabled=True)
    with opened(SqlSink, deleting) as sink:
        sink.resume(PARTITION, START)
        sink.write(records([None]))  # before there is a table
        sink.write(records([b'{"a":1}', b'{"a":2}', b'{"a":3}']))
        sink.write(records([None, None], first=1))
        sink.write([Record("events", 0, n, 0, b"2", v) for n, v in ((5, None), (6, b'{"a":9}'))])
    assert sorted(rows(path, "SELECT id, a FROM events")) == [("0", 1), ("2", 9)]


def test_a_row_deleted_and_written_again_keeps_nothing_of_the_old_one(path: Path) -> None:
    with opened(SqlSink, upsert(path, "record_key", delete_enabled=True)) as sink:
        sink.resume(PARTITION, START)
        sink.write(records([b'{"a":1,"b":1}']))
        sink.write([Record("events", 0, n, 0, b"0", v) for n, v in ((1, None), (2, b'{"a":2}'))])
    assert rows(path, "SELECT id, a, b FROM events") == [("0", 2, None)]


WINDOWS: dict[str, object] = {"pk_mode": "window", "pk_fields": ("user",)}


def of_window(
    offset: int,
    start: int,
    end: int,
    value: bytes | None,
    key: bytes = b"a",
    step: bytes = b"spent",
) -> Record[bytes | None]:
    header = b'["%s",%d,%d,1]' % (step, start, end)
    return Record("events", 0, offset, end - 1, key, value, (("__streamkit.window", header),))


def test_windows_have_a_row_each_which_the_latest_result_replaces_and_a_retraction_deletes(
    path: Path,
) -> None:
    with opened(SqlSink, config(path, **WINDOWS)) as sink:
        sink.resume(PARTITION, START)
        sink.write([of_window(0, 0, 9, None)])  # before there is a table
        sink.write([of_window(1, 1000, 1500, b"1"), of_window(2, 1700, 2000, b"1")])
        sink.write([of_window(3, 1700, 2000, None), of_window(4, 1000, 2000, b"3")])
        sink.write([of_window(5, 1000, 2000, b"1", b"b")])
    at = "1970-01-01T00:00:0"
    assert sorted(rows(path, "SELECT user, window_start, window_end, value FROM events")) == [
        ("a", f"{at}1.000Z", f"{at}2.000Z", 3),
        ("b", f"{at}1.000Z", f"{at}2.000Z", 1),
    ]


def test_columns_of_windows_have_the_names_that_are_said(path: Path) -> None:
    named = config(path, pk_mode="window", pk_fields=("user", "shop"), window_fields=("hour",))
    with opened(SqlSink, named) as sink:
        sink.resume(PARTITION, START)
        sink.write([of_window(0, 0, 9, b'{"n":1}', b'["a",7]')])  # a tuple
        sink.write([of_window(1, 0, 9, b'{"n":2,"user":"x"}', b'{"shop":7,"user":"a"}')])
    names = 'user, shop, "hour", n'
    assert rows(path, f"SELECT {names} FROM events") == [("a", 7, "1970-01-01T00:00:00.000Z", 2)]


def test_what_is_no_result_of_a_window_is_refused_with_its_place(path: Path) -> None:
    bad = Record("events", 0, 7, 0, b"a", b"1", (("__streamkit.window", b"[]"),))
    named = config(path, **(WINDOWS | {"window_fields": ("value",)}))
    with (
        opened(SqlSink, config(path, **WINDOWS)) as sink,
        opened(SqlSink, named) as other,
        opened(SqlSink, upsert(path)) as taking,
    ):
        sink.resume(PARTITION, START)
        for record, message in (
            (records([b"{}"])[0], "events-0@0: no header __streamkit.window"),
            (bad, "events-0@7: the header __streamkit.window"),
            (of_window(1, 0, 1 << 60, b"{}"), "beyond the year 9999"),
        ):
            with pytest.raises(DataError, match=message):
                sink.write([record])
        with pytest.raises(DataError, match="events-0@0: a value that is no object"):
            other.write([of_window(0, 0, 9, b"1")])
        with pytest.raises(DataError, match=r"deletes the row with pk\.mode = window"):
            taking.write([of_window(0, 0, 9, None)])


def test_results_of_another_steps_windows_are_told_as_their_rows_may_be_the_same(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(SqlSink, config(path, **WINDOWS)) as sink:
        sink.resume(PARTITION, START)
        sink.write([of_window(0, 0, 9, b"1"), of_window(1, 9, 18, b"1")])
        assert not caplog.records
        for number in (2, 3):
            sink.write([of_window(number, 0, 18, b"7", step=b"per-day")])
    (told,) = caplog.messages
    assert "events-0@2: a result of per-day, after those of spent" in told


@pytest.mark.parametrize("value", [None, b"1"])
def test_a_key_that_is_none_of_a_row_is_refused_with_its_place(
    path: Path, value: bytes | None
) -> None:
    pair = config(path, **(WINDOWS | {"pk_fields": ("user", "shop")}))
    with opened(SqlSink, pair) as sink:
        sink.resume(PARTITION, START)
        for key, why in ((b'[["a"],7]', "'user' is an array"), (b'["a",null]', "is missing")):
            with pytest.raises(DataError, match=f"events-0@3: .*{why}"):
                sink.write([of_window(3, 0, 9, value, key)])


REFUSED = {
    "not an object": (b"[1]", "expected a JSON object, found list"),
    "not JSON": (b"{", "not JSON"),
    "empty": (b"{}", "without fields"),
    "no value": (None, "delete.enabled"),
    "huge": (b'{"id":99999999999999999999}', "too large"),
}


@pytest.mark.parametrize(("value", "message"), REFUSED.values(), ids=REFUSED)
def test_a_record_that_makes_no_row_is_refused_with_its_place(
    path: Path, value: bytes | None, message: str
) -> None:
    with pytest.raises(DataError) as caught:
        write(config(path), [value])
    assert message in str(caught.value)


def test_a_dot_in_a_topics_name_is_part_of_the_tables_name(path: Path) -> None:
    with opened(SqlSink, config(path)) as sink:
        sink.resume(TopicPartition("a.b", 0), START)
        sink.write(records([b'{"n":1}'], topic="a.b"))
    assert rows(path, 'SELECT * FROM "a.b"') == [(1,)]


def test_a_missing_primary_key_field_is_refused_with_its_place(path: Path) -> None:
    with pytest.raises(DataError, match="events-0@1: the primary key field 'id' is missing"):
        write(upsert(path), [b'{"id":1}', b'{"ID":1}'])


@pytest.mark.parametrize("key", [b'{"x":1}', b"ada", b"17", b"[1]", None])
def test_a_key_that_is_not_several_columns_is_told_with_these(
    path: Path, key: bytes | None
) -> None:
    shown = "no key" if key is None else rf"pk.fields names 2 .*{re.escape(key.decode())}"
    with opened(SqlSink, upsert(path, "record_key", pk_fields=("a", "b"))) as sink:
        sink.resume(PARTITION, START)
        with pytest.raises(SerdeError, match=rf"events-0@0: {shown}"):
            sink.write([Record("events", 0, 0, 0, key, b"{}")])


def test_without_a_window_that_is_said_before_its_key(path: Path) -> None:
    by_window = config(path, pk_mode="window", pk_fields=("a",))
    with pytest.raises(DataError, match="events-0@0: no header"):
        write(by_window, [b'{"n":1}'])


def test_a_constraint_of_the_database_is_a_data_error(path: Path) -> None:
    rows(path, "CREATE TABLE events (n INT NOT NULL CHECK (n < 5))")
    with pytest.raises(DataError, match="events-0@0: CHECK constraint failed"):
        write(config(path), [b'{"n":7}'])


def test_columns_are_added_only_where_that_is_allowed(path: Path) -> None:
    rows(path, "CREATE TABLE events (name TEXT)")
    with pytest.raises(DataError, match="no column 'nmae'; did you mean 'name'"):
        write(config(path, auto_evolve=False), [b'{"nmae":"x"}'])


def test_a_missing_table_is_made_only_where_that_is_allowed(path: Path) -> None:
    with pytest.raises(FatalError, match="no table 'events-x'"):
        write(
            config(path, auto_create=False, table_name_format="${topic}-x"),
            [b'{"a":1}'],
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"insert_mode": "upsert"}, "needs pk.mode"),
        ({"pk_mode": "record_key"}, "needs pk.fields"),
        ({"pk_fields": ("a",)}, "pk.fields needs pk.mode"),
        ({"delete_enabled": True}, "delete.enabled needs"),
        ({"window_fields": ("at",)}, 'window.fields needs pk.mode = "window"'),
        ({"pk_mode": "window"}, "needs pk.fields"),
        (WINDOWS | {"insert_mode": "insert"}, "leave out insert.mode"),
        (WINDOWS | {"window_fields": ("a", "b", "c")}, "names two columns"),
        (WINDOWS | {"window_fields": ("at", "user")}, "'user' stands twice"),
    ],
)
def test_options_that_do_not_fit_together_are_a_config_error(
    path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        config(path, **options)
    assert message in str(caught.value)


def test_the_offset_in_the_database_counts_while_the_note_says_so(path: Path) -> None:
    with opened(SqlSink, config(path)) as sink:
        start = sink.resume(PARTITION, START)
        assert start is not None
        sink.write(records([b'{"n":0}', b'{"n":1}']))
        # The commit was lost: the database knows better.
        again = sink.resume(PARTITION, start)
        assert again is not None and again.offset == 2
        # A reset has no note: it is followed.
        reset = sink.resume(PARTITION, CommittedOffset(1))
        assert reset is not None and reset.offset == 1


def test_a_topic_made_anew_begins_at_its_beginning(path: Path) -> None:
    with opened(SqlSink, config(path), topic_id="a") as sink:
        start = sink.resume(PARTITION, START)
        assert start is not None
        sink.write(records([b'{"n":0}', b'{"n":1}']))
    with opened(SqlSink, config(path), topic_id="b") as sink:
        anew = sink.resume(PARTITION, start)
        assert anew is not None and anew.offset == 0


def test_an_empty_database_is_filled_from_the_beginning(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(SqlSink, config(path)) as sink:
        anew = sink.resume(PARTITION, CommittedOffset(7, "in the database"))
    assert anew is not None and anew.offset == 0
    assert "not into this database" in caplog.text


def test_sinks_that_open_a_new_database_at_the_same_moment_all_do(path: Path) -> None:
    failed: list[Exception] = []

    def take(turn: int, name: str) -> None:
        together.wait()
        try:
            with opened(SqlSink, config(path.with_name(f"{turn}.db"))) as sink:
                sink.resume(TopicPartition(name, 0), START)
        except Exception as error:
            failed.append(error)

    for turn in range(10):
        together = threading.Barrier(3)
        threads = [threading.Thread(target=take, args=(turn, f"t{n}")) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failed == []


REFUSED = {
    "an array as the key": (b'{"id":[1]}', "the primary key field 'id' is an array"),
    "a name without letters": (b'{"id":1,"":2}', "the field name '' cannot be a column's"),
    "a null character": (b'{"id":1,"a\\u0000":2}', "cannot be a column's"),
    "the same column twice": (b'{"id":1,"ID":2}', "would be the same column"),
    "too large a number": (b'{"id":1,"n":%d}' % (1 << 80), "is too large"),
    "nested too deep": (b"[" * 100_000, "is not JSON"),
}


@pytest.mark.parametrize("known", [True, False], ids=["table exists", "table is new"])
@pytest.mark.parametrize(("value", "message"), REFUSED.values(), ids=REFUSED)
def test_a_value_that_no_table_takes_is_a_data_error_with_its_place(
    path: Path, value: bytes, message: str, known: bool
) -> None:
    if known:
        write(upsert(path), [b'{"id":7}'])
    with pytest.raises(DataError, match="events-0@0") as caught:
        write(upsert(path), [value])
    assert message in str(caught.value)


def test_a_worker_stops_in_time_while_something_else_locks_its_database(
    tmp_path: Path, path: Path
) -> None:
    worker = tmp_path / "w.toml"
    worker.write_text(
        "[connectors.s]\n'connector.class' = 'SqlSink'\n"
        f"'connection.url' = 'sqlite:///{path}'\ntopics = ['t']\n"
    )
    with open_backend(str(tmp_path / "log")) as log:
        log.create_topic("t", 1)
        log.append(TopicPartition("t", 0), [b'{"n":1}'])
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        stop = threading.Event()

        def stop_when_waiting(statuses: tuple[ConnectorStatus, ...]) -> None:
            if statuses and statuses[0].state == "retrying":
                stop.set()

        # Raises ConnectError when the connector does not end.
        run(worker, log, stop_event=stop, on_progress=stop_when_waiting)
        other.close()
        run(worker, log, until_idle=True)
    assert rows(path, "SELECT * FROM t") == [(1,)]
