"""The rows of one topic, on their way out."""

from streamkit.engine.cursor import Cursor
from streamkit.engine.limits import Limits
from streamkit.engine.rows import Rows
from streamkit.records import Headers

_NO_LIMIT = 1 << 62


class Outlet:
    """The rows of one topic. Those of the record being processed can be taken back."""

    __slots__ = (
        "_cursor",
        "_keyed",
        "_large",
        "_limits",
        "_mark",
        "_offset",
        "headers",
        "keys",
        "stamps",
        "topic",
        "values",
    )

    def __init__(self, topic: str, cursor: Cursor, limits: Limits | None = None) -> None:
        """`limits` are the topic's; None: whoever appends the rows will see."""
        self.topic = topic
        self._cursor = cursor
        self._limits = limits
        self._keyed = limits is not None and limits.needs_key
        # Half of what a batch may have leaves room for all but absurd keys and headers.
        self._large = _NO_LIMIT if limits is None else limits.max_bytes // 2
        self.keys: list[bytes | None] = []
        self.values: list[bytes | None] = []
        self.stamps: list[int] = []
        self.headers: list[Headers] = []
        self._offset = -2
        self._mark = 0

    def begin(self) -> None:
        """Another input comes, whose offsets mean other records."""
        self._offset = -2

    def add(self, key: bytes | None, value: bytes | None, stamp: int, headers: Headers) -> None:
        """Raises RecordTooLarge or InvalidRecord when the topic would not take the record."""
        if (value is not None and len(value) > self._large) or (key is None and self._keyed):
            self._check(key, value, stamp, headers)
        if self._cursor.offset != self._offset:
            self._offset = self._cursor.offset
            self._mark = len(self.values)
        self.keys.append(key)
        self.values.append(value)
        self.stamps.append(stamp)
        self.headers.append(headers)

    def _check(self, key: bytes | None, value: bytes | None, stamp: int, headers: Headers) -> None:
        assert self._limits is not None
        error = self._limits.check(key, value, stamp, headers)
        if error is not None:
            raise self._cursor.refused(self.topic, error)

    def take_back(self) -> None:
        """Forget the rows of the present record, which failed."""
        if self._offset == self._cursor.offset:
            for column in (self.keys, self.values, self.stamps, self.headers):
                del column[self._mark :]

    def drain(self) -> Rows | None:
        """The rows so far, if any; then there are none."""
        if not self.values:
            return None
        headers = self.headers if any(self.headers) else None
        rows = Rows(self.keys, self.values, self.stamps, headers)
        self.keys, self.values, self.stamps, self.headers = [], [], [], []
        self._offset = -2
        return rows
