"""A table that a sink writes: made and widened to fit the rows, written by insert or upsert."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql, sqlite

from streamkit.connectors.sql import (
    TableName,
    columns_of,
    make_table,
    plain_table,
    unique_sets,
)
from streamkit.errors import ConfigError, DataError, FatalError, nearest

_UPSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class SinkTable:
    """One table and what is known of its columns."""

    def __init__(
        self,
        engine: sa.Engine,
        name: TableName,
        keys: Sequence[str],
        *,
        upsert: bool,
        create: bool,
        evolve: bool,
    ) -> None:
        if upsert and engine.dialect.name not in _UPSERTS:
            raise ConfigError(
                f'insert.mode = "upsert": not for {engine.dialect.name}, only for '
                f"{' and '.join(_UPSERTS)}"
            )
        self._engine = engine
        self._name = name
        self._keys = list(keys)
        self._upsert = upsert
        self._create = create
        self._evolve = evolve
        self._columns: dict[str, Any] | None = None
        self._whole: set[str] = set()

    # Columns.

    def fit(self, rows: Sequence[dict[str, Any]]) -> None:
        """Make the table or the columns that these rows need and that are missing.

        A transaction of its own: what it adds stays, also when the rows are refused.
        """
        if not rows:
            return
        if self._columns is None:
            self._reflect(rows)
        assert self._columns is not None
        wanted = {name for row in rows for name in row} - self._columns.keys()
        if not wanted:
            return
        added = {name: _type_of(_first(name, rows)) for name in sorted(wanted)}
        # A field that was null so far has no type yet; it is left out until it has a value.
        known = {name: kind for name, kind in added.items() if kind is not None}
        if known and not self._evolve:
            name = min(known)
            raise DataError(
                f"table {self._name} has no column {name!r}{nearest(name, self._columns)}; "
                "auto.evolve = true adds missing ones"
            )
        if known:
            for name in known:
                self._check(name, self._columns)
            try:
                with self._engine.begin() as connection:
                    for name, kind in known.items():
                        connection.exec_driver_sql(self._add_column(name, kind))
            except exc.DBAPIError:
                self._reflect(rows)  # another worker may have added them at this moment
                if known.keys() - self._columns.keys():
                    raise
            else:
                self._reflect(rows)

    def _check(self, name: str, others: Iterable[str]) -> None:
        """Raise DataError for a field that cannot be the name of a column."""
        dialect = self._engine.dialect
        if not name or "\0" in name or len(name.encode()) > dialect.max_identifier_length:
            raise DataError(f"table {self._name}: the field name {name!r} cannot be a column's")
        # SQLite takes them for one column.
        twin = next((one for one in others if one != name and one.lower() == name.lower()), None)
        if dialect.name == "sqlite" and twin is not None:
            raise DataError(f"table {self._name}: {name!r} and {twin!r} would be the same column")

    def _reflect(self, rows: Sequence[dict[str, Any]]) -> None:
        schema, table = self._name
        if not sa.inspect(self._engine).has_table(table, schema):
            if not self._create:
                raise FatalError(
                    f"the database has no table '{self._name}'; auto.create = true makes it"
                )
            self._make(rows)
        with self._engine.connect() as connection:
            columns = columns_of(connection, self._name, "table.name.format")
            if self._upsert and frozenset(self._keys) not in unique_sets(connection, self._name):
                raise FatalError(
                    f"pk.fields: table {self._name} has no primary key or unique index on "
                    f"({', '.join(self._keys)}), which an upsert needs"
                )
        self._columns = {column["name"]: column["type"] for column in columns}
        # SQLite keeps 1.5 in an integer column; the others would round it.
        if self._engine.dialect.name != "sqlite":
            self._whole = {
                name for name, kind in self._columns.items() if isinstance(kind, sa.Integer)
            }

    def _make(self, rows: Sequence[dict[str, Any]]) -> None:
        schema, table = self._name
        names = list(dict.fromkeys([*self._keys, *(name for row in rows for name in row)]))
        columns = []
        for name in names:
            keyed = name in self._keys
            kind = _type_of(_first(name, rows))
            if kind is not None:
                self._check(name, names)
                columns.append(sa.Column(name, kind, primary_key=keyed, autoincrement=False))
        if columns:
            make_table(self._engine, sa.Table(table, sa.MetaData(), *columns, schema=schema))
            return
        raise DataError(f"table {self._name} cannot be made: every field of the rows is null")

    def _add_column(self, name: str, kind: sa.types.TypeEngine[Any]) -> str:
        dialect = self._engine.dialect
        prepare = dialect.identifier_preparer
        schema, table = self._name
        target = prepare.quote(table)
        if schema:
            target = f"{prepare.quote_schema(schema)}.{target}"
        return f"ALTER TABLE {target} ADD COLUMN {prepare.quote(name)} {kind.compile(dialect)}"

    # Rows.

    def insert(self, connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
        for names, group in self._alike(rows):
            connection.execute(sa.insert(plain_table(self._name, names)), group)

    def upsert(self, connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
        for names, group in self._alike(rows):
            table = plain_table(self._name, names)
            statement = _UPSERTS[self._engine.dialect.name](table)
            others = {name: statement.excluded[name] for name in names if name not in self._keys}
            if others:
                statement = statement.on_conflict_do_update(index_elements=self._keys, set_=others)
            else:
                statement = statement.on_conflict_do_nothing(index_elements=self._keys)
            connection.execute(statement, group)

    def delete(self, connection: sa.Connection, keys: Sequence[dict[str, Any]]) -> None:
        """Delete the rows of these keys; a table that does not exist has none."""
        if not keys or (self._columns is None and not self._exists(connection)):
            return
        table = plain_table(self._name, self._keys)
        # Parameters cannot be named like the columns in an UPDATE or DELETE.
        where = [table.c[name] == sa.bindparam(f"_{name}") for name in self._keys]
        connection.execute(
            sa.delete(table).where(*where),
            [{f"_{name}": _plain(row[name]) for name in self._keys} for row in keys],
        )

    def _exists(self, connection: sa.Connection) -> bool:
        schema, table = self._name
        return bool(sa.inspect(connection).has_table(table, schema))

    def _alike(
        self, rows: Sequence[dict[str, Any]]
    ) -> Iterable[tuple[list[str], list[dict[str, Any]]]]:
        """The rows in groups with the same columns: a field that is absent stays untouched."""
        columns = self._columns or {}
        groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for row in rows:
            # Only nulls can be without a column here: `fit` has made all others.
            values = {name: _plain(value) for name, value in row.items() if name in columns}
            for name in self._whole & values.keys():
                value = values[name]
                if isinstance(value, float) and not value.is_integer():
                    raise DataError(
                        f"table {self._name}: {value} does not fit the whole-number column {name!r}"
                    )
            groups.setdefault(tuple(values), []).append(values)
        return [(list(names), group) for names, group in groups.items()]


def _first(name: str, rows: Sequence[dict[str, Any]]) -> Any:
    """The value that decides a column's type: a float among whole numbers, else the first."""
    values = [row[name] for row in rows if row.get(name) is not None]
    floats = [value for value in values if isinstance(value, float)]
    return (floats or values or [None])[0]


def _type_of(value: Any) -> sa.types.TypeEngine[Any] | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return sa.Boolean()
    if isinstance(value, int):
        return sa.BigInteger()
    if isinstance(value, float):
        return sa.Double()
    if isinstance(value, str):
        return sa.Text()
    if isinstance(value, datetime):
        return sa.DateTime(timezone=True)
    return sa.JSON()


def _plain(value: Any) -> Any:
    """A value that every driver takes: objects and arrays as JSON text, times as ISO 8601."""
    if isinstance(value, dict | list):
        return msgspec.json.encode(value).decode()
    if isinstance(value, datetime):
        # As long for all of them, so that texts have the order of times.
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise DataError(f"{value} is too large for a database's whole numbers")
    return value
