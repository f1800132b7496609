"""SqlSink: topics of JSON objects into tables, with the offsets in the same transaction.

What a worker has written and where it goes on commit together in the database, so a record is
written exactly once, whatever is killed when. The table `_streamkit_offsets` holds one row per
connector, topic and partition; its `epoch` goes up with every worker that takes the partition, and
a worker whose epoch is over cannot write any more.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from streamkit.connect import CommittedOffset, Notes, SinkContext, mask_url, sink
from streamkit.connectors.json_values import key_fields_of, object_of, value_of
from streamkit.connectors.sql import TableName, database_errors, open_engine
from streamkit.connectors.sql_offsets import OffsetTable
from streamkit.connectors.sql_table import SinkTable
from streamkit.connectors.window_values import (
    is_of_a_window,
    window_fields_of,
    window_note_of,
)
from streamkit.errors import ConfigError, DataError, StreamkitError
from streamkit.records import Record, TopicPartition

_Changes: TypeAlias = tuple[list[dict[str, Any]], list[dict[str, Any]]]
"""The rows to write, and the keys to delete before that."""

_Ends: TypeAlias = dict[TopicPartition, int]

_PLAIN_VALUE = "value"
"""The column of a window's result that is no object."""

_WINDOW = ("window_start", "window_end")
"""The columns of a window's start and end."""

_IN_DATABASE = "in the database"
"""The note beside our committed offsets: the database's own offset is what counts."""


@dataclass(frozen=True, slots=True)
class SqlSinkConfig:
    """Options of SqlSink.

    `connection.url`: SQLAlchemy's form. `table.name.format`: the table of a topic.
    `insert.mode`: `insert`, or `upsert` (PostgreSQL, SQLite), which needs `pk.mode`; None: `upsert`
    with pk.mode `window`, else `insert`.
    `pk.mode`: where the primary key comes from: `record_value`, or `record_key` (one of
    `pk.fields`: the key as text; several: a JSON object). `pk.fields`: its columns.
    `window`, for the results of windows: the key, as with record_key, and the window's start. What
    is given again of a window replaces its row, and what is taken back of a session deletes it.
    `window.fields`: the columns of a window's start, and, if there are two, of its end, instead of
    `window_start` and `window_end`.
    `delete.enabled`: a record with a key and no value deletes the row (needs record_key).
    `auto.create`: make a missing table. `auto.evolve`: add missing columns. Column types come
    from the first values: whole numbers, floats, booleans, text, JSON.
    """

    connection_url: str = field(metadata={"secret": True})
    insert_mode: Literal["insert", "upsert"] | None = None
    pk_mode: Literal["none", "record_key", "record_value", "window"] = "none"
    pk_fields: tuple[str, ...] = ()
    window_fields: tuple[str, ...] = ()
    table_name_format: str = "${topic}"
    delete_enabled: bool = False
    auto_create: bool = True
    auto_evolve: bool = True

    def __post_init__(self) -> None:
        if self.upserts and self.pk_mode == "none":
            raise ConfigError('insert.mode = "upsert" needs pk.mode and pk.fields')
        if self.pk_mode != "none" and not self.pk_fields:
            raise ConfigError(f"pk.mode = {self.pk_mode!r} needs pk.fields")
        if self.pk_fields and self.pk_mode == "none":
            raise ConfigError("pk.fields needs pk.mode")
        if self.pk_mode == "window":
            self._check_window()
            return
        if self.window_fields:
            raise ConfigError('window.fields needs pk.mode = "window"')
        if self.delete_enabled and (self.pk_mode != "record_key" or not self.upserts):
            raise ConfigError(
                'delete.enabled needs pk.mode = "record_key" and insert.mode = "upsert"'
            )

    def _check_window(self) -> None:
        if not self.upserts:
            raise ConfigError(
                'pk.mode = "window" has one row for each key and window, which results replace: '
                "leave out insert.mode"
            )
        if len(self.window_columns) > 2:
            raise ConfigError("window.fields names two columns: of a window's start, of its end")
        names = (*self.pk_fields, *self.window_columns)
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(f"{twice!r} stands twice in pk.fields and window.fields")

    @property
    def upserts(self) -> bool:
        if self.insert_mode is None:
            return self.pk_mode == "window"
        return self.insert_mode == "upsert"

    @property
    def window_columns(self) -> tuple[str, ...]:
        return self.window_fields or _WINDOW

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns of the primary key."""
        if self.pk_mode != "window":
            return self.pk_fields
        return (*self.pk_fields, self.window_columns[0])

    @property
    def deletes(self) -> bool:
        """Whether a record without a value deletes a row."""
        return self.delete_enabled or self.pk_mode == "window"


@sink(config=SqlSinkConfig)
class SqlSink:
    """An engine, and the tables that it has written so far."""

    def __init__(self, config: SqlSinkConfig, ctx: SinkContext) -> None:
        self._config = config
        self._ctx = ctx
        self._engine = open_engine(config.connection_url, create=True)
        self._tables: dict[str, SinkTable] = {}
        self._steps: dict[str, set[str]] = {}
        """Of each topic the steps whose windows its results are of, as far as was seen."""
        try:
            with database_errors(f"connecting to {mask_url(config.connection_url)}"):
                self._offsets = OffsetTable(self._engine, ctx.name)
        except StreamkitError:
            self._engine.dispose()
            raise

    def resume(self, partition: TopicPartition, start: CommittedOffset) -> CommittedOffset | None:
        topic_id = self._ctx.topic_id(partition.topic)
        # Without our note the offset is a new group's, or somebody has reset it: it is followed.
        wanted = None if start.metadata == _IN_DATABASE else start.offset
        with database_errors("reading _streamkit_offsets"), self._engine.begin() as connection:
            offset = self._offsets.take(connection, partition, topic_id, wanted)
        if offset is None:
            self._ctx.log.warning(
                "%s was written before, but not into this database: writing it from offset 0",
                partition,
            )
            offset = 0
            with database_errors("writing _streamkit_offsets"), self._engine.begin() as connection:
                self._offsets.take(connection, partition, topic_id, offset)
        return CommittedOffset(offset, _IN_DATABASE)

    def write(self, records: list[Record[bytes | None]]) -> Notes | None:
        by_topic: dict[str, list[Record[bytes | None]]] = {}
        ends: _Ends = {}
        for record in records:
            by_topic.setdefault(record.topic, []).append(record)
            ends[TopicPartition(record.topic, record.partition)] = record.offset + 1
        changes = [(topic, self._changes(found)) for topic, found in by_topic.items()]
        first, last = records[0].coordinates, records[-1].coordinates
        span = first if first == last else f"{first} to {last}"
        with database_errors(f"writing {span}"):
            try:
                self._store(changes, ends)
            except DataError as error:
                raise DataError(f"writing {span}: {error}") from error
        return dict.fromkeys(ends, _IN_DATABASE)

    def _store(self, changes: Sequence[tuple[str, _Changes]], ends: _Ends) -> None:
        for topic, (rows, _) in changes:
            self._table(topic).fit(rows)
        with self._engine.begin() as connection:
            for topic, (rows, deleted) in changes:
                table = self._table(topic)
                if self._config.upserts:
                    table.delete(connection, deleted)
                    table.upsert(connection, rows)
                else:
                    table.insert(connection, rows)
            # Last, so that its lock on the row is held for a moment only.
            self._offsets.advance(connection, ends)

    def close(self) -> None:
        self._engine.dispose()

    def _table(self, topic: str) -> SinkTable:
        if topic not in self._tables:
            # A dot of the format ends a schema's name, one of the topic is part of the table's.
            schema, table = TableName.parse(self._config.table_name_format)
            name = TableName(
                schema and schema.replace("${topic}", topic), table.replace("${topic}", topic)
            )
            self._tables[topic] = SinkTable(
                self._engine,
                name,
                self._config.keys,
                upsert=self._config.upserts,
                create=self._config.auto_create,
                evolve=self._config.auto_evolve,
            )
        return self._tables[topic]

    def _changes(self, records: Sequence[Record[bytes | None]]) -> _Changes:
        """The rows to write, and the keys to delete before that; every key once in upsert mode."""
        rows = [self._row(record) for record in records]
        if not self._config.upserts:
            return [row for row, _ in rows], []
        written: dict[tuple[Any, ...], dict[str, Any]] = {}
        deleted: dict[tuple[Any, ...], dict[str, Any]] = {}
        for row, deletes in rows:
            key = tuple(row[name] for name in self._config.keys)
            if deletes:
                written.pop(key, None)
                deleted[key] = row
            else:
                # As one after the other: a field that is absent keeps its earlier value.
                written[key] = written.get(key, {}) | row
        return list(written.values()), list(deleted.values())

    def _row(self, record: Record[bytes | None]) -> tuple[dict[str, Any], bool]:
        """The columns of a record, and whether it is a deletion. Raises DataError."""
        config = self._config
        key: dict[str, Any] = {}
        window = window_note_of(record) if config.pk_mode == "window" else None
        if config.pk_mode in ("record_key", "window"):
            key = key_fields_of(record, config.pk_fields)
        if window is not None:
            self._heed(record, window.store)
            key |= window_fields_of(window, record, config.window_columns)
        if record.value is None:
            if config.deletes:
                self._check_key(record, key)
                return key, True
            raise DataError(f"{record.coordinates}: a record without a value; {_deleting(record)}")
        value = self._result(record) if config.pk_mode == "window" else object_of(record)
        row = key | value | key  # its columns first, and its values in any case
        if not row:
            raise DataError(f"{record.coordinates}: an object without fields makes no row")
        self._check_key(record, row)
        return row, False

    def _check_key(self, record: Record[bytes | None], row: dict[str, Any]) -> None:
        """Raises DataError for what cannot be a primary key."""
        for name in self._config.pk_fields:
            found = row.get(name)
            if found is None:
                raise DataError(f"{record.coordinates}: the primary key field {name!r} is missing")
            if isinstance(found, dict | list):
                raise DataError(
                    f"{record.coordinates}: the primary key field {name!r} is "
                    f"{'an array' if isinstance(found, list) else 'an object'}: no key of a row"
                )

    def _heed(self, record: Record[bytes | None], step: str) -> None:
        """Say so when results of another step's windows come, whose rows may be the same."""
        known = self._steps.setdefault(record.topic, set())
        if known and step not in known:
            self._ctx.log.warning(
                "%s: a result of %s, after those of %s: those of one key and start have one row, "
                "which the last one has; write each to a topic, and a table, of its own",
                record.coordinates,
                step,
                " and ".join(sorted(known)),
            )
        known.add(step)

    def _result(self, record: Record[bytes | None]) -> dict[str, Any]:
        """The columns of a window's result. Raises DataError."""
        value = value_of(record)
        if isinstance(value, dict):
            return value
        if _PLAIN_VALUE in (*self._config.pk_fields, *self._config.window_columns):
            raise DataError(
                f"{record.coordinates}: a value that is no object goes to the column "
                f"{_PLAIN_VALUE!r}, but pk.fields or window.fields has that name for another"
            )
        return {_PLAIN_VALUE: value}


def _deleting(record: Record[bytes | None]) -> str:
    """What to say so that a record without a value deletes a row."""
    if is_of_a_window(record):
        return "what a window takes back deletes the row with pk.mode = window"
    return "with pk.mode = record_key and delete.enabled = true it deletes the row of its key"
