"""The rows of tables that a task can see: as they are, or as they were at some time."""

from collections.abc import Callable
from typing import Any, Protocol, cast

from streamkit.dsl.functions import Function
from streamkit.dsl.nodes.sources import TableSource
from streamkit.dsl.nodes.tables import How
from streamkit.engine.cursor import Cursor
from streamkit.engine.hot.moment import FOREVER, NEVER
from streamkit.engine.state.store import Store
from streamkit.engine.state.table import LatestRows, TableStore
from streamkit.engine.state.versions import VersionRows
from streamkit.records import Columns
from streamkit.serde import Serde


class TableRows(Protocol):
    """What a join looks up in a table."""

    at_hand: dict[bytes, Any]
    """Rows that are there now and need not be asked for, to look into; perhaps not all."""

    def get(self, key: bytes, /) -> Any:
        """The row that is there now; None: there is none."""

    def as_of(self, key: bytes, time: int, /) -> Any:
        """The row that was there at a time (ms), as far back as it was asked to be kept."""

    def keep(self, since: Callable[[], int], /) -> None:
        """Keep what was there from a time on, which only grows."""


class MergedRows:
    """The rows of a partition that is read with the events, in the order of time."""

    def __init__(self, store: LatestRows) -> None:
        self.store = store
        self.get = store.get
        self.at_hand = store.at_hand

    def as_of(self, key: bytes, time: int) -> Any:
        raise AssertionError("what is looked up as of a time is read ahead")

    def keep(self, since: Callable[[], int]) -> None:
        raise AssertionError("what is looked up as of a time is read ahead")


class AheadRows:
    """What one task sees of a table that is read ahead: its latest rows, or versions, or both.

    Tasks of one process may share them.
    """

    def __init__(self, table: TableSource, *, now: bool, then: bool) -> None:
        self.table = table
        self.at_hand: dict[bytes, Any] = {}
        self.latest = new_latest(table, at_once=True) if now else None
        self.versions = new_versions(table) if then else None
        self.asked = NEVER
        """The latest time (ms) that was asked for; who uses it sets it back."""
        self.is_shared = False
        self._since: list[Callable[[], int]] = []
        self._marked = NEVER

    def get(self, key: bytes) -> Any:
        self.asked = FOREVER
        assert self.latest is not None
        return self.latest.get(key)

    def as_of(self, key: bytes, time: int) -> Any:
        if time > self.asked:
            self.asked = time
        assert self.versions is not None
        return self.versions.as_of(key, time)

    def keep(self, since: Callable[[], int]) -> None:
        self._since.append(since)

    def take(self, partition: int, columns: Columns, start: int, stop: int) -> None:
        """Take in records of the topic, in order. Raises SerdeError."""
        for store in self.stores:
            store.take(partition, columns, start, stop)

    def share(self, known: Callable[[TableStore], TableStore]) -> None:
        """Use the stores of the process in place of own ones."""
        self.is_shared = True
        if self.latest is not None:
            self.latest = cast(LatestRows, known(self.latest))
        if self.versions is not None:
            self.versions = cast(VersionRows, known(self.versions))

    @property
    def stores(self) -> tuple[LatestRows | VersionRows, ...]:
        return tuple(each for each in (self.latest, self.versions) if each is not None)

    @property
    def since(self) -> int:
        """From which time on (ms) it is asked for versions."""
        return min((since() for since in self._since), default=NEVER)

    def begin(self, since: int | None) -> None:
        """From this time on versions will be asked for; None: any."""
        if self.versions is not None:
            self.versions.keep(self, NEVER if since is None else since)

    def mark(self) -> None:
        """What is kept now is part of the next commit."""
        self._marked = self.since

    def settle(self) -> None:
        """That is committed: older versions will not be asked for by this task."""
        if self.versions is not None:
            self.versions.keep(self, self._marked)
            self.versions.settle()

    def leave(self) -> None:
        """The task is closed."""
        if self.versions is not None:
            self.versions.leave(self)


def new_latest(table: TableSource, *, at_once: bool) -> LatestRows:
    return LatestRows(table.topic, table.value, at_once=at_once)


def new_versions(table: TableSource) -> VersionRows:
    return VersionRows(table.topic, table.value, at_once=True)


class KeptRows:
    """The rows of a table that is kept of a stream."""

    def __init__(self, store: Store) -> None:
        self.get = store.get
        self.at_hand: dict[bytes, Any] = {}

    def as_of(self, key: bytes, time: int) -> Any:
        raise AssertionError("history is refused where the join is declared")

    def keep(self, since: Callable[[], int]) -> None:
        raise AssertionError("history is refused where the join is declared")


class JoinedRows:
    """The rows of a table that is made of two others: made when they are looked up."""

    def __init__(
        self,
        left: TableRows,
        right: TableRows,
        make: Callable[[bytes, Any, Any], Any],
    ) -> None:
        self.at_hand: dict[bytes, Any] = {}
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
