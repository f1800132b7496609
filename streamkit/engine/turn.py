"""A task's turn: what it does with what it was fed, record by record, and with what is decided."""

from bisect import bisect_right

from streamkit.engine.answers import Answers
from streamkit.engine.counting import Counting
from streamkit.engine.decisions import Decisions
from streamkit.engine.failed import told
from streamkit.engine.hot.moment import EventFrontier
from streamkit.engine.inputs import Head, Input
from streamkit.engine.journal import Counted, Cut, Finish, Left, Silence, Step, Tables
from streamkit.engine.memory import Memory
from streamkit.engine.retried import RetryInput
from streamkit.engine.wiring import Parts
from streamkit.errors import FunctionError

_ALL = 1 << 62


class Turn:
    """Takes it, again and again."""

    def __init__(
        self, parts: Parts, decisions: Decisions, answers: Answers, memory: Memory
    ) -> None:
        self._decisions = decisions
        self._answers = answers
        self._memory = memory
        self.counting = Counting(parts.frontiers)
        self._waits = bool(answers.steps)
        self.gone_on = 0
        """How often it went on with what was interrupted."""
        self._begun = False
        self._cursor = parts.cursor
        self._attempt = parts.attempt
        self._time = parts.time
        self._ending = parts.ending
        self._horizons = parts.horizons
        self._merge = parts.merge
        self._ahead = parts.ahead
        self._named = parts.named
        self._retries = parts.retries

    def begin(self) -> bool:
        """Before the first record: what the start of the task itself decides. Once is enough. Gives
        whether that is that an input is no longer idle."""
        if self._begun:
            return False
        self._begun = True
        try:
            self._answers.begin()
        except BaseException:
            # What was not taken up would be missing in the next commit, as if it had left.
            self._attempt.torn = True
            raise
        self._time.update_due()  # by what was restored
        if self._decisions.whole is None:
            self._decisions.own += self._memory.begun()
        return self._memory.was_idle

    def run(self, limit: int | None, now: int | None) -> int:
        """Process at most about `limit` records; how many it was. See `Task.run`."""
        done = 0
        limit = _ALL if limit is None else limit
        # In this order: a bell that rings now is heard as a whole, or not at all.
        self._cursor.rung = False
        self._cursor.enough = False
        self.begin()
        if now is not None:
            for horizon in self._horizons:
                horizon.tell(now)
            self._answers.tell(now)
        if not self._go_on() or not self._count():
            return done
        done += self._process_again(limit)
        ending = self._ending
        # Steps after the last chunk as well: a checkpoint has all of those up to where it is.
        while self._is_ready() and done < limit and not self._cursor.enough:
            some = limit - done
            if self._waits and not (some := min(some, self._give_answers())):
                break
            # What other tasks hand over is still taken: it finishes when they have.
            if self._decisions.is_paused and (ending.is_finished or not ending.is_mixed):
                break
            chosen = self._merge.first()
            if chosen is None:
                break
            one, before = chosen
            self._merge.begins(one)
            done += self._process(one, before, some, self._merge.stop(one))
        if self._waits and not ending.is_finished and not self.is_interrupted:
            ending.finish()  # what waited before what is still open may have left
        return done

    @property
    def is_interrupted(self) -> bool:
        """Whether it is in the middle of what a record, or an answer, has brought about: nothing
        else is done before it has gone on with that."""
        return self._time.pause is not None or self._answers.pause is not None

    def take(self, step: Step) -> bool:
        """Do what was decided; False when records of tables, or answers, are missing for that yet.
        Raises what steps raise."""
        match step:
            case Tables():
                return self._read_tables(step)
            case Finish():
                self._decisions.pause(step)
                self._ending.tell(step.number)
            case Left() | Cut():
                return self._take_answers(step)
            case Counted():
                self.counting.take(step)
                self._time.let_pass()
            case Silence():
                for partition, frontier in self._time.frontiers.items():
                    if isinstance(frontier, EventFrontier):
                        frontier.is_idle = str(partition) in step.idle
                self._time.let_pass(step.closed)
        return True

    # Before the next record.

    def _go_on(self) -> bool:
        """Go on with what was interrupted; False when it is again, or an answer is missing."""
        try:
            if self._time.pause is not None:
                self.gone_on += 1
                if not self._ending.go_on_acting():
                    return False
            if self._answers.pause is not None:
                self._attempt.waits = True
                before = self._answers.left
                self.gone_on += self._answers.go_on(self._decisions.own)
                self._attempt.waits = False
                self._left_since(before)
        except BaseException:
            self._attempt.take_back()
            self._attempt.torn = True
            raise
        return not self.is_interrupted

    def _count(self) -> bool:
        """Have those tasks upstream count that are to; False when it was interrupted by that."""
        tasks = self.counting.due()
        if tasks is not None:
            step = Counted(self._decisions.places(), tasks)
            self._decisions.own.append(step)
            self.take(step)
        return not self.is_interrupted

    def _is_ready(self) -> bool:
        """Do what comes before the next record; False when something is missing for that yet."""
        while self._follow():
            left = self._ahead.buffered
            complete = self._ahead.read(self._decisions.whole)
            if self._ahead.buffered == left:
                return complete
        return False

    def _follow(self) -> bool:
        """Take the steps of the journal that are due; False when one waits for records."""
        decisions = self._decisions
        while decisions.script is not None and (step := decisions.due()) is not None:
            if not self.take(step):
                return False
            decisions.took()
            if self.is_interrupted:
                return False
        return True

    def _read_tables(self, step: Tables) -> bool:
        for name, to in step.to.items():
            one = self._named.get(name)
            while one is not None and not one.has_reached(to):
                if not one.length:
                    return False
                self._process(one, None, _ALL, to)
        return True

    def _take_answers(self, step: Left | Cut) -> bool:
        before = self._answers.left
        try:
            done = self._answers.take(step)
        except BaseException:
            self._attempt.take_back()
            self._attempt.torn |= self._answers.torn
            self._attempt.waits = True
            raise
        self._left_since(before)
        return done

    def _give_answers(self) -> int:
        """Give the results that are there; how many events may be processed then."""
        before = self._answers.left
        try:
            room = self._answers.give(self._decisions.own)
        except BaseException:
            self._attempt.take_back()
            self._attempt.torn |= self._answers.torn
            self._attempt.waits = True
            raise
        self._left_since(before)
        return 0 if self._cursor.enough else room

    def _left_since(self, before: int) -> None:
        """At an end, what was still open because something waited before it closes when that has
        left: now, and not behind the next record, after which there may be no end any more."""
        if self._answers.left != before and not self.is_interrupted:
            self._ending.finish()

    # Records.

    def _process_again(self, limit: int) -> int:
        """What steps are given again, which waits for nothing and nothing waits for."""
        done = 0
        for one in self._retries:
            while one.length and done < limit and not self._cursor.enough:
                done += self._process(one, None, 1, None)
        return done

    def _process(self, one: Input, before: Head | None, limit: int, until: int | None) -> int:
        columns, start, stop = one.chunk(before, limit, until)
        frontier = self._time.frontiers.get(one.partition)
        if isinstance(frontier, EventFrontier):
            frontier.is_idle = False
            if self._ending.is_told:
                self._ending.came()
        elif isinstance(one, RetryInput):
            self._ending.came_again()
        self._attempt.enter(*one.partition)
        try:
            one.read(columns, start, stop)
        except Exception:
            self._fails(one)
            self._attempt.take_back()
            raise
        except BaseException as error:
            self._attempt.torn = True
            self._fails(one)
            at = self._cursor.coordinates
            said = f"a function raised {told(error)}; it was given the record {at}"
            if isinstance(error, SystemExit | KeyboardInterrupt):
                error.add_note(said)
                raise
            raise FunctionError(said) from error
        if self._cursor.cut:
            self._cursor.cut = False
            stop = bisect_right(columns.offsets, self._cursor.offset, start, stop)
        one.done(stop)
        if one.name in self._named:
            self._merge.done(one, columns, start, stop)
        return stop - start

    def _fails(self, one: Input) -> None:
        """The record at hand does: what is committed of a stream ends before it."""
        if one.partition in self._time.frontiers:
            one.position = self._cursor.offset if one.at is None else one.at
            self._attempt.failed = (one.partition, one.position)
