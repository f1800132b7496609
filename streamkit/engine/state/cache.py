"""What of a store is in memory: rows by key, decoded, as many as a budget allows, over a backing.

A `Backing`, where there is one, holds what was committed and written behind, up to a `position`. As
long as nothing has left memory, a key that is not in memory does not exist, and nobody has to be
asked.

    young   what was used since the last time room was made
    old     what was used before that; what is found there becomes young again
    told    what is about to be committed
    pending what is committed and not written behind
    backing everything else

What was changed and not yet written behind is always in `young`. Room is made between batches
only, so that during a batch a value is one object.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from streamkit.engine.hot.order import Order
from streamkit.engine.state.backing import Backing
from streamkit.engine.state.weight import SAMPLE, RowWeight
from streamkit.errors import SerdeError
from streamkit.serde import Serde

_FIRST_CHUNK, _CHUNK = 8, 256
"""Rows that a scan looks up at once: few at first, as many who scan want one, and then more."""
_HOLES = 8
"""Where a partial store has had many rows that are gone, at most so many places are known."""
_MOST_PENDING = 1 << 16
"""Committed changes that wait to be written behind, at most."""
_FEW = 20_000
"""A backing with no more rows is read whole when a store begins."""


class Memory(Protocol):
    """Who shares memory among stores."""

    def tell(self, store: "Cache") -> None:
        """The store's size may have changed. May call `make_room` of any store."""
        ...

    def forget(self, store: "Cache") -> None: ...


class Cache:
    """See the module. What is changed in it, and when that is committed, those say that are made
    of it. A cell is what is kept in memory for a key: here its value."""

    layout = "values"
    """How a backing holds its rows."""

    def __init__(self, changelog: str, serde: Serde) -> None:
        self.changelog = changelog
        """The topic that says what there is."""
        self.position = 0
        """The offset of the changelog up to which changes are known."""
        self._weight = RowWeight()
        self._serde = serde
        self._young: dict[bytes, Any] = {}  # in a partial store, None: known to have no value
        self._old: dict[bytes, Any] = {}
        self._partial = False  # whether the backing may have what is not in memory
        self._told: deque[dict[bytes, bytes | None]] = deque()
        self._pending: dict[bytes, bytes | None] = {}
        self._order: Order | None = None  # once asked for: what is in memory, if partial: unwritten
        # In a partial store: what a scan may begin with in place of its `low`, as no key between
        # has a value. What is deleted stays where it was until it is written behind, and those
        # who delete in order of time would come by all of it again at every look for what is next.
        self._holes: dict[bytes, bytes] = {}
        self._backing: Backing | None = None
        self._memory: Memory | None = None

    # For who reads.

    @property
    def at_hand(self) -> dict[bytes, Any]:
        """Values that are in memory, to look into; `get` knows what is not there. It is always the
        same dict."""
        return self._young

    def scan(self, low: bytes, high: bytes | None = None) -> Iterator[tuple[bytes, Any]]:
        """Keys of [low, high) with their values, in order; high None: to the last.

        The store may be changed meanwhile: what is changed or deleted before the scan comes to it
        is seen so; keys that are new may be passed over.
        """
        begin, low = low, self._holes.get(low, low)
        limit, gone, found = _FIRST_CHUNK, 0, False
        while True:
            keys, whole = self._keys(low, high, limit)
            for key in keys:
                cell = self._look(key)
                if cell is None:
                    gone += 1
                    continue
                if not found and gone > _FIRST_CHUNK:
                    self._note_hole(begin, key)
                found = True
                yield key, cell
            if keys:
                low, limit = keys[-1] + b"\0", _CHUNK
            if whole:
                break
        if not found and gone > _FIRST_CHUNK:
            self._note_hole(begin, low)

    def look_through(
        self, low: bytes = b"", high: bytes | None = None
    ) -> Iterator[tuple[bytes, Any]]:
        """The same for who looks at much and changes nothing: what is on disk does not come into
        memory for it."""
        whole = False
        while not whole:
            keys, whole, behind = self._rows(low, high, _CHUNK)
            for key in keys:
                data = behind.get(key)
                if key in self._young:
                    cell = self._young[key]
                elif key in self._old:
                    cell = self._old[key]
                else:
                    cell = None if data is None else self._from_backing(data)
                if cell is not None:
                    yield key, cell
            if keys:
                low = keys[-1] + b"\0"

    def first(self, low: bytes, high: bytes) -> tuple[bytes, Any] | None:
        """The first key of [low, high) that has a value, and that."""
        return next(Cache.scan(self, low, high), None)

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

    # For who commits.

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
            self._leave_some(unwritten)
        before = len(self._young) + len(self._old)
        young = self._young
        kept = {key: young[key] for key in unwritten}
        if self._old or len(young) < 2:
            old = young.copy()
        else:
            # Nothing is known about what was used when: what came first goes first.
            half = len(young) // 2
            old = {key: cell for at, (key, cell) in enumerate(young.items()) if at >= half}
        for key in unwritten:
            old.pop(key, None)
        self._old = old
        young.clear()  # it stays the same one, as others look into it
        young |= kept
        return len(self._young) + len(self._old) < before

    # Inside.

    def _from_backing(self, data: bytes) -> Any:
        try:
            return self._serde.decode(data)
        except SerdeError as error:
            raise self._unreadable("", error) from error

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

    def _leave_some(self, unwritten: Mapping[bytes, None]) -> None:
        """From now on what is not in memory may be in the backing: say what is not."""
        for key in unwritten:
            self._young.setdefault(key, None)
        self._partial = True
        self._order = None

    def _unwritten(self) -> dict[bytes, None]:
        """The keys whose value the backing does not have."""
        keys: dict[bytes, None] = dict.fromkeys(self._pending)
        for told in self._told:
            keys |= dict.fromkeys(told)
        return keys

    def _note(self) -> bytes:
        """What the backing is to have with its position."""
        return b""

    def _ordered(self) -> Order:
        """In order the keys in memory; in a partial store those that the backing does not have."""
        if self._order is None:
            self._order = Order(self._unwritten() if self._partial else self._young)
        return self._order

    def _note_hole(self, begin: bytes, end: bytes) -> None:
        """No key from `begin` on, before `end`, has a value."""
        if self._partial:
            self._holes.pop(begin, None)
            self._holes[begin] = end
            if len(self._holes) > _HOLES:
                del self._holes[next(iter(self._holes))]  # the one that was noted first

    def _fill_holes(self, key: bytes) -> None:
        """The key is about to have a value, of a store with holes."""
        for begin, end in self._holes.items():
            if begin <= key < end:
                self._holes[begin] = key

    def _keys(
        self, low: bytes, high: bytes | None, limit: int | None = None
    ) -> tuple[list[bytes], bool]:
        """The first keys from `low` on that may have a value, and whether they are all."""
        keys, whole, _ = self._rows(low, high, limit or _CHUNK)
        return keys, whole

    def _rows(
        self, low: bytes, high: bytes | None, limit: int
    ) -> tuple[list[bytes], bool, dict[bytes, bytes]]:
        """The same, and what the backing has for some of them."""
        keys = self._ordered().some(low, high, limit)
        whole = len(keys) < limit
        behind: dict[bytes, bytes] = {}
        if self._partial:
            assert self._backing is not None
            behind = dict(self._backing.some(low, high, limit))
            # Neither may be followed past the last that the other is known to have.
            ends = [next(reversed(each)) for each in (keys, behind) if len(each) == limit]
            whole = not ends
            keys = sorted({*keys, *behind})
            if ends:
                last = min(ends)
                keys = [key for key in keys if key <= last]
        return keys, whole, behind

    def _measure(self, keys: list[bytes]) -> None:
        self._weight.learn((key, self._young.get(key)) for key in keys[:SAMPLE])

    def _unreadable(self, where: str, error: Exception) -> SerdeError:
        """The type of a store's values changed, and what was kept does not fit it."""
        return SerdeError(
            f"{self.changelog}{where}: {error}; state was kept as another type: give the store "
            "another name=, or let the type read the old values (optional fields with defaults)"
        )
