"""One task: a sub-topology at work on one partition number. It takes columns and gives rows.

The shell around it reads and writes the log; live, replay and tests differ only there:

    task = Task(topology, layout, subtopology, number)
    task.resume({partition: Position(offset, metadata) ...})     each of task.inputs
    task.restore(changelog, columns) ...                          up to the committed end
    task.load_table(partition, columns) ...                       each of task.tables and task.ahead
    again and again:
        task.feed(partition, columns)         what was fetched of inputs and tables
        task.caught_up(partitions)            those of which there was nothing more
        task.feed_ahead(partition, columns)   what there is of tables that are read ahead
        task.caught_up_ahead(partitions)
        task.tick(now)                        for those that read ticks of the wall clock
        task.run()
        append what task.drain() gives
        from time to time commit task.checkpoint(), and then task.settle(); task.idle(...) when
        nothing comes

What a task gives is a function of what it was fed, however that was cut into columns, and of what
the wall clock decided: which input had nothing yet when another was read on (`caught_up`), which
was idle, and what closed for it (`idle`), that nothing more was to come (`end`), how far tables
were read at the start, which of their rows came too late, what was too far ahead of the clock
(`run`). It gives these decisions as rows of its journal, with the changes of its state. A task that
is given such a journal takes none itself, and does again what the one did that wrote it.

When it drains is where markers of time stand in a repartition topic. They are records in the log,
so that whoever reads them does the same again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from streamkit.dsl.topology import Layout, SubTopology, Topology
from streamkit.engine.answers import Answers
from streamkit.engine.decisions import Decisions
from streamkit.engine.failed import Failed
from streamkit.engine.hot.moment import EventFrontier
from streamkit.engine.journal import Entry, Finish, Silence
from streamkit.engine.late import TooLate
from streamkit.engine.limits import Limits
from streamkit.engine.markers import Markers
from streamkit.engine.memory import Memory
from streamkit.engine.node_time import StillOpen
from streamkit.engine.notes import read_note
from streamkit.engine.patience import IDLE_AFTER, Patience, Quiet
from streamkit.engine.rows import Checkpoint, Drained, Position
from streamkit.engine.state.table import TableStore
from streamkit.engine.stats import Stats
from streamkit.engine.tables import AheadRows
from streamkit.engine.turn import Turn
from streamkit.engine.waiting import Calls, Request
from streamkit.engine.wiring import wire
from streamkit.records import Columns, TopicPartition


class Task:
    """See the module. Not to be used from two threads at once.

    `limits` says what topics take, so that a record that one does not take fails as what it was
    made of. `journal` has the decisions to take in place of own ones; when it is not `whole`, only
    those when to finish."""

    def __init__(
        self,
        topology: Topology,
        layout: Layout,
        subtopology: SubTopology,
        number: int,
        *,
        limits: Mapping[str, Limits] | None = None,
        idle_after: int = IDLE_AFTER,
        journal: Iterable[Entry] | None = None,
        calls: Calls | None = None,
        whole: bool = True,
    ) -> None:
        self.subtopology = subtopology
        self.number = number

        def start(request: Request) -> None:
            assert calls is not None, "who runs such a task makes its calls"
            calls.start(request)

        parts = wire(topology, layout, subtopology, number, limits or {}, start)
        self.stores = {one.changelog: parts.site.store(one.name) for one in subtopology.stores}
        """By changelog: for who commits."""
        self.merged = {
            TopicPartition(topic, number): rows.store for topic, rows in parts.merged.items()
        }
        """The rows of `tables`, for who restores and commits."""
        self.ahead_rows = parts.ahead_rows
        """By topic the rows of tables that are read ahead."""
        self._stores = {one.changelog: parts.site.stores[one.name] for one in subtopology.stores}
        self._stats = Stats()
        self._cursor = parts.cursor
        self._outlets = parts.outlets
        self._site = parts.site
        self._attempt = parts.attempt
        self._time = parts.time
        self._ending = parts.ending
        self._inputs = parts.inputs
        self._frontiers = parts.frontiers
        self._horizons = parts.horizons
        self._tickers = parts.tickers
        self._ahead = parts.ahead
        alone = not subtopology.repartitions and not parts.site.ordered
        self._patience = Patience(parts.time, idle_after, alone=alone)
        self._markers = Markers(
            subtopology, layout.tasks[subtopology.name], parts.site, parts.ending
        )
        self._decisions = decisions = Decisions(parts.named)
        enter = parts.attempt.enter
        self._answers = Answers(parts.site, parts.time, calls, decisions.places, enter)
        self._memory = Memory(parts, decisions, self._answers)
        self._turn = Turn(parts, decisions, self._answers, self._memory)
        self.counting = self._turn.counting  # tasks upstream: for who asks the log
        decisions.others += (parts.merge.held, parts.ahead.held)
        decisions.others += (horizon.decided for horizon in parts.horizons)
        decisions.others.append(self._answers.parked)
        if journal is not None:
            parts.merge.script = script = decisions.follow(journal, whole)
            if whole:
                for horizon in parts.horizons:
                    horizon.follow(script)
                self._answers.follow(script)

    # What it is.

    @property
    def torn(self) -> bool:
        """An error left a record half done in the state: neither drain nor commit the task, drop
        it; what it did since its last checkpoint will be done again."""
        return self._attempt.torn

    @property
    def failed(self) -> tuple[TopicPartition, int] | None:
        """The record of `inputs` that could not be processed, by its partition and offset."""
        return self._attempt.failed

    @property
    def comes_again(self) -> str | None:
        """Of what could not be processed: why it is met again, whatever record is skipped; None:
        with its record."""
        if self._attempt.waits:
            return "It waits in the app's state, and comes first in the next run"
        if self._time.acting:
            return "It was given as time passed, by what is in the app's state, and will be again"
        return None

    @property
    def inputs(self) -> tuple[TopicPartition, ...]:
        """The partitions it reads as streams; their positions are committed."""
        return tuple(self._frontiers)

    @property
    def tables(self) -> tuple[TopicPartition, ...]:
        """The partitions it reads as tables, merged with the inputs: loaded first, then fed as they
        grow. How far, is in the notes that are committed with the inputs' positions."""
        return tuple(self.merged)

    @property
    def ahead(self) -> tuple[TopicPartition, ...]:
        """The partitions of tables that it reads ahead of the inputs: so are these."""
        return tuple(self._ahead.inputs)

    @property
    def changelogs(self) -> tuple[str, ...]:
        """The topics that its stores' changes are kept in, each at the task's number."""
        return tuple(self._stores)

    @property
    def positions(self) -> dict[TopicPartition, int]:
        """The offset of each of `inputs` before which everything has been processed."""
        return {partition: self._inputs[partition].position for partition in self._frontiers}

    @property
    def buffered(self) -> int:
        """Records fed and not processed."""
        return sum(one.length for one in self._inputs.values()) + self._ahead.buffered

    @property
    def hungry(self) -> tuple[TopicPartition, ...]:
        """The inputs and tables of which nothing is buffered: what to fetch next."""
        return tuple(one.partition for one in self._inputs.values() if not one.length)

    @property
    def watermark(self) -> int | None:
        """No event before this time (ms) is expected any more; None: nothing is known yet."""
        return self._time.watermark

    @property
    def idle_steps(self) -> tuple[int, ...]:
        """After how many ms of silence `idle` has something to do, ascending."""
        return self._patience.steps

    @property
    def is_finished(self) -> bool:
        """Whether all that it had open was closed because nothing more came, and nothing has."""
        return self._ending.is_finished

    @property
    def last_end(self) -> tuple[int, int]:
        """The number of the last end that it was told of, and 0: something came since, 1: nothing
        did from outside, 2: and all that was open is closed."""
        return self._ending.last

    @property
    def open(self) -> dict[str, StillOpen]:
        """What waits for more events, or for their end, by step."""
        found = ((node.name, timed.open) for timed, node in self._time.timed)
        return {name: one for name, one in found if one is not None}

    @property
    def answers(self) -> Answers:
        """What waits in it for answers: it has to be run again when some are there."""
        return self._answers

    @property
    def tick_at(self) -> int | None:
        """When (ms) `tick` next has something to do; None: never, or it was not called yet."""
        known = [ticker.next for ticker in self._tickers.values() if ticker.next is not None]
        return min(known, default=None)

    @property
    def is_interrupted(self) -> bool:
        """Whether it has to be run again, whatever comes, to go on with what it was in the middle
        of."""
        return self._turn.is_interrupted

    @property
    def gone_on(self) -> int:
        """How often it has."""
        return self._turn.gone_on

    @property
    def stats(self) -> Stats:
        """Counted until now."""
        for late in self._site.late:
            self._stats.late[late.name] = late.count
        for horizon in self._horizons:
            self._stats.ahead[horizon.name] = horizon.count
        for failing in self._site.failing:
            self._stats.skipped[failing.name] = failing.skipped
            self._stats.dead[failing.name] = failing.dead
        return self._stats

    def failures(self) -> list[Failed]:
        """Of each step that has skipped events since the last call, set them aside, or put them
        off, about the last of them."""
        return [failed for failing in self._site.failing for failed in failing.failed()]

    def late(self) -> list[TooLate]:
        """Of each node that events came too late for since the last call, which they are."""
        told = (late.told() for late in self._site.late)
        return [late for late in told if late is not None]

    # Beginning.

    def resume(
        self, positions: Mapping[TopicPartition, Position], *, journaled: bool = False
    ) -> None:
        """Say where each of `inputs` is read from, with what was committed there; `journaled`: its
        journal has entries already.

        Raises KeyError when one is missing, DataError when a note is not a task's."""
        for partition in self.inputs:
            position = positions[partition]
            note = read_note(position.metadata, partition)
            one = self._inputs[partition]
            one.position = position.offset
            self._memory.begin(partition, note, journaled)

    def restore(self, changelog: str, columns: Columns) -> None:
        """Take in records of a changelog, in order, up to its committed end. Raises SerdeError."""
        self._stores[changelog].load(columns)

    def stored(self, changelog: str, key: bytes) -> bytes | None:
        """A key's value as its changelog should have it; None: it has none."""
        return self._stores[changelog].stored(key)

    def load_table(self, partition: TopicPartition, columns: Columns) -> None:
        """Take in records of a table, in order, before the first `feed`. Raises SerdeError.

        Up to `load_until`."""
        rows = self.merged[partition]
        rows.take(partition.partition, columns, 0, len(columns))
        # Nothing here depends on a commit that is still to come.
        rows.mark()
        rows.settle()
        self._inputs[partition].skip(columns)

    def load_ahead(self, partition: TopicPartition, columns: Columns) -> None:
        """The same for a table that is read ahead."""
        rows = self.ahead_rows[partition.topic]
        rows.take(partition.partition, columns, 0, len(columns))
        self._ahead.inputs[partition].skip(columns)

    def loaded(self, partition: TopicPartition, position: int, *, ahead: bool = False) -> None:
        """A table is about to have what is before a position, by whatever way, and nothing else."""
        (self._ahead.inputs if ahead else self._inputs)[partition].position = position

    def load_until(self, partition: TopicPartition, *, ahead: bool = False) -> int | None:
        """The offset of a table that it is to be loaded to: what was committed. None, before the
        first commit: to its end."""
        known = self._memory.loaded_ahead if ahead else self._memory.loaded
        return known.get(partition, None if self._decisions.whole is None else 0)

    # Working.

    def feed(self, partition: TopicPartition, columns: Columns) -> None:
        """Hand over the next records of an input or a table, in order."""
        self._inputs[partition].add(columns)

    def tick(self, now: int) -> None:
        """Write the ticks that are due at a time (ms) of the wall clock, for itself to be fed."""
        if self._tickers:
            self._attempt.enter("", self.number)
            for ticker in self._tickers.values():
                ticker.tick(now)

    def caught_up(self, partitions: Iterable[TopicPartition]) -> None:
        """These stood at their end when last fetched: nobody has to wait for them.

        A task with several inputs merges them by time and therefore does nothing while one has
        nothing buffered and has not been said to be at its end."""
        for partition in partitions:
            one = self._inputs[partition]
            one.at_end = not one.length

    def feed_ahead(self, partition: TopicPartition, columns: Columns) -> None:
        """Hand over the next records of a table that is read ahead, in order. Raises SerdeError."""
        self._ahead.inputs[partition].add(columns)
        if self._decisions.whole is None:
            self._ahead.read(None)

    def caught_up_ahead(self, partitions: Iterable[TopicPartition]) -> None:
        """These stood at their end since the inputs' last records were fetched.

        No event is processed before that was said of all that are read ahead."""
        for partition in partitions:
            self._ahead.inputs[partition].at_end = True

    def run(self, limit: int | None = None, *, now: int | None = None) -> int:
        """Process what was fed, at most about `limit` records; how many it was.

        Before them, and in between, the results of calls leave whose answers are there. As long as
        too much waits for answers, nothing is processed.

        `now` is the wall clock's time in ms, for streams with a `max_ahead` and steps that have to
        do with it; None: as last time.
        Inputs are merged by smallest timestamp, then topic, partition, offset. Raises
        FunctionError, SerdeError, DataError, RecordTooLarge or InvalidRecord; then what was fully
        processed before can still be drained and committed, unless the task is `torn`; the task is
        not run again. Its checkpoint ends before the record that failed.
        """
        done = self._turn.run(limit, now)
        self._stats.processed += done
        return done

    def enough(self) -> None:
        """From another thread: have `run` return after the record that it is at; where that, or an
        answer, has brought about much, in the middle of it."""
        self._cursor.enough = True
        self._cursor.rung = True

    def idle(self, silence: Mapping[TopicPartition, int]) -> None:
        """Say for how long inputs have stood at their end, in ms of the wall clock.

        An input that has for `idle_after` no longer holds the watermark back, until there is more
        of it; when all have, downstream tasks are told so. Windows with `close_after_idle`
        close, all of them, once *all* inputs have for that long; a repartition input only counts as
        silent when all its upstream tasks have said that they are idle. Does nothing while
        something is buffered, or a journal has something to say. Raises like `run`; the task is
        then torn.
        """
        self._quieten(None if self._is_busy else self._patience.ends(silence))

    def rouse(self, has_more: Callable[[TopicPartition], bool]) -> bool:
        """Say which inputs have more to be read: these are idle no longer, as at the start of the
        task none is. False when none was."""
        begins = self._turn.begin()
        quiet = None if self.is_interrupted else self._patience.begins(has_more)
        return self._quieten(quiet) or begins

    def is_due(self, silence: Mapping[TopicPartition, int]) -> bool:
        """Whether `idle` has something to do after such a silence."""
        return not self._is_busy and self._patience.ends(silence) is not None

    @property
    def _is_busy(self) -> bool:
        return self.buffered > 0 or self.is_interrupted or self._decisions.is_told

    def leave_out(self) -> None:
        """Say that all there is has been processed, by all tasks: an input that never had an event
        no longer holds the watermark back, until it has one. Otherwise as `idle`.
        """
        self._quieten(None if self._is_busy else self._patience.leaves_out())

    def _quieten(self, quiet: Quiet | None) -> bool:
        if quiet is None or self._decisions.is_told:
            return False
        return self._decide(Silence(self._decisions.places(), *quiet))

    def end(self, number: int) -> bool:
        """Say that nothing more comes, for now: what windows, sessions and joins have open closes.

        All tasks are told under one `number`, each end has a greater one.
        Where it reads what other tasks hand over, these have to have finished before, and tell it
        by markers. What comes later is processed as ever, and is late for what was closed. False
        when nothing was to be done, or cannot be yet; raises like `run`, the task is then torn.
        """
        ending = self._ending
        is_told = ending.is_told and ending.number == number
        if self.buffered or self.is_interrupted or self._answers.is_waiting:
            return False
        if is_told and ending.is_finished:
            return False
        if is_told or not ending.is_outside:
            ending.go_on()
            return ending.is_finished
        return self._decide(Finish(self._decisions.places(), number))

    def end_at_rest(self, last: int) -> bool:
        """The same, if the journal that it follows says so where it is, with a number up to `last`.
        For when nothing more comes of other tasks until that end."""
        step = self._decisions.due_at_rest(last)
        return step is not None and self._turn.take(step)

    def _decide(self, step: Finish | Silence) -> bool:
        if self.subtopology.journal is not None:
            self._decisions.own.append(step)
        return self._turn.take(step)

    @property
    def paused_at(self) -> int | None:
        """The number of the `end` that its journal has where it is: it takes no more records until
        it is to `go_on`, as others may have to finish first. None: it is at none."""
        return self._ending.number if self._decisions.is_paused else None

    def go_on(self) -> None:
        """Behind such an end."""
        self._decisions.pause(None)

    def finish(self, watermark: int) -> None:
        """Say that nothing more will come from outside: its inputs have come to `watermark` (ms).

        How a replay of a bounded piece of history ends. Downstream tasks are told by markers.
        """
        for frontier in self._frontiers.values():
            if isinstance(frontier, EventFrontier):
                frontier.latest = max(frontier.latest, watermark + frontier.out_of_order)
                frontier.is_idle = False
        self._time.let_pass()

    def drain(self) -> Drained:
        """Take what was made since the last call."""
        drained = Drained(self._outlets.drain())
        if not self.is_interrupted:  # what is still to be given is not late for anybody
            drained.everywhere.update(self._markers.news())
        return drained

    @property
    def changing(self) -> list[str]:
        """The topics that the next checkpoint has changes for, as far as is known."""
        changing = [topic for topic, store in self._stores.items() if store.changed]
        if self._decisions.own and self.subtopology.journal is not None:
            changing.append(self.subtopology.journal)
        return changing

    def checkpoint(self) -> Checkpoint:
        """What to commit now: every input's position, and all changes of state since last time.

        Call it after `drain`, and commit it whole or drop the task: the changes are given once.
        """
        assert not self._attempt.torn, "a torn task is dropped, not committed"
        self._turn.begin()
        positions = {
            partition: Position(
                self._inputs[partition].position, self._memory.note(partition).text()
            )
            for partition in self._frontiers
        }
        changes = {topic: store.changes() for topic, store in self._stores.items()}
        if self.subtopology.journal is not None:
            changes[self.subtopology.journal] = self._decisions.rows(
                max(self._time.clock.watermark, 0)
            )
        for rows in self._rows:
            rows.mark()
        return Checkpoint(positions, {topic: rows for topic, rows in changes.items() if rows})

    def settle(self) -> None:
        """What the first checkpoint gave, of those not told about, is committed."""
        for rows in self._rows:
            rows.settle()

    @property
    def _rows(self) -> Iterator[TableStore | AheadRows]:
        yield from self.merged.values()
        yield from self.ahead_rows.values()
