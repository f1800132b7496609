"""The SQL source and sink against a real PostgreSQL."""

import json
from pathlib import Path

import psycopg
import pytest

from streamkit.connect import CommittedOffset, SourceContext, SourceRecord
from streamkit.connect.testing import (
    PARTITION,
    SinkContract,
    SourceContract,
    opened,
    read,
    records,
)
from streamkit.connectors.sql_sink import SqlSink, SqlSinkConfig
from streamkit.connectors.sql_source import SqlSourceConfig, sql_source
from streamkit.errors import ConfigError, DataError, FatalError, TransientError


def incrementing(url: str, **options: object) -> SqlSourceConfig:
    return SqlSourceConfig(url, "incrementing", ("t",), **options)  # type: ignore[arg-type]


class TestIncrementingTables(SourceContract):
    connector = sql_source

    @pytest.fixture(autouse=True)
    def place(self, postgres: str) -> None:
        self.url = postgres
        with psycopg.connect(postgres) as db:
            db.execute("CREATE TABLE t (id serial PRIMARY KEY, price numeric(30, 10))")
            db.execute("INSERT INTO t (price) VALUES (0.1), (12345678901234567890.0123456789)")

    def config(self) -> SqlSourceConfig:
        return incrementing(self.url)

    def expected(self) -> list[bytes]:
        return [
            b'{"id":1,"price":"0.1000000000"}',
            b'{"id":2,"price":"12345678901234567890.0123456789"}',
        ]


class TestUpsertedRows(SinkContract):
    connector = SqlSink

    @pytest.fixture(autouse=True)
    def place(self, postgres: str) -> None:
        self.url = postgres

    def config(self) -> SqlSinkConfig:
        return SqlSinkConfig(self.url, "upsert", "record_value", ("n",))

    def written(self) -> list[int]:
        with psycopg.connect(self.url) as db:
            if db.execute("SELECT to_regclass('events')").fetchone() == (None,):
                return []
            return [n for (n,) in db.execute("SELECT n FROM events")]


class TestInsertedRows(TestUpsertedRows):
    def config(self) -> SqlSinkConfig:
        return SqlSinkConfig(self.url)


def ids(url: str, offsets: object = ()) -> tuple[list[int], object, bool]:
    """The ids of one poll; it may end without having read everything."""
    ctx = SourceContext(
        "x", lambda: list(offsets), lambda place: dict_of(offsets).get(json.dumps(place))
    )
    found, stored, settled = [], list(offsets), True
    for item in sql_source(incrementing(url), ctx):
        if isinstance(item, SourceRecord):
            found.append(json.loads(item.value)["id"])
            stored = [(item.partition, item.offset)]
        elif item.seconds > 1:
            settled = item.idle
            break
    return found, stored, settled


def dict_of(offsets: object) -> dict[str, object]:
    return {json.dumps(place): offset for place, offset in offsets}


def test_a_row_that_commits_late_is_not_skipped(postgres: str) -> None:
    with psycopg.connect(postgres) as slow, psycopg.connect(postgres) as fast:
        fast.execute("CREATE TABLE t (id serial PRIMARY KEY)")
        fast.execute("INSERT INTO t DEFAULT VALUES")
        fast.commit()
        slow.execute("INSERT INTO t DEFAULT VALUES")
        fast.execute("INSERT INTO t DEFAULT VALUES")
        fast.commit()
        found, offsets, settled = ids(postgres)
        assert (3 in found, settled) == (False, False)
        slow.commit()
        more, _, settled = ids(postgres, offsets)
    assert found + more == [1, 2, 3]
    assert settled


def test_an_id_drawn_before_its_transaction_has_a_number_is_not_skipped(postgres: str) -> None:
    """The insert that drew the smaller id gets its transaction id after the larger one's."""
    with psycopg.connect(postgres) as slow, psycopg.connect(postgres) as fast:
        fast.execute("CREATE TABLE t (id integer PRIMARY KEY)")
        fast.commit()
        fast.execute("INSERT INTO t VALUES (2)")
        slow.execute("INSERT INTO t VALUES (1)")
        fast.commit()
        found, offsets, settled = ids(postgres)
        assert (found, settled) == ([], False)
        slow.commit()
        more, _, settled = ids(postgres, offsets)
    assert (more, settled) == ([1, 2], True)


def test_a_reader_that_stays_open_holds_nothing_back(postgres: str) -> None:
    with psycopg.connect(postgres) as reader, psycopg.connect(postgres) as writer:
        writer.execute("CREATE TABLE t (id serial PRIMARY KEY)")
        writer.execute("INSERT INTO t DEFAULT VALUES")
        writer.commit()
        reader.execute("SELECT * FROM t")
        assert ids(postgres)[::2] == ([1], True)


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        ("uuid", ["00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"]),
        ("numeric", ["1.000000000000000001", "1.000000000000000002"]),
        ("timestamp", ["2013-01-01 00:00:00.000001", "2013-01-01 00:00:00.000002"]),
        ("timestamptz", ["2013-01-01 00:00:00.000001+02", "2013-01-01 00:00:00.000002+02"]),
        ("text", ["a", "b"]),
    ],
)
def test_any_ordered_column_can_grow_and_keeps_its_precision(
    postgres: str, kind: str, rows: list[str]
) -> None:
    with psycopg.connect(postgres) as db:
        db.execute(f"CREATE TABLE t (id {kind} PRIMARY KEY)")
        db.execute("INSERT INTO t VALUES (%s)", rows[:1])
        db.commit()
        first = read(sql_source, incrementing(postgres))
        assert len(first.records) == 1
        db.execute("INSERT INTO t VALUES (%s)", rows[1:])
        db.commit()
    second = read(sql_source, incrementing(postgres), first.offsets)
    assert len(second.records) == 1
    assert second.values != first.values


def test_every_type_has_a_json_form_that_loses_nothing(postgres: str) -> None:
    with psycopg.connect(postgres) as db:
        db.execute(
            "CREATE TABLE t (id int PRIMARY KEY, big bigint, x float8, d date, ts timestamptz, "
            "b bytea, j jsonb, a int[], ip inet, r int4range, u uuid, n text)"
        )
        db.execute(
            "INSERT INTO t VALUES (1, 9223372036854775807, 0.1, '2013-01-01', "
            "'2013-01-01 10:00:00.123456+00', 'ab', '{\"k\": [1]}', '{1,2}', '10.0.0.1', "
            "'[1,5)', '00000000-0000-0000-0000-00000000000a', NULL)"
        )
    (record,) = read(sql_source, SqlSourceConfig(postgres, "bulk", ("t",))).records
    assert json.loads(record.value) == {
        "id": 1,
        "big": 9223372036854775807,
        "x": 0.1,
        "d": "2013-01-01",
        "ts": "2013-01-01T10:00:00.123456Z",
        "b": "YWI=",
        "j": {"k": [1]},
        "a": [1, 2],
        "ip": "10.0.0.1",
        "r": "[1, 5)",
        "u": "00000000-0000-0000-0000-00000000000a",
        "n": None,
    }
    assert record.key == b"1"


def test_a_value_without_a_json_form_is_named_with_its_row(postgres: str) -> None:
    with psycopg.connect(postgres) as db:
        db.execute("CREATE TABLE t (id int PRIMARY KEY, r int4multirange)")
        db.execute("INSERT INTO t VALUES (7, NULL), (8, '{[1,2)}'), (9, NULL)")
    reading = read(sql_source, incrementing(postgres))
    assert [record.key for record in reading.records] == [b"7", b"9"]
    (bad,) = reading.bad
    assert str(bad.error).startswith("table t, row {'id': 8}: a Multirange has no JSON form")
    assert bad.offset == {"incrementing": 8}


def test_a_schema_and_a_key_of_several_columns(postgres: str) -> None:
    with psycopg.connect(postgres) as db:
        db.execute("CREATE SCHEMA s")
        db.execute("CREATE TABLE s.t (a text, b int, PRIMARY KEY (b, a))")
        db.execute("INSERT INTO s.t VALUES ('x', 1)")
    config = SqlSourceConfig(postgres, "bulk", ("s.t",), topic_prefix="pg-")
    (record,) = read(sql_source, config).records
    assert (record.topic, record.key) == ("pg-t", b'{"b":1,"a":"x"}')


def test_a_missing_table_is_named_with_the_nearest(postgres: str) -> None:
    with psycopg.connect(postgres) as db:
        db.execute("CREATE TABLE orders (id int)")
    with pytest.raises(ConfigError, match="no table 'order'; did you mean 'orders'"):
        read(sql_source, SqlSourceConfig(postgres, "bulk", ("order",)))


def test_an_unreachable_server_is_worth_another_try(postgres_server: str) -> None:
    url = "postgresql://ann:pa55word@127.0.0.1:1/x"
    with pytest.raises(TransientError) as caught:
        read(sql_source, SqlSourceConfig(url, "bulk", ("t",)))
    assert "pa55word" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


def test_a_lost_connection_is_worth_another_try_and_nothing_is_written_twice(
    postgres: str,
) -> None:
    config = SqlSinkConfig(postgres)
    with opened(SqlSink, config) as sink:
        sink.resume(PARTITION, CommittedOffset(0))
        sink.write(records([b'{"n":1}']))
        with psycopg.connect(postgres, autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND datname = current_database()"
            )
        with pytest.raises(TransientError):
            sink.write(records([b'{"n":2}'], first=1))
    with opened(SqlSink, config) as sink:
        start = sink.resume(PARTITION, CommittedOffset(1, "in the database"))
        assert start is not None and start.offset == 1
        sink.write(records([b'{"n":2}'], first=1))
    with psycopg.connect(postgres) as db:
        assert db.execute("SELECT n FROM events ORDER BY n").fetchall() == [(1,), (2,)]


def test_values_take_the_types_of_an_existing_table(postgres: str) -> None:
    with psycopg.connect(postgres) as db:
        db.execute(
            "CREATE TABLE events (id int PRIMARY KEY, at timestamptz, price numeric, tags jsonb)"
        )
    config = SqlSinkConfig(postgres, "upsert", "record_key", ("id",))
    value = b'{"at":"2013-01-01T10:00:00.5Z","price":"0.10","tags":["a"]}'
    with opened(SqlSink, config) as sink:
        sink.resume(PARTITION, CommittedOffset(0))
        sink.write(records([value, value]))
        with pytest.raises(DataError, match="events-0@2"):
            sink.write(records([b'{"at":"noon"}'], first=2))
    with psycopg.connect(postgres) as db:
        rows = db.execute("SELECT id, at::text, price::text, tags FROM events").fetchall()
    assert [row[0] for row in rows] == [0, 1]
    assert rows[0][1].startswith("2013-01-01") and rows[0][2:] == ("0.10", ["a"])


def test_a_fraction_is_not_rounded_into_a_whole_number_column(postgres: str) -> None:
    with psycopg.connect(postgres) as db:
        db.execute("CREATE TABLE events (n int)")
    with opened(SqlSink, SqlSinkConfig(postgres)) as sink:
        sink.resume(PARTITION, CommittedOffset(0))
        with pytest.raises(DataError, match=r"1\.5 does not fit the whole-number column 'n'"):
            sink.write(records([b'{"n":1.5}']))


def test_a_worker_whose_epoch_is_over_writes_nothing(postgres: str) -> None:
    config = SqlSinkConfig(postgres)
    with opened(SqlSink, config) as old, opened(SqlSink, config) as new:
        start = old.resume(PARTITION, CommittedOffset(0))
        old.write(records([b'{"n":1}']))
        assert start is not None
        taken = new.resume(PARTITION, start)
        assert taken is not None and taken.offset == 1
        with pytest.raises(TransientError, match="another worker"):
            old.write(records([b'{"n":2}'], first=1))
        new.write(records([b'{"n":2}'], first=1))
    with psycopg.connect(postgres) as db:
        assert db.execute("SELECT n FROM events ORDER BY n").fetchall() == [(1,), (2,)]


def test_an_upsert_needs_a_unique_index(postgres: str) -> None:
    with psycopg.connect(postgres) as db:
        db.execute("CREATE TABLE events (n int, live bool)")
        db.execute("CREATE UNIQUE INDEX ON events (n) WHERE live")
    with opened(SqlSink, SqlSinkConfig(postgres, "upsert", "record_value", ("n",))) as sink:
        sink.resume(PARTITION, CommittedOffset(0))
        with pytest.raises(FatalError, match=r"no primary key or unique index on \(n\)"):
            sink.write(records([b'{"n":1}']))


def test_a_missing_driver_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="driver is not installed"):
        read(sql_source, SqlSourceConfig("mysql+mysqldb://h/d", "bulk", ("t",)))


@pytest.mark.parametrize(
    "column",
    [
        "int DEFAULT nextval('\"S\"')",
        "int GENERATED ALWAYS AS IDENTITY (CACHE 20)",
    ],
)
def test_a_sequence_that_sessions_draw_from_in_blocks_is_refused(
    postgres: str, column: str
) -> None:
    with psycopg.connect(postgres) as db:
        db.execute('CREATE SEQUENCE "S" CACHE 20')
        db.execute(f'CREATE TABLE "T %" ("I d" {column} PRIMARY KEY)')
    with pytest.raises(ConfigError, match=r"draws 20 values .* CACHE 1"):
        read(sql_source, SqlSourceConfig(postgres, "incrementing", ("T %",)))


def test_times_beyond_pythons_are_text_and_json_stays_as_it_is(postgres: str) -> None:
    with psycopg.connect(postgres) as db:
        db.execute("CREATE TABLE t (id serial PRIMARY KEY, a timestamptz, b timestamp, c date)")
        db.execute("INSERT INTO t (a, b, c) VALUES ('infinity', '-infinity', '0044-03-15 BC')")
    assert read(sql_source, incrementing(postgres)).values == [
        b'{"id":1,"a":"infinity","b":"-infinity","c":"0044-03-15 BC"}'
    ]
    exact = '{"a": 0.12345678901234567890, "a": [1e400]}'
    query = f"SELECT '{exact}'::json AS j, ARRAY['1.00000000000000000001'::jsonb] AS k"
    (value,) = read(sql_source, SqlSourceConfig(postgres, "bulk", query=query, topic="q")).values
    assert value == b'{"j":%s,"k":[1.00000000000000000001]}' % exact.encode()


VALUES = {"true": "bigint", "1": "boolean", "2": "timestamptz", "3": "jsonb"}


@pytest.mark.parametrize(("value", "kind"), VALUES.items())
def test_a_value_of_another_type_than_its_column_is_a_data_error(
    postgres: str, value: str, kind: str
) -> None:
    with psycopg.connect(postgres) as db:
        db.execute(f"CREATE TABLE events (a {kind})")
    with opened(SqlSink, SqlSinkConfig(postgres)) as sink:
        sink.resume(PARTITION, CommittedOffset(0))
        with pytest.raises(DataError, match="events-0@0"):
            sink.write(records([b'{"a":%s}' % value.encode()]))


def test_added_columns_keep_their_names_or_are_refused(postgres: str) -> None:
    with opened(SqlSink, SqlSinkConfig(postgres)) as sink:
        sink.resume(PARTITION, CommittedOffset(0))
        sink.write(records([b'{"a":1}']))
        sink.write(records([b'{"a%b":2,"c:d":3,"e\\"f":4,"%(g)s":5}'], first=1))
        for value in (b'{"%s":6}' % (b"n" * 64), b'{"%s":6}' % ("ä" * 32).encode()):
            with pytest.raises(DataError, match=r"events-0@2.*cannot be a column's"):
                sink.write(records([value], first=2))
    with psycopg.connect(postgres) as db:
        (row,) = db.execute('SELECT "a%b", "c:d", "e""f", "%(g)s" FROM events WHERE a IS NULL')
    assert row == (2, 3, 4, 5)
