"""Functions whose answers are waited for: coroutines, batches, other processes, later attempts.

An event that comes is put into the step's queue and kept in its store, so that the position of the
input can go on and be committed. Its function is called elsewhere, and when the answer is there,
and it is its turn, its results leave: as of the record it was made of, at the time that was then.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any, TypeAlias

from streamkit.dsl.failures import Retry, last_resort
from streamkit.dsl.nodes.waiting import Waiting, WaitingRow, waiting_name
from streamkit.engine.failed import as_exception, told
from streamkit.engine.hot.moment import NEVER, NodeTime
from streamkit.engine.hot.outlet import Outlet
from streamkit.engine.hot.steps import Forward
from streamkit.engine.journal import Parked
from streamkit.engine.letters import Earlier, Letter
from streamkit.engine.node_time import StillOpen
from streamkit.engine.operators.failing import Failing
from streamkit.engine.operators.results import gathered
from streamkit.engine.operators.waiting_rows import Mark, WaitingRows
from streamkit.engine.performing import perform
from streamkit.engine.script import Script
from streamkit.engine.site import Site
from streamkit.engine.waiting import Answer, Call, Event, Identity, Request
from streamkit.errors import FunctionError, SerdeError
from streamkit.records import Headers, Record
from streamkit.serde import Serde

MOST_WAITING = 1000
"""Events that wait at a step, at most, and four times what is called at once. More are not read."""
MOST_BYTES = 32 << 20
"""About so much they take, at most."""
Sent: TypeAlias = tuple[Outlet, bytes | None, bytes | None, int]
_GONE = Answer()
"""Of a call that was not made, as its event goes elsewhere."""
_ALL = b""
"""The lane of all events, where one is called at a time."""


def build(node: Waiting, key: Serde, site: Site) -> Forward:
    step = WaitingStep(node, key, site)
    site.waiting.append(step)
    site.on_time(node, step)
    site.keep(waiting_name(node.name), step.rows)
    return step.take


class WaitingStep:
    """See the module. `rows` is the store of its events, as far as commits are concerned."""

    due: int | None = None  # of event time: never
    last: int | None = None
    open: StillOpen | None = None

    def __init__(self, node: Waiting, key: Serde, site: Site) -> None:
        waits, function = node.waits, node.function
        self.node = node
        self.name = node.name
        self.queue = site.queue(node)
        self.time: NodeTime = site.time(node)
        self._reached = partial(site.reached, node)
        self._waits = waits
        self._here = waits.where == "here"
        self._function = function
        self._key = key
        self._value = node.parent.gives
        self._cursor = site.cursor
        self.rows = WaitingRows(
            site.store(waiting_name(node.name)),
            self.queue,
            key,
            node.parent.gives,
            function,
            site.cursor,
            self._marks,
        )
        self._start = site.start
        self._site = site
        self._forward = site.after(node, key)
        self._gathered = gathered(function)
        self._retry = node.failure if isinstance(node.failure, Retry) else None
        self._stops = last_resort(node.failure) is None
        self._failing = Failing.of(node, key, site)
        self._call: Callable[..., Any] | None = None
        if self._failing is not None:
            self._failing.again = self._again
            if self._here and waits.batch is None:
                self._call = self._failing.calls.event(function, key)
        self._most = max(MOST_WAITING, 4 * waits.concurrency * (waits.batch or 1))
        self._script: Script | None = None
        self._now = 0
        self._open: list[Event] = []  # what the next batch is gathered of
        self._opened = 0  # when the first of them came
        self._hurried = False
        self._next = 0
        self._settled = NEVER
        self._last: tuple[Any, ...] = ()  # what the last event was made of
        self._ordinal = 0
        self._parked: list[Parked] = []
        self._sent: list[Sent] = []

    # An event comes.

    def take(self, key: Any, value: Any, stamp: int, headers: Headers) -> None:
        """Let an event wait; call the function for it if there is room."""
        cursor = self._cursor
        place: tuple[Any, ...] = (cursor.topic, cursor.partition, cursor.offset)
        if cursor.offset < 0:
            # Made of no record: what came before it, perhaps before a restart, does not count.
            place = (*place, stamp, key)
        self._ordinal = self._ordinal + 1 if place == self._last else 0
        self._last = place
        self._take(key, value, stamp, headers, self._ordinal)

    def _take(
        self,
        key: Any,
        value: Any,
        stamp: int,
        headers: Headers,
        ordinal: int,
        earlier: Earlier | None = None,
    ) -> None:
        event = self._event(key, value, stamp, headers, ordinal)
        event.earlier = earlier
        if self._here and self._waits.batch is None:
            if self._waits.order == "key":
                self._encode(event)
            lane = self._lane(event)
            call = Call((event,), lane)
            if not (lane is not None and self.queue.blocks(lane)) and self._try_at_once(call):
                return
        else:
            call = Call((event,), None)
        self._encode(event)
        self.rows.touched = self._cursor.offset
        if self._waits.batch is not None:
            self._gather(event)
        else:
            call.lane = self._lane(event)
            self.queue.hold(event)
            self.queue.add(call)
            self.call()
        if len(self.queue) >= self._most and self._script is None:
            self._cursor.enough = True  # of one record may come any number of events

    def _event(self, key: Any, value: Any, stamp: int, headers: Headers, ordinal: int) -> Event:
        cursor = self._cursor
        frontier = cursor.frontier
        if frontier != NEVER:
            self._settled = self._reached()
        # What a closing window gives is late for nothing: for it, time has not come so far yet.
        held = self._settled
        number = self._next
        self._next += 1
        at = (cursor.topic, cursor.partition, cursor.offset)
        return Event(number, key, value, stamp, headers, *at, ordinal, frontier, held)

    def _encode(self, event: Event) -> None:
        try:
            event.data, event.encoded = self._key.encode(event.key), self._value.encode(event.value)
        except SerdeError as error:
            what = f"event that waits for {self._function.described}"
            raise self._cursor.unwritable(what, error) from error

    def _lane(self, event: Event) -> bytes | None:
        if self._waits.order == "key":
            return event.data
        return _ALL if self._here else None

    def _gather(self, event: Event) -> None:
        self.queue.hold(event)
        if not self._open:
            self._opened = self._now
        self._open.append(event)
        if len(self._open) == self._waits.batch:
            self.cut()

    def cut(self) -> None:
        """What was gathered is a batch."""
        if self._open:
            events, self._open, self._hurried = tuple(self._open), [], False
            self.queue.add(Call(events, _ALL if self._here else None))
            self.call()

    def call(self) -> None:
        """Have the calls made by others that are due and for which there is room."""
        if self._here:
            return
        for call in self.queue.ready(self._now):
            self._start(self._request(call))

    def _request(self, call: Call) -> Request:
        waits, events = self._waits, call.events
        given: Any = [self._given(event) for event in events]
        if waits.batch is None:
            (given,) = given
        timeout = None if waits.timeout is None else waits.timeout / 1000
        return Request(
            self.name, call.number, self._function, given, events[-1], timeout, waits.workers
        )

    def _given(self, event: Event) -> Any:
        if not self._function.wants_record:
            return event.value
        at = (event.topic, event.partition, event.offset)
        return Record(*at, event.stamp, event.key, event.value, event.headers)

    # Calls that are made here.

    def _try_at_once(self, call: Call) -> bool:
        """Make the first attempt where the event is met; False when it failed and has to wait."""
        (event,) = call.events
        if self._script is not None:
            self._encode(event)
            if self._script.parked(self.name, event.identity):
                return False  # it failed live, and what came of it came later
        if self._goes(event):
            return True
        answer = self._attempt(call)
        if answer.error is not None and (pause := self._pause(call)) is not None:
            self._encode(event)
            call.attempts, call.due = 1, self._due(pause)
            self._parked.append(Parked(self.name, event.identity))
            return False
        for result in self._results(call, answer, lambda event: None)[0]:
            self._forward(event.key, result, event.stamp, event.headers)
        return True

    def _attempt(self, call: Call) -> Answer:
        event, failing = call.events[-1], self._failing
        if self._call is None or failing is None:
            return perform(self._request(call))
        failing.calls.ordinal = event.ordinal
        given = (event.key, event.value, event.stamp, event.headers)
        try:
            return Answer(failing.attempt(self._made, *given))
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            if failing.broken:
                raise
            return Answer(error=as_exception(error))

    def _made(self, key: Any, value: Any, stamp: int, headers: Headers) -> Sequence[Any]:
        assert self._call is not None
        return self._gathered(self._call(key, value, stamp, headers))

    def _again(self, key: Any, value: Any, stamp: int, letter: Letter) -> bool:
        """An event comes again that had been set aside: it waits as any other, as what it was."""
        self._take(key, value, stamp, letter.headers, letter.ordinal, letter.earlier)
        return True

    def _pause(self, call: Call) -> int | None:
        """How many ms until the next attempt of a call that has failed again; None: no more."""
        retry = self._retry
        if retry is None or call.attempts >= retry.times:
            return None
        return retry.wait(call.attempts + 1)

    def _due(self, pause: int) -> int | None:
        # In what is done again nobody has to wait.
        return None if self._script is not None else self._now + pause

    # Answers.

    def answer(self, number: int, answer: Answer) -> bool:
        """What has come of a call; whether it is to be made again."""
        call = self.queue.calls[number]
        if answer.error is not None and (pause := self._pause(call)) is not None:
            self.queue.again(call, self._due(pause))
            return True
        self.queue.answered(call, answer)
        return False

    def leaving(self) -> Iterable[Call]:
        """The calls whose results may be given now, in this order; here: to be made first, and each
        is begun with as it is taken."""
        return self.queue.ready(self._now) if self._here else self.queue.leaving()

    def named(self, identities: Iterable[Identity]) -> list[Call] | None:
        """The calls that begin with these events and are still here; None: one is not answered.

        In order, one is enough: all before it are meant too.
        """
        wanted = [tuple(each) for each in identities]
        calls = {call.events[0].identity: call for call in self.queue.calls.values()}
        found = [calls[each] for each in wanted if each in calls]
        if found and self._waits.order == "partition":
            last = found[-1].number
            found = [call for call in self.queue.calls.values() if call.number <= last]
        if not self._here and any(call.answer is None for call in found):
            return None
        return found

    def told(self, calls: list[Call]) -> list[Identity]:
        """What says in a journal that these have left."""
        last = calls[-1:] if self._waits.order == "partition" else calls
        return [call.events[0].identity for call in last]

    def give(self, call: Call, enter: Callable[[Event], None], passed: Callable[[], None]) -> bool:
        """Give the results of a call; False when it failed and is to be made again.

        `enter` takes the task back to where an event came from, `passed` is called as time may
        have. What raises leaves the events from there on where they are.
        """
        answer = call.answer
        if answer is None:  # it is made here
            enter(call.events[-1])
            # Who goes elsewhere is not called for: nothing of that could be taken back.
            gone = self._call is not None and self._goes(call.events[-1])
            answer = _GONE if gone else self._attempt(call)
            while answer.error is not None and (pause := self._pause(call)) is not None:
                if self._script is None:
                    self.queue.again(call, self._due(pause))
                    return False
                call.attempts += 1
                answer = self._attempt(call)
        results = self._results(call, answer, enter)
        for event, some in zip(call.events, results, strict=True):
            enter(event)
            self._cursor.frontier = event.frontier
            if event is call.events[-1]:
                for outlet, name, data, stamp in self._sent:
                    outlet.add(name, data, stamp, ())
            for result in some:
                self._forward(event.key, result, event.stamp, event.headers)
            self._cursor.frontier = None
            self.queue.left(event)
            if event is call.events[-1]:
                self.queue.leave(call)
            passed()
        self.call()
        return True

    def _results(
        self, call: Call, answer: Answer, enter: Callable[[Event], None]
    ) -> Sequence[Sequence[Any]]:
        """What to give on, by event; what the function sent is put aside. Events that it failed for
        go where they are to go, and so do those that follow one."""
        error, events = answer.error, call.events
        self._sent = []
        if answer is _GONE:
            return [()]
        enter(events[-1])
        if self._waits.batch is None and self._call is None and self._goes(events[0]):
            return [()]
        results: list[Sequence[Any]] = []
        if error is None:
            try:
                results = self._of_each(events, answer.value)
                self._check(events, results)
                self._sent = [self._written(*each) for each in answer.sent]
            except Exception as failed:
                error = failed
        if error is not None:
            results = [()] * len(events)
            if self._stops:
                self._stop(call, error)
        failing = self._failing
        for number, event in enumerate(events):
            if failing is None:
                break
            enter(event)
            if self._waits.batch is not None and self._goes(event):
                results[number] = ()
            elif error is not None:
                failing.calls.ordinal = event.ordinal
                given = (event.key, event.value, event.stamp, event.headers)
                failing.fail(*given, error, call.attempts + 1, event.earlier)
            elif event.earlier is not None:
                failing.passed(event.key, event.stamp, event.earlier)
        return results

    def _written(self, topic: str, key: Any, value: Any, stamp: int) -> Sent:
        """What a function sent. Raises what the topic refuses it with."""
        outlet, name, data = self._site.encoded(topic, key, value, stamp)
        error = self._site.refusal(outlet.topic, name, data, stamp, ())
        if error is not None:
            raise error
        return outlet, name, data, stamp

    def _of_each(self, events: Sequence[Event], value: Any) -> list[Sequence[Any]]:
        """The results of a call by event."""
        if self._waits.batch is None:
            return [value if self._call is not None else self._gathered(value)]
        if value is None:
            return [()] * len(events)
        if len(value) == len(events):
            return [() if each is None else (each,) for each in value]
        # Fewer or more belong to the batch as a whole, which is there with its last event.
        return [*[()] * (len(events) - 1), [each for each in value if each is not None]]

    def _check(self, events: Sequence[Event], results: Sequence[Sequence[Any]]) -> None:
        """Raises what topics would refuse, where something else than stopping is done about it."""
        if self._failing is not None and self._call is None:
            for event, some in zip(events, results, strict=True):
                self._failing.check(event.key, some, event.stamp, event.headers)

    def _goes(self, event: Event) -> bool:
        """Whether an event is not to be processed: it goes where one of its key has gone that
        failed, or back there as it is not its turn; it has then."""
        failing = self._failing
        if failing is None:
            return False
        failing.calls.ordinal = event.ordinal
        given = (event.key, event.value, event.stamp, event.headers)
        if event.earlier is None:
            return failing.follows(*given)
        return failing.turned_away(*given, event.earlier)

    def _stop(self, call: Call, error: Exception) -> None:
        """The app stops because of a call that has failed for good."""
        first, last, function = call.events[0], call.events[-1], self._function
        if error is self._cursor.reported or len(call.events) == 1:
            self._cursor.fail(function, last.key, error)
        failed = FunctionError(
            f"{function.described} raised {told(error)}; it was given a batch of "
            f"{len(call.events)}, made of the records {first.coordinates} to {last.coordinates}"
        )
        self._cursor.reported = failed
        raise failed from error

    # For the task.

    def tell(self, now: int) -> None:
        """The wall clock's time, in ms."""
        self._now = now

    def follow(self, script: Script) -> None:
        """Do what a journal says."""
        self._script = script

    def parked(self) -> list[Parked]:
        """The events that have begun to wait since the last call because they failed."""
        parked, self._parked = self._parked, []
        return parked

    @property
    def is_elsewhere(self) -> bool:
        """Whether others make its calls."""
        return not self._here

    @property
    def is_due(self) -> bool:
        """Whether a batch is complete because of the time."""
        within = self._waits.within
        if not self._open or within is None:
            return False
        return self._hurried or self._now - self._opened >= within

    def hurry(self) -> bool:
        """Do not wait for more to make a batch of what there is; False when there is nothing."""
        self._hurried = bool(self._open)
        return self._hurried

    @property
    def due_at(self) -> int | None:
        """When it has something to do next, if nothing comes: in ms of the wall clock."""
        due = self.queue.due
        if self._open and self._waits.within is not None:
            at = self._opened + self._waits.within
            due = at if due is None else min(at, due)
        return due

    @property
    def room(self) -> int:
        """How many more events it should be given before it has its turn."""
        if self.queue.bytes >= MOST_BYTES:
            return 0
        room = max(0, self._most - len(self.queue))
        if self._here and self._waits.batch is not None:
            room = min(room, self._waits.batch - len(self._open))
        return room

    def begin(self) -> None:
        """Take what waited when it was committed; it is called again."""
        rows = list(self.rows.events())
        for event, _ in rows:
            self.queue.hold(event)
            self._next = event.number + 1
        # By batches; each event has its own where there are none.
        for _, group in groupby(rows, _batch):
            some = list(group)
            event, kept = some[0]
            if self._waits.batch is not None and kept.batch is None:
                self._open.append(event)
                self._opened = self._now
                continue
            whole = kept.batch is not None
            lane = (_ALL if self._here else None) if whole else self._lane(event)
            of_call = tuple(event for event, _ in some)
            self.queue.add(Call(of_call, lane, kept.attempts, kept.due))
        if self._waits.batch is not None and len(self._open) >= self._waits.batch:
            self.cut()  # it was gathered for larger ones
        self.call()

    def advance(self) -> None:
        """Time has passed, and what is before it has done what was due: it waits here by now."""
        self._settled = self._reached()

    def _marks(self) -> Iterator[tuple[int, Mark]]:
        """Of all that waits."""
        batched = self._waits.batch is not None
        for call in self.queue.calls.values():
            for event in call.events:
                yield event.number, (call.attempts, call.due, call.number if batched else None)
        for event in self._open:
            yield event.number, (0, None, None)


def _batch(row: tuple[Event, WaitingRow]) -> int:
    """The number of the batch that an event is of; its own, when it is of none."""
    event, kept = row
    return event.number if kept.batch is None else kept.batch
