"""Event time of one task: how far it has come, and what operators do as it passes."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from streamkit.engine.attempt import Attempt
from streamkit.engine.cursor import Place
from streamkit.engine.hot.moment import FOREVER, NEVER, Clock, EventFrontier
from streamkit.engine.node_time import Timed
from streamkit.engine.site import Site
from streamkit.engine.watermarks import UpstreamFrontier
from streamkit.records import TopicPartition

Frontiers: TypeAlias = Mapping[TopicPartition, EventFrontier | UpstreamFrontier]
"""How far the inputs have come that are read as streams, in their order."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Operators were acting when others had their turn: what they have still to do, they tell.

    That was `at` a place. Of the nodes `closing` all that is open is to be closed; at an `end`, of
    all. They may have been in what is due `before` the event of another place has its turn.
    """

    at: Place
    closing: tuple[str, ...] = ()
    end: bool = False
    before: Place | None = None


class TaskTime:
    """The clock, and who acts by it: in the order of the nodes, as results of one may be given to
    the next.

    What is given then may be much, and what takes it slow. Operators stop after any result when
    the cursor is `rung`; nothing else is done in the task before they were gone on with.
    """

    def __init__(self, clock: Clock, site: Site, frontiers: Frontiers, attempt: Attempt) -> None:
        self.clock = clock
        self.timed = site.timed
        self.frontiers = frontiers
        self.pause: Pause | None = None
        """What to go on with."""
        self.acting = False
        """An operator is, or was when it failed."""
        self._cursor = site.cursor
        self._held = site.held
        self._site = site
        self._attempt = attempt

    @property
    def watermark(self) -> int | None:
        """No event before this time (ms) is expected any more; None: nothing is known yet."""
        return self.clock.watermark if self.clock.watermark > NEVER else None

    def moved(self) -> None:
        """The time of an input has: operators act that are due."""
        if self.clock.observe(self._site.moving.values()):
            self.advance()
        if self._site.ordered:
            self._let_turns_come()

    def advance(self) -> None:
        """Have the operators do what is due."""
        cursor = self._cursor
        # In the order of the nodes: results of one window may open another.
        for timed, _ in self.timed:
            self.acting = True
            timed.advance()
            self.acting = False
            if cursor.rung:
                self._interrupted()
                return
        self.update_due()

    def go_on(self) -> bool:
        """Have operators go on after a pause; False when there is another. Raises what steps raise;
        the attempt is then torn."""
        pause, self.pause = self.pause, None
        assert pause is not None, "there is something to go on with"
        self._attempt.enter(*pause.at[:2])
        self._cursor.go_to(pause.at)
        try:
            self.advance()
            if self.pause is None:
                self._close_these((*pause.closing, *self._turns))
        except BaseException:
            self._attempt.torn = True
            raise
        if self.pause is not None:
            self.pause = replace(self.pause, closing=pause.closing, end=pause.end)
        return self.pause is None

    def _interrupted(self) -> None:
        """What an operator had still to do is gone on with later."""
        self.pause = Pause(self._cursor.place, before=self._site.before)
        self._site.before = None
        self._cursor.enough = True  # nothing else comes before what is left

    def update_due(self) -> None:
        """See anew when the next of them has to act."""
        self.clock.due = FOREVER
        for held in self._held.values():
            held.forget()
        for timed, _ in self.timed:
            if (due := timed.due) is not None:
                timed.time.wake(due)

    def left(self) -> None:
        """An event has left a step that it waited at: time behind it may be further."""
        if any(held.is_due for held in self._held.values()):
            self.advance()
        else:
            for held in self._held.values():
                held.wake()
        self._let_turns_come()

    def _let_turns_come(self) -> None:
        """Once nothing is on its way from anywhere nothing has to wait for its turn any more."""
        names = self._turns
        if names and self.pause is None:
            self._close_these(names)
            if self.pause is not None:
                self.pause = replace(self.pause, closing=names)

    @property
    def _turns(self) -> tuple[str, ...]:
        ordered = self._site.ordered
        if not ordered or not all(one.is_idle for one in self._site.moving.values()):
            return ()
        return tuple(node.name for _, node in ordered)

    # Without a record: what is made so has no source.

    @property
    def idle(self) -> list[str]:
        """The inputs that hold no time back."""
        return [
            str(partition)
            for partition, frontier in self.frontiers.items()
            if isinstance(frontier, EventFrontier) and frontier.is_idle
        ]

    def leave_records(self) -> None:
        """Go to where no record is."""
        self._attempt.enter("", self._site.number)

    def can_close(self, names: Collection[str]) -> bool:
        """Whether a node of these names has something open that `let_pass` would close."""
        return any(
            timed.last is not None and not self._site.is_held(node)
            for timed, node in self.timed
            if node.name in names
        )

    def let_pass(self, closed: Collection[str] = ()) -> None:
        """See how far the inputs are, and close what nodes of these names have open. Raises what
        steps raise; the attempt is then torn."""
        self.leave_records()
        try:
            self.moved()
            closed = (*closed, *self._turns)
            if self.pause is None:
                self._close_these(closed)
        except BaseException:
            self._attempt.torn = True
            raise
        if self.pause is not None:
            self.pause = replace(self.pause, closing=closed)

    def _close_turns(self, names: Collection[str]) -> None:
        """Have those that give in one order give all, so that none gives its own before others."""
        for order, node in self._site.ordered:
            last = order.last if node.asked and node.name in names else None
            if last is not None:
                order.time.closed = max(order.time.watermark, last)

    def _close_these(self, names: Collection[str]) -> None:
        self._close_turns(names)
        for timed, node in self.timed:
            last = timed.last if node.name in names else None
            # What waits before it may be for what is open: that is closed when it has left.
            if last is not None and not self._site.is_held(node):
                self._close(timed, last)
                if self._cursor.rung:
                    self._interrupted()
                    return
        self.update_due()

    def close_all(self) -> None:
        """Close what more events, or their end, would. Raises what steps raise; the attempt is then
        torn."""
        try:
            self._close_turns([node.name for _, node in self._site.ordered])
            # In the order of the nodes: what one gives may open something in the next.
            for timed, node in self.timed:
                found = timed.open
                # What waits before it now came of what was closed: it is closed when that has left.
                if found is not None and not self._site.is_held(node):
                    self._close(timed, found.until)
                    if self._cursor.rung:
                        self._interrupted()
                        return
            self.update_due()
        except BaseException:
            self._attempt.torn = True
            raise

    def _close(self, timed: Timed, until: int) -> None:
        timed.time.closed = max(timed.time.watermark, until)
        self.acting = True
        timed.advance()
        self.acting = False
