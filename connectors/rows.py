"""Lines of a file as rows: CSV and JSON lines, with the exact byte position after each row."""

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, BinaryIO

import msgspec

from streamkit.errors import BadRow, nearest

_BOM = b"\xef\xbb\xbf"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Python's own limit, 128 KiB, refuses fields that a topic takes; it can be set for all only. It
# bounds what is read in search of the end of a quote that is never closed.
csv.field_size_limit(16 << 20)


class Lines:
    """The full lines of a file from a position on, decoded one by one as they are asked for.

    `position` and `lines` count what was given out; a last line without its end is not given out
    unless `complete` says that it is all there will be. `taken` holds the lines of the current
    row: whoever begins a row clears it.
    """

    def __init__(
        self, file: BinaryIO, position: int, lines: int, limit: int, *, complete: bool = False
    ) -> None:
        self.position = position
        self.lines = lines
        self.taken: list[bytes] = []
        self.unterminated = False
        self._file = file
        self._limit = limit
        self.complete = complete
        file.seek(position)

    def __iter__(self) -> Iterator[str]:
        if self.position >= self._limit:
            return
        for line in self._file:
            # Past the limit the file is being written again: its last line is not all there is.
            whole = self.complete and self.position + len(line) <= self._limit
            if not line.endswith(b"\n") and not whole:
                self.unterminated = True
                return
            if self.position == 0 and line.startswith(_BOM):
                self.position = len(_BOM)
                line = line[len(_BOM) :]
            self.position += len(line)
            self.lines += 1
            self.taken.append(line)
            yield line.decode()
            if self.position >= self._limit:
                return

    def reread(self) -> None:
        """Go back to behind the first line of the current row; take a new iterator after it."""
        later = self.taken[1:]
        del self.taken[1:]
        self.position -= sum(map(len, later))
        self.lines -= len(later)
        self._file.seek(self.position)


class Row(msgspec.Struct, frozen=True, gc=False):
    """A parsed row, as JSON, with its values by name where they were asked for."""

    value: bytes
    key: Any
    timestamp: int | None


class Unreadable(msgspec.Struct, frozen=True, gc=False):
    """A row that does not parse, with its bytes."""

    error: BadRow
    raw: bytes


@dataclass(frozen=True, slots=True)
class RowOptions:
    """What a row becomes: see FileSourceConfig, whose fields these are."""

    key_fields: tuple[str, ...] = ()
    timestamp_field: str = ""
    null_values: frozenset[str] = frozenset()
    types: Mapping[str, str] = field(default_factory=dict)
    delimiter: str = ","


def _number(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        number = kind(text)
        # Python reads 1_000 as a number; JSON has no form for nan and inf.
        if "_" in text or number in (math.inf, -math.inf) or number != number:
            raise ValueError(text)
        return number

    return convert


CSV_TYPES: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": _number(int),
    "float": _number(float),
    "bool": lambda text: {"true": True, "false": False}[text.lower()],
}


@lru_cache(maxsize=64)
def _row_type(columns: tuple[str, ...]) -> type[msgspec.Struct]:
    """A struct with these columns: it encodes twice as fast as a dict. Made once per header."""
    attributes = [f"c{index}" for index in range(len(columns))]
    renamed = dict(zip(attributes, columns, strict=True))
    return msgspec.defstruct("Row", attributes, rename=renamed, gc=False)


class CsvFormat:
    """The columns of one CSV file, and how a row of it becomes JSON."""

    def __init__(self, columns: Sequence[str], options: RowOptions, where: str) -> None:
        repeated = {name for name in columns if columns.count(name) > 1}
        if repeated:
            raise BadRow(f"{where}: the header names {min(repeated)!r} more than once")
        self._columns = list(columns)
        self._options = options
        self._where = where
        wanted = (*options.key_fields, *options.types)
        for name in (*wanted, *([options.timestamp_field] if options.timestamp_field else [])):
            if name not in columns:
                raise BadRow(f"{where}: no column {name!r}{nearest(name, columns)}")
        self._keys = [self._columns.index(name) for name in options.key_fields]
        self._stamp = (
            self._columns.index(options.timestamp_field) if (options.timestamp_field) else None
        )
        self._convert = [
            (self._columns.index(name), CSV_TYPES[kind], kind)
            for name, kind in options.types.items()
            if kind != "str"
        ]
        self._struct = _row_type(tuple(columns))
        self._encode = msgspec.json.Encoder().encode

    def rows(self, lines: Lines) -> Iterator[Row | Unreadable]:
        """The rows of these lines. After each, `lines.position` stands behind it."""
        # strict: a quote in a wrong place is said, not guessed at.
        reader = csv.reader(iter(lines), delimiter=self._options.delimiter, strict=True)
        width = len(self._columns)
        nulls = self._options.null_values
        encode, struct = self._encode, self._struct
        plain = not nulls and not self._convert
        while True:
            first = lines.lines + 1
            lines.taken.clear()
            try:
                row: list[Any] | None = next(reader, None)
            except (csv.Error, UnicodeDecodeError) as error:
                if _inside_quotes(lines, error):
                    lines.unterminated = True  # the rest is still to come
                    return
                # Only the first line is known to be bad: a quote that it left open has taken in
                # the others.
                lines.reread()
                yield self._unreadable(lines, first, _reason(error))
                reader = csv.reader(iter(lines), delimiter=self._options.delimiter, strict=True)
                continue
            if row is None:
                return
            if len(row) != width:
                if not row:
                    continue  # a blank line
                yield self._unreadable(lines, first, f"{len(row)} values for {width} columns")
                continue
            try:
                if not plain:
                    if nulls:
                        row = [None if text in nulls else text for text in row]
                    for index, convert, kind in self._convert:
                        if row[index] is not None:
                            row[index] = _converted(convert, row[index], kind, self._columns[index])
                yield Row(
                    encode(struct(*row)),
                    _key([row[i] for i in self._keys], self._options.key_fields),
                    None if self._stamp is None else _milliseconds(row[self._stamp]),
                )
            except ValueError as error:
                yield self._unreadable(lines, first, str(error))

    def _unreadable(self, lines: Lines, first: int, reason: str) -> Unreadable:
        return Unreadable(BadRow(f"{self._where}:{first}: {reason}"), b"".join(lines.taken))


def _inside_quotes(lines: Lines, error: Exception) -> bool:
    """Whether a row fails only because the file ends, so far, before it does."""
    at_end = isinstance(error, csv.Error) and "unexpected end of data" in str(error)
    return at_end and (lines.unterminated or not lines.complete)


def csv_header(lines: Lines, options: RowOptions, where: str) -> list[str] | None:
    """The column names in the first row that is not blank; None when there is no full row yet."""
    reader = csv.reader(iter(lines), delimiter=options.delimiter, strict=True)
    try:
        return next((row for row in reader if row), None)
    except csv.Error as error:
        if _inside_quotes(lines, error):
            return None
        raise BadRow(f"{where}:1: {error}") from error
    except UnicodeDecodeError as error:
        raise BadRow(f"{where}:1: {_reason(error)}") from error


class JsonLinesFormat:
    """JSON lines: every line is a value by itself and stays the bytes it is."""

    def __init__(self, options: RowOptions, where: str) -> None:
        self._options = options
        self._where = where
        self._fields = bool(options.key_fields or options.timestamp_field)

    def rows(self, lines: Lines) -> Iterator[Row | Unreadable]:
        decode = msgspec.json.Decoder().decode
        source = iter(lines)
        while True:
            lines.taken.clear()
            try:
                text = next(source, None)
                if text is None:
                    return
                raw = lines.taken[0].strip()
                if raw:
                    yield self._row(raw, decode(raw))
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                reason = _reason(error)
                yield Unreadable(BadRow(f"{self._where}:{lines.lines}: {reason}"), lines.taken[0])
                if isinstance(error, UnicodeDecodeError):
                    source = iter(lines)

    def _row(self, raw: bytes, value: Any) -> Row:
        if not self._fields:
            return Row(raw, None, None)
        if not isinstance(value, dict):
            raise ValueError("expected a JSON object, to take the key or timestamp from")
        wanted = self._options.key_fields
        missing = [name for name in wanted if name not in value]
        if missing:
            raise ValueError(f"no field {missing[0]!r}{nearest(missing[0], value)}")
        stamp = self._options.timestamp_field
        if stamp and stamp not in value:
            raise ValueError(f"no field {stamp!r}{nearest(stamp, value)}")
        key = _key([value[name] for name in wanted], wanted)
        return Row(raw, key, _milliseconds(value[stamp]) if stamp else None)


def _converted(convert: Callable[[str], Any], text: str, kind: str, column: str) -> Any:
    try:
        return convert(text)
    except (ValueError, KeyError):
        raise ValueError(f"column {column!r} is {text!r}: expected {kind}") from None


def _key(values: list[Any], names: tuple[str, ...]) -> Any:
    """One field's value by itself as text; several as a JSON object; none: no key."""
    if not names:
        return None
    if len(names) > 1:
        return dict(zip(names, values, strict=True))
    value = values[0]
    return value if value is None or isinstance(value, str) else msgspec.json.encode(value)


def _milliseconds(value: Any) -> int | None:
    """A timestamp field as milliseconds; text is ISO 8601, without an offset it is UTC."""
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) != 8:
        # Eight digits are a date. Python takes many more for a date and a time: 1712010101000
        # for ten o'clock in the year 1712.
        value = int(value)
    stamp = _moment(value)
    if not 0 <= stamp < 1 << 63:
        raise ValueError(f"timestamp {value!r}: a record's is from 1970 on, in milliseconds")
    return stamp


def _moment(value: Any) -> int:
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"timestamp {value!r}: expected ISO 8601 or milliseconds") from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - _EPOCH) // timedelta(milliseconds=1)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"timestamp {value!r}: expected ISO 8601 or milliseconds")


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 at byte {error.start} of the line"
    if isinstance(error, msgspec.MsgspecError):
        return f"not JSON: {error}"
    if isinstance(error, RecursionError):
        return "nested too deep"
    if "unexpected end of data" in str(error):
        return "a quote is not closed"
    return str(error)
