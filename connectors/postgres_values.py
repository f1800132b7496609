"""PostgreSQL's values that Python's types cannot hold, read without loss or refusal."""

from typing import Any

import msgspec
import psycopg
import sqlalchemy as sa
from psycopg.abc import Buffer
from psycopg.types.datetime import DateLoader, TimestampLoader, TimestamptzLoader
from psycopg.types.json import set_json_loads


class _Date(DateLoader):
    def load(self, data: Buffer) -> Any:
        try:
            return super().load(data)
        except psycopg.DataError:
            return bytes(data).decode()  # infinity, or a year that Python does not have


class _Timestamp(TimestampLoader):
    def load(self, data: Buffer) -> Any:
        try:
            return super().load(data)
        except psycopg.DataError:
            return bytes(data).decode()


class _Timestamptz(TimestamptzLoader):
    def load(self, data: Buffer) -> Any:
        try:
            return super().load(data)
        except psycopg.DataError:
            return bytes(data).decode()


def read_exactly(engine: sa.Engine) -> None:
    """Times beyond Python's come as PostgreSQL's text, JSON as the text it is."""

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.adapters.register_loader("date", _Date)
        connection.adapters.register_loader("timestamp", _Timestamp)
        connection.adapters.register_loader("timestamptz", _Timestamptz)
        set_json_loads(_raw, connection)


def _raw(data: str | bytes) -> msgspec.Raw:
    # Decoded and encoded again, its decimals would be rounded to floats.
    return msgspec.Raw(data)
