"""What a step has been given and not answered yet: which call comes next, and what may leave.

    add(event)              it was processed; from then on it waits here
    ready(now)              the calls to make now: they are being made from then on
    answered(call)          its answer is there
    again(call, due)        it failed, and is to be made again, at `due` of the wall clock
    leaving()               the calls whose results may be given now, in this order
    leave(call)             they are given

A call is of one event, or of a batch. With a `lane` it is made when all before it in that lane have
left. In the order of the input (`in_order`) results wait for those of all calls before; else each
leaves when it is there.

No thread, no clock: who makes the calls, and when, is for others to say.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any, Protocol, TypeAlias

from streamkit.dsl.functions import Function
from streamkit.engine.hot.moment import FOREVER
from streamkit.engine.letters import Earlier
from streamkit.records import Headers

Identity: TypeAlias = tuple[str, int, int, int, int, bytes | None]
"""Of an event: topic, partition and offset of the record it was made of, and which of those; its
time and key, as what closes in silence is made of none, and again and again."""


@dataclass(slots=True, eq=False)
class Event:
    """An event that waits. `data` and `encoded` are its key and value as they are kept.

    `frontier` is that of its partition when it was behind it, `held` how far time had come for the
    step. Of the events that a step was given of one record it is number `ordinal`; `root` tells it
    from others where the record does not, and `origin` its place among those of its time. `earlier`
    is of one that had been set aside by the step, `again` says so of any step.
    """

    number: int
    key: Any
    value: Any
    stamp: int
    headers: Headers
    topic: str
    partition: int
    offset: int
    ordinal: int
    frontier: int | None
    held: int
    data: bytes | None = None
    encoded: bytes | None = None
    earlier: Earlier | None = None
    root: bytes = b""
    origin: bytes = b""
    again: bool = False

    @property
    def identity(self) -> Identity:
        """Once it is `encoded`."""
        return self.topic, self.partition, self.offset, self.ordinal, self.stamp, self.data

    @property
    def coordinates(self) -> str:
        if self.offset < 0:
            return "no record (its inputs were silent)"
        return f"{self.topic}-{self.partition}@{self.offset}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a call: a value (of a generator all it gave), or an error; and what the function
    sent with its Context: topic, key, value, timestamp."""

    value: Any = None
    error: Exception | None = None
    sent: tuple[tuple[str, Any, Any, int], ...] = ()


@dataclass(slots=True, eq=False)
class Call:
    """One call of a function. `number` is that of its first event.

    `attempts` is how many have failed. `due`: not before, in ms of the wall clock. `given`: of so
    many of its events the results, and so many of those of the next.
    """

    events: tuple[Event, ...]
    lane: bytes | None = None
    attempts: int = 0
    due: int | None = None
    answer: Answer | None = None
    given: tuple[int, int] = (0, 0)

    @property
    def number(self) -> int:
        return self.events[0].number


@dataclass(frozen=True, slots=True)
class Request:
    """A call as those are told who make it.

    `given` is what the function gets: a value, a Record, a list of either, or a frame; `event` the
    one its Context tells of: the last of a batch. `timeout` in seconds.
    """

    step: str
    number: int
    function: Function
    given: Any
    event: Event
    timeout: float | None = None
    workers: int | None = None


class Calls(Protocol):
    """Makes the calls of one task, elsewhere."""

    def start(self, request: Request) -> None:
        """Make a call. Does not wait for it."""

    def answers(self) -> Iterable[tuple[str, int, Answer]]:
        """What has come since last time: step, number of the call, answer."""


class Queue:
    """See the module. Calls are numbered as their first events, upwards."""

    def __init__(self, concurrency: int, *, in_order: bool) -> None:
        self.events: OrderedDict[int, Event] = OrderedDict()
        """All that wait, in the order they came."""
        self.calls: OrderedDict[int, Call] = OrderedDict()
        """The same in calls; without those that a batch is still gathered of."""
        self.bytes = 0
        """About what they take."""
        self._concurrency = concurrency
        self._in_order = in_order
        self._fresh: deque[Call] = deque()
        self._later: list[tuple[int, int]] = []  # due, number
        self._lanes: dict[bytes, deque[Call]] = {}
        self._running: set[int] = set()
        self._answered: OrderedDict[int, Call] = OrderedDict()

    def __len__(self) -> int:
        return len(self.events)

    @property
    def held(self) -> int:
        """How far time has come behind it; FOREVER: nothing waits."""
        for event in self.events.values():
            return event.held
        return FOREVER

    @property
    def running(self) -> int:
        """Calls that are being made."""
        return len(self._running)

    @property
    def due(self) -> int | None:
        """When the next call is due that has to wait for its time (ms); None: there is none."""
        while self._later and not self._is_later(*self._later[0]):
            heappop(self._later)
        return self._later[0][0] if self._later else None

    def hold(self, event: Event) -> None:
        """An event waits from now on; it is part of no call yet."""
        self.events[event.number] = event
        self.bytes += _size(event)

    def add(self, call: Call) -> None:
        """A call is to be made of events that wait, after all before it."""
        self.calls[call.number] = call
        if call.lane is not None:
            lane = self._lanes.setdefault(call.lane, deque())
            lane.append(call)
            if len(lane) > 1:
                return
        self._schedule(call)

    def blocks(self, lane: bytes | None) -> bool:
        """Whether something of that lane waits; None: whether anything does."""
        return bool(self.events) if lane is None else lane in self._lanes

    def ready(self, now: int) -> Iterator[Call]:
        """The calls to make now, at a time of the wall clock in ms, as far as there is room."""
        while self._later and self._later[0][0] <= now:
            due, number = heappop(self._later)
            if self._is_later(due, number):
                self._fresh.append(self.calls[number])
        while self._fresh and len(self._running) < self._concurrency:
            call = self._fresh.popleft()
            if self.calls.get(call.number) is call:  # or it has left, as a journal said
                self._running.add(call.number)
                yield call

    def answered(self, call: Call, answer: Answer) -> None:
        """A call that was being made has come to an end."""
        self._running.discard(call.number)
        call.answer = answer
        self._answered[call.number] = call

    def again(self, call: Call, due: int | None) -> None:
        """A call that was being made has failed and is to be made again."""
        self._running.discard(call.number)
        call.attempts += 1
        call.due = due
        self._schedule(call)

    def up_to(self, call: Call) -> list[Call]:
        """Those of its lane that leave before a call, and that one."""
        if call.lane is None:
            return [call]
        return [one for one in self._lanes[call.lane] if one.number <= call.number]

    def leaving(self) -> list[Call]:
        """The calls whose results may be given now, in this order."""
        if not self._in_order:
            return list(self._answered.values())
        found = []
        for call in self.calls.values():
            if call.answer is None:
                break
            found.append(call)
        return found

    def left(self, event: Event) -> None:
        """An event does not wait any more."""
        del self.events[event.number]
        self.bytes -= _size(event)

    def leave(self, call: Call) -> None:
        """Nothing of a call waits any more: its events have left."""
        del self.calls[call.number]
        self._answered.pop(call.number, None)
        self._running.discard(call.number)
        if call.lane is not None:
            lane = self._lanes[call.lane]
            assert lane[0] is call, "calls of a lane leave in their order"
            lane.popleft()
            if lane:
                self._schedule(lane[0])
            else:
                del self._lanes[call.lane]

    def _schedule(self, call: Call) -> None:
        if call.due is None:
            self._fresh.append(call)
        else:
            heappush(self._later, (call.due, call.number))

    def _is_later(self, due: int, number: int) -> bool:
        call = self.calls.get(number)
        return call is not None and call.due == due and call.answer is None


def _size(event: Event) -> int:
    return 500 + 2 * (len(event.encoded or b"") + len(event.data or b""))
