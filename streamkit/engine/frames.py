"""Batches of values as functions ask for them: lists, Arrow record batches, Polars frames."""

from collections.abc import Iterable
from dataclasses import is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from streamkit.dsl.functions import Batch, Function, fields
from streamkit.errors import DataError
from streamkit.serde import without_none

_AS_THEY_ARE = (bytes, date, datetime, time, timedelta, Decimal)
"""What frames have types of their own for."""
_PLAIN = (str, int, float, bool, type(None), *_AS_THEY_ARE)


def frame_of(values: list[Any], batch: Batch, function: Function) -> Any:
    """A batch as the function wants it. Raises DataError."""
    if batch.kind == "list":
        return values
    rows = [_row(value, function) for value in values]
    if batch.kind == "arrow":
        import pyarrow  # only who asks for one of its classes has to have it

        return pyarrow.RecordBatch.from_pylist(rows, schema=_schema(batch.of))
    import polars

    return polars.DataFrame(rows, infer_schema_length=None)


def rows_of(result: Any, function: Function) -> list[Any]:
    """What a function gave for a batch, one by one. Raises DataError."""
    if hasattr(result, "to_pylist"):  # of Arrow: a RecordBatch, a Table
        rows: list[Any] = result.to_pylist()
        return rows
    if hasattr(result, "to_dicts"):  # of Polars
        rows = result.to_dicts()
        return rows
    if isinstance(result, Iterable) and not isinstance(result, str | bytes | dict):
        return list(result)
    raise DataError(
        f"{function.described} takes batches and gave {type(result).__name__}; it gives a list, an "
        "iterator, a RecordBatch or a DataFrame of results, or None"
    )


def _row(value: Any, function: Function) -> dict[str, Any]:
    if isinstance(value, dict):
        row = value
    elif isinstance(value, msgspec.Struct):
        row = {name: getattr(value, name) for name in value.__struct_fields__}
    elif is_dataclass(value):
        row = {name: getattr(value, name) for name in value.__dataclass_fields__}
    else:
        raise DataError(
            f"{function.described}: a {type(value).__name__} has no fields to be columns; take a "
            "list of them"
        )
    return {name: _cell(cell) for name, cell in row.items()}


def _cell(value: Any) -> Any:
    if type(value) in _PLAIN:
        return value
    return msgspec.to_builtins(value, builtin_types=_AS_THEY_ARE)  # structs become dicts


def _schema(type_: Any) -> Any:
    """The columns of a type, so that they are the same in each batch; None: it does not tell all,
    and each batch has those that its values have."""
    import pyarrow

    known = {
        str: pyarrow.string(),
        int: pyarrow.int64(),
        float: pyarrow.float64(),
        bool: pyarrow.bool_(),
        bytes: pyarrow.binary(),
        date: pyarrow.date32(),
        datetime: pyarrow.timestamp("us", tz="UTC"),
    }
    columns = []
    for name, hint in (fields(type_) or {}).items():
        plain, _ = without_none(hint)
        if plain not in known:
            return None
        columns.append((name, known[plain]))
    return pyarrow.schema(columns) if columns else None
