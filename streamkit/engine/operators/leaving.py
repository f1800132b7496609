"""The results of a step's calls, as they leave: event by event, with what becomes of those that the
function failed for.

What takes the results may be slow, and they may be many. Others have their turn after any of them,
if they wait; nothing else is done in the task before the rest has left. A commit that comes between
has the whole call, and how much of it was given: its function is called again after a restart.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from streamkit.dsl.failures import last_resort
from streamkit.dsl.nodes.waiting import Waiting
from streamkit.engine.cursor import paired
from streamkit.engine.failed import told
from streamkit.engine.hot.outlet import Outlet
from streamkit.engine.operators.failing import Failing
from streamkit.engine.operators.results import gathered
from streamkit.engine.roots import nth
from streamkit.engine.site import Site
from streamkit.engine.waiting import Answer, Call, Event
from streamkit.errors import FunctionError
from streamkit.serde import Serde

Sent: TypeAlias = tuple[Outlet, bytes | None, bytes | None, int]
AWAY = Answer()
"""Of a call that was not made, as its event went elsewhere."""
Enter: TypeAlias = Callable[[Event], None]
"""Takes the task back to where an event came from."""


class Leaving:
    """Those of one call after the other; `call` is the one that is being given."""

    def __init__(
        self, node: Waiting, key: Serde, site: Site, failing: Failing | None, *, keeps: bool
    ) -> None:
        """`keeps`: the function is called as plain ones are, with state."""
        self.call: Call | None = None
        self._function = node.function
        self._batched = node.waits.batch is not None
        self._keeps = keeps
        self._cursor = site.cursor
        self._site = site
        self._queue = site.queue(node)
        self._forward = site.after(node, key)
        self._gathered = gathered(node.function)
        self._stops = last_resort(node.failure) is None
        self._failing = failing
        self._away = False
        self._error: Exception | None = None
        self._results: list[Sequence[Any]] = []
        self._sent: list[Sent] = []

    # A call.

    def begin(self, call: Call, answer: Answer, enter: Enter) -> None:
        """What came of a call is to be given. Raises what the app stops with."""
        error, events = answer.error, call.events
        self.call, self._error, self._sent, self._away = call, None, [], answer is AWAY
        enter(events[-1])
        if self._away:
            self._results = [()]
            return
        if error is None:
            try:
                self._results = self._of_each(events, answer.value)
                self._check(events)
                self._sent = [self._written(*each) for each in answer.sent]
            except Exception as failed:
                error = failed
        if error is not None:
            self._results = [()] * len(events)
            if self._stops:
                self._stop(call, error)
        self._error = error

    def give(self, enter: Enter, passed: Callable[[], None]) -> bool:
        """Give what is left of it; False when others wait for their turn.

        `passed` is called as time may have. What raises leaves the events from there on where they
        are.
        """
        call, cursor = self.call, self._cursor
        assert call is not None, "it has begun"
        number, given = call.given
        for event in call.events[number:]:
            enter(event)
            began = given > 0 and self._error is None
            some = self._results[number] if began else self.settled(event, number)
            cursor.frontier = event.frontier
            is_last = event is call.events[-1]
            if is_last and not given:
                for outlet, name, data, stamp in self._sent:
                    outlet.add(name, data, stamp, ())
            for result in some[given:]:
                if cursor.rung and given and not self._keeps:
                    call.given = number, given
                    cursor.frontier = None
                    return False
                # By itself, as it may be the first that is given after a restart.
                cursor.part = paired(event.ordinal, given)
                if event.root:
                    cursor.root = nth(event.root, given)
                self._forward(event.key, result, event.stamp, event.headers)
                given += 1
            cursor.frontier = None
            self._queue.left(event)
            number, given = number + 1, 0
            if is_last:
                self.call = None
                self._queue.leave(call)
            passed()
            if cursor.rung and not is_last:
                call.given = number, 0
                return False
        return True

    def settled(self, event: Event, number: int = 0) -> Sequence[Any]:
        """The results of an event of the call. If the function failed for it, or it follows one
        that it failed for, it goes where it is to go, and there are none."""
        failing, error = self._failing, self._error
        if failing is None or self._away:
            return self._results[number]
        if not self._keeps and self.goes(event):
            if not self._batched:
                self._sent = []
            return ()
        if error is not None:
            assert self.call is not None
            failing.calls.ordinal = event.ordinal
            given = (event.key, event.value, event.stamp, event.headers)
            failing.fail(*given, error, self.call.attempts + 1, event.earlier)
        elif event.earlier is not None:
            failing.passed(event.key, event.stamp, event.earlier)
        return self._results[number]

    def goes(self, event: Event) -> bool:
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

    def _of_each(self, events: Sequence[Event], value: Any) -> list[Sequence[Any]]:
        """The results of a call by event."""
        if not self._batched:
            return [value if self._keeps else self._gathered(value)]
        if value is None:
            return [()] * len(events)
        if len(value) == len(events):
            return [() if each is None else (each,) for each in value]
        # Fewer or more belong to the batch as a whole, which is there with its last event.
        return [*[()] * (len(events) - 1), [each for each in value if each is not None]]

    def _check(self, events: Sequence[Event]) -> None:
        """Raises what topics would refuse, where something else than stopping is done about it."""
        if self._failing is not None and not self._keeps:
            for event, some in zip(events, self._results, strict=True):
                self._failing.check(event.key, some, event.stamp, event.headers)

    def _written(self, topic: str, key: Any, value: Any, stamp: int) -> Sent:
        """What a function sent. Raises what the topic refuses it with."""
        outlet, name, data = self._site.encoded(topic, key, value, stamp)
        error = self._site.refusal(outlet.topic, name, data, stamp, ())
        if error is not None:
            raise error
        return outlet, name, data, stamp

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
