"""Functions whose answers are waited for: coroutines, batches, other processes, later attempts.

An event that comes is put into the step's queue and kept in its store, so that the position of the
input can go on and be committed. Its function is called elsewhere, and when the answer is there,
and it is its turn, its results leave: as of the record it was made of, at the time that was then.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby, takewhile
from typing import Any

from streamkit.dsl.failures import Retry
from streamkit.dsl.nodes.in_order import asks_for_places, bears_its_place, place_of
from streamkit.dsl.nodes.waiting import Waiting, WaitingRow, waiting_name
from streamkit.engine.cursor import Numbers, Place, paired
from streamkit.engine.failed import as_exception
from streamkit.engine.hot.moment import NEVER, NodeTime
from streamkit.engine.hot.steps import Forward
from streamkit.engine.journal import Parked
from streamkit.engine.letters import Earlier, Letter
from streamkit.engine.node_time import StillOpen
from streamkit.engine.operators.failing import Failing
from streamkit.engine.operators.gathering import Gathering, Gatherings
from streamkit.engine.operators.leaving import AWAY, Enter, Leaving
from streamkit.engine.operators.results import gathered
from streamkit.engine.operators.waiting_rows import Mark, WaitingRows
from streamkit.engine.performing import perform
from streamkit.engine.roots import digest, nth
from streamkit.engine.script import Script
from streamkit.engine.site import Site
from streamkit.engine.waiting import Answer, Call, Event, Identity, Request
from streamkit.errors import SerdeError
from streamkit.records import Headers, Record
from streamkit.serde import Serde

MOST_WAITING = 1000
"""Events that wait at a step, at most, and four times what is called at once. More are not read."""
MOST_BYTES = 32 << 20
"""About so much they take, at most."""
_ALL = b""
"""The lane of all events, where one is called at a time."""


def build(node: Waiting, key: Serde, site: Site) -> Forward:
    step = WaitingStep(node, key, site)
    site.waiting.append(step)
    site.on_time(node, step)
    site.keep(waiting_name(node.name), step.rows)
    site.marked[waiting_name(node.name)] = step
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
        self.begun: Call | None = None
        """A call of whose results a part was given, if there is one."""
        self.rows = WaitingRows(
            site.store(waiting_name(node.name)),
            key,
            node.parent.gives,
            function,
            site.cursor,
            self._kept_marks,
        )
        place = place_of(node, site.nodes)
        asked = any(map(asks_for_places, site.nodes))
        self._placed = asked and bears_its_place(place)
        # Keys overtake each other behind what gave them in its order: there they get one of theirs.
        self._by_key = asked and place in ("made", "merged") and waits.order == "key"
        self._start = site.start
        self._forward = site.after(node, key)
        self._gathered = gathered(function)
        self._retry = node.failure if isinstance(node.failure, Retry) else None
        self._failing = Failing.of(node, key, site)
        self._call: Callable[..., Any] | None = None
        if self._failing is not None:
            self._failing.again = self._again
            if self._here and waits.batch is None:
                self._call = self._failing.calls.event(function, key)
        self._leaving = Leaving(node, key, site, self._failing, keeps=self._call is not None)
        self._gatherings = Gatherings(waits.batch or 1, waits.within)
        self._most = max(MOST_WAITING, 4 * waits.concurrency * (waits.batch or 1))
        self._script: Script | None = None
        self._now = 0
        self._next = 0
        self._settled = NEVER
        self._last: Place | None = None  # what the last event was made of
        self._likes: dict[tuple[int, str], int] = {}  # of no record: by time and key
        self._numbers = Numbers()
        self._root, self._of_root = b"", 0  # that of the last event, and how many were of it
        self._parked: list[Parked] = []

    # An event comes.

    def take(self, key: Any, value: Any, stamp: int, headers: Headers) -> None:
        """Let an event wait; call the function for it if there is room."""
        cursor = self._cursor
        if (place := cursor.place) != self._last:
            self._last = place
            self._likes.clear()
        if cursor.offset >= 0:
            number = self._numbers.next(place)
        else:
            # Made of no record. What came before a restart does not count, but for its like.
            like = stamp, repr(key)
            number = self._likes[like] = self._likes.pop(like, -1) + 1
            if len(self._likes) > MOST_WAITING:
                del self._likes[next(iter(self._likes))]
        root = cursor.root
        if root:
            self._of_root = self._of_root + 1 if root == self._root else 0
            self._root = root
            cursor.root = nth(root, self._of_root)
        self._take(key, value, stamp, headers, cursor.numbered(number))
        cursor.root = root

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
        event.earlier, event.root, event.again = earlier, self._cursor.root, self._cursor.again
        if self._placed:
            event.origin = self._cursor.origin
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
        if self._by_key:
            before = self._cursor.origin if self._placed else b""
            event.origin = before + digest(event.data or b"")

    def _lane(self, event: Event) -> bytes | None:
        if self._waits.order == "key":
            return event.data
        return _ALL if self._here else None

    def _gather(self, event: Event) -> None:
        self.queue.hold(event)
        self._gatherings.of(event).add(event, self._now)
        for gathering in self._gatherings.full:
            self._cut(gathering)

    def cut(self) -> None:
        """What was gathered is a batch."""
        self._cut(self._gatherings.coming)

    def cut_back(self) -> None:
        """So is what was gathered of what came back, if it is time."""
        if self._gatherings.back.is_due(self._now):
            self._cut(self._gatherings.back)

    def _cut(self, gathering: Gathering) -> None:
        if events := gathering.take():
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
        if self._leaving.goes(event):
            return True
        answer = self._attempt(call)
        if answer.error is not None and (pause := self._pause(call)) is not None:
            self._encode(event)
            call.attempts, call.due = 1, self._put_off(call, answer.error, pause)
            if not event.again:
                self._parked.append(Parked(self.name, event.identity))
            return False
        self._leaving.begin(call, answer, _stay)
        cursor = self._cursor
        part, origin = cursor.part, cursor.origin
        cursor.origin = event.origin
        for number, result in enumerate(self._leaving.settled(event)):
            cursor.part = paired(event.ordinal, number)  # as if it had waited
            if event.root:
                cursor.root = nth(event.root, number)
            self._forward(event.key, result, event.stamp, event.headers)
        cursor.part, cursor.origin = part, origin
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

    def _put_off(self, call: Call, error: Exception, pause: int) -> int | None:
        """When the next attempt is due, of which somebody may want to know."""
        if self._script is not None:
            return None  # in what is done again nobody has to wait
        if self._failing is not None:
            self._failing.put_off(call.events[-1].coordinates, error)
        return self._now + pause

    # Answers.

    def answer(self, number: int, answer: Answer) -> bool:
        """What has come of a call; whether it is to be made again."""
        call = self.queue.calls[number]
        if answer.error is not None and (pause := self._pause(call)) is not None:
            self.queue.again(call, self._put_off(call, answer.error, pause))
            return True
        self.queue.answered(call, answer)
        return False

    def leaving(self) -> Iterable[Call]:
        """The calls whose results may be given now, in this order; here: to be made first, and each
        is begun with as it is taken."""
        return self.queue.ready(self._now) if self._here else self.queue.leaving()

    def named(self, identities: Iterable[Identity]) -> tuple[list[Call], bool]:
        """The calls that begin with these events and are still here, as far as they may leave now,
        and whether that is all of them.

        In order, one is enough: all before it are meant too. So are those before it of its lane:
        there is one that was not there live only where other code is at work, and it is first.
        """
        wanted = [tuple(each) for each in identities]
        calls = {call.events[0].identity: call for call in self.queue.calls.values()}
        found = [calls[each] for each in wanted if each in calls]
        if found and self._waits.order == "partition":
            last = found[-1].number
            found = [call for call in self.queue.calls.values() if call.number <= last]
        else:
            found = list(dict.fromkeys(one for call in found for one in self.queue.up_to(call)))
        if self._here:
            return found, True
        there = list(takewhile(lambda call: call.answer is not None, found))
        return there, len(there) == len(found)

    def told(self, calls: list[Call]) -> list[Identity]:
        """What says in a journal that these have left; empty: nothing has to.

        Of events that came again it says nothing: who follows it has them where they first came.
        """
        first = [next((one for one in call.events if not one.again), None) for call in calls]
        told = [event.identity for event in first if event is not None]
        return told[-1:] if self._waits.order == "partition" else told

    def give(self, call: Call, enter: Enter, passed: Callable[[], None]) -> bool:
        """Give the results of a call; False when it failed and is to be made again, or when there
        is a rest to `go_on` with.

        `enter` takes the task back to where an event came from, `passed` is called as time may
        have. What raises leaves the events from there on where they are.
        """
        answer = call.answer
        if answer is None:  # it is made here
            enter(call.events[-1])
            # Who goes elsewhere is not called for: nothing of that could be taken back.
            gone = self._call is not None and self._leaving.goes(call.events[-1])
            answer = AWAY if gone else self._attempt(call)
            while answer.error is not None and (pause := self._pause(call)) is not None:
                if self._script is None:
                    self.queue.again(call, self._put_off(call, answer.error, pause))
                    return False
                call.attempts += 1
                answer = self._attempt(call)
            if self._call is not None:
                # It has state, and has sent: with what follows it is one attempt, or nothing.
                enter = _stay
        self._leaving.begin(call, answer, enter)
        return self.go_on(enter, passed)

    def go_on(self, enter: Enter, passed: Callable[[], None]) -> bool:
        """Give what is left of the results of a call; False when it is again not all."""
        call = self._leaving.call
        done = self._leaving.give(enter, passed)
        self.begun = None if done else call
        self.call()
        return done

    @property
    def is_leaving(self) -> bool:
        """Whether the results of the call that has `begun` are here: else it is made again."""
        return self._leaving.call is not None

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
        return self._gatherings.coming.is_due(self._now)

    def hurry(self) -> bool:
        """Do not wait for more to make a batch of what there is; False when there is nothing."""
        return self._gatherings.hurry()

    @property
    def due_at(self) -> int | None:
        """When it has something to do next, if nothing comes: in ms of the wall clock."""
        known = (self.queue.due, self._gatherings.due_at)
        return min((at for at in known if at is not None), default=None)

    @property
    def room(self) -> int:
        """How many more events it should be given before it has its turn."""
        if self.queue.bytes >= MOST_BYTES:
            return 0
        room = max(0, self._most - len(self.queue))
        batched = self._here and self._waits.batch is not None
        return min(room, self._gatherings.coming.room) if batched else room

    def begin(self) -> None:
        """Take what waited when it was committed; it is called again."""
        rows = list(self.rows.events())
        for event, _ in rows:
            self.queue.hold(event)
            self._next = event.number + 1
        if self._settled == NEVER:  # else it is in the middle of something
            self._settled = self._reached()
        # By batches; each event has its own where there are none.
        for _, group in groupby(sorted(rows, key=_batch), _batch):
            event, kept = (some := list(group))[0]
            if self._waits.batch is not None and kept.batch is None:
                # At once, if it was not gathered for a batch then.
                self._gatherings.of(event).again(event, kept.due or self._now)
                continue
            whole = kept.batch is not None
            lane = (_ALL if self._here else None) if whole else self._lane(event)
            of_call = tuple(event for event, _ in some)
            call = Call(of_call, lane, kept.attempts, kept.due, given=kept.given)
            self.queue.add(call)
            if kept.given > (0, 0):
                self.begun = call
                for event in of_call[: kept.given[0]]:
                    self.queue.left(event)
        for gathering in self._gatherings.full:
            self._cut(gathering)  # it was gathered for larger ones
        self.call()

    def advance(self) -> None:
        """Time has passed, and what is before it has done what was due: it waits here by now."""
        self._settled = self._reached()

    def _kept_marks(self) -> Iterator[tuple[Event, Mark]]:
        """Of all that waits."""
        batched = self._waits.batch is not None
        for call in self.queue.calls.values():
            batch, given = call.number if batched else None, call.given
            for event in call.events:
                yield event, (call.attempts, call.due, batch, given)
                given = (0, 0)
        for event, due in self._gatherings.events():
            yield event, (0, due, None, (0, 0))

    # In the middle of what a record has brought about.

    def marks(self, at: Place) -> tuple[int, ...]:
        """How far time had come for the record's last event, and which those were."""
        return self._settled, *self._numbers.marks(at)

    def begin_at(self, at: Place, marks: tuple[int, ...]) -> None:
        """As it was."""
        self._settled, *numbers = marks
        self._numbers.begin_at(at, numbers)


def _stay(event: Event) -> None:
    """For who is where the event came from."""


def _batch(row: tuple[Event, WaitingRow]) -> int:
    """The number of the batch that an event is of; its own, when it is of none."""
    event, kept = row
    return event.number if kept.batch is None else kept.batch
