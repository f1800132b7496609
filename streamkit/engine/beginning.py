"""Where a task begins in a log: at what was committed, and what it takes to go on from there."""

from collections.abc import Mapping
from functools import partial

from streamkit.backends.values import CommittedOffset, Unit
from streamkit.clients.topic_config import is_compacted
from streamkit.engine.place import Place
from streamkit.engine.restore import Load
from streamkit.engine.rows import Position
from streamkit.engine.settings import OnMissing
from streamkit.engine.state.beside import Beside
from streamkit.engine.state.shared import SharedRows
from streamkit.engine.state.versions import begins_at
from streamkit.engine.tables import AheadRows
from streamkit.engine.task import Task
from streamkit.records import Columns, TopicPartition


class Beginning:
    """Of one task, once: what it finds is there after `loads`."""

    def __init__(
        self,
        task: Task,
        place: Place,
        changelogs: Mapping[TopicPartition, str],
        on_missing: OnMissing,
        beside: Beside | None,
        shared: SharedRows | None,
    ) -> None:
        """`changelogs`: of its state, by places in the log. `beside` and `shared` as for
        `Running`."""
        self.positions: dict[TopicPartition, int] = {}
        """Where each input and table is read on."""
        self.ahead: dict[TopicPartition, int] = {}
        """The same of tables that are read ahead."""
        self.committed: dict[TopicPartition, CommittedOffset] = {}
        """What counts of that which was committed."""
        self.undone: dict[str, dict[bytes, None]] = {}
        """By changelog: keys of changes that do not count, and are to be taken back."""
        self.missing: list[str] = []
        """What was removed before it was read, and is gone on without."""
        self._task = task
        self._place = place
        self._changelogs = changelogs
        retries = task.subtopology.retries.values()
        self._retries = {place.partition(TopicPartition(each, task.number)) for each in retries}
        self._on_missing = on_missing
        self._beside = beside
        self._shared = shared

    def loads(self, committed: Mapping[TopicPartition, CommittedOffset]) -> list[Load]:
        """Have the task begin at what was committed; what it needs then of state and tables."""
        committed = self._without_missing(committed)
        positions = {}
        for partition in self._task.inputs:
            at = self._place.partition(partition)
            was = committed.get(at)
            if was is None:
                # What has come back to a step before comes anew, with all else.
                again = at in self._retries
                was = CommittedOffset(self._place.end(at) if again else self._place.start(at))
            else:
                self.committed[at] = was
            self.positions[at] = was.offset
            positions[partition] = Position(was.offset, was.metadata)
        self._task.resume(positions, journaled=self._is_journaled)
        loads = []
        for at, changelog in self._changelogs.items():
            loads += self._changes(at, changelog, committed.get(at))
        loads += [self._table(partition) for partition in self._task.tables]
        for rows in self._task.ahead_rows.values():
            loads += self._table_ahead(rows)
        return loads

    def _changes(
        self, at: TopicPartition, changelog: str, committed: CommittedOffset | None
    ) -> list[Load]:
        end = self._place.end(at)
        bounds = self._place.backend.offsets(at)
        valid = 0 if committed is None else min(committed.offset, bounds.log_end)
        if committed is not None:
            self.committed[at] = committed
        undone = self.undone[changelog] = {}

        def take_back(columns: Columns) -> None:
            undone.update((key, None) for key in columns.keys if key is not None)

        behind = max(valid, bounds.start)
        store = self._task.stores[changelog]
        if self._beside is not None:
            self._beside.attach(store, at, bounds.start, valid)
        start = max(bounds.start, store.position)
        return [
            Load(at, start, valid, partial(self._task.restore, changelog)),
            Load(at, behind, end, take_back),
        ]

    def _table(self, partition: TopicPartition) -> Load:
        """What a table needs: to where it was at the last commit; before the first one to its end,
        so that the first event already finds its rows."""
        at, rows = self._place.partition(partition), self._task.merged[partition]
        start, end = self._place.start(at), self._place.end(at)
        until = self._task.load_until(partition)
        if until is not None:
            end = min(end, max(until, start))
        if self._beside is not None:
            self._beside.attach_table(rows, self._journal, {at: end})
            if until and not rows.positions and self._is_compacted(at.topic):
                # What the rows were there cannot be known any more: some have had others since.
                end = self._place.end(at)
        self.positions[at] = end
        self._task.loaded(partition, end)

        def take(columns: Columns) -> None:
            self._task.load_table(partition, self._place.cut(at, columns))

        return Load(at, max(start, rows.positions.get(at.partition, 0)), end, take)

    def _table_ahead(self, rows: AheadRows) -> list[Load]:
        """What a table needs that is read ahead: at least what it had at the last commit."""
        mine = [each for each in self._task.ahead if each.topic == rows.table.topic]
        places = {each: self._place.partition(each) for each in mine}
        known = [self._task.load_until(each, ahead=True) for each in mine]
        # Of a task that begins anew, whatever was dropped before may be asked for again.
        since = None if None in known else rows.since
        if self._beside is not None:
            ends = {at: self._place.end(at) for at in places.values()}
            if rows.table.everywhere and (shared := self._shared) is not None:
                journal = TopicPartition(self._journal.topic, 0)
                rows.share(lambda new: shared.of(new, journal, ends, since))
            else:
                for store in rows.stores:
                    self._beside.attach_table(store, self._journal, ends, fits=begins_at(since))
        rows.begin(since)
        loads = []
        for partition, until in zip(mine, known, strict=True):
            at = places[partition]
            start, end = self._place.start(at), self._place.end(at)
            if until is not None:
                end = min(end, max(until, start))
            self.ahead[at] = end
            self._task.loaded(partition, end, ahead=True)

            def take(
                columns: Columns, partition: TopicPartition = partition, at: TopicPartition = at
            ) -> None:
                self._task.load_ahead(partition, self._place.cut(at, columns))

            def reached(number: int = at.partition) -> int:
                return min(store.positions.get(number, 0) for store in rows.stores)

            loads.append(Load(at, start, end, take, reached))
        return loads

    @property
    def _journal(self) -> TopicPartition:
        journal = self._task.subtopology.journal
        assert journal is not None, "a task with tables has one"
        return self._place.partition(TopicPartition(journal, self._task.number))

    @property
    def _is_journaled(self) -> bool:
        return self._task.subtopology.journal is not None and self._place.end(self._journal) > 0

    def _is_compacted(self, topic: str) -> bool:
        return is_compacted(self._place.backend.topic(topic).config)

    def _without_missing(
        self, committed: Mapping[TopicPartition, CommittedOffset]
    ) -> Mapping[TopicPartition, CommittedOffset]:
        """The committed offsets to begin at, when records behind them may be gone."""
        if self._on_missing == "fail" or self._place.spans:
            return committed  # whoever fetches there says it
        moved = dict(committed)
        for partition in self._task.inputs:
            at = self._place.partition(partition)
            start = self._place.backend.offsets(at).start
            if at not in committed or committed[at].offset >= start:
                continue
            gone = f"{at}@{committed[at].offset} to {start - 1}: removed before they were read"
            if self._on_missing == "rebuild":
                unit = Unit(self._task.subtopology.name, self._task.number)
                self.missing.append(f"{gone}; {unit} is made anew of what is left")
                # What has come back does not come once more: what is left of it, if it was missed.
                starts = {at: self._place.start(at) for at in self._retries if at in committed}
                return {
                    at: CommittedOffset(max(start, committed[at].offset), committed[at].metadata)
                    for at, start in starts.items()
                }
            self.missing.append(f"{gone}; going on without them")
            moved[at] = CommittedOffset(start, committed[at].metadata)
        return moved
