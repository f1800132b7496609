"""Up to which value of a growing column no row can still appear.

Ids are drawn before their transactions commit, so a smaller one may become visible after a larger
one. Reading up to the largest visible id would skip it for ever.

PostgreSQL: fix the bound; a moment later note the newest transaction id there is; wait until
every older transaction has ended. Whoever drew an id below the bound has then committed or rolled
back, and no row below it is still to come. (The moment covers the time between an insert's drawing
its id and its getting a transaction id. An application that draws ids long before it inserts, as
pooled sequences do, is beyond any such rule.)

SQLite has one writer at a time: ids become visible in their order.
"""

from collections.abc import Callable, Generator
from typing import Any, Protocol

import sqlalchemy as sa

from streamkit.connect import ConnectorLog, Pause, SourceItem
from streamkit.connectors.sql import TableName, plain_table
from streamkit.errors import ConfigError

_MOMENT = 0.05
_TRIES = 10
"""Looks, a moment apart, before a poll ends without its bound and leaves the rest to the next."""


class Horizon(Protocol):
    held_back: bool
    """Whether there are rows that cannot be read yet."""

    def bound(self, newest: Callable[[], Any]) -> Generator[SourceItem, None, Any]:
        """The largest value that may be read up to; None when there is nothing to read.

        `newest` asks the database for the largest value there is, None when it is no news.
        """
        ...


def horizon_of(engine: sa.Engine, log: ConnectorLog) -> Horizon:
    """The horizon for this database. Raises ConfigError where none is known to be right."""
    if engine.dialect.name == "sqlite":
        return InOrder()
    if engine.dialect.name == "postgresql":
        return PostgresHorizon(engine, log)
    raise ConfigError(
        f'mode = "incrementing" is not safe on {engine.dialect.name}: rows that commit late '
        'would be skipped; use mode = "bulk"'
    )


def check_sequence(connection: sa.Connection, table: TableName, column: str) -> None:
    """Raise ConfigError when sessions draw the column's values in blocks, long before their use."""
    if connection.dialect.name != "postgresql":
        return
    quoted = connection.dialect.identifier_preparer.format_table(plain_table(table, []))
    found = {"table": quoted.replace("%%", "%"), "column": column}
    for sequence, block in connection.execute(_SEQUENCES, found):
        if block > 1:
            raise ConfigError(
                f"incrementing.column: each session draws {block} values of {table}.{column} at "
                "once, and uses them later: rows would be missed; ALTER SEQUENCE "
                f'{sequence} CACHE 1 and connect the writers anew, or use mode = "bulk"'
            )


# Those that the column owns (serial, identity), and those that its default names.
_SEQUENCES = sa.text("""
    SELECT CAST(CAST(seqrelid AS regclass) AS text), seqcache FROM pg_sequence WHERE seqrelid IN (
        SELECT to_regclass(pg_get_serial_sequence(:table, :column))
        UNION
        SELECT named.refobjid
        FROM pg_attrdef AS def
        JOIN pg_attribute AS att ON att.attrelid = def.adrelid AND att.attnum = def.adnum
        JOIN pg_depend AS named
            ON named.classid = CAST('pg_attrdef' AS regclass) AND named.objid = def.oid
        WHERE def.adrelid = to_regclass(:table) AND att.attname = :column
    )
""")


class InOrder:
    """Values become visible in their order."""

    held_back = False

    def bound(self, newest: Callable[[], Any]) -> Generator[SourceItem, None, Any]:
        yield from ()
        return newest()


class PostgresHorizon:
    """Waits for the transactions that were open when the bound was fixed."""

    def __init__(self, engine: sa.Engine, log: ConnectorLog) -> None:
        self.held_back = False
        self._engine = engine
        self._log = log
        self._fixed: tuple[Any, int] | None = None

    def bound(self, newest: Callable[[], Any]) -> Generator[SourceItem, None, Any]:
        if self._fixed is None:
            value = newest()
            if value is None:
                self.held_back = False
                return None
            yield Pause(_MOMENT, idle=False)
            self._fixed = value, self._number("pg_current_xact_id()")
        value, transaction = self._fixed
        for _ in range(_TRIES):
            if self._number("pg_snapshot_xmin(pg_current_snapshot())") >= transaction:
                self._fixed = None
                self.held_back = False
                return value
            yield Pause(_MOMENT, idle=False)
        if not self.held_back:
            self._log.info("new rows wait for a transaction that is still open")
        self.held_back = True
        return None

    def _number(self, function: str) -> int:
        with self._engine.begin() as connection:
            return int(connection.execute(sa.text(f"SELECT {function}::text")).scalar_one())
