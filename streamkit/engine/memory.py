"""What a task remembers over restarts beside its state: notes, committed with its inputs' offsets.

The notes' format is that of `notes.py`.
"""

from collections.abc import Iterator

from streamkit.engine.ahead import name_of
from streamkit.engine.answers import Answers
from streamkit.engine.cursor import Place
from streamkit.engine.decisions import Decisions
from streamkit.engine.hot.moment import NEVER, EventFrontier
from streamkit.engine.journal import Finish, Silence, Step, Tables
from streamkit.engine.notes import Note, Paused
from streamkit.engine.task_time import Pause
from streamkit.engine.wiring import Parts
from streamkit.records import TopicPartition


class Memory:
    """How far everything is, and how far it was at the last commit."""

    def __init__(self, parts: Parts, decisions: Decisions, answers: Answers) -> None:
        self.loaded: dict[TopicPartition, int] = {}
        """How far tables had been read at the last commit."""
        self.loaded_ahead: dict[TopicPartition, int] = {}
        """The same of those that are read ahead."""
        self._is_anew = False  # at a place that its journal may be past
        self.was_idle = False
        """Whether an input was at the last commit."""
        self._tables = [TopicPartition(topic, parts.site.number) for topic in parts.merged]
        self._decisions = decisions
        self._answers = answers
        self._ending = parts.ending
        self._time = parts.time
        self._inputs = parts.inputs
        self._tickers = parts.tickers
        self._merge = parts.merge
        self._ahead = parts.ahead
        self._marked = parts.site.marked
        self._first = next(iter(parts.frontiers))

    def note(self, partition: TopicPartition) -> Note:
        """What to commit with the position of an input; with the first one, the task's."""
        note = Note()
        frontier = self._time.frontiers[partition]
        if isinstance(frontier, EventFrontier):
            note.latest = frontier.latest if frontier.latest > NEVER else None
            note.idle = frontier.is_idle
        else:
            note.tasks = frontier.tasks
            note.told = [
                (m.task, m.watermark, int(m.idle) + 2 * m.finished)
                for _, m in sorted(frontier.told.items())
            ]
            note.counted = tuple(sorted(frontier.counted))
        if partition in self._tickers:
            note.ticked = self._tickers[partition].last
        one = self._inputs[partition]
        if self._merge.has(one):
            note.passed = self._merge.passed(one)
        if partition == self._first:
            self._add_task(note)
        return note

    def _add_task(self, note: Note) -> None:
        for table in self._tables:
            note.tables[table.topic] = self._inputs[table].position
            if (met := self._merge.passed(self._inputs[table])) is not None:
                note.tables_passed[table.topic] = met
        note.ahead, note.asked = self._ahead.positions(), self._ahead.asked()
        note.steps = self._decisions.steps
        note.waiting = self._answers.waiting
        note.end, note.finished = self._ending.last
        note.watermark = self._time.watermark
        note.closed = {
            node.name: timed.time.closed
            for timed, node in self._time.timed
            if timed.time.closed > NEVER
        }
        note.paused = self._paused()

    def _paused(self) -> Paused | None:
        acting, giving = self._time.pause, self._answers.pause
        if acting is None and giving is None:
            return None
        at = giving if acting is None else acting.at
        assert at is not None
        marks = self._marks(at)
        if acting is None:
            return Paused(at, False, (), False, marks)
        before = acting.before
        marks_before = {} if before is None else self._marks(before)
        return Paused(at, True, acting.closing, acting.end, marks, before, marks_before)

    def _marks(self, at: Place) -> dict[str, tuple[int, ...]]:
        return {name: found for name, one in self._marked.items() if (found := one.marks(at))}

    def begin(self, partition: TopicPartition, note: Note | None, journaled: bool) -> None:
        """Be as far as an input's note says; `journaled`: the journal has entries already."""
        if note is not None:
            self._recall(partition, note)
        elif journaled and self._merge.has(self._inputs[partition]):
            self._is_anew = True

    def _recall(self, partition: TopicPartition, note: Note) -> None:
        frontier = self._time.frontiers[partition]
        if isinstance(frontier, EventFrontier):
            if note.latest is not None:
                frontier.latest = note.latest
            # A live task begins with all inputs active again, since much may have come meanwhile;
            # that is a decision of the wall clock too.
            self.was_idle |= note.idle
            frontier.is_idle = note.idle and self._decisions.whole is not None
        else:
            for marker in note.markers():
                frontier.take(marker)
            frontier.counted = frozenset(note.counted)
        if note.ticked is not None and partition in self._tickers:
            self._tickers[partition].begin(note.ticked)
        if note.passed is not None:
            self._merge.recall(self._inputs[partition], note.passed)
        self._decisions.skip(note.steps)
        self._ending.recall(note.end, note.finished)
        if note.finished:
            at_end = Finish(self._decisions.places(), note.end) if self._ending.is_outside else None
            self._decisions.pause(at_end)
        for table in self._tables:
            if (position := note.tables.get(table.topic)) is not None:
                self.loaded[table] = self._inputs[table].position = position
            if table.topic in note.tables_passed:
                self._merge.recall(self._inputs[table], note.tables_passed[table.topic])
        self.loaded_ahead |= self._ahead.recall(note.ahead, note.asked)
        clock = self._time.clock
        if note.watermark is not None:
            clock.watermark = max(clock.watermark, note.watermark)
        for timed, node in self._time.timed:
            timed.time.closed = max(timed.time.closed, note.closed.get(node.name, NEVER))
        if (paused := note.paused) is not None:
            if paused.acting:
                self._time.pause = Pause(paused.at, paused.closing, paused.end, paused.before)
            self._answers.interrupted = paused.at
            for at, of in ((paused.at, paused.marks), (paused.before, paused.marks_before)):
                for name, marks in of.items():
                    if at is not None and name in self._marked:
                        self._marked[name].begin_at(at, marks)

    def begun(self) -> Iterator[Step]:
        """What the start of a task has decided that follows no journal."""
        tables = {str(one): self.loaded.get(one, 0) for one in self._tables}
        if self._is_anew:
            ahead = {name_of(one): self.loaded_ahead.get(one, 0) for one in self._ahead.inputs}
            yield Silence(self._decisions.places() | tables | ahead)
        # Without a commit before, and where it had to.
        to = {
            str(one): self._inputs[one].position
            for one in self._tables
            if self._inputs[one].position > self.loaded.get(one, 0)
        }
        if to:
            yield Tables(self._decisions.places() | tables, to)
        if self.was_idle:
            yield Silence(self._decisions.places())
