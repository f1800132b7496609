"""What the SQL source and sink share: engines, table names, and the database's errors as ours."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import exc

from streamkit.connect import mask_url
from streamkit.errors import (
    ConfigError,
    DataError,
    FatalError,
    StreamkitError,
    TransientError,
    nearest,
)

_SQLITE_ERROR = 1
"""SQLite's code for a wrong statement; its others (busy, locked, full, I/O) may pass."""

_DATATYPE_MISMATCH = "42804"
"""PostgreSQL's code for a value whose type does not fit the column, as true for a number."""


def open_engine(url: str, *, create: bool) -> sa.Engine:
    """An engine for the URL, not connected yet. `create`: a missing SQLite file may be made.

    Raises ConfigError for a URL that cannot be used, TransientError for a missing SQLite file, or
    a missing directory to make it in.
    """
    try:
        parsed = sa.make_url(url)
        if parsed.drivername == "postgresql":
            # The driver that streamkit[postgres] brings; SQLAlchemy's default is the older one.
            parsed = parsed.set(drivername="postgresql+psycopg")
        # A locked database is tried again anyway; waiting inside SQLite would hold up a stop.
        waits = {"timeout": 1.0} if parsed.get_backend_name() == "sqlite" else {}
        engine = sa.create_engine(parsed, hide_parameters=True, connect_args=waits)
    except (exc.ArgumentError, ValueError) as error:  # a port that is no number is a ValueError
        raise ConfigError(
            f"connection.url = {mask_url(url)!r}: {mask_url(str(error))}; "
            "expected dialect://user:password@host:port/database, or sqlite:///path"
        ) from None
    except ModuleNotFoundError as error:
        hint = "; pip install 'streamkit[postgres]'" if "psycopg" in str(error) else ""
        raise ConfigError(f"connection.url: the driver is not installed: {error}{hint}") from error
    path = parsed.database
    # SQLite itself would make an empty database in place of one that is missing.
    if engine.dialect.name == "sqlite" and path not in (None, "", ":memory:"):
        folder = os.path.dirname(str(path)) or "."
        if create and not str(path).startswith("file:") and not os.path.isdir(folder):
            raise TransientError(f"connection.url: there is no directory {folder}")
        if not create and not os.path.exists(str(path)):
            raise TransientError(f"connection.url: there is no database file {path}")
    return engine


@contextmanager
def database_errors(doing: str) -> Iterator[None]:
    """Raise SQLAlchemy's and the drivers' errors as TransientError, DataError or FatalError."""
    try:
        yield
    except exc.DBAPIError as error:
        raise _classed(error, doing) from error
    except exc.SQLAlchemyError as error:
        raise FatalError(f"{doing}: {error}") from error


def _classed(error: exc.DBAPIError, doing: str) -> StreamkitError:
    reason = " ".join(str(error.orig).split())
    text = f"{doing}: {reason}"
    if isinstance(error, exc.IntegrityError | exc.DataError):
        return DataError(text)
    if getattr(error.orig, "sqlstate", None) == _DATATYPE_MISMATCH:
        return DataError(text)
    passing = isinstance(error, exc.OperationalError | exc.InternalError | exc.InterfaceError)
    code = getattr(error.orig, "sqlite_errorcode", None)
    if error.connection_invalidated or (passing and code != _SQLITE_ERROR):
        return TransientError(text)
    return FatalError(text)


class TableName(NamedTuple):
    """A table, in a schema or in the connection's own (None)."""

    schema: str | None
    table: str

    @classmethod
    def parse(cls, text: str) -> "TableName":
        """`schema.table` or `table`."""
        schema, _, table = text.rpartition(".")
        return cls(schema or None, table)

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}" if self.schema else self.table


def columns_of(connection: sa.Connection, name: TableName, key: str) -> list[dict[str, Any]]:
    """The columns of a table or view, as SQLAlchemy's inspector describes them.

    Raises ConfigError, with the nearest existing name, when it is missing; `key` is the config
    key that named it.
    """
    schema, table = name
    inspector = sa.inspect(connection)
    try:
        return [dict(column) for column in inspector.get_columns(table, schema)]
    except exc.NoSuchTableError:
        there = [*inspector.get_table_names(schema), *inspector.get_view_names(schema)]
        known = [str(TableName(schema, found)) for found in there]
        text = f"{key}: the database has no table '{name}'{nearest(str(name), known)}"
        raise ConfigError(text) from None


def unique_sets(connection: sa.Connection, name: TableName) -> list[frozenset[str]]:
    """The sets of columns that the database keeps unique: primary key, constraints, indexes."""
    schema, table = name
    inspector = sa.inspect(connection)
    found = [inspector.get_pk_constraint(table, schema).get("constrained_columns", [])]
    found += [one["column_names"] for one in inspector.get_unique_constraints(table, schema)]
    found += [
        [column for column in index["column_names"] if column is not None]
        for index in inspector.get_indexes(table, schema)
        # A partial index keeps only some rows apart.
        if index["unique"]
        and None not in index["column_names"]
        and not any(option.endswith("_where") for option in index.get("dialect_options", {}))
    ]
    return [frozenset(columns) for columns in found if columns]


def primary_key(connection: sa.Connection, name: TableName) -> list[str]:
    schema, table = name
    constraint = sa.inspect(connection).get_pk_constraint(table, schema)
    return list(constraint.get("constrained_columns", []))


def make_table(engine: sa.Engine, table: sa.Table) -> None:
    """Make a table unless it is there; others may be making it at this moment."""
    try:
        table.create(engine, checkfirst=True)
    except exc.DBAPIError:
        if not sa.inspect(engine).has_table(table.name, table.schema):
            raise


def plain_table(name: TableName, columns: list[str]) -> sa.TableClause:
    """The table with columns of no declared type: values pass as the driver has them.

    SQLAlchemy's own conversions are made for applications: they round decimals on SQLite and
    refuse dates that SQLite takes.
    """
    schema, table = name
    return sa.table(table, *(sa.column(column) for column in columns), schema=schema)
