"""The connectors that ship keep the contract that every connector has."""

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from streamkit.connect import Duration
from streamkit.connect.testing import SinkContract, SourceContract
from streamkit.connectors.file_sink import FileSink, FileSinkConfig
from streamkit.connectors.file_source import FileSourceConfig, file_source
from streamkit.connectors.sql_sink import SqlSink, SqlSinkConfig
from streamkit.connectors.sql_source import SqlSourceConfig, sql_source

HOUR = Duration(3_600_000)


class TestCsvFiles(SourceContract):
    connector = file_source

    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> None:
        self.path = tmp_path
        (tmp_path / "a.csv").write_bytes(b'id,text\n1,plain\n2,"two\r\nlines, a comma"\n')
        (tmp_path / "b.csv").write_bytes("id,text\n3,Zürich\n\n4,\n".encode())

    def config(self) -> FileSourceConfig:
        return FileSourceConfig(str(self.path), "t")

    def expected(self) -> list[bytes]:
        return [
            b'{"id":"1","text":"plain"}',
            b'{"id":"2","text":"two\\r\\nlines, a comma"}',
            '{"id":"3","text":"Zürich"}'.encode(),
            b'{"id":"4","text":""}',
        ]


class TestJsonLinesFiles(SourceContract):
    connector = file_source

    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> None:
        self.path = tmp_path
        (tmp_path / "a.jsonl").write_bytes(b'{"n":1}\n\n {"n": 2} \r\n')
        (tmp_path / "b.ndjson").write_bytes(b'"text"\n')

    def config(self) -> FileSourceConfig:
        return FileSourceConfig(str(self.path), "t")

    def expected(self) -> list[bytes]:
        return [b'{"n":1}', b'{"n": 2}', b'"text"']


class TestIncrementingTables(SourceContract):
    connector = sql_source

    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> None:
        self.path = tmp_path / "a.db"
        with sqlite3.connect(self.path) as db:
            db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, at DATETIME)")
            db.executemany(
                "INSERT INTO t VALUES (?, ?, ?)",
                [(n, f"n{n}", "2013-01-01 05:00:00.123456") for n in (1, 2, 5, 9)],
            )
        db.close()

    def config(self) -> SqlSourceConfig:
        url = f"sqlite:///{self.path}"
        return SqlSourceConfig(url, "incrementing", ("t",), batch_max_rows=3)

    def expected(self) -> list[bytes]:
        at = "2013-01-01 05:00:00.123456"
        return [
            json.dumps({"id": n, "name": f"n{n}", "at": at}, separators=(",", ":")).encode()
            for n in (1, 2, 5, 9)
        ]


class TestBulkTables(TestIncrementingTables):
    repeats = True

    def config(self) -> SqlSourceConfig:
        url = f"sqlite:///{self.path}"
        return SqlSourceConfig(url, "bulk", ("t",), poll_interval=HOUR, batch_max_rows=3)


class TestJsonLinesOutput(SinkContract):
    connector = FileSink

    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> None:
        self.path = tmp_path / "out"

    def config(self) -> FileSinkConfig:
        return FileSinkConfig(str(self.path))

    def written(self) -> list[int]:
        lines = (self.path / "events-0.jsonl").read_bytes().splitlines()
        return [json.loads(line)["n"] for line in lines]


class TestInsertedRows(SinkContract):
    connector = SqlSink
    options: Mapping[str, Any] = MappingProxyType({})

    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> None:
        self.path = tmp_path / "out.db"

    def config(self) -> SqlSinkConfig:
        return SqlSinkConfig(f"sqlite:///{self.path}", **self.options)

    def written(self) -> list[int]:
        db = sqlite3.connect(self.path)
        try:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'events'").fetchone():
                return []
            return [n for (n,) in db.execute("SELECT n FROM events")]
        finally:
            db.close()


class TestUpsertedRows(TestInsertedRows):
    options = MappingProxyType(
        {"insert_mode": "upsert", "pk_mode": "record_value", "pk_fields": ("n",)}
    )
