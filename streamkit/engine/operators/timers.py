"""The timers of a step: what functions asked for, kept until event time comes there.

    "k" length of key, key, name     → (time, time of the row below): at most one of each key, name
    "t" ordered(time) key "\0" name  → 0: by then it has to be looked at

A timer that is moved to a later time leaves its second row where it is: when time comes there, the
row is put where the timer is by then. So one that every event moves costs one row each.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from streamkit.dsl.nodes.in_order import InOrder
from streamkit.dsl.nodes.steps import Process
from streamkit.dsl.nodes.timers import OnTimer
from streamkit.dsl.stores import state_stores
from streamkit.dsl.timers import Asked, Timer
from streamkit.engine.hot.moment import FOREVER, NEVER
from streamkit.engine.hot.steps import Forward
from streamkit.engine.letters import Letter
from streamkit.engine.node_time import StillOpen
from streamkit.engine.operators.failing import Failing
from streamkit.engine.operators.results import gathered, giver
from streamkit.engine.operators.window_rows import BY_TIME, moments, ordered, time_of
from streamkit.engine.roots import made, nth
from streamkit.engine.site import Site, ignore
from streamkit.errors import SerdeError
from streamkit.records import Headers
from streamkit.serde import Serde, serde_for

Again: TypeAlias = Callable[[Any, Any, int, Any], bool]
_NAMES = serde_for(str | None)
"""Of the names of timers."""


def build(node: OnTimer, key: Serde, site: Site) -> Forward:
    """The events of its parent are not for it."""
    timers = site.shared(node, lambda: Timers(node, key, site))
    site.on_time(node, timers)
    return ignore


def timers_of(node: Process, site: Site) -> "Timers | None":
    """The timers that a step sets, once what follows it is built; None: it sets none."""
    for after in site.following(node):
        if isinstance(after, OnTimer):
            timers: Timers = site.shared(after, lambda: None)
            return timers
    return None


class Timers:
    """See the module. `asked` is what the function that was called last asked for."""

    def __init__(self, node: OnTimer, key: Serde, site: Site) -> None:
        self.time = site.time(node)
        self.asked: Asked = []
        self._step = node.parent.name
        self._function = node.function
        self._key = key
        self._cursor = site.cursor
        self._store = site.store(node.store)
        self._call = site.calls.timer(node.function, key, self.asked)
        forward = site.after(node, key)
        self._give = giver(node.function, forward, site.cursor)
        self._failing: Failing | None = None
        if node.failure is not None:
            stores = [store.name for store in state_stores(node.parent.function)]
            self._failing = failing = Failing(node, node.failure, key, _NAMES, site, stores)
            failing.asked = self.asked
            gather = gathered(node.function)
            call = failing.calls.timer(node.function, key, self.asked)
            self._try = failing.step(lambda *due: gather(call(_timer(*due))), forward)
            self._try_again, failing.again = failing.again, self._again
        self._site = site
        self._drawn = node in site.drawn
        self._last: Any = None  # what the last event was made of
        self._count = 0
        """Of the last event among those that were made of the same."""
        held = (one.step for one in site.nodes if isinstance(one, InOrder))
        self._direct = node.parent not in held
        """Whether the step's events bring time as they come."""
        self._next = NEVER
        """When the first is due, or before that."""
        self._earliest: bytes | None = None
        """While timers are fired: the first row that was put meanwhile."""

    # As events come.

    def after(self, step: Forward) -> Forward:
        """The step that sets them, and what it asked for done."""
        asked, take, cursor, before = self.asked, self._take, self._cursor, self._before
        of, drawn = self._of, self._drawn

        def with_timers(key: Any, value: Any, stamp: int, headers: Headers) -> None:
            if self._next <= stamp and cursor.frontier is None:
                before(stamp)
            if drawn:
                place = cursor.root or cursor.place
                self._count = self._count + 1 if place == self._last else 0
                self._last = place
            step(key, value, stamp, headers)
            if asked:
                take(key, stamp, of() if drawn else b"")

        return with_timers

    def after_again(self, again: Again) -> Again:
        """The same, of an event that had been set aside."""
        asked, take, cursor = self.asked, self._take, self._cursor

        def with_timers(key: Any, value: Any, stamp: int, letter: Letter) -> bool:
            done = again(key, value, stamp, letter)
            if asked:
                of = letter.root or nth(cursor.coordinates.encode(), letter.ordinal)
                take(key, stamp, of)
            return done

        return with_timers

    def _before(self, stamp: int) -> None:
        """An event comes that brings time as far as `stamp`: what is due by then is fired before.

        Else it would find, and perhaps move, timers whose time is past for it.
        """
        if self._direct:
            until = self._site.coming(stamp) - self.time.delay
            if self._next <= until:
                self._cursor.frontier = NEVER
                self._fire(until, whole=True)
                self._cursor.frontier = None

    def _of(self) -> bytes:
        """What the event at hand goes back to, and which it is of those that do."""
        cursor = self._cursor
        if cursor.root:
            return nth(cursor.root, self._count)
        return nth(cursor.coordinates.encode(), cursor.numbered(self._count))

    def _take(self, key: Any, stamp: int, of: bytes) -> None:
        """Raises SerdeError, and DataError for an event without a key. `of`: what that is."""
        data, cursor = self._encoded(key), self._cursor
        names = self._set(data, stamp, 0)
        frontier = cursor.frontier
        if frontier == NEVER:
            return  # time is passing: what is due has its turn
        passed = NEVER
        if frontier is None:
            # Behind what waits, time is no further than it was for the event.
            own = self._site.own if self._direct else None
            cursor.frontier = (
                self.time.watermark + self.time.delay if own is None else own.watermark
            )
            if own is not None:
                # What is due by now would be fired before the next event, or after the record.
                passed = self._site.coming(stamp) - self.time.delay
        # What is past where the event comes from follows from the event alone: it is given as it is
        # now, and for what comes after it is as late as the event, however far the others are.
        passed = max(passed, self.time.passed(cursor.frontier))
        while (due := min(self._past(data, names, passed), default=None)) is not None:
            at, name, looked = due
            self._store.delete(_due(looked, data, name), at)
            names |= self._call_for(data, name, at, of)
        cursor.frontier = frontier

    def _past(self, data: bytes, names: set[str], passed: int) -> Iterator[tuple[int, str, int]]:
        """Those of some timers of a key that are due at a time, and where their rows are."""
        for name in sorted(names):
            cell = self._store.get(moments(data) + name.encode())
            if cell is not None and cell[0] <= passed:
                yield cell[0], name, cell[1]

    def _set(self, data: bytes, stamp: int, earliest: int) -> set[str]:
        """Do what was asked for a key; the names that were. `earliest`: no timer is set to a time
        before."""
        store, asked = self._store, self.asked
        names = {name for name, _, _ in asked}
        for name, at, extend in asked:
            row = moments(data) + name.encode()
            was = store.get(row)
            if at is None:
                if was is not None:
                    store.delete(row, stamp)
                    store.delete(_due(was[1], data, name), stamp)
                continue
            at = max(at, earliest)
            if extend and was is not None and was[0] >= at:
                continue
            if was is not None and was[1] <= at:
                store.put(row, (at, was[1]), stamp)
                continue
            if was is not None:
                store.delete(_due(was[1], data, name), stamp)
            self._arm(row, data, name, at, stamp)
        asked.clear()
        return names

    def _arm(self, row: bytes, data: bytes, name: str, at: int, stamp: int) -> None:
        due = _due(at, data, name)
        self._store.put(row, (at, at), stamp)
        self._store.put(due, 0, stamp)
        self.time.wake(at)
        self._next = min(self._next, at)
        if self._earliest is None or due < self._earliest:
            self._earliest = due

    def _encoded(self, key: Any) -> bytes:
        try:
            data = self._key.encode(key)
        except SerdeError as error:
            raise self._cursor.unwritable(f"key for a timer of {self._step}", error) from error
        if data is None:
            raise self._cursor.keyless(f"a timer of {self._step}")
        return data

    # Time.

    def reach(self, came: int) -> bool:
        """An event is to be given that came then: what is due by then is fired before. False when
        others wait for their turn before all is."""
        return self._next > came or self._fire(came)

    def advance(self) -> None:
        """Fire what is due, by time, key and name."""
        watermark = self.time.closing()
        done = self._fire(watermark)
        self.time.done(watermark if done else self.time.reached)

    @property
    def due(self) -> int | None:
        if self._next == NEVER:
            found = next(self._store.scan(BY_TIME), None)
            self._next = FOREVER if found is None else time_of(found[0][1:9])
        return None if self._next == FOREVER else self._next

    @property
    def last(self) -> int | None:
        """Silence closes nothing here: what was asked for is a time."""
        return None

    @property
    def open(self) -> StillOpen | None:
        return None

    def _fire(self, until: int, *, whole: bool = False) -> bool:
        """False when others wait for their turn, and there is a rest: never of the `whole`."""
        store, cursor = self._store, self._cursor
        for due in self._rows(until):
            looked = time_of(due[1:9])
            data, _, told = due[9:].rpartition(b"\0")
            store.delete(due, looked)
            row = moments(data) + told
            at, _ = store.get(row)
            if at > looked:
                self._arm(row, data, told.decode(), at, looked)
            else:
                self._call_for(data, told.decode(), at)
                if cursor.rung and not whole:
                    self._next = NEVER
                    return False
        return True

    def _call_for(self, data: bytes, name: str, at: int, of: bytes = b"") -> set[str]:
        """Call the function for a timer that is due; the names of those that it asked for.

        `of`: the event that set it when its time was past, as others may have done before.
        """
        self._store.delete(moments(data) + name.encode(), at)
        timer = Timer(self._key.decode(data), at, name or None)
        cursor = self._cursor
        root = cursor.root
        if self._drawn:
            cursor.root = made(self._function.name, data, name, at, of)
        if self._failing is not None:
            self._failing.at = f"{_told(timer)}, key {timer.key!r}"
            self._try(timer.key, timer.name, at, ())
        else:
            try:
                result = self._call(timer)
            except Exception as error:
                self._cursor.fail(self._function, timer.key, error, _told(timer))
            self._give(timer.key, result, at, ())
        cursor.root = root
        # Later than itself: or time would never go on.
        return self._set(data, at, at + 1) if self.asked else set()

    def _again(self, key: Any, name: Any, stamp: int, letter: Letter) -> bool:
        """A timer comes again that had been set aside."""
        assert self._failing is not None
        self._failing.at = f"{_told(_timer(key, name, stamp))}, key {key!r}"
        done = self._try_again(key, name, stamp, letter)
        if self.asked:
            self._set(self._encoded(key), stamp, stamp + 1)
        return done

    def _rows(self, until: int) -> Iterator[bytes]:
        """What is due by then, in order, with what becomes due meanwhile; then `_next` is known."""
        end = BY_TIME + ordered(until + 1)
        again = True
        while again:
            again, first, self._earliest = False, b"", None
            for row, _ in self._store.scan(BY_TIME):
                put = self._earliest
                if row >= end or (put is not None and put < row):
                    first = row
                    break
                yield row
            put = self._earliest
            first = min(first, put) if first and put else first or put or b""
            again = b"" < first < end
        self._next = time_of(first[1:9]) if first else FOREVER


def _timer(key: Any, name: str | None, stamp: int, headers: Headers = ()) -> Timer:
    return Timer(key, stamp, name)


def _told(timer: Timer) -> str:
    """As messages print it."""
    name = "" if timer.name is None else f" {timer.name!r}"
    return f"timer{name} of {timer.timestamp} ms"


def _due(at: int, data: bytes, name: str) -> bytes:
    return BY_TIME + ordered(at) + data + b"\0" + name.encode()
