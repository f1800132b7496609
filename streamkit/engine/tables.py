"""The rows of tables that a task can see: as they are, or as they were at some time."""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from operator import itemgetter
from typing import Any, Protocol

from streamkit.dsl.functions import Function
from streamkit.dsl.nodes.tables import How
from streamkit.engine.cursor import Cursor
from streamkit.engine.state.store import Store
from streamkit.errors import SerdeError
from streamkit.records import Columns, TopicPartition
from streamkit.serde import Serde

_stamp = itemgetter(0)


class TableRows(Protocol):
    """What a join looks up in a table."""

    def get(self, key: bytes, /) -> Any:
        """The row that is there now; None: there is none."""

    def as_of(self, key: bytes, time: int, /) -> Any:
        """The row that was there at a time (ms), as far back as it was asked to be kept."""

    def keep(self, since: Callable[[], int], /) -> None:
        """Keep what was there from a time on, which only grows. Before anything is loaded."""

    def trim(self) -> None:
        """Forget what was before that time."""


class TopicRows:
    """The rows of a topic: for each key its record with the largest offset.

    As of a time: the one with the largest timestamp that is not after it, of several the one with
    the largest offset. A null value is no row from its time on.
    """

    def __init__(self, key: Serde, value: Serde) -> None:
        self.rows: dict[bytes, Any] = {}
        self.encode_key = key.encode
        self.get = self.rows.get
        self._decode = value.decode
        self._since: list[Callable[[], int]] = []
        self._versions: dict[bytes, list[tuple[int, Any]]] = {}  # ascending by time
        self._superseding: deque[tuple[int, bytes]] = deque()  # versions with one before them
        self._deleted: list[bytes] = []

    def load(self, partition: TopicPartition, columns: Columns, start: int, stop: int) -> None:
        """Take in records `start` to `stop` of the table's topic. Raises SerdeError."""
        rows = self.rows
        for at in range(start, stop):
            key, data = columns.keys[at], columns.values[at]
            if key is None:
                raise SerdeError(
                    f"{partition}@{columns.offsets[at]}: a record without a key, in a table; "
                    "write it with one, or read the topic with app.stream"
                )
            row = None
            if data is None:
                rows.pop(key, None)
            else:
                try:
                    row = rows[key] = self._decode(data)
                except SerdeError as error:
                    where = f"{partition}@{columns.offsets[at]}"
                    raise SerdeError(f"{where}: value: {error}") from error
            if self._since:
                self._add(key, columns.timestamps[at], row)
        if self._since:
            self._forget_superseded()

    # As of a time.

    def keep(self, since: Callable[[], int]) -> None:
        self._since.append(since)

    def as_of(self, key: bytes, time: int) -> Any:
        versions = self._versions.get(key)
        if versions is None:
            return None
        stamp, row = versions[-1]
        if stamp <= time:
            return row
        at = bisect_right(versions, time, key=_stamp)
        return versions[at - 1][1] if at else None

    def _add(self, key: bytes, stamp: int, row: Any) -> None:
        versions = self._versions.get(key)
        if versions is None:
            self._versions[key] = [(stamp, row)]
            if row is None:
                self._superseding.append((stamp, key))
            return
        at = bisect_right(versions, stamp, key=_stamp)
        versions.insert(at, (stamp, row))
        # Of two one is after the other: when nobody asks for times before it, that goes.
        self._superseding.append((versions[max(at, 1)][0], key))

    def trim(self) -> None:
        self._forget_superseded()
        # Not while a topic is loaded: an older record of the key may still come.
        for key in self._deleted:
            versions = self._versions.get(key)
            if versions is not None and len(versions) == 1 and versions[0][1] is None:
                del self._versions[key]
        self._deleted.clear()

    def _forget_superseded(self) -> None:
        """Of what was there before the time that is kept, only the last version is needed."""
        since = min(since() for since in self._since)
        waiting = self._superseding
        while waiting and waiting[0][0] <= since:
            _, key = waiting.popleft()
            versions = self._versions.get(key)
            if versions is None:
                continue
            del versions[: max(bisect_right(versions, since, key=_stamp) - 1, 0)]
            if len(versions) == 1 and versions[0][1] is None:
                self._deleted.append(key)


class KeptRows:
    """The rows of a table that is kept of a stream."""

    def __init__(self, store: Store) -> None:
        self.get = store.get

    def as_of(self, key: bytes, time: int) -> Any:
        raise AssertionError("history is refused where the join is declared")

    def keep(self, since: Callable[[], int]) -> None:
        raise AssertionError("history is refused where the join is declared")

    def trim(self) -> None:
        return None


class JoinedRows:
    """The rows of a table that is made of two others: made when they are looked up."""

    def __init__(
        self,
        left: TableRows,
        right: TableRows,
        make: Callable[[bytes, Any, Any], Any],
    ) -> None:
        self._left = left
        self._right = right
        self._make = make

    def get(self, key: bytes) -> Any:
        return self._make(key, self._left.get(key), self._right.get(key))

    def as_of(self, key: bytes, time: int) -> Any:
        return self._make(key, self._left.as_of(key, time), self._right.as_of(key, time))

    def keep(self, since: Callable[[], int]) -> None:
        self._left.keep(since)
        self._right.keep(since)

    def trim(self) -> None:
        self._left.trim()
        self._right.trim()


def row_maker(
    function: Function, how: How, key: Serde, cursor: Cursor
) -> Callable[[bytes, Any, Any], Any]:
    """To be called with an encoded key and what two tables have for it: the row it makes."""
    call, read_key = function.call, key.decode
    needs_left, needs_right = how != "outer", how == "inner"

    def make(data: bytes, left: Any, right: Any) -> Any:
        if left is None and (needs_left or right is None):
            return None
        if right is None and needs_right:
            return None
        try:
            return call(left, right)
        except Exception as error:
            cursor.fail(function, read_key(data), error)

    return make
