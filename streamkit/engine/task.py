"""One task: a sub-topology at work on one partition number. It takes columns and gives rows.

The shell around it reads and writes the log; live, replay and tests differ only there:

    task = Task(topology, layout, subtopology, number, run=clock.now())
    task.resume({partition: Position(offset, metadata) ...})     each of task.inputs
    task.restore(changelog, columns) ...                          up to the committed end
    task.load_table(partition, columns) ...                       each of task.tables, to its end
    commit task.checkpoint(), if it is new (task.is_new)
    again and again:
        task.feed(partition, columns)         what was fetched of inputs and tables
        task.caught_up(partitions)            those of which there was nothing more
        task.run()
        append what task.drain() gives
        from time to time commit task.checkpoint(); task.idle(...) when nothing comes

What a task gives is a function of what it was fed, however that was cut into columns. Two things
depend on the wall clock, and both are decided by the shell: `idle`, and when it drains, which is
where markers of time stand in a repartition topic. Markers are records in the log, so that whoever
reads them does the same again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from streamkit.dsl.nodes.node import Node
from streamkit.dsl.nodes.outputs import Repartition
from streamkit.dsl.topology import Layout, SubTopology, Topology
from streamkit.engine.headers import Marker, identity
from streamkit.engine.inputs import Input, first_of
from streamkit.engine.limits import Limits
from streamkit.engine.notes import Note, read_note
from streamkit.engine.rows import Checkpoint, Drained, Position, Rows
from streamkit.engine.watermarks import (
    FOREVER,
    NEVER,
    EventFrontier,
)
from streamkit.engine.wiring import wire
from streamkit.records import Columns, TopicPartition

IDLE_AFTER = 5_000
"""After so many ms at its end an input no longer holds time back."""


@dataclass(slots=True)
class Stats:
    """What a task has done since it was made."""

    processed: int = 0
    """Records of inputs, markers and repeated ones included."""
    late: dict[str, int] = field(default_factory=dict)
    """Late events per window store. They are in its late topic."""
    repeated: int = 0
    """Repartitioned events that were read before, because their writer was killed, and skipped."""


class Task:
    """See the module. Not to be used from two threads at once.

    `run` is any number that no earlier fresh start of the app used: the time now, in ms. `limits`
    says what topics take, so that a record that one does not take fails as what it was made of.
    """

    def __init__(
        self,
        topology: Topology,
        layout: Layout,
        subtopology: SubTopology,
        number: int,
        *,
        run: int,
        limits: Mapping[str, Limits] | None = None,
        idle_after: int = IDLE_AFTER,
    ) -> None:
        self.subtopology = subtopology
        self.number = number
        self.torn = False
        """An error left a record half done in the state: neither drain nor commit the task, drop
        it; what it did since its last checkpoint will be done again."""
        self.failed: tuple[TopicPartition, int] | None = None
        """The record of `inputs` that could not be processed, by its partition and offset."""
        self._tasks = layout.tasks[subtopology.name]
        self._idle_after = idle_after
        self._run = run
        self._stats = Stats()
        self._told: dict[str, Marker] = {}
        self._runs: dict[TopicPartition, int] = {}

        parts = wire(topology, layout, subtopology, number, self._moved, limits or {})
        self._clock = parts.clock
        self._cursor = parts.cursor
        self._outlets = parts.outlets
        self._site = parts.site
        self._timed = tuple(parts.site.timed)
        self._stores = {one.changelog: parts.site.stores[one.name] for one in subtopology.stores}
        self._tables = parts.tables
        self._inputs = parts.inputs
        self._frontiers = parts.frontiers
        self._seen = parts.seen

    # What it is.

    @property
    def inputs(self) -> tuple[TopicPartition, ...]:
        """The partitions it reads as streams; their positions are committed."""
        return tuple(self._frontiers)

    @property
    def tables(self) -> tuple[TopicPartition, ...]:
        """The partitions it holds as tables: loaded first, from their start, then fed as they grow.

        Their positions are not committed.
        """
        return tuple(one for one in self._inputs if one not in self._frontiers)

    @property
    def changelogs(self) -> tuple[str, ...]:
        """The topics that its stores' changes are kept in, each at the task's number."""
        return tuple(self._stores)

    @property
    def is_new(self) -> bool:
        """Whether an input carried no note: commit a checkpoint before the first `feed`.

        Else a task that is killed before its first commit begins another run, and what it handed
        over already is taken for new.
        """
        return any(run == self._run for run in self._runs.values())

    @property
    def positions(self) -> dict[TopicPartition, int]:
        """The offset of each of `inputs` before which everything has been processed."""
        return {partition: self._inputs[partition].position for partition in self._frontiers}

    @property
    def buffered(self) -> int:
        """Records fed and not processed."""
        return sum(one.length for one in self._inputs.values())

    @property
    def hungry(self) -> tuple[TopicPartition, ...]:
        """The inputs and tables of which nothing is buffered: what to fetch next."""
        return tuple(one.partition for one in self._inputs.values() if not one.length)

    @property
    def watermark(self) -> int | None:
        """No event before this time (ms) is expected any more; None: nothing is known yet."""
        return self._clock.watermark if self._clock.watermark > NEVER else None

    @property
    def idle_steps(self) -> tuple[int, ...]:
        """After how many ms of silence `idle` has something to do, ascending."""
        closing = (_patience(node) for _, node in self._timed)
        return tuple(sorted({self._idle_after, *(ms for ms in closing if ms is not None)}))

    @property
    def stats(self) -> Stats:
        """Counted until now."""
        for late in self._site.late:
            self._stats.late[late.name] = late.count
        self._stats.repeated = sum(seen.repeated for seen in self._seen.values())
        return self._stats

    # Beginning.

    def resume(self, positions: Mapping[TopicPartition, Position]) -> None:
        """Say where each of `inputs` is read from, with what was committed there.

        Raises KeyError when one is missing, DataError when a note is not a task's.
        """
        for partition in self.inputs:
            position = positions[partition]
            note = read_note(position.metadata, partition)
            one = self._inputs[partition]
            one.position = position.offset
            self._runs[partition] = run = note.run if note is not None else self._run
            one.prefix = identity(run, self.number, partition.topic)
            if note is not None:
                self._recall(partition, note)
        # The watermark is in the first input's note: when that is gone, windows begin anew too.
        run = self._runs[self.inputs[0]]
        for _, node in self._timed:
            self._site.prefixes[node.name] = identity(run, self.number, node.name)

    def restore(self, changelog: str, columns: Columns) -> None:
        """Take in records of a changelog, in order, up to its committed end. Raises SerdeError."""
        self._stores[changelog].load(columns)
        self._update_due()

    def stored(self, changelog: str, key: bytes) -> bytes | None:
        """A key's value as its changelog should have it; None: it has none."""
        return self._stores[changelog].stored(key)

    def load_table(self, partition: TopicPartition, columns: Columns) -> None:
        """Take in records of a table, in order, before the first `feed`. Raises SerdeError."""
        self._tables[partition.topic].load(partition, columns, 0, len(columns))

    # Working.

    def feed(self, partition: TopicPartition, columns: Columns) -> None:
        """Hand over the next records of an input or a table, in order."""
        self._inputs[partition].add(columns)
        frontier = self._frontiers.get(partition)
        if isinstance(frontier, EventFrontier) and len(columns):
            frontier.is_idle = False

    def caught_up(self, partitions: Iterable[TopicPartition]) -> None:
        """These stood at their end when last fetched: nobody has to wait for them.

        A task with several inputs merges them by time and therefore does nothing while one has
        nothing buffered and has not been said to be at its end.
        """
        for partition in partitions:
            one = self._inputs[partition]
            one.at_end = not one.length

    def run(self, limit: int | None = None) -> int:
        """Process what was fed, at most about `limit` records; how many it was.

        Inputs are merged by smallest timestamp, then topic, partition, offset. Raises
        FunctionError, SerdeError, DataError, RecordTooLarge or InvalidRecord; then what was fully
        processed before can still be drained and committed, unless the task is `torn`; the task is
        not run again. Its checkpoint ends before the record that failed.
        """
        done = 0
        limit = 1 << 62 if limit is None else limit
        inputs = list(self._inputs.values())
        while done < limit:
            chosen = first_of(inputs)
            if chosen is None:
                break
            done += self._process(*chosen, limit - done)
        self._stats.processed += done
        return done

    def idle(self, silence: Mapping[TopicPartition, int]) -> None:
        """Say for how long inputs have stood at their end, in ms of the wall clock.

        An input that has for `idle_after` no longer holds the watermark back, until it is fed
        again; when all have, downstream tasks are told so. Windows with `close_after_idle` close,
        all of them, once *all* inputs have for that long; a repartition input only counts as
        silent when all its upstream tasks have said that they are idle. Does nothing while
        something is buffered. Raises like `run`; the task is then torn.
        """
        if self.buffered:
            return
        quiet = FOREVER
        for partition, frontier in self._frontiers.items():
            still = silence.get(partition, 0)
            if isinstance(frontier, EventFrontier):
                frontier.is_idle = still >= self._idle_after
                quiet = min(quiet, still)
            else:
                quiet = min(quiet, still if frontier.is_idle else 0)
        self._act(quiet)

    def finish(self, watermark: int) -> None:
        """Say that nothing more will come from outside: its inputs have come to `watermark` (ms).

        How a replay of a bounded piece of history ends. Downstream tasks are told by markers.
        """
        for frontier in self._frontiers.values():
            if isinstance(frontier, EventFrontier):
                frontier.latest = max(frontier.latest, watermark + frontier.out_of_order)
                frontier.is_idle = False
        self._act(0)

    def drain(self) -> Drained:
        """Take what was made since the last call."""
        drained = Drained(self._outlets.drain())
        for node in self.subtopology.nodes:
            if isinstance(node, Repartition):
                marker = self._marker(node)
                if self._told.get(node.topic) != marker:
                    self._told[node.topic] = marker
                    stamp = max(marker.watermark or 0, 0)
                    drained.everywhere[node.topic] = Rows(
                        [None], [None], [stamp], [marker.headers()]
                    )
        return drained

    def checkpoint(self) -> Checkpoint:
        """What to commit now: every input's position, and all changes of state since last time.

        Call it after `drain`, and commit it whole or drop the task: the changes are given once.
        """
        assert not self.torn, "a torn task is dropped, not committed"
        positions = {
            partition: Position(self._inputs[partition].position, self._note(partition).text())
            for partition in self._frontiers
        }
        changes = {topic: store.changes() for topic, store in self._stores.items()}
        return Checkpoint(positions, {topic: rows for topic, rows in changes.items() if rows})

    # Inside.

    def _process(self, one: Input, before: Any, limit: int) -> int:
        columns, start, stop = one.chunk(before, limit)
        self._enter(one.partition.topic, one.partition.partition, one.prefix)
        try:
            one.read(columns, start, stop)
        except Exception:
            # What was made of the failed record is forgotten; what it was given of the state may
            # have been changed in place, and cannot be.
            one.position = self._cursor.offset
            if one.partition in self._frontiers:
                self.failed = (one.partition, one.position)
            self._outlets.take_back()
            touched = {store.touched for store in self._stores.values()}
            self.torn = self._cursor.offset in touched
            raise
        except BaseException:
            self.torn = True
            raise
        one.done(stop)
        return stop - start

    def _act(self, quiet: int) -> None:
        """Let time pass without a record: what is made so has no source."""
        self._enter("", self.number, b"")
        try:
            if self._clock.observe(self._frontiers.values()):
                self._advance()
            for timed, node in self._timed:
                patience, last = _patience(node), timed.last
                if patience is not None and quiet >= patience and last is not None:
                    timed.time.closed = max(timed.time.watermark, last)
                    timed.advance()
            self._update_due()
        except BaseException:
            self.torn = True
            raise

    def _enter(self, topic: str, partition: int, prefix: bytes) -> None:
        self._cursor.enter(topic, partition, prefix)
        self._outlets.begin()
        for store in self._stores.values():
            store.touched = -2

    def _moved(self) -> None:
        if self._clock.observe(self._frontiers.values()):
            self._advance()

    def _advance(self) -> None:
        # In the order of the nodes: results of one window may open another.
        for timed, _ in self._timed:
            timed.advance()
        self._update_due()

    def _update_due(self) -> None:
        self._clock.due = FOREVER
        for timed, _ in self._timed:
            if (due := timed.due) is not None:
                timed.time.wake(due)

    def _marker(self, node: Repartition) -> Marker:
        reached = self._clock.watermark
        idle = all(frontier.is_idle for frontier in self._frontiers.values())
        told = None if reached <= NEVER else reached - self._site.delays[node]
        return Marker(self.number, self._tasks, told, idle)

    # Committed with the offsets.

    def _note(self, partition: TopicPartition) -> Note:
        note = Note(run=self._runs[partition])
        frontier = self._frontiers[partition]
        if isinstance(frontier, EventFrontier):
            note.latest = frontier.latest if frontier.latest > NEVER else None
        else:
            note.told = [
                (m.task, m.tasks, m.watermark, int(m.idle))
                for _, m in sorted(frontier.told.items())
            ]
            places = self._seen[partition].places
            note.seen = {str(prefix, "ascii"): place for prefix, place in sorted(places.items())}
        if partition == self.inputs[0]:
            note.watermark = self.watermark
            note.closed = {
                node.name: timed.time.closed
                for timed, node in self._timed
                if timed.time.closed > NEVER
            }
        return note

    def _recall(self, partition: TopicPartition, note: Note) -> None:
        frontier = self._frontiers[partition]
        if isinstance(frontier, EventFrontier):
            if note.latest is not None:
                frontier.latest = note.latest
        else:
            for marker in note.markers():
                frontier.take(marker)
            places = ((prefix.encode("ascii"), place) for prefix, place in note.seen.items())
            self._seen[partition].places.update(places)
        if note.watermark is not None:
            self._clock.watermark = max(self._clock.watermark, note.watermark)
        for timed, node in self._timed:
            timed.time.closed = max(timed.time.closed, note.closed.get(node.name, NEVER))


def _patience(node: Node) -> int | None:
    """After how many ms of silence of all inputs what the node has open closes; None: never."""
    patience: int | None = getattr(node, "close_after_idle", None)
    return patience
