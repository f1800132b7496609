"""PostgreSQL's values that Python's types cannot hold, read without loss or refusal."""

from typing import Any

import msgspec
import psycopg
import sqlalchemy as sa
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.types.datetime import DateLoader, TimestampLoader, TimestamptzLoader
from psycopg.types.json import set_json_loads


def _or_text(loader: Any) -> type[Loader]:
    """A loader that gives the text of what it would refuse."""

    class OrText(loader):  # type: ignore[misc]
        def load(self, data: Buffer) -> Any:
            try:
                return super().load(data)
            except psycopg.DataError:
                return bytes(data).decode()  # infinity, or a year that Python does not have

    return OrText


_LOADERS = {"date": DateLoader, "timestamp": TimestampLoader, "timestamptz": TimestamptzLoader}


def read_exactly(engine: sa.Engine) -> None:
    """Times beyond Python's come as PostgreSQL's text, JSON as the text it is."""

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        for name, loader in _LOADERS.items():
            connection.adapters.register_loader(name, _or_text(loader))
        set_json_loads(_raw, connection)


def _raw(data: str | bytes) -> msgspec.Raw:
    # Decoded and encoded again, its decimals would be rounded to floats.
    return msgspec.Raw(data)
