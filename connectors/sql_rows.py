"""Rows of a table as records: the key from its primary key, the value as a JSON object."""

from typing import Any

import msgspec

from streamkit.connect import Bad, Place, SourceItem, SourceRecord
from streamkit.errors import ConfigError, DataError, nearest


class RowEncoder:
    """Rows of one table as key and value bytes."""

    def __init__(self, name: str, columns: list[str], keys: list[str]) -> None:
        self.name = name
        self.columns = columns
        self._keys = keys
        self._encode = msgspec.json.Encoder(enc_hook=self._other).encode

    def use(self, columns: list[str]) -> None:
        """Take the columns of a result; a query's are known only from it."""
        for name in self._keys:
            if name not in columns:
                raise ConfigError(
                    f"key.fields: {self.name} has no column {name!r}{nearest(name, columns)}"
                )
        self.columns = columns

    def item(
        self, row: Any, topic: str, place: Place | None = None, offset: Place | None = None
    ) -> SourceItem:
        """The row as a record, or what is wrong with it."""
        values = dict(zip(self.columns, row, strict=True))
        try:
            key, value = self._key(values), self._encode(values)
        except DataError as error:
            shown = {name: values[name] for name in self._keys} or values
            named = DataError(f"{self.name}, row {shown}: {error}")
            return Bad(named, repr(values).encode(), topic, place, offset)
        return SourceRecord(topic, value, key, place, offset)

    def _key(self, values: dict[str, Any]) -> bytes | None:
        if not self._keys:
            return None
        if len(self._keys) > 1:
            return self._encode({name: values[name] for name in self._keys})
        value = values[self._keys[0]]
        if value is None:
            return None
        encoded = self._encode(value)
        # Text and times without JSON's quotes.
        return value.encode() if isinstance(value, str) else encoded.strip(b'"')

    def _other(self, value: Any) -> Any:
        """Types of drivers that JSON does not know: network addresses, ranges, intervals."""
        if isinstance(value, memoryview):
            return bytes(value)
        if type(value).__module__ in ("ipaddress", "psycopg.types.range"):
            return str(value)
        raise DataError(
            f"a {type(value).__qualname__} has no JSON form: {value!r}; cast it to text in a query"
        )
