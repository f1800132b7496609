"""What becomes of events that a step fails for, as its `on_error` says.

    failing = Failing.of(node, key, site)          None: it stops, and nothing is in the way
    failing.calls, failing.store(name)             what can be undone of a call
    failing.step(attempt, give)                    the step: `attempt` an event, `give` its results

A step that fails leaves nothing behind: not in its state, and not of what it sent. What was set
aside comes again when somebody has it retried, and is tried as what it was.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from streamkit.dsl.failures import DeadLetters, Failure, Skip, last_resort
from streamkit.dsl.functions import Function
from streamkit.dsl.nodes.node import Node, dead_letter_topic, parked_name
from streamkit.dsl.nodes.outputs import To
from streamkit.dsl.nodes.sources import StreamSource
from streamkit.dsl.nodes.timers import OnTimer
from streamkit.dsl.timers import Asked
from streamkit.engine.calls import Calls
from streamkit.engine.cursor import Numbers, Place
from streamkit.engine.failed import Failed, as_exception, told
from streamkit.engine.hot.outlet import Outlet
from streamkit.engine.hot.steps import Forward
from streamkit.engine.letters import Behind, Earlier, Letter, error_headers
from streamkit.engine.parking import Parking
from streamkit.engine.roots import nth
from streamkit.engine.site import Site
from streamkit.engine.state.undo import Undoable
from streamkit.engine.traces import trace_of
from streamkit.errors import FunctionError, SerdeError
from streamkit.records import Headers
from streamkit.serde import Serde

Attempt: TypeAlias = Callable[[Any, Any, int, Headers], Sequence[Any]]
"""Gives an event's results, of its key and time, and may raise whatever it likes."""
Again: TypeAlias = Callable[[Any, Any, int, Letter], bool]
"""Processes an event once more, and says whether that went well."""


def _unmade(key: Any, value: Any, stamp: int, letter: Letter) -> bool:
    raise AssertionError("the step is made before it is given anything")


class Failing:
    """One step's. `skipped` and `dead` count events: those it went on without, those set aside."""

    def __init__(
        self,
        node: Node,
        policy: Failure,
        key: Serde,
        value: Serde,
        site: Site,
        stores: Sequence[str] | None = None,
    ) -> None:
        """`key` and `value` write what the step is given; `stores` are those of another node's that
        it works by, in place of its own."""
        self.name = node.name
        self.at: str | None = None
        """What it is given, where that is made of no record."""
        self._is_timed = isinstance(node, OnTimer)
        self._told = f"{'stream' if isinstance(node, StreamSource) else 'step'} {node.name}"
        self.skipped = 0
        self.dead = 0
        self.retries = site.retries(node)
        self._cursor = site.cursor
        self._site = site
        self._function: Function | None = getattr(node, "function", None)
        self._policy = policy
        self._last = last_resort(policy)
        self._key, self._value = key, value
        self._failed: dict[bool, Failed] = {}
        """Those that wait for a later attempt, and those that do not."""
        parked = parked_name(node.name)
        names = [spec.name for spec in node.stores()]
        own = names if stores is None else stores
        self._stores = {n: Undoable(site.store(n)) for n in own if n != parked}
        self._undoable = tuple(self._stores.values())
        self._parking = Parking(site.store(parked)) if parked in names else None
        self._numbers = Numbers()
        """Of the last event among those that came of the record at that place."""
        self._root, self._of_root = b"", 0
        """The root of the last event, and how many were of it."""
        self._outlet: Outlet | None = None
        letters = node.dead_letters
        if letters is not None:
            self._outlet = site.outlet(dead_letter_topic(letters))
        self._sent: list[tuple[Outlet, bytes | None, bytes | None, int]] = []
        self.asked: Asked | None = None
        """What the function asks of timers."""
        self.again: Again = _unmade
        self._written = [
            (to.topic, to.key.encode, to.value.encode)
            for to in site.following(node)
            if isinstance(to, To) and to.rekey is None
        ]
        self.calls = Calls(site.cursor, self._stores, self._send, site.marked)
        site.failing.append(self)
        site.marked[node.name] = self

    @classmethod
    def of(cls, node: Node, key: Serde, site: Site) -> "Failing | None":
        """That of a node whose events have keys of serde `key`; None: it stops."""
        policy = node.on_error
        if policy is None:
            return None
        assert node.above is not None, "what a source reads is bytes"
        return cls(node, policy, key, node.above.gives, site)

    def store(self, name: str) -> Undoable:
        """A store of the node's, of which an attempt can be undone."""
        return self._stores[name]

    def step(self, attempt: Attempt, give: Forward) -> Forward:
        """The step that gives on what `attempt` makes of an event, or does what is to be done."""
        cursor = self._cursor

        def guarded(key: Any, value: Any, stamp: int, headers: Headers) -> None:
            self._count()
            root = cursor.root
            if root and not self._is_timed:
                self._of_root = self._of_root + 1 if root == self._root else 0
                self._root = root
                cursor.root = nth(root, self._of_root)
            if not self.follows(key, value, stamp, headers):
                self._try(attempt, give, key, value, stamp, headers)
            cursor.root = root

        def again(key: Any, value: Any, stamp: int, letter: Letter) -> bool:
            earlier, headers = letter.earlier, letter.headers
            if self.turned_away(key, value, stamp, headers, earlier):
                return False
            done = self._try(attempt, give, key, value, stamp, headers, earlier)
            if done:
                self.passed(key, stamp, earlier)
            return done

        self.again = again
        return guarded

    def _count(self) -> None:
        """Another event comes: which one it is of those that were made of the record."""
        cursor, calls = self._cursor, self.calls
        if self._is_timed:
            return
        number = self._numbers.next(cursor.place)
        calls.ordinal = None if cursor.offset < 0 else cursor.numbered(number)

    def marks(self, at: Place) -> tuple[int, ...]:
        """Which events of the record at a place were the last."""
        return self._numbers.marks(at)

    def begin_at(self, at: Place, marks: tuple[int, ...]) -> None:
        """As it was."""
        self._numbers.begin_at(at, marks)

    def _try(
        self,
        attempt: Attempt,
        give: Forward,
        key: Any,
        value: Any,
        stamp: int,
        headers: Headers,
        earlier: Earlier | None = None,
    ) -> bool:
        try:
            results = self.attempt(attempt, key, value, stamp, headers)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            if self.broken:
                raise
            self.fail(key, value, stamp, headers, as_exception(error), earlier=earlier)
            return False
        cursor, ordinal = self._cursor, self.calls.ordinal
        part = cursor.part
        if ordinal is not None and not self._is_timed:
            cursor.part = ordinal  # others may have been set aside, or it was, and comes by itself
        for result in results:
            give(key, result, stamp, headers)
        cursor.part = part
        return True

    def attempt(
        self, attempt: Attempt, key: Any, value: Any, stamp: int, headers: Headers
    ) -> Sequence[Any]:
        """An event's results; what the function sent is sent. If it raises nothing of it is left,
        unless this is `broken`."""
        self._sent.clear()
        for store in self._undoable:
            store.begin()
        try:
            results = attempt(key, value, stamp, headers)
            for store in self._undoable:
                store.check()
            self.check(key, results, stamp, headers)
        except BaseException:
            for store in self._undoable:
                store.undo()
            if self.asked:
                self.asked.clear()
            raise
        for outlet, name, data, at in self._sent:
            outlet.add(name, data, at, ())
        return results

    @property
    def broken(self) -> bool:
        """Whether it failed because of what its state is kept on, which is no fault of an event."""
        return any(store.broken for store in self._undoable)

    def check(self, key: Any, results: Sequence[Any], stamp: int, headers: Headers) -> None:
        """Raises what the topics that results go to directly would be refused with."""
        for topic, encode_key, encode in self._written:
            for result in results:
                data, name = encode(result), encode_key(key)
                error = self._site.refusal(topic, name, data, stamp, headers)
                if error is not None:
                    raise error

    def _send(self, topic: str, key: Any, value: Any, stamp: int) -> None:
        """What a function sends goes when it has come to its end."""
        outlet, name, data = self._site.encoded(topic, key, value, stamp)
        error = self._site.refusal(topic, name, data, stamp, ())
        if error is not None:
            raise error
        self._sent.append((outlet, name, data, stamp))

    # Those it fails for.

    def fail(
        self,
        key: Any,
        value: Any,
        stamp: int,
        headers: Headers,
        error: Exception,
        attempts: int = 1,
        earlier: Earlier | None = None,
    ) -> None:
        """Do what is to be done about an event after its last attempt. Raises to stop.

        `earlier`: it had been set aside before.
        """
        if self._last is not None and isinstance(error, FunctionError):
            # It was told of a function that the step calls before its own.
            error = error.__cause__ if isinstance(error.__cause__, Exception) else error
        match self._last:
            case None:
                self._stop(key, error)
            case Skip():
                self.skipped += 1
                self._note(error, self._origin)
            case DeadLetters():
                assert self._outlet is not None
                name, data = self._encoded(key, self._key), self._encoded(value, self._value)
                self._dead(name, data, stamp, headers, error, attempts, earlier)

    def _stop(self, key: Any, error: Exception) -> None:
        if self._function is None or error is self._cursor.reported:
            raise error
        self._cursor.fail(self._function, key, error)

    def follows(self, key: Any, value: Any, stamp: int, headers: Headers) -> bool:
        """Whether an event of its key has failed, so that it goes where that went; it has then."""
        parking = self._parking
        if parking is None or not parking.has(name := self._encoded(key, self._key)):
            return False
        behind = parking.add(name, self._origin, stamp)
        self._set_aside(name, self._encoded(value, self._value), stamp, headers, None, 0, behind)
        return True

    @property
    def is_parking(self) -> bool:
        """Whether there is a key whose events go where one has gone that failed."""
        return bool(self._parking)

    def _dead(
        self,
        name: bytes | None,
        data: bytes | None,
        stamp: int,
        headers: Headers,
        error: Exception,
        attempts: int,
        earlier: Earlier | None,
    ) -> None:
        """An event has failed, and perhaps not for the first time."""
        behind = None
        parking = self._parking
        if earlier is not None:
            attempts += earlier.attempts
            behind = earlier.behind
        if parking is None:
            behind = None
        elif parking.turn(name, behind) is None:
            behind = parking.add(name, self._origin, stamp)
        self._set_aside(name, data, stamp, headers, error, attempts, behind)
        self._note(error, self._origin)

    def _set_aside(
        self,
        name: bytes | None,
        data: bytes | None,
        stamp: int,
        headers: Headers,
        error: Exception | None,
        attempts: int,
        behind: Behind | None,
    ) -> None:
        assert self._outlet is not None
        self.dead += 1
        cursor = self._cursor
        # A timer is of no record: at which one it was due is for others to say.
        source = ("", -1, -1) if self._is_timed else cursor.place[:3]
        site = self._site
        trace = "" if error is None else trace_of(error)
        for each in (trace, ""):
            added = error_headers(
                site.app,
                self.name,
                site.number,
                source,
                self.calls.ordinal or 0,
                attempts,
                error,
                each,
                behind,
                cursor.root,
            )
            # Rather without the traceback than not at all.
            if site.refusal(self._outlet.topic, name, data, stamp, (*headers, *added)) is None:
                break
        self._outlet.add(name, data, stamp, (*headers, *added))

    @property
    def _origin(self) -> str:
        return self._cursor.coordinates if self.at is None else self.at

    def _encoded(self, it: Any, serde: Serde) -> bytes | None:
        try:
            return serde.encode(it)
        except SerdeError as error:
            what = f"event that {self.name} cannot process"
            raise self._cursor.unwritable(what, error) from error

    # Those it is given again.

    def retried(self, name: bytes | None, data: bytes | None, stamp: int, letter: Letter) -> None:
        """Process an event that was set aside, if it is its turn. Raises to stop."""
        self.calls.ordinal = letter.ordinal
        self._numbers.forget()
        self._cursor.root = letter.root
        if letter.discarded:
            self._discard(name, data, stamp, letter)
            return
        try:
            key, value = self._key.decode(name), self._value.decode(data)
        except SerdeError as error:
            # The type is another one by now: it goes back as what it is.
            self._dead(name, data, stamp, letter.headers, error, 1, letter.earlier)
            return
        self.again(key, value, stamp, letter)

    def turned_away(
        self, key: Any, value: Any, stamp: int, headers: Headers, earlier: Earlier
    ) -> bool:
        """Whether it is not the turn of an event that comes again: it has gone back then."""
        parking = self._parking
        if parking is None:
            return False
        name, behind = self._encoded(key, self._key), earlier.behind
        before = parking.turn(name, behind)
        if before is None:
            if not parking.has(name):
                return False
            before, behind = 1, parking.add(name, self._origin, stamp)
        if before > 0:
            data = self._encoded(value, self._value)
            self._set_aside(name, data, stamp, headers, None, earlier.attempts, behind)
        return before != 0  # and before it, somebody has brought it twice

    def passed(self, key: Any, stamp: int, earlier: Earlier) -> None:
        """An event that came again is processed: it is the turn of the next of its key."""
        name = self._encoded(key, self._key)
        if self._parking is not None and self._parking.turn(name, earlier.behind) == 0:
            assert name is not None
            self._parking.done(name, stamp)

    def _discard(self, name: bytes | None, data: bytes | None, stamp: int, letter: Letter) -> None:
        """Give up an event that was set aside: nobody behind it waits for it any more."""
        self.skipped += 1
        parking, behind = self._parking, letter.earlier.behind
        before = None if parking is None else parking.turn(name, behind)
        if before is None or before < 0:
            return
        assert parking is not None and name is not None and behind is not None
        if before == 0:
            parking.done(name, stamp)
        else:
            parking.leave(name, behind, stamp)

    # Told.

    def put_off(self, coordinates: str, error: Exception) -> None:
        """The event of that record has failed, and waits for a later attempt."""
        self._note(error, coordinates, waits=True)

    def _note(self, error: Exception, coordinates: str, *, waits: bool = False) -> None:
        topic = None if self._outlet is None else self._outlet.topic
        text = f"{coordinates}: {told(error)}"
        known = self._failed.get(waits)
        if known is None:
            trace = trace_of(error)
            self._failed[waits] = Failed(self._told, 1, topic, text, text, trace, waits)
        else:
            self._failed[waits] = replace(known, count=known.count + 1, last=text)

    def failed(self) -> list[Failed]:
        """What was put off, skipped or set aside since the last call, apart from what followed."""
        failed, self._failed = list(self._failed.values()), {}
        return failed
