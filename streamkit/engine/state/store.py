"""Keyed state of one task: one value per key, decoded, in memory as far as a budget allows.

    get, put, delete, scan            by the operators, while records are processed
    changes() -> Rows                 at a commit: what goes to the changelog
    committed(end)                    after it: the changelog ends there now
    flush_if_due()                    between batches: write behind, make room
    position, load(columns)           at the start: what the changelog has from `position` on

The changelog is the truth. A `Backing`, where there is one, holds what the changelog said at some
committed offset, its `position`; so a start reads the changelog from there and not from its
beginning, and values that are not used may leave memory. As long as none has left, a key that is
not in memory does not exist, and nobody has to be asked.

    young   what was used since the last time room was made
    old     what was used before that; what is found there becomes young again
    backing everything that was committed and written behind

What was changed and not yet written behind is always in `young`. Room is made between batches
only, so that during a batch a value is one object.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeAlias

from streamkit.engine.hot.order import Order
from streamkit.engine.rows import Rows
from streamkit.engine.state.backing import Backing
from streamkit.engine.state.weight import SAMPLE, RowWeight
from streamkit.engine.state.written import written
from streamkit.errors import SerdeError
from streamkit.records import Columns
from streamkit.serde import Serde

_CHUNK = 256
"""Rows that a scan looks up at once."""
_MOST_PENDING = 1 << 16
"""Committed changes that wait to be written behind, at most."""
_FEW = 20_000
"""A backing with no more rows is read whole when a store begins."""

Remembered: TypeAlias = tuple[Any, bytes | None, int | None]
"""A cell; its value, encoded, where that may be changed in place; the time of its last change, if
that is not committed."""
_IMMUTABLE = (type(None), int, float, bool, str, bytes)


class Memory(Protocol):
    """Who shares memory among stores."""

    def tell(self, store: "Store") -> None:
        """The store's size may have changed. May call `make_room` of any store."""
        ...

    def forget(self, store: "Store") -> None: ...


class Cursor(Protocol):
    """Where the task is."""

    @property
    def offset(self) -> int: ...


class Store:
    """See the module. Keys are bytes, values are what `serde` decodes; None is no value.

    `touched` is the offset of the record that was last given a value or changed one: what it was
    given it may have changed in place.
    """

    layout = "values"
    """How a backing holds its rows."""

    def __init__(self, changelog: str, serde: Serde, cursor: Cursor) -> None:
        self.changelog = changelog
        self.touched = -2
        self.position = 0
        """The offset of the changelog up to which changes are known."""
        self.fresh: dict[bytes, Any] = {}
        """For an operator to remember values in that it has put since the last `changes`, which
        empties it: it may change these in place without putting them again, if it sets `touched`.
        What it deletes it has to take out."""
        self.changed: dict[bytes, int] = {}
        """What was put or deleted since the last `changes`, and the event time of its last change,
        which an operator tells that changes a value in place."""
        self._weight = RowWeight()
        self._serde = serde
        self._cursor = cursor
        self._born: set[bytes] = set()  # of `changed`: what had no value at the last `changes`
        self._young: dict[bytes, Any] = {}  # in a partial store, None: known to have no value
        self._old: dict[bytes, Any] = {}
        self._partial = False  # whether the backing may have what is not in memory
        self._told: deque[dict[bytes, bytes | None]] = deque()  # given by changes(), not committed
        self._pending: dict[bytes, bytes | None] = {}  # committed, not written behind
        self._order: Order | None = None  # once asked for: what is in memory, if partial: unwritten
        self._backing: Backing | None = None
        self._memory: Memory | None = None

    # For operators.

    def get(self, key: bytes) -> Any:
        """The key's value, None when it has none."""
        self.touched = self._cursor.offset
        cell = self._young.get(key)
        if cell is None and self._partial:
            return self._find(key)
        return cell

    def put(self, key: bytes, value: Any, stamp: int) -> None:
        """Keep a value, None to keep none. `stamp` is the event's time, in ms."""
        if value is None:
            self.delete(key, stamp)
            return
        self.touched = self._cursor.offset
        if self._order is not None and (self._partial or key not in self._young):
            self._order.add(key)
        if key not in self.changed and not self._partial and key not in self._young:
            self._born.add(key)
        self._young[key] = value
        self.changed[key] = stamp

    def delete(self, key: bytes, stamp: int) -> None:
        """Forget a key; one that has no value is no change."""
        self.touched = self._cursor.offset
        if self._partial:
            if self._look(key) is None:
                return
            self._young[key] = None
            if self._order is not None:
                self._order.add(key)
        else:
            if self._young.pop(key, None) is None:
                return
            if self._order is not None:
                self._order.discard(key)
        if key in self._born:
            # The changelog has never heard of it.
            self._born.discard(key)
            del self.changed[key]
        else:
            self.changed[key] = stamp

    def scan(self, low: bytes, high: bytes | None = None) -> Iterator[tuple[bytes, Any]]:
        """Keys of [low, high) with their values, in order; high None: to the last.

        The store may be changed meanwhile: what is changed before the scan comes to it is seen.
        """
        self.touched = self._cursor.offset
        while True:
            keys, whole = self._keys(low, high)
            for key in keys:
                cell = self._look(key)
                if cell is not None:
                    yield key, cell
            if whole:
                return
            low = keys[-1] + b"\0"

    def first(self, low: bytes, high: bytes) -> tuple[bytes, Any] | None:
        """The first key of [low, high) that has a value, and that."""
        order = self._ordered()
        while True:
            keys = order.some(low, high, 1)
            if self._partial:
                assert self._backing is not None
                keys += [key for key, _ in self._backing.some(low, high, 1)]
            if not keys:
                return None
            key = min(keys)
            cell = self._look(key)
            if cell is not None:
                return key, cell
            low = key + b"\0"

    def last(self, low: bytes, high: bytes) -> tuple[bytes, Any] | None:
        """The last key of [low, high) that has a value, and that."""
        order = self._ordered()
        while True:
            key = order.last(low, high)
            if self._partial:
                assert self._backing is not None
                behind = self._backing.last(low, high)
                if behind is not None and (key is None or behind > key):
                    key = behind
            if key is None:
                return None
            cell = self._look(key)
            if cell is not None:
                return key, cell
            high = key

    # For who may want to undo that.

    def remember(self, key: bytes) -> Remembered:
        """How a key is now, for `put_back`. What is given of it later may be changed in place."""
        cell = self._look(key)
        value = None if cell is None else self._values([cell])[0]
        data = None if type(value) in _IMMUTABLE else self._serde.encode(value)
        return cell, data, self.changed.get(key)

    def put_back(self, key: bytes, was: Remembered) -> None:
        """Have a key as it was, decoded anew."""
        cell, data, changed = was
        if data is not None:
            cell = self._anew(cell, data)
        if cell is not None or self._partial:
            self._young[key] = cell
        else:
            self._young.pop(key, None)
        if self._order is not None:
            if key in self._young:
                self._order.add(key)
            else:
                self._order.discard(key)
        if changed is None:
            self.changed.pop(key, None)
            self._born.discard(key)
        else:
            self.changed[key] = changed

    def check(self, keys: Iterable[bytes]) -> None:
        """Raises SerdeError when a key has a value that could not be committed."""
        cells = {key: cell for key in keys if (cell := self._look(key)) is not None}
        written(self._serde, self.changelog, list(cells), self._values(list(cells.values())))

    # For who commits.

    def changes(self) -> Rows:
        """What changed since the last call: each key once, with the value it has now.

        Raises SerdeError when a function kept a value that is not of the type it declared.
        """
        changed, self.changed = self.changed, {}
        self.fresh.clear()
        self._born.clear()
        if not changed:
            return Rows([], [], [])
        young, keys = self._young, list(changed)
        kept = self._values([young.get(key) for key in keys])
        values = written(self._serde, self.changelog, keys, kept)
        if self._backing is not None:
            self._told.append(self._kept(keys, values, changed))
        self._measure(keys)
        return Rows(keys, values, [max(stamp, 0) for stamp in changed.values()])

    def committed(self, end: int) -> None:
        """The rows that `changes` gave first, of those not told about, are committed: before `end`.

        To be called once for each time it gave any, in order.
        """
        self.position = max(self.position, end)
        if self._told:
            self._pending.update(self._told.popleft())

    def flush_if_due(self) -> None:
        """Between two batches: write behind what is committed if it is time, and make room."""
        waiting, backing = len(self._pending), self._backing
        if backing is not None and waiting and (waiting >= _MOST_PENDING or backing.due(waiting)):
            self.flush()
        if self._memory is not None:
            self._memory.tell(self)

    def flush(self) -> bool:
        """Write behind everything that is committed; False when that cannot be done now."""
        if self._backing is None:
            return False
        if self._backing.position < self.position or self._pending:
            if not self._backing.write(self._pending, self.position, self._note()):
                return False
            self._pending = {}
            if self._partial:
                self._order = None
        return True

    def close(self) -> None:
        """Write behind what is committed and let go of the backing. Changes since are dropped."""
        if self._backing is not None:
            self.flush()
            self._backing.close()
        if self._memory is not None:
            self._memory.forget(self)
        self._backing = self._memory = None

    # For who starts it.

    def attach(self, backing: Backing | None, memory: Memory | None = None) -> None:
        """Use a backing from its position on, and a share of memory. Before anything is loaded.

        Raises SerdeError when what it holds is not of the store's type.
        """
        assert not self._young, "a store gets its backing before its values"
        self._memory, self._backing = memory, backing
        if backing is not None:
            self.position = backing.position
            # Few rows are had at once, so that nobody has to be asked for what does not exist.
            self._partial = len(backing) > _FEW
            rows = backing.some(b"", None, SAMPLE if self._partial else _FEW)
            cells = {key: self._from_backing(data) for key, data in rows}
            self._young |= cells
            self._measure(list(cells))

    def load(self, columns: Columns) -> None:
        """Take in the next records of the changelog, in order. Raises SerdeError."""
        young, partial = self._young, self._partial
        keys: list[bytes] = []
        values: list[bytes | None] = []
        stamps: dict[bytes, int] = {}
        for row, (key, data) in enumerate(zip(columns.keys, columns.values, strict=True)):
            if key is None:
                continue
            stamps[key] = stamp = columns.timestamps[row]
            keys.append(key)
            values.append(data)
            young.pop(key, None)
            if data is not None:
                try:
                    young[key] = self._cell(self._serde.decode(data), stamp)
                except SerdeError as error:
                    raise self._unreadable(f"@{columns.offsets[row]}", error) from error
            elif partial:
                young[key] = None
        if self._backing is not None:
            self._pending.update(self._kept(keys, values, stamps))
        self._order = None
        self._measure(keys)
        if len(columns):
            self.position = max(self.position, columns.offsets[-1] + 1)

    def stored(self, key: bytes) -> bytes | None:
        """A key's value as the changelog should have it; None: it has none."""
        cell = self._look(key)
        return None if cell is None else self._serde.encode(self._values([cell])[0])

    # Room.

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        rows = len(self._young) + len(self._old) + len(self._pending) // 4
        return int(rows * self._weight.bytes)

    def make_room(self) -> bool:
        """Drop what was not used for longest, about half of all; False when nothing can be.

        Between two batches only.
        """
        if not self.flush():
            return False
        unwritten = self._unwritten()
        if not self._partial:
            # From now on what is not in memory may be in the backing: say what is not.
            for key in unwritten:
                self._young.setdefault(key, None)
            self._partial = True
            self._order = None
            self._born.clear()
        before = len(self._young) + len(self._old)
        young = self._young
        if not self._old and len(young) > 1:
            # Nothing is known about what was used when: what came first goes first.
            half = len(young) // 2
            young = {key: cell for at, (key, cell) in enumerate(young.items()) if at >= half}
        self._old = young
        self._young = {key: self._young[key] for key in unwritten}
        for key in unwritten:
            self._old.pop(key, None)
        return len(self._young) + len(self._old) < before

    # Inside. A cell is what is kept in memory for a key: here its value.

    def _cell(self, value: Any, stamp: int) -> Any:
        return value

    def _values(self, cells: list[Any]) -> list[Any]:
        return cells

    def _anew(self, cell: Any, data: bytes) -> Any:
        """The cell again, with what its value is decoded from."""
        return self._serde.decode(data)

    def _from_backing(self, data: bytes) -> Any:
        try:
            return self._serde.decode(data)
        except SerdeError as error:
            raise self._unreadable("", error) from error

    def _kept(
        self, keys: list[bytes], values: list[bytes | None], stamps: Mapping[bytes, int]
    ) -> dict[bytes, bytes | None]:
        """What the backing is to have for some keys."""
        return dict(zip(keys, values, strict=True))

    def _look(self, key: bytes) -> Any:
        cell = self._young.get(key)
        return self._find(key) if cell is None and self._partial else cell

    def _find(self, key: bytes) -> Any:
        """A cell that is not in `young`."""
        young = self._young
        if key in young:
            return None
        if key in self._old:
            cell = young[key] = self._old.pop(key)
            return cell
        assert self._backing is not None
        data = self._backing.get(key)
        if data is None:
            return None
        cell = young[key] = self._from_backing(data)
        return cell

    def _unwritten(self) -> dict[bytes, None]:
        """The keys whose value the backing does not have."""
        keys: dict[bytes, None] = dict.fromkeys(self._pending)
        for told in self._told:
            keys |= dict.fromkeys(told)
        return keys | dict.fromkeys(self.changed)

    def _note(self) -> bytes:
        """What the backing is to have with its position."""
        return b""

    def _ordered(self) -> Order:
        """In order the keys in memory; in a partial store those that the backing does not have."""
        if self._order is None:
            self._order = Order(self._unwritten() if self._partial else self._young)
        return self._order

    def _keys(self, low: bytes, high: bytes | None) -> tuple[list[bytes], bool]:
        """The first keys from `low` on that may have a value, and whether they are all."""
        keys = self._ordered().some(low, high, _CHUNK)
        whole = len(keys) < _CHUNK
        if self._partial:
            assert self._backing is not None
            behind = [key for key, _ in self._backing.some(low, high, _CHUNK)]
            # Neither may be followed past the last that the other is known to have.
            ends = [each[-1] for each in (keys, behind) if len(each) == _CHUNK]
            whole = not ends
            keys = sorted({*keys, *behind})
            if ends:
                last = min(ends)
                keys = [key for key in keys if key <= last]
        return keys, whole

    def _measure(self, keys: list[bytes]) -> None:
        self._weight.learn((key, self._young.get(key)) for key in keys[:SAMPLE])

    def _unreadable(self, where: str, error: Exception) -> SerdeError:
        """The type of a store's values changed, and what was kept does not fit it."""
        return SerdeError(
            f"{self.changelog}{where}: {error}; state was kept as another type: give the store "
            "another name=, or let the type read the old values (optional fields with defaults)"
        )
