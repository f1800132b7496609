"""One task at work in one log: what it reads next, what it gives, and how it came to its state."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from streamkit.backends.base import Backend, Batch, Membership
from streamkit.backends.values import CommittedOffset, Unit
from streamkit.clock import Clock
from streamkit.engine.columns import before, within
from streamkit.engine.limits import Limits, limits_of
from streamkit.engine.outputs import Outputs
from streamkit.engine.restore import restore
from streamkit.engine.rows import Position, Rows
from streamkit.engine.task import Task
from streamkit.errors import OffsetOutOfRange, RecordTooLarge, StreamkitError, UnknownTopic
from streamkit.records import Columns, TopicPartition

FETCH_BYTES = 1 << 18
"""About how much a task reads at once: what bounds the memory of records on their way. More is not
faster."""
TURN = 0.1
"""About how many seconds a task works before the others, a commit, or a stop have their turn."""

RestoreProgress = Callable[[str, int, int], None]
"""Told while state comes back: the changelog or table, and the records done and in all."""


@dataclass(frozen=True, slots=True)
class Span:
    """What a replay reads of a partition: offsets [start, end), timestamps [since, until) in ms."""

    start: int
    end: int
    since: int
    until: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where an app runs: the log, its group there, and which topic stands for which.

    Tasks know the app's own topic names. `topics` has those that another topic stands for (the
    shadows of a replay). `spans` limits the partitions it names; others have no end. `ids` are
    those of the topics at the start, by their place in the log.
    """

    backend: Backend
    group: str
    topics: Mapping[str, str] = field(default_factory=dict)
    spans: Mapping[TopicPartition, Span] = field(default_factory=dict)
    ids: Mapping[str, str] = field(default_factory=dict)

    def refuse_successors(self) -> None:
        """Raises UnknownTopic when a topic is another one than at the start.

        Positions in the old one mean nothing in the one of its name: what stands before them there
        would never be read.
        """
        known = self.backend.topics()
        for name, topic_id in self.ids.items():
            if name not in known or known[name].topic_id != topic_id:
                raise UnknownTopic(
                    f"{name} was deleted{' and made anew' if name in known else ''} while "
                    f"{self.group} ran; start it again, and it begins with what is there then"
                )

    def topic(self, name: str) -> str:
        return self.topics.get(name, name)

    def partition(self, partition: TopicPartition) -> TopicPartition:
        return TopicPartition(self.topic(partition.topic), partition.partition)

    def start(self, partition: TopicPartition) -> int:
        """Where reading begins when nothing is committed."""
        span = self.spans.get(partition)
        return self.backend.offsets(partition).start if span is None else span.start

    def end(self, partition: TopicPartition) -> int:
        """Where reading ends, or would at this moment."""
        span = self.spans.get(partition)
        return self.backend.offsets(partition).end if span is None else span.end

    def limits(self) -> dict[str, Limits]:
        """What the topics take that are there, by the app's names for them."""
        known = self.backend.topics()
        places = {name: self.topic(name) for name in (*known, *self.topics)}
        return {name: limits_of(known[at].config) for name, at in places.items() if at in known}

    def cut(self, partition: TopicPartition, columns: Columns) -> Columns:
        """The part of some records that the partition's span lets through."""
        span = self.spans.get(partition)
        if span is None:
            return columns
        return within(before(columns, span.end), span.since, span.until)


class Running:
    """A task, and where its inputs stand in a log."""

    def __init__(self, task: Task, place: Place, outputs: Outputs, clock: Clock) -> None:
        self.task = task
        self.positions: dict[TopicPartition, int] = {}
        """The next offset to fetch of each input and table, by its place in the log."""
        self.whole = True
        """Whether everything the task gave has been appended; else it must not be committed."""
        self._place = place
        self._outputs = outputs
        self._clock = clock
        self._pace = 64
        self._names = {place.partition(each): each for each in (*task.inputs, *task.tables)}
        self._committed: dict[TopicPartition, CommittedOffset] = {}
        self._taken_back: dict[TopicPartition, CommittedOffset] = {}
        self._silent: dict[TopicPartition, float] = {}
        self._looked = 0.0

    # Beginning.

    def begin(
        self,
        committed: Mapping[TopicPartition, CommittedOffset],
        on_progress: RestoreProgress = lambda what, done, total: None,
    ) -> None:
        """Bring back state, positions and tables, as committed.

        A `commit` has to follow before the first `step`: it makes the taken back changes of a
        killed predecessor count, and tells this task's run from an earlier one.
        """
        for changelog in self.task.changelogs:
            self._restore(changelog, committed, on_progress)
        positions = {}
        for partition in self.task.inputs:
            at = self._place.partition(partition)
            was = committed.get(at)
            if was is None:
                was = CommittedOffset(self._place.start(at))
            else:
                self._committed[at] = was
            self.positions[at] = was.offset
            positions[partition] = Position(was.offset, was.metadata)
        self.task.resume(positions)
        for partition in self.task.tables:
            self._load(partition, on_progress)

    def _restore(
        self,
        changelog: str,
        committed: Mapping[TopicPartition, CommittedOffset],
        on_progress: RestoreProgress,
    ) -> None:
        name = TopicPartition(changelog, self.task.number)
        at = self._place.partition(name)
        valid = committed.get(at, CommittedOffset(0))
        taken_back = restore(
            self._place.backend,
            at,
            valid.offset,
            lambda columns: self.task.restore(changelog, columns),
            lambda done, total: on_progress(str(at), done, total),
        )
        if taken_back:
            keys, values = list(taken_back), list(taken_back.values())
            rows = Rows(keys, values, [0] * len(keys))
            end = self._outputs.append_to(changelog, self.task.number, rows)
            self._taken_back[at] = CommittedOffset(end)
        elif at in committed:
            self._committed[at] = valid

    def _load(self, partition: TopicPartition, on_progress: RestoreProgress) -> None:
        """Read a table to its end, so that the first event already finds its rows."""
        at = self._place.partition(partition)
        first, end = self._place.start(at), self._place.end(at)
        position = first
        while position < end:
            position = max(position, self._place.backend.offsets(at).start)  # retention goes on
            for batch in self._place.backend.fetch({at: position}, max_bytes=FETCH_BYTES):
                self.task.load_table(partition, self._place.cut(at, batch.columns()))
                position = batch.next_offset
            on_progress(str(at), min(position, end) - first, end - first)
        self.positions[at] = position

    # Working.

    def step(self) -> bool:
        """Read what there is, process some, append what it gave; False when there was nothing.

        Raises like `Task.run`.
        """
        now = self._looked = self._clock.monotonic()
        wanted = {}
        for partition in self.task.hungry:
            at = self._place.partition(partition)
            wanted[at] = self.positions[at]
        behind = {at: offset for at, offset in wanted.items() if not self._ended(at, offset)}
        batches = self._fetch(behind) if behind else []
        for batch in batches:
            at = batch.partition
            self.task.feed(self._names[at], self._place.cut(at, batch.columns()))
            self.positions[at] = batch.next_offset
            self._silent.pop(at, None)
            wanted.pop(at, None)
        self.task.caught_up(self._names[at] for at in wanted)
        for at in wanted:
            self._silent.setdefault(at, now)
        done = self._run(now + TURN)
        return self.flush() or bool(batches) or done > 0

    def _fetch(self, behind: Mapping[TopicPartition, int]) -> list[Batch]:
        """Raises OffsetOutOfRange for records that were removed before the app has read them.

        To go on without them is not for us to decide: results would be wrong, and nobody told.
        """
        try:
            return self._place.backend.fetch(behind, max_bytes=FETCH_BYTES)
        except OffsetOutOfRange as error:
            for at, offset in behind.items():
                start = self._place.backend.offsets(at).start
                if offset < start:
                    raise OffsetOutOfRange(
                        f"{at}@{offset} to {start - 1}: removed, by retention or a request, before "
                        f"{self._place.group} has read them. {self._without(at, start)}"
                    ) from error
            raise

    def _without(self, at: TopicPartition, start: int) -> str:
        """What to do about records that are gone."""
        if self._place.spans:
            return "Begin a new replay: it reads what is left"
        return (
            f"To go on without them: streamkit groups reset {self._place.group} --topic "
            f"{at.topic}:{at.partition} --to offset:{start}. To keep more: streamkit topics alter "
            f"{at.topic} --config retention.ms=..."
        )

    def _run(self, until: float) -> int:
        """Process until a time, at the pace that the user's functions turn out to have."""
        done = 0
        before = self._clock.monotonic()
        while before < until:
            some = self.task.run(self._pace)
            done += some
            if some < self._pace:
                break
            after = self._clock.monotonic()
            # A slice takes between a twentieth and half of a turn.
            if after - before < TURN / 20:
                self._pace *= 2
            elif after - before > TURN / 2:
                self._pace = max(1, self._pace // 4)
            before = after
        return done

    def _ended(self, at: TopicPartition, offset: int) -> bool:
        span = self._place.spans.get(at)
        return span is not None and offset >= span.end

    def idle(self) -> None:
        """Tell the task for how long its inputs have been silent, and append what that gave.

        Until the last `step`, not until now: while other tasks had their turn, or the process was
        stopped, something may have come.
        """
        self.task.idle(
            {
                partition: round((self._looked - self._silent[at]) * 1000)
                for at, partition in self._names.items()
                if at in self._silent
            }
        )
        self.flush()

    def flush(self) -> bool:
        """Append what the task has to give; False when it is nothing."""
        drained = self.task.drain()
        self.whole = False
        self._outputs.append(drained, self.task.number)
        self.whole = True
        return bool(drained.rows or drained.everywhere)

    def save(self) -> None:
        """After an error: append what was made before it, unless that is not to be had."""
        self.whole = self.whole and not self.task.torn
        if self.whole:
            self.flush()

    @property
    def lag(self) -> int:
        """How many offsets of its inputs are before it."""
        inputs = (self._place.partition(each) for each in self.task.inputs)
        return sum(max(0, self._place.end(at) - self.positions[at]) for at in inputs)

    @property
    def at_end(self) -> bool:
        """Whether everything there is to read has been processed."""
        return not self.task.buffered and all(
            offset >= self._place.end(at) for at, offset in self.positions.items()
        )

    # Committing.

    def checkpoint(self) -> dict[TopicPartition, CommittedOffset]:
        """Append the changes of state, and give the offsets to commit that are new."""
        checkpoint = self.task.checkpoint()
        offsets = {
            self._place.partition(partition): CommittedOffset(position.offset, position.metadata)
            for partition, position in checkpoint.positions.items()
        }
        offsets |= self._taken_back
        self._taken_back = {}
        for changelog, rows in checkpoint.changelog.items():
            at = self._place.partition(TopicPartition(changelog, self.task.number))
            try:
                end = self._outputs.append_to(changelog, self.task.number, rows)
            except RecordTooLarge as error:
                largest = max(range(len(rows)), key=lambda row: len(rows.values[row] or b""))
                raise RecordTooLarge(
                    f"state for {changelog}, key {rows.keys[largest]!r}: {error}; a function keeps "
                    "too much for one key: let it keep less"
                ) from error
            offsets[at] = CommittedOffset(end)
        changed = {at: to for at, to in offsets.items() if self._committed.get(at) != to}
        self._committed |= changed
        return changed


def commit(
    running: Iterable[Running],
    place: Place,
    outputs: Outputs,
    member: Membership | None = None,
    units: Iterable[Unit] | None = None,
    also: Mapping[TopicPartition, CommittedOffset] | None = None,
) -> None:
    """Commit what tasks have done so far, all of it or nothing; `also` goes with it.

    `units`: what the member must own for that; None: the units of these tasks.

    In this order: results and inputs are on stable storage, then changes of state, then the
    offsets of both, in one batch. A process that dies in between leaves results that will be
    given again, or changes that a restore takes back. Raises Fenced, UnknownTopic.
    """
    place.refuse_successors()
    outputs.sync()
    running = list(running)
    offsets: dict[TopicPartition, CommittedOffset] = {}
    for one in running:
        offsets |= one.checkpoint()
    if not offsets:
        return
    # Inputs as well: a position must not survive a power cut that its records do not.
    place.backend.sync(offsets)
    outputs.sync()
    if member is not None and units is None:
        units = [Unit(one.task.subtopology.name, one.task.number) for one in running]
    place.backend.commit(place.group, {**offsets, **(also or {})}, member=member, units=units)


def rescue(error: Exception, failed: Running, commit_rest: Callable[[], None]) -> None:
    """After a task has failed: see that what was done before is committed, if that can be.

    `commit_rest` commits all tasks that are `whole`; what goes wrong there is noted on `error`.
    """
    try:
        failed.save()
        commit_rest()
    except StreamkitError as also:
        error.add_note(f"What was done before it could not be committed either: {also}")
