"""SqlSource: tables of any database that SQLAlchemy reaches, as they are or as they grow.

Source partition: `{"table": name}` or `{"query": hash}`. Source offset: `{"incrementing": value}`
after the row with that value, or `{"finished": ms, "rows": n}` after a whole load.
"""

import hashlib
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from streamkit.connect import (
    Cron,
    Duration,
    Every,
    Pause,
    Place,
    Position,
    SourceContext,
    SourceItem,
    source,
)
from streamkit.connectors.horizon import Horizon, check_sequence, horizon_of
from streamkit.connectors.sql import (
    TableName,
    columns_of,
    database_errors,
    open_engine,
    plain_table,
    primary_key,
    unique_sets,
)
from streamkit.connectors.sql_rows import RowEncoder
from streamkit.errors import ConfigError, DataError, nearest

_FIVE_SECONDS = Duration(5000)


@dataclass(frozen=True, slots=True)
class SqlSourceConfig:
    """Options of SqlSource.

    `connection.url`: SQLAlchemy's form. `tables`: names, or `schema.table`; each goes to the topic
    `topic.prefix` + table; one alone may go to `topic`. Or `query` with `topic`, in bulk mode.
    `mode`: `bulk` reads the whole table every time; `incrementing` only rows with a larger
    `incrementing.column` (default: the primary key, if it is one column), which must be unique
    and given by the insert itself, as a sequence or rowid is; updates and deletes are not seen.
    `key.fields`: the record key; default: the primary key. One column is the key as text, several
    are a JSON object.
    `poll.interval`, or `schedule`: a cron expression in UTC. A schedule that passed while no
    worker ran is made up for once.
    `batch.max.rows`: rows fetched at a time.

    Values are JSON objects: numbers as they are, decimals as text, times as ISO 8601, binary as
    base64, a float that is not a number as null.
    """

    connection_url: str = field(metadata={"secret": True})
    mode: Literal["bulk", "incrementing"]
    tables: tuple[str, ...] = ()
    query: str = ""
    topic: str = ""
    topic_prefix: str = ""
    incrementing_column: str = ""
    key_fields: tuple[str, ...] = ()
    poll_interval: Duration = _FIVE_SECONDS
    schedule: str = ""
    batch_max_rows: int = field(default=1000, metadata={"range": (1, None)})

    def __post_init__(self) -> None:
        if bool(self.tables) == bool(self.query):
            raise ConfigError("give either tables or query")
        if self.query and (self.mode != "bulk" or not self.topic):
            raise ConfigError('a query needs mode = "bulk" and a topic')
        if len(self.tables) > 1 and self.topic:
            raise ConfigError(
                "topic is for a query or one table; several go to topic.prefix + table"
            )
        if self.schedule:
            Cron(self.schedule)

    @property
    def pace(self) -> Cron | Every:
        return Cron(self.schedule) if self.schedule else Every(self.poll_interval)


@source(config=SqlSourceConfig)
def sql_source(config: SqlSourceConfig, ctx: SourceContext) -> Iterator[SourceItem]:
    with ExitStack() as cleanup:
        engine = open_engine(config.connection_url, create=False)
        cleanup.callback(engine.dispose)
        if engine.dialect.name == "postgresql" and engine.driver == "psycopg":
            from streamkit.connectors.postgres_values import read_exactly

            read_exactly(engine)
        # Or a result would have the columns that the same statement's first one had.
        engine = engine.execution_options(compiled_cache=None)
        inputs = _inputs(config, engine, ctx)
        while not ctx.stopping:
            for one in inputs:
                if one.due <= _now():
                    yield from one.poll()
                    one.due = config.pace.next_after(_now())
            wait = max(0, min(one.due for one in inputs) - _now())
            yield Pause(wait / 1000, idle=all(one.settled for one in inputs))


def _inputs(
    config: SqlSourceConfig, engine: sa.Engine, ctx: SourceContext
) -> "list[_Bulk | _Incrementing]":
    """One per table, each checked against the database."""
    if config.query:
        return [_Bulk(engine, config, ctx, None, _query_encoder(config))]
    with database_errors("reading the tables' definitions"), engine.connect() as connection:
        if config.mode == "bulk":
            return [
                _Bulk(engine, config, ctx, table, _table_encoder(connection, table, config))
                for table in config.tables
            ]
        return [
            _Incrementing(
                engine,
                config,
                ctx,
                table,
                _table_encoder(connection, table, config),
                _cursor_column(connection, table, config),
            )
            for table in config.tables
        ]


def _table_encoder(connection: sa.Connection, table: str, config: SqlSourceConfig) -> RowEncoder:
    columns = [
        column["name"] for column in columns_of(connection, TableName.parse(table), "tables")
    ]
    keys = list(config.key_fields) or primary_key(connection, TableName.parse(table))
    encoder = RowEncoder(f"table {table}", [], keys)
    encoder.use(columns)
    return encoder


def _query_encoder(config: SqlSourceConfig) -> RowEncoder:
    return RowEncoder("query", [], list(config.key_fields))


@dataclass(frozen=True, slots=True)
class _Cursor:
    """The column that grows, and whether it can be NULL."""

    name: str
    nullable: bool


def _cursor_column(connection: sa.Connection, table: str, config: SqlSourceConfig) -> _Cursor:
    columns = {
        column["name"]: column
        for column in columns_of(connection, TableName.parse(table), "tables")
    }
    keys = primary_key(connection, TableName.parse(table))
    name = config.incrementing_column or (keys[0] if len(keys) == 1 else "")
    if not name:
        raise ConfigError(
            f"incrementing.column is missing: {table} has no primary key of one column"
        )
    if name not in columns:
        raise ConfigError(
            f"incrementing.column: {table} has no column {name!r}{nearest(name, columns)}"
        )
    if frozenset({name}) not in unique_sets(connection, TableName.parse(table)):
        raise ConfigError(
            f"incrementing.column: {table}.{name} is not unique: rows with the same value could "
            'be missed; give it a unique index, or use mode = "bulk"'
        )
    check_sequence(connection, TableName.parse(table), name)
    return _Cursor(name, bool(columns[name]["nullable"]) and name not in keys)


class _Bulk:
    """The whole table or query, again and again. A load that was cut short starts over."""

    def __init__(
        self,
        engine: sa.Engine,
        config: SqlSourceConfig,
        ctx: SourceContext,
        table: str | None,
        encoder: RowEncoder,
    ) -> None:
        self._engine = engine
        self._rows = config.batch_max_rows
        self._encoder = encoder
        self._ctx = ctx
        self._place: Place
        self._statement: sa.Executable
        if table is None:
            digest = hashlib.sha256(config.query.encode()).hexdigest()[:16]
            self._place, self._topic = {"query": digest}, config.topic
            # The text as it is: a colon in it is no parameter.
            self._statement = sa.text(config.query.replace(":", "\\:"))
        else:
            self._place, self._topic = {"table": table}, _topic(config, table)
            self._statement = _everything(plain_table(TableName.parse(table), encoder.columns))
        finished = (ctx.offset(self._place) or {}).get("finished")
        if finished is not None:
            self.due = config.pace.next_after(int(finished))
        else:
            self.due = config.pace.next_after(_now()) if config.schedule else 0
        self.settled = True

    def poll(self) -> Iterator[SourceItem]:
        count = 0
        encoder, topic = self._encoder, self._topic
        with database_errors(f"reading {encoder.name}"), self._engine.connect() as connection:
            streaming = connection.execution_options(yield_per=self._rows)
            with streaming.execute(self._statement) as result:
                encoder.use(list(result.keys()))
                for row in result:
                    count += 1
                    yield encoder.item(row, topic)
        self._ctx.log.debug("%s: %d rows", encoder.name, count)
        yield Position(self._place, {"finished": _now(), "rows": count})


class _Incrementing:
    """Rows whose column is larger than the last one's, in its order.

    The upper bound is fixed before a poll reads, and only when no open transaction can still
    bring a row below it (see horizon.py). Every page is a short transaction of its own.
    """

    def __init__(
        self,
        engine: sa.Engine,
        config: SqlSourceConfig,
        ctx: SourceContext,
        table: str,
        encoder: RowEncoder,
        cursor: _Cursor,
    ) -> None:
        self._engine = engine
        self._encoder = encoder
        self._topic = _topic(config, table)
        self._place: Place = {"table": table}
        self._rows = config.batch_max_rows
        self._cursor = cursor
        self._plain = plain_table(TableName.parse(table), encoder.columns)
        self._column = self._plain.c[cursor.name]
        self._horizon: Horizon = horizon_of(engine, ctx.log)
        self._last: Any = (ctx.offset(self._place) or {}).get("incrementing")
        self._known_type = False
        self.due = config.pace.next_after(_now()) if config.schedule else 0
        self.settled = True

    def poll(self) -> Iterator[SourceItem]:
        with database_errors(f"reading {self._encoder.name}"):
            self._refuse_nulls()
            bound = yield from self._horizon.bound(self._newest)
            self.settled = not self._horizon.held_back
            while bound is not None:
                rows = self._page(bound)
                index = self._encoder.columns.index(self._cursor.name)
                for row in rows:
                    self._last = row[index]
                    offset = {"incrementing": self._last}
                    yield self._encoder.item(row, self._topic, self._place, offset)
                if len(rows) < self._rows:
                    return

    def _newest(self) -> Any:
        """The largest value beyond the last one read; None when there is none."""
        # Not max(): some types have an order but no max, as PostgreSQL's uuid.
        query = sa.select(self._column).where(self._column.is_not(None))
        query = query.order_by(self._column.desc()).limit(1)
        with self._engine.connect() as connection:
            if self._last is not None and not self._known_type:
                found = connection.execute(query).scalar()
                if found is None:
                    return None
                # The stored offset is JSON: the database's value says which type it was.
                self._last = msgspec.convert(self._last, type(found), strict=False)
            self._known_type = True
            if self._last is not None:
                # Compared there: the order of text is its collation's, not Python's.
                query = query.where(self._column > self._last)
            return connection.execute(query).scalar()

    def _page(self, bound: Any) -> Any:
        query = _everything(self._plain).where(self._column <= bound)
        if self._last is not None:
            query = query.where(self._column > self._last)
        with self._engine.connect() as connection:
            result = connection.execute(query.order_by(self._column).limit(self._rows))
            self._encoder.use(list(result.keys()))
            return result.all()

    def _refuse_nulls(self) -> None:
        if not self._cursor.nullable:
            return
        query = sa.select(sa.literal(1)).select_from(self._plain)
        with self._engine.connect() as connection:
            found = connection.execute(query.where(self._column.is_(None)).limit(1)).first()
        if found is not None:
            raise DataError(
                f"{self._encoder.name}: a row has NULL in {self._cursor.name!r}, the incrementing "
                "column: it would never be read; declare the column NOT NULL"
            )


def _everything(table: sa.TableClause) -> sa.Select[Any]:
    """All columns that the table has by then: one that is added later is not left out."""
    return sa.select(sa.text("*")).select_from(table)


def _topic(config: SqlSourceConfig, table: str) -> str:
    return config.topic or config.topic_prefix + TableName.parse(table).table


def _now() -> int:
    return time.time_ns() // 1_000_000
