"""One task at work in one log: what it reads next, what it gives, and how it came to its state."""

from collections.abc import Iterator, Mapping, Set
from contextlib import nullcontext

from streamkit.backends.base import Batch
from streamkit.backends.values import CommittedOffset, Unit
from streamkit.clock import Clock
from streamkit.engine.beginning import Beginning
from streamkit.engine.bell import Bell
from streamkit.engine.callers import TaskCalls
from streamkit.engine.columns import before
from streamkit.engine.counting import overtaken
from streamkit.engine.outputs import Outputs
from streamkit.engine.place import Place
from streamkit.engine.restore import Restoring
from streamkit.engine.rows import Rows
from streamkit.engine.settings import OnMissing
from streamkit.engine.state.beside import Beside
from streamkit.engine.state.cache import Cache
from streamkit.engine.state.shared import SharedRows
from streamkit.engine.task import Task
from streamkit.engine.upstream import Upstream
from streamkit.errors import OffsetOutOfRange, RecordTooLarge
from streamkit.records import Columns, TopicPartition

FETCH_BYTES = 1 << 18
"""About how much a task reads at once: what bounds the memory of records on their way. More is not
faster."""
TURN = 0.1
"""About how many seconds a task works before the others, a commit, or a stop have their turn."""


class Running:
    """A task, and where its inputs stand in a log.

    `restore` until it says that all is there; from then on `step`, `idle` and `checkpoint`.
    """

    def __init__(
        self,
        task: Task,
        place: Place,
        outputs: Outputs,
        clock: Clock,
        *,
        on_missing: OnMissing = "fail",
        beside: Beside | None = None,
        shared: SharedRows | None = None,
        calls: TaskCalls | None = None,
        bell: Bell | None = None,
        upstream: Upstream | None = None,
    ) -> None:
        """`beside`: what gives its stores a disk; without it they are in memory. `shared`: rows of
        global tables that the process has already. `calls` are the task's, to be ended with it.
        `bell` ends a turn that takes too long; without one it ends with a slice. `upstream` knows
        what other tasks have still to hand over; without one that is nothing."""
        self.task = task
        self.unit = Unit(task.subtopology.name, task.number)
        self.positions: dict[TopicPartition, int] = {}
        """The next offset to fetch of each input and table, by its place in the log."""
        self.missing: list[str] = []
        """What was removed before it was read, and is gone on without."""
        self.feed_at_most: int | None = None
        """Records that an input is fed at once; None: as many as are fetched."""
        self._place = place
        self._outputs = outputs
        self._clock = clock
        self._calls = calls
        self._bell = bell
        self._upstream = upstream
        self._pace = 64
        self._names = {place.partition(each): each for each in (*task.inputs, *task.tables)}
        self._ahead: dict[TopicPartition, int] = {}  # as positions, of tables that are read ahead
        self._ahead_names = {place.partition(each): each for each in task.ahead}
        self._changelogs = {
            place.partition(TopicPartition(each, task.number)): each for each in task.changelogs
        }
        self._beginning = Beginning(task, place, self._changelogs, on_missing, beside, shared)
        self._restoring: Restoring | None = None
        self._committed: dict[TopicPartition, CommittedOffset] = {}
        self._undone: dict[str, dict[bytes, None]] = {}
        self._ends: dict[str, int] = {}  # of changelogs, once what is appended is committed
        self._silent: dict[TopicPartition, float] = {}
        self._looked = 0.0

    # Beginning.

    @property
    def committing(self) -> frozenset[TopicPartition]:
        """The partitions whose offsets it begins with, by their places in the log."""
        inputs = (self._place.partition(each) for each in self.task.inputs)
        return frozenset((*inputs, *self._changelogs))

    @property
    def changelogs(self) -> Set[TopicPartition]:
        """Where its state is kept, by places in the log."""
        return self._changelogs.keys()

    def begin(self, committed: Mapping[TopicPartition, CommittedOffset]) -> None:
        """Begin at what was committed; state and tables are still to be restored."""
        beginning = self._beginning
        loads = beginning.loads(committed)
        self.positions, self._ahead = beginning.positions, beginning.ahead
        self._committed, self._undone = beginning.committed, beginning.undone
        self.missing = beginning.missing
        self._restoring = Restoring(self._place.backend, loads)

    def restore(self, until: float) -> bool:
        """Bring back state and tables until about a time (monotonic seconds); True when all is
        there. Raises SerdeError for what cannot be read."""
        assert self._restoring is not None
        return self._restoring.some(self._clock, until)

    @property
    def begun(self) -> bool:
        """Whether it knows where it begins."""
        return self._restoring is not None

    @property
    def restoring(self) -> Restoring:
        """What there is to restore, once it has begun."""
        assert self._restoring is not None
        return self._restoring

    # Working.

    def step(self) -> bool:
        """Read what there is, process some, take what it gave; False when there was nothing.

        Raises like `Task.run`.
        """
        now = self._looked = self._clock.monotonic()
        if not self._place.spans:  # what was lived already has its ticks
            self.task.tick(self._clock.now())
        wanted = {}
        for partition in self.task.hungry:
            at = self._place.partition(partition)
            wanted[at] = self.positions[at]
        behind = {at: offset for at, offset in wanted.items() if not self._ended(at, offset)}
        looked = {at: self._unread(self._names[at]) for at in behind}
        unread = {at: tasks for at, tasks in looked.items() if tasks is not None}
        batches = self._fetch({at: behind[at] for at in unread}) if unread else []
        for batch in batches:
            at = batch.partition
            columns = batch.columns()
            self._count(self._names[at], columns, unread[at])
            columns, position = self._cut(batch, columns)
            self.task.feed(self._names[at], columns)
            self.positions[at] = position
            self._silent.pop(at, None)
            wanted.pop(at, None)
        self.task.caught_up(self._names[at] for at in wanted)
        for at in wanted:
            self._silent.setdefault(at, now)
        rows = self._read_ahead(now + TURN)
        before = self.task.gone_on + self.task.answers.left
        with nullcontext() if self._bell is None else self._bell.at(now + TURN, self.task.enough):
            done = self._run(now + TURN)
        done += self.task.gone_on + self.task.answers.left - before
        return self.flush() or bool(batches) or rows or done > 0

    def _unread(self, partition: TopicPartition) -> set[int] | None:
        """The tasks that hand over in an input, and are taken for idle, but have more to read.

        None: that was not looked at, as nothing is there that they could be behind, and nothing
        that comes from now on is to be fetched before it is."""
        idle = self.task.counting.idle(partition)
        if self._upstream is None or not idle:
            return set()
        at = self._place.partition(partition)
        if self.positions[at] == self._place.end_so_far(at):
            return None
        return self._upstream.unread(partition.topic, idle)

    def _count(self, partition: TopicPartition, columns: Columns, unread: set[int]) -> None:
        """Have those count that are not idle any more: time must not go on by what others handed
        over, and without what is still to come of them.

        `unread` before these records were fetched: what was said until then is in them.
        """
        counting = self.task.counting
        idle = counting.idle(partition)
        if idle and self._upstream is not None:
            awake = overtaken(columns, idle, unread)
            if awake:
                counting.count(partition, awake | counting.counted(partition))

    def _recount(self) -> None:
        """Once all is read that was handed over, those do not count any more that have nothing more
        to read, and said no other thing."""
        counting = self.task.counting
        for at, partition in self._names.items():
            counted = counting.counted(partition)
            if counted and self._upstream is not None:
                left = self._upstream.unread(partition.topic, counted)
                # In this order: what others commit in between is to be read then.
                if self.positions[at] >= self._place.end_so_far(at) and not self.task.buffered:
                    counting.count(partition, left)

    def _read_ahead(self, until: float) -> bool:
        """Read tables that are read ahead to where they end now, if time suffices; False when
        there was nothing."""
        ends = {at: self._place.end_so_far(at) for at in self._ahead}
        found = False
        while behind := {at: o for at, o in self._ahead.items() if o < ends[at]}:
            batches = self._fetch(behind)
            for batch in batches:
                columns, position = self._cut(batch, batch.columns())
                self.task.feed_ahead(self._ahead_names[batch.partition], columns)
                self._ahead[batch.partition] = position
            found |= bool(batches)
            if not batches or self._clock.monotonic() >= until:
                break
        if not behind or not batches:
            self.task.caught_up_ahead(self._ahead_names.values())
        return found

    def _cut(self, batch: Batch, columns: Columns) -> tuple[Columns, int]:
        """What to feed of a batch, and where to read on."""
        position = batch.next_offset
        if self.feed_at_most is not None and len(columns) > self.feed_at_most:
            position = columns.offsets[self.feed_at_most]
            columns = before(columns, position)
        return self._place.cut(batch.partition, columns), position

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
            f"{at.topic}:{at.partition} --to offset:{start}, or run the app with --on-missing "
            "earliest; to make its state anew of what is left: --on-missing rebuild. To keep more: "
            f"streamkit topics alter {at.topic} --config retention.ms=..."
        )

    def _run(self, until: float) -> int:
        """Process until a time, at the pace that the user's functions turn out to have."""
        done = 0
        before = self._clock.monotonic()
        while before < until:
            some = self.task.run(self._pace, now=self._clock.now())
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

    def idle(self) -> bool:
        """Tell the task for how long its inputs have been silent, and take what that gave.

        Until the last `step`, not until now: while other tasks had their turn, or the process was
        stopped, something may have come. False when it gave nothing.
        """
        if self._ahead and self._read_ahead(self._clock.monotonic() + TURN):
            return True  # what closes now would find these rows, and may not yet
        self._recount()
        silence = {
            partition: round((self._looked - self._silent[at]) * 1000)
            for at, partition in self._names.items()
            if at in self._silent
        }
        if self.task.is_due(silence):
            silence = {one: ms for one, ms in silence.items() if not self._is_behind(one)}
            self.task.idle(silence)
        return self.flush()

    def rouse(self) -> bool:
        """Tell the task which inputs have more, of those that it takes for idle, and take what that
        gave. False when it gave nothing."""
        return self.task.rouse(self._is_behind) and self.flush()

    def _is_behind(self, partition: TopicPartition) -> bool:
        """Whether something is still to come in an input, of what there is by now."""
        if self._upstream is not None:
            # In this order: what others commit in between is to be read then.
            topic = partition.topic
            if self._upstream.unread(topic, self._upstream.tasks(topic)):
                return True
        at = self._place.partition(partition)
        return self.positions[at] < self._place.end_so_far(at)

    def leave_out(self) -> bool:
        """Tell the task that all there is has been processed, by all tasks, and take what that
        gave: inputs that never had an event hold nothing back. False when it gave nothing."""
        if self._ahead and self._read_ahead(self._clock.monotonic() + TURN):
            return True
        self.task.leave_out()
        return self.flush()

    def end(self, number: int) -> bool:
        """Tell the task that nothing more comes, for now, and take what that gave. False when it
        gave nothing, or did so before."""
        ended = self.task.end(number)
        return self.flush() or ended

    def flush(self) -> bool:
        """Take what the task has to give; False when it is nothing."""
        drained = self.task.drain()
        if not drained.rows and not drained.everywhere:
            return False
        self._outputs.give(drained, self.task.number)
        return True

    @property
    def lag(self) -> int:
        """How many offsets of its inputs are before it."""
        inputs = (self._place.partition(each) for each in self.task.inputs)
        return sum(max(0, self._place.end_so_far(at) - self.positions[at]) for at in inputs)

    @property
    def at_end(self) -> bool:
        """Whether everything there is to read has been processed, and nothing waits."""
        read = (*self.positions.items(), *self._ahead.items())
        task = self.task
        return not (task.buffered or task.is_interrupted or task.answers.is_waiting) and all(
            offset >= self._place.end(at) for at, offset in read
        )

    @property
    def silent_since(self) -> Mapping[TopicPartition, float]:
        """Since when (monotonic seconds) inputs have stood at their end, by the app's names."""
        return {self._names[at]: since for at, since in self._silent.items()}

    # Committing.

    @property
    def changing(self) -> Iterator[TopicPartition]:
        """Where `checkpoint` is about to keep changes of state, as far as is known."""
        for topic in {*self.task.changing, *self._undone}:
            yield self._place.partition(TopicPartition(topic, self.task.number))

    def checkpoint(self) -> dict[TopicPartition, CommittedOffset]:
        """Append the changes of state, and give the offsets to commit that are new.

        They have to be committed, or the task has to be dropped.
        """
        checkpoint = self.task.checkpoint()
        nothing_left = frozenset(self.task.hungry)
        offsets = {}
        for partition, position in checkpoint.positions.items():
            at = self._place.partition(partition)
            # Also behind what holds no record, so that nothing seems to be left.
            after = self._read_to(at) if partition in nothing_left else position.offset
            offsets[at] = CommittedOffset(max(position.offset, after), position.metadata)
        for changelog, keys in self._undone.items():
            if keys:
                values = [self.task.stored(changelog, key) for key in keys]
                rows = Rows(list(keys), values, [0] * len(keys))
                offsets |= self._keep(changelog, rows)
        self._undone = {}
        for topic, rows in checkpoint.changelog.items():
            kept = self._keep(topic, rows)
            if topic != self.task.subtopology.journal:  # which is read whole, by replays alone
                offsets |= kept
        changed = {at: to for at, to in offsets.items() if self._committed.get(at) != to}
        self._committed |= changed
        return changed

    def _read_to(self, at: TopicPartition) -> int:
        span = self._place.spans.get(at)
        position = self.positions[at]
        return position if span is None else min(position, span.end)

    def _keep(self, changelog: str, rows: Rows) -> dict[TopicPartition, CommittedOffset]:
        at = self._place.partition(TopicPartition(changelog, self.task.number))
        try:
            end = self._outputs.keep(changelog, self.task.number, rows)
        except RecordTooLarge as error:
            largest = max(range(len(rows)), key=lambda row: len(rows.values[row] or b""))
            raise RecordTooLarge(
                f"state for {changelog}, key {rows.keys[largest]!r}: {error}; a function keeps "
                "too much for one key: let it keep less"
            ) from error
        self._ends[changelog] = end
        return {at: CommittedOffset(end)}

    def committed(self) -> None:
        """What `checkpoint` gave is committed."""
        self.task.settle()
        ends, self._ends = self._ends, {}
        for topic, end in ends.items():
            if topic in self.task.stores:  # the journal is none
                self.task.stores[topic].committed(end)

    def tidy(self) -> None:
        """Between two steps: leave on disk what is due there, and make room."""
        for store in self._own_stores():
            store.flush_if_due()

    def close(self) -> None:
        """Leave on disk what is committed, and let go of it. The task is not used any more.

        What waits in it is called again by who has it next.
        """
        if self._calls is not None:
            self._calls.close()
        for rows in self.task.ahead_rows.values():
            rows.leave()
        for store in self._own_stores():
            store.close()

    def _own_stores(self) -> Iterator[Cache]:
        yield from self.task.stores.values()
        yield from self.task.merged.values()
        for rows in self.task.ahead_rows.values():
            if not rows.is_shared:
                yield from rows.stores
