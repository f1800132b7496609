"""Windows of one size that begin every so often: tumbling and hopping ones.

A row is `ordered(start) key` → (events, state, events when it was last given). It is there from the
window's first event of that key until the window closes.
"""

from typing import Any

from streamkit.dsl.nodes.windows import WindowFold
from streamkit.dsl.windows import Hopping
from streamkit.engine.cursor import Place
from streamkit.engine.hot.folds import Tumbling
from streamkit.engine.hot.steps import Forward
from streamkit.engine.node_time import StillOpen
from streamkit.engine.operators.window_changes import changes
from streamkit.engine.operators.window_results import Keys, Results
from streamkit.engine.operators.window_rows import ordered, time_of
from streamkit.engine.site import Site
from streamkit.records import Headers
from streamkit.serde import Serde


class FixedWindows:
    """Folds each event into the windows it falls into, and gives out those that close."""

    def __init__(self, node: WindowFold, kind: Hopping, key: Serde, site: Site) -> None:
        self.time = site.time(node)
        self._node = node
        self._kind = kind
        self._cursor = site.cursor
        self._store = site.store(node.name)
        self._results = Results(node, key, site)
        self._changes = changes(node.emit, self.time)
        self._reach = kind.size + kind.grace
        """From the start of a window to the watermark that closes it."""
        self._opened: dict[int, bytes] = {}
        """Windows that were open for the events since time last moved, and how their rows begin."""
        self._quick: Tumbling | None = None
        self._late = site.late_events(node.name, node.late, key)
        self._keys = Keys(node, key, site)
        self._write_key = key.write
        self._plain = site.calls.plain(node.function)
        self._call = site.calls.folding(node.function, key)

    def step(self) -> Forward:
        """The step that folds an event."""
        kind, reach, time, cursor = self._kind, self._reach, self.time, self._cursor
        size, every, function = kind.size, kind.every, self._node.function
        store, fresh, changed = self._store, self._store.fresh, self._changes
        plain, call, give, late = self._plain, self._call, self._results.give, self._late.give
        write_key, encode, fetch = self._write_key, self._keys.encode, self._fetch
        updates = self._node.emit == "update"
        is_late, wake, opened = time.is_late, time.wake, self._opened

        def fold_into(
            start: int, row: bytes, key: Any, value: Any, stamp: int, headers: Headers
        ) -> None:
            cell = fresh.get(row)
            if cell is None:
                cell = fetch(row, stamp)
            store.touched = cursor.offset
            try:
                if plain is not None:
                    cell[1] = plain(cell[1], value)
                else:
                    cell[1] = call(cell[1], key, value, stamp, headers, start, start + size)
            except Exception as error:
                cursor.fail(function, key, error)
            cell[0] += 1
            if updates:
                give(key, cell[1], start, start + size, cell[0])
            elif changed is not None:
                changed.add(row)

        def tumble(key: Any, value: Any, stamp: int, headers: Headers) -> None:
            try:
                data = write_key(key)
            except Exception:
                data = None
            if data is None or stamp < 0:
                data = encode(key, stamp)
            start = stamp - stamp % size
            prefix = opened.get(start)
            if prefix is None or cursor.frontier is not None:
                if is_late(start + reach):
                    passed = time.passed(cursor.frontier)
                    late(start, start + size, passed, key, value, stamp, headers)
                    return
                prefix = opened[start] = ordered(start)
                wake(start + reach)
            fold_into(start, prefix + data, key, value, stamp, headers)

        def hop(key: Any, value: Any, stamp: int, headers: Headers) -> None:
            data = encode(key, stamp)
            missed: int | None = None
            for start in kind.starts(stamp):
                prefix = opened.get(start)
                if prefix is None or cursor.frontier is not None:
                    if is_late(start + reach):
                        missed = start
                        continue
                    prefix = opened[start] = ordered(start)
                    wake(start + reach)
                fold_into(start, prefix + data, key, value, stamp, headers)
            if missed is not None:
                # Once, whatever the number of windows: of these the last says which they are.
                passed = time.passed(cursor.frontier)
                late(missed, missed + size, passed, key, value, stamp, headers)

        if every == size and plain is not None and not updates and changed is None:
            # What most windows are.
            self._quick = Tumbling(
                function, cursor, store, fetch, write_key, tumble, self._opened, size
            )
            return self._quick.give
        step = tumble if every == size else hop
        if changed is None:
            return step

        def remembering(key: Any, value: Any, stamp: int, headers: Headers) -> None:
            if changed.unknown:
                self._recall()
            step(key, value, stamp, headers)

        return remembering

    def _fetch(self, row: bytes, stamp: int) -> list[Any]:
        """A window's cell, to be changed in place until the next commit."""
        found = self._store.get(row)
        cell = [0, None, 0] if found is None else list(found)
        self._store.put(row, cell, stamp)
        self._store.fresh[row] = cell
        return cell

    # Time.

    def advance(self) -> None:
        """Give what is due, and close what the watermark has reached."""
        watermark = self.time.closing()
        self._opened.clear()
        if self._quick is not None:
            self._quick.forget()
        done = self._give_changes(watermark) and self._close(watermark)
        self.time.done(watermark if done else self.time.reached)

    @property
    def due(self) -> int | None:
        first = next((start + self._reach for start in self._starts()), None)
        told = None if self._changes is None else self._changes.due
        return min((at for at in (first, told) if at is not None), default=None)

    @property
    def last(self) -> int | None:
        return max((start + self._reach for start in self._starts()), default=None)

    @property
    def open(self) -> StillOpen | None:
        last = self.last
        count = sum(1 for _ in self._store.look_through())
        return None if last is None else StillOpen(count, "windows", last)

    def _starts(self) -> Any:
        """Where open windows begin, ascending."""
        low = b""
        while (found := next(self._store.scan(low), None)) is not None:
            start = time_of(found[0][:8])
            yield start
            low = ordered(start + 1)

    def _close(self, watermark: int) -> bool:
        """False when others wait for their turn before all is done."""
        size, updates, changed = self._kind.size, self._node.emit == "update", self._changes
        delete, give = self._store.delete, self._results.give_encoded
        fresh, cursor = self._store.fresh, self._cursor
        # In the order of the rows: by start, which is by end, and then by key.
        for row, (count, state, given) in self._store.scan(
            b"", ordered(watermark - self._reach + 1)
        ):
            start = time_of(row[:8])
            delete(row, start + size - 1)
            fresh.pop(row, None)
            if changed is not None:
                changed.discard(row)
            if not updates and given != count:
                give(row[8:], state, start, start + size, count)
                if cursor.rung:
                    return False
        return True

    def _give_changes(self, watermark: int) -> bool:
        """The same of what has changed."""
        if self._changes is None:
            return True
        if self._changes.unknown:
            self._recall()
        rows = sorted(self._changes.take(watermark))
        for number, row in enumerate(rows, start=1):
            start = time_of(row[:8])
            cell = self._fetch(row, start + self._kind.size - 1)
            count, state, _ = cell
            cell[2] = count
            self._results.give_encoded(row[8:], state, start, start + self._kind.size, count)
            if self._cursor.rung:
                self._changes.put_back(rows[number:])
                return False
        return True

    def marks(self, at: Place) -> tuple[int, ...]:
        """When changes are due."""
        return () if self._changes is None else self._changes.marks

    def begin_at(self, at: Place, marks: tuple[int, ...]) -> None:
        """As it was."""
        if self._changes is not None:
            self._changes.keep(marks)

    def _recall(self) -> None:
        assert self._changes is not None
        rows = [r for r, (count, _, given) in self._store.look_through() if count != given]
        self._changes.recall(rows)
