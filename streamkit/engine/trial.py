"""An app at work in memory: the tasks of the engine over lists, a step at a time, for tests."""

from typing import Any

from streamkit.clock import ManualClock
from streamkit.codec import partition_for
from streamkit.dsl.durations import Duration, milliseconds
from streamkit.dsl.stream import Stream
from streamkit.dsl.table import GlobalTable, Table
from streamkit.dsl.topology import SubTopology, Topology
from streamkit.engine.rows import Checkpoint, Position, Rows
from streamkit.engine.task import Task
from streamkit.errors import UnknownTopic, UsageError, nearest
from streamkit.records import Columns, Headers, Record, TopicPartition
from streamkit.serde import Serde, Untyped, serde_for


class _Partition:
    """One partition: its records; an offset is an index."""

    def __init__(self) -> None:
        self.stamps: list[int] = []
        self.keys: list[bytes | None] = []
        self.values: list[bytes | None] = []
        self.headers: list[Headers] = []

    def __len__(self) -> int:
        return len(self.values)

    def append(self, rows: Rows) -> None:
        self.keys += rows.keys
        self.values += rows.values
        self.stamps += rows.timestamps
        self.headers += rows.headers or [()] * len(rows)

    def columns(self, start: int, stop: int) -> Columns:
        return Columns(
            range(start, stop),
            self.stamps[start:stop],
            self.keys[start:stop],
            self.values[start:stop],
            self.headers[start:stop],
        )


class TestRun:
    """An app at work in memory, one step at a time. Made by `app.test()`.

    Topics the app reads have `partitions` partitions. Tasks start, and load their tables, with the
    first `run`; nothing happens but in `run`, `step`, `advance` and `finish`. `batch` is how many
    records a task is fed at once.
    """

    __test__ = False  # for pytest: not a test class

    def __init__(self, topology: Topology, partitions: int = 4, *, batch: int = 500) -> None:
        if partitions < 1:
            raise UsageError(f"partitions={partitions}: a topic has at least one")
        self.clock = ManualClock()
        self.batch = batch
        self._topology = topology
        self._layout = topology.layout(dict.fromkeys(topology.sources, partitions))
        self._log: dict[str, list[_Partition]] = {
            topic: [_Partition() for _ in range(count)]
            for topic, count in self._layout.partitions.items()
        }
        self._sizes = partitions
        self._types = _types(topology)
        self._committed: dict[TopicPartition, Position] = {}
        self._ends: dict[TopicPartition, int] = {}  # committed changelog ends
        self._positions: dict[Task, dict[TopicPartition, int]] = {}
        self._silent_since: dict[TopicPartition, int] = {}
        self._started: list[Task] | None = None

    def __enter__(self) -> "TestRun":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    # What a test does.

    def send(
        self,
        to: "str | Stream[Any] | Table[Any] | GlobalTable[Any]",
        value: Any,
        *,
        key: Any = None,
        timestamp: int | None = None,
        partition: int | None = None,
        headers: Headers = (),
    ) -> None:
        """Append a record to a topic. `timestamp` in ms; None is the clock's now.

        The key decides the partition as in Kafka; without a key it is 0, unless given.
        Raises SerdeError when key or value is not of the topic's type.
        """
        topic = to if isinstance(to, str) else to.name
        rows = self._partitions(topic)
        key_serde, value_serde = self._types.get(topic, _UNTYPED)
        data = key_serde.encode(key)
        if partition is None:
            partition = 0 if data is None else partition_for(data, len(rows))
        stamp = self.clock.now() if timestamp is None else timestamp
        rows[partition].append(Rows([data], [value_serde.encode(value)], [stamp], [headers]))

    def run(self) -> None:
        """Process everything there is, and commit. Raises what live would stop with."""
        while self._round():
            pass
        for task in self._tasks:
            self._commit(task)

    def step(self) -> bool:
        """One batch for each task, without a commit; False when there was nothing to do."""
        return self._round()

    def commit(self, number: int | None = None) -> None:
        """Commit what every task, or number `number` of `tasks`, has done so far."""
        for task in self._tasks if number is None else [self._tasks[number]]:
            self._commit(task)

    def advance(self, duration: Duration) -> None:
        """Let wall-clock time pass. Inputs fall silent, and windows may close for it."""
        self.run()
        end = self.clock.now() + milliseconds(duration)
        while (now := self.clock.now()) < end:
            # From one moment at which silence means something to the next: what a task writes
            # then ends the silence of others.
            moments = (
                self._silent_since.get(one, now) + step
                for task in self._tasks
                for one in task.inputs
                for step in task.idle_steps
            )
            self.clock.advance(min((at for at in moments if now < at < end), default=end) - now)
            self._idle()
            self.run()

    def _idle(self) -> None:
        now = self.clock.now()
        for task in self._tasks:
            task.idle({one: now - self._silent_since.get(one, now) for one in task.inputs})
            self._append(task)

    def finish(self, watermark: int) -> None:
        """Say that no event before `watermark` (ms) will come any more, as a replay does at its
        end; windows close accordingly."""
        self.run()
        for task in self._tasks:
            task.finish(watermark)
            self._append(task)
        self.run()

    def crash(self, number: int | None = None) -> None:
        """Kill every task, or number `number` of `tasks`; each begins again at its last commit."""
        if number is None:
            self._started = None
        else:
            task = self._tasks[number]
            del self._positions[task]
            self._tasks[number] = self._task(task.subtopology, task.number)

    # What a test looks at.

    def topic(self, name: "str | Stream[Any]") -> list[Record[Any]]:
        """The records of a topic, decoded, partition by partition."""
        name = name if isinstance(name, str) else name.name
        key_serde, value_serde = self._types.get(name, _RAW)
        found = []
        for number, part in enumerate(self._partitions(name)):
            for at in range(len(part)):
                key = _decode(key_serde, part.keys[at])
                value = _decode(value_serde, part.values[at])
                found.append(
                    Record(name, number, at, part.stamps[at], key, value, part.headers[at])
                )
        return found

    def values(self, name: "str | Stream[Any]") -> list[Any]:
        """The values of a topic, decoded, partition by partition."""
        return [record.value for record in self.topic(name)]

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks at work, to look at their `stats` and `watermark`."""
        return tuple(self._tasks)

    # The shell.

    @property
    def _tasks(self) -> list[Task]:
        # Made when first needed: what a test sent to a table before is there from the beginning.
        if self._started is None:
            self._positions = {}
            self._silent_since = {}
            self._started = [
                self._task(sub, number)
                for sub in self._topology.subtopologies
                for number in range(self._layout.tasks[sub.name])
            ]
        return self._started

    def _task(self, sub: SubTopology, number: int) -> Task:
        task = Task(self._topology, self._layout, sub, number, run=self.clock.now())
        task.resume({one: self._committed.get(one, Position(0)) for one in task.inputs})
        positions = {one: self._committed.get(one, Position(0)).offset for one in task.inputs}
        for changelog in task.changelogs:
            self._restore(task, TopicPartition(changelog, number))
        for table in task.tables:
            part = self._log[table.topic][table.partition]
            task.load_table(table, part.columns(0, len(part)))
            positions[table] = len(part)
        self._positions[task] = positions
        if task.is_new:
            self._commit(task)
        return task

    def _restore(self, task: Task, changelog: TopicPartition) -> None:
        part = self._log[changelog.topic][changelog.partition]
        end = self._ends.get(changelog, 0)
        task.restore(changelog.topic, part.columns(0, end))
        undone = [key for key in dict.fromkeys(part.keys[end:]) if key is not None]
        if undone:
            # Written, but never committed: said to be what they are.
            values = [task.stored(changelog.topic, key) for key in undone]
            part.append(Rows(undone, values, [0] * len(undone)))
        self._ends[changelog] = len(part)

    def _round(self) -> bool:
        busy = False
        for task in self._tasks:
            positions = self._positions[task]
            ended = []
            for one, start in positions.items():
                part = self._log[one.topic][one.partition]
                stop = min(len(part), start + self.batch)
                if start < stop:
                    busy = True
                    task.feed(one, part.columns(start, stop))
                    positions[one] = stop
                    self._silent_since.pop(one, None)
                else:
                    ended.append(one)
                    self._silent_since.setdefault(one, self.clock.now())
            task.caught_up(ended)
            busy = bool(task.run(now=self.clock.now())) or busy
            self._append(task)
        return busy

    def _append(self, task: Task) -> None:
        drained = task.drain()
        for topic, rows in drained.rows.items():
            parts = self._log.setdefault(topic, [_Partition() for _ in range(self._sizes)])
            for at, key in enumerate(rows.keys):
                number = task.number if key is None else partition_for(key, len(parts))
                parts[number % len(parts)].append(rows.part(at, at + 1))
        for topic, rows in drained.everywhere.items():
            for part in self._log[topic]:
                part.append(rows)

    def _commit(self, task: Task) -> None:
        checkpoint: Checkpoint = task.checkpoint()
        for topic, rows in checkpoint.changelog.items():
            self._log[topic][task.number].append(rows)
        self._committed |= checkpoint.positions
        for changelog in task.changelogs:
            one = TopicPartition(changelog, task.number)
            self._ends[one] = len(self._log[changelog][task.number])

    def _partitions(self, topic: str) -> list[_Partition]:
        if topic not in self._log:
            raise UnknownTopic(f"the app has no topic {topic!r}{nearest(topic, self._log)}")
        return self._log[topic]


_UNTYPED: tuple[Serde, Serde] = (serde_for(Untyped), serde_for(Untyped))
_RAW: tuple[Serde, Serde] = (serde_for(str | None), serde_for(bytes | None))


def _decode(serde: Serde, data: bytes | None) -> Any:
    return None if data is None else serde.decode(data)


def _types(topology: Topology) -> dict[str, tuple[Serde, Serde]]:
    """How the app's topics are encoded; text where the app itself does not know."""
    text = serde_for(str)
    return {
        topic: (text if key.type is Untyped else key, text if value.type is Untyped else value)
        for topic, (key, value) in topology.types().items()
    }
