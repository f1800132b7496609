"""The SQL source on SQLite: what it refuses, and when it reads again."""

import json
import sqlite3
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest

from streamkit.connect import Duration, Pause, SourceContext, SourceRecord
from streamkit.connect.testing import read
from streamkit.connectors.sql import open_engine
from streamkit.connectors.sql_source import SqlSourceConfig, sql_source
from streamkit.errors import ConfigError, DataError, FatalError, TransientError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.db"


@pytest.fixture
def db(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, isolation_level=None)
    yield connection
    connection.close()


def config(path: Path, mode: str = "incrementing", **options: object) -> SqlSourceConfig:
    options = {"tables": ("t",)} | options
    return SqlSourceConfig(f"sqlite:///{path}", mode, **options)  # type: ignore[arg-type]


def test_rows_that_come_later_are_read_by_the_next_poll(path: Path, db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    ctx = SourceContext("x", list, lambda place: None)
    items = sql_source(config(path, poll_interval=Duration(1)), ctx)
    found, polls = [], 0
    for item in items:
        if isinstance(item, Pause):
            polls += 1
            db.execute("INSERT INTO t DEFAULT VALUES")
            ctx.wait(item.seconds)
        else:
            assert isinstance(item, SourceRecord)
            found.append((item.key, item.offset))
        if len(found) == 3:
            break
    items.close()
    assert found == [(b"%d" % n, {"incrementing": n}) for n in (1, 2, 3)]


def test_more_rows_than_a_page_come_in_order(path: Path, db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE t (x INT, id INTEGER PRIMARY KEY)")
    db.executemany("INSERT INTO t VALUES (0, ?)", [(n,) for n in range(1, 101)])
    reading = read(sql_source, config(path, batch_max_rows=10))
    assert [json.loads(value)["id"] for value in reading.values] == list(range(1, 101))


def test_text_can_be_the_growing_column_and_the_key(path: Path, db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE t (id TEXT UNIQUE NOT NULL, a INT, b INT, PRIMARY KEY (a, b))")
    db.execute("INSERT INTO t VALUES ('a', 1, 2), ('B', 3, 4)")
    reading = read(sql_source, config(path, incrementing_column="id", key_fields=("id",)))
    assert [record.key for record in reading.records] == [b"B", b"a"]


def test_values_are_what_the_database_holds(path: Path, db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, d DATETIME, n NUMERIC, b BLOB, f REAL)")
    db.execute("INSERT INTO t VALUES (1, 'whenever', 0.1, x'00ff', 1e300)")
    db.execute("INSERT INTO t VALUES (2, NULL, 9007199254740993, NULL, -0.5)")
    assert read(sql_source, config(path)).values == [
        b'{"id":1,"d":"whenever","n":0.1,"b":"AP8=","f":1e300}',
        b'{"id":2,"d":null,"n":9007199254740993,"b":null,"f":-0.5}',
    ]


TABLES = {
    "missing table": (
        "CREATE TABLE orders (id INTEGER PRIMARY KEY)",
        {"tables": ("order",)},
        "no table 'order'; did you mean 'orders'?",
    ),
    "missing column": (
        "CREATE TABLE t (id INTEGER PRIMARY KEY)",
        {"incrementing_column": "idd"},
        "t has no column 'idd'; did you mean 'id'?",
    ),
    "missing key": (
        "CREATE TABLE t (id INTEGER PRIMARY KEY)",
        {"key_fields": ("ID",)},
        "table t has no column 'ID'",
    ),
    "no key": ("CREATE TABLE t (id INTEGER)", {}, "t has no primary key of one column"),
    "not unique": (
        "CREATE TABLE t (id INTEGER NOT NULL)",
        {"incrementing_column": "id"},
        "t.id is not unique",
    ),
}


@pytest.mark.parametrize(("ddl", "options", "message"), TABLES.values(), ids=TABLES)
def test_what_does_not_fit_the_database_is_a_config_error(
    path: Path, db: sqlite3.Connection, ddl: str, options: dict[str, object], message: str
) -> None:
    db.execute(ddl)
    with pytest.raises(ConfigError) as caught:
        read(sql_source, config(path, **options))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("mode", "options", "message"),
    [
        ("bulk", {"tables": ()}, "either tables or query"),
        ("bulk", {"query": "SELECT 1"}, "either tables or query"),
        ("incrementing", {"tables": (), "query": "SELECT 1", "topic": "q"}, 'mode = "bulk"'),
        ("bulk", {"tables": ("a", "b"), "topic": "q"}, "topic is for a query"),
        ("bulk", {"schedule": "daily"}, "expected a cron expression"),
    ],
)
def test_options_that_exclude_each_other_are_a_config_error(
    path: Path, mode: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        config(path, mode, **options)
    assert message in str(caught.value)


def test_a_null_in_the_growing_column_stops_the_source(path: Path, db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE t (id INTEGER UNIQUE)")
    db.execute("INSERT INTO t VALUES (1), (NULL)")
    with pytest.raises(DataError, match="NULL in 'id'"):
        read(sql_source, config(path, incrementing_column="id"))


def test_a_missing_database_file_is_not_made(path: Path) -> None:
    with pytest.raises(TransientError, match="there is no database file"):
        read(sql_source, config(path))
    assert not path.exists()


def test_a_locked_database_is_worth_another_try(path: Path, db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    db.execute("BEGIN EXCLUSIVE")
    url = f"sqlite:///{path}?timeout=0.01"
    with pytest.raises(TransientError, match="locked"):
        read(sql_source, SqlSourceConfig(url, "bulk", ("t",)))


def test_a_wrong_query_is_not_tried_again(path: Path, db: sqlite3.Connection) -> None:
    query = {"tables": (), "query": "SELECT * FROM none", "topic": "q"}
    with pytest.raises(FatalError, match="no such table: none"):
        read(sql_source, config(path, "bulk", **query))


def test_a_query_is_loaded_whole_and_its_colons_are_text(
    path: Path, db: sqlite3.Connection
) -> None:
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    db.execute("INSERT INTO t VALUES (1), (2)")
    query = "SELECT id, 'a:b %s' AS c FROM t WHERE 'x:y' <> ':x'"
    options = {"tables": (), "query": query, "topic": "q", "key_fields": ("id",)}
    reading = read(sql_source, config(path, "bulk", **options))
    assert [(r.topic, r.key, r.value) for r in reading.records] == [
        ("q", b"1", b'{"id":1,"c":"a:b %s"}'),
        ("q", b"2", b'{"id":2,"c":"a:b %s"}'),
    ]
    # Another query is another source partition, and is loaded in its turn.
    other = config(path, "bulk", **options | {"query": "SELECT id FROM t"})
    assert len(read(sql_source, other, reading.offsets).records) == 2


def test_a_whole_load_is_done_again_only_when_it_is_due(path: Path, db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    db.execute("INSERT INTO t VALUES (1)")
    place = {"table": "t"}
    hourly = config(path, "bulk", poll_interval=Duration(3_600_000))
    first = read(sql_source, hourly)
    ((_, offset),) = first.offsets
    assert (len(first.records), offset["rows"]) == (1, 1)
    assert read(sql_source, hourly, first.offsets).records == []
    overdue = [(place, {"finished": offset["finished"] - 3_600_001})]
    assert len(read(sql_source, hourly, overdue).records) == 1


def test_a_schedule_that_passed_is_made_up_for_and_one_to_come_is_waited_for(
    path: Path, db: sqlite3.Connection
) -> None:
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    db.execute("INSERT INTO t VALUES (1)")
    yearly = config(path, "bulk", schedule="0 0 1 1 *")
    assert read(sql_source, yearly).records == []
    long_ago = [({"table": "t"}, {"finished": 0})]
    assert len(read(sql_source, yearly, long_ago).records) == 1


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "expected dialect://"),
        ("nosuch://h/d", "nosuch"),
        ("mysql+nosuch://ann:pa55word@h/d", "nosuch"),
    ],
)
def test_a_url_that_cannot_be_used_is_a_config_error(url: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(sql_source, SqlSourceConfig(url, "bulk", ("t",)))
    assert message in str(caught.value)
    assert "pa55word" not in str(caught.value)


def test_a_growing_text_is_compared_as_the_database_does(
    path: Path, db: sqlite3.Connection
) -> None:
    db.execute("CREATE TABLE t (id TEXT COLLATE NOCASE PRIMARY KEY)")
    db.execute("INSERT INTO t VALUES ('a')")
    first = read(sql_source, config(path))
    db.execute("INSERT INTO t VALUES ('B')")  # after 'a' there, before it in Python
    assert read(sql_source, config(path), first.offsets).values == [b'{"id":"B"}']


QUERY = {"tables": (), "query": "SELECT * FROM t", "topic": "t"}


@pytest.mark.parametrize(("mode", "options"), [("incrementing", {}), ("bulk", {}), ("bulk", QUERY)])
def test_columns_changed_under_a_running_source_are_read_by_their_new_names(
    path: Path, db: sqlite3.Connection, mode: str, options: dict[str, object]
) -> None:
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a)")
    ctx = SourceContext("x", list, lambda place: None)
    items = sql_source(config(path, mode, poll_interval=0, **options), ctx)

    def newest() -> bytes:
        found = takewhile(lambda item: not isinstance(item, Pause), items)
        return [item.value for item in found if isinstance(item, SourceRecord)][-1]

    for n in (1, 2, 3):  # more than once: statements are not made anew
        db.execute("INSERT INTO t VALUES (?, 0)", [n])
        assert newest() == b'{"id":%d,"a":0}' % n
    db.execute("ALTER TABLE t RENAME COLUMN a TO b")
    db.execute("INSERT INTO t VALUES (4, 0)")
    assert newest() == b'{"id":4,"b":0}'
    db.execute("ALTER TABLE t ADD COLUMN c")
    db.execute("INSERT INTO t VALUES (5, 0, 1)")
    assert newest() == b'{"id":5,"b":0,"c":1}'
    items.close()


def test_a_database_whose_directory_is_missing_is_not_made_either(tmp_path: Path) -> None:
    with pytest.raises(TransientError, match=r"there is no directory .*gone$"):
        open_engine(f"sqlite:///{tmp_path}/gone/shop.db", create=True)
