"""An app at work in memory, for tests: the workers that run live, over a log that is no file."""

import logging
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from streamkit.backends.memory.backend import MemoryBackend
from streamkit.backends.memory.log import MemoryLog
from streamkit.clock import ManualClock
from streamkit.codec import partition_for
from streamkit.dsl.connectors import own_name
from streamkit.dsl.durations import Duration, milliseconds
from streamkit.dsl.guarantee import Guarantee
from streamkit.dsl.resources import Resource
from streamkit.dsl.stream import Stream
from streamkit.dsl.table import GlobalTable, Table
from streamkit.dsl.topology import Topology
from streamkit.engine.dead_letters import Choice, DeadLetters
from streamkit.engine.finishing import Finishing
from streamkit.engine.running import Running
from streamkit.engine.settings import Settings
from streamkit.engine.task import Task
from streamkit.engine.topics import create_topics
from streamkit.engine.trial_calls import TrialCallers
from streamkit.engine.worker import Worker
from streamkit.errors import SerdeError, UnknownTopic, UsageError, nearest
from streamkit.records import Headers, Record, TopicPartition
from streamkit.serde import Serde, Untyped, serde_for

logger = logging.getLogger("streamkit.engine")


class TestRun:
    """An app at work in memory, one step at a time. Made by `app.test()`.

    Topics the app reads have `partitions` partitions, and `members` processes share its tasks, as
    they would live. Tasks start, and load their tables, with the first `run`; nothing happens but
    in `run`, `step`, `commit`, `advance` and `finish`. `batch` is how many records a task is fed at
    once. What is not committed cannot be read yet, unless `guarantee` is "at_least_once". Sources
    and sinks do not run: what a source would bring is sent, and `sunk` is what a sink would get.
    `resources` are what some of the app's are in this test. The others are opened with the first
    `run`, once for all members, and closed at the end.
    """

    __test__ = False  # for pytest: not a test class

    def __init__(
        self,
        topology: Topology,
        partitions: int = 4,
        *,
        members: int = 1,
        batch: int = 500,
        guarantee: Guarantee = "exactly_once",
        resources: Mapping[Resource[Any], Any] | None = None,
    ) -> None:
        if partitions < 1:
            raise UsageError(f"partitions={partitions}: a topic has at least one")
        if members < 1 or batch < 1:
            raise UsageError(f"members={members}, batch={batch}: at least one")
        self.clock = ManualClock()
        self.batch = batch
        self._topology = topology
        self._backend = MemoryBackend(MemoryLog(self.clock))
        for topic in topology.sources:
            self._backend.create_topic(topic, partitions)
        self._layout = create_topics(topology, self._backend)
        self._types = _types(topology)
        # A test says when to commit.
        self._settings = Settings(guarantee=guarantee, commit_interval=float("inf"))
        self._members = members
        self._workers: list[Worker] = []
        self._callers = TrialCallers(topology.resources, resources)
        self._chance: Random | None = None

    def __enter__(self) -> "TestRun":
        self._callers.take_resources()
        return self

    def __exit__(self, kind: object = None, *_: object) -> None:
        for worker in self._workers:
            worker.close()
        self._workers.clear()
        errors = self._callers.close_resources()
        self._callers.close()
        if errors and kind is None:
            raise errors[0]

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
        A value of bytes, where the topic's type is another, is appended as it is: what
        somebody else might write there. Raises SerdeError when key or value is of neither type.
        """
        topic = to if isinstance(to, str) else to.name
        count = self._partitions(topic)
        key_serde, value_serde = self._types.get(topic, _UNTYPED)
        data = key_serde.encode(key)
        if partition is None:
            partition = 0 if data is None else partition_for(data, count)
        self._backend.append(
            TopicPartition(topic, partition),
            [_written(value_serde, value)],
            keys=[data],
            timestamps=[self.clock.now() if timestamp is None else timestamp],
            headers=[headers] if headers else None,
        )

    def create_topic(self, name: str, partitions: int = 1) -> None:
        """Make a topic that only a function's `Context.send` names."""
        self._backend.create_topic(name, partitions)

    def run(self) -> None:
        """Process everything there is, and commit. Raises what live would stop with.

        Functions that wait are waited for: as long as they sleep, no time passes in the test. What
        is gathered for a batch is one then; a later attempt comes when `advance` brings it.
        """
        while True:
            while self.step():
                pass
            if any(worker.uncommitted for worker in self._started()):
                self.commit()
            elif not self._answers():
                return

    def _answers(self) -> bool:
        """Let what waits go on; False when nothing does that can."""
        if any(calls.withheld for calls in self._callers.tasks) or self._callers.proceed():
            return True
        return [task.answers.hurry() for task in self.tasks].count(True) > 0

    def step(self) -> bool:
        """One batch for each task, without a commit; False when there was nothing to do."""
        workers = self._started()
        if self._chance is not None:
            self._chance.shuffle(workers)
        busy = [self._let(worker, Worker.turn) for worker in workers]
        return any(busy)

    def commit(self, member: int | None = None) -> None:
        """Commit what every member, or number `member`, has done so far."""
        for worker in self._chosen(member):
            self._let(worker, Worker.commit)

    def advance(self, duration: Duration) -> None:
        """Let wall-clock time pass. Ticks are given, each at its time; inputs fall silent, and
        windows may close for it."""
        self.run()
        end = self.clock.now() + milliseconds(duration)
        while (now := self.clock.now()) < end:
            # From one moment at which silence means something to the next: what a task writes
            # then ends the silence of others.
            due = min((at for at in self._moments() if now < at < end), default=end)
            self.clock.advance(due - now)
            self.step()
            self._act(Running.idle)
            self.run()

    def finish(self, watermark: int | None = None) -> None:
        """Say that nothing more comes, for now: what is open closes, as with `--finish`.

        With `watermark` (ms): only that no event before it will come any more, as a replay does at
        its end; windows close accordingly.
        """

        def finish(one: Running) -> bool:
            assert watermark is not None
            one.task.finish(watermark)
            one.flush()
            return True  # how far time is has to be committed, also where nothing comes of it

        if watermark is not None and not isinstance(watermark, int):
            raise UsageError(f"finish({watermark!r}): a time is ms since 1970-01-01 UTC, an int")
        self.run()
        if watermark is None:
            self._finish()
            return
        self._act(finish)
        self.run()

    def _finish(self) -> None:
        finishing = Finishing(self._topology, self._layout, self._backend)

        def reached(worker: Worker) -> bool:
            return worker.at_end() and finishing.reached(worker, self.clock.monotonic())

        while True:
            done = [self._let(worker, reached) for worker in self._started()]
            if all(done) or not any(worker.uncommitted for worker in self._started()):
                return  # or an attempt is waited for, which `advance` brings
            self.run()

    def crash(self, member: int | None = None) -> None:
        """Kill every member, or number `member`: what it has not committed is lost.

        Another one comes in its place, and each task begins again at its last commit. Without a
        number resources are closed, and those of the next opened with its first step.
        """
        for worker in self._chosen(member):
            self._replace(worker)
        if member is None:
            for error in self._callers.close_resources():
                logger.error("%s", error)

    def rebalance(self, members: int | None = None) -> None:
        """Let so many members share the tasks from now on; None: as many, but one is another.

        Who goes commits before. Tasks move with the next steps.
        """
        workers = self._started()
        if members is None:
            self._members += 1
            self._started()
            members = self._members - 1
        if not isinstance(members, int) or members < 1:
            raise UsageError(f"members={members!r}: an int, at least one")
        for worker in workers[: max(0, self._members - members)]:
            self._let(worker, Worker.commit)
            worker.close()
            self._workers.remove(worker)
        self._members = members
        self._started()

    def shuffle(self, seed: int) -> None:
        """From now on members and tasks take turns in a random order, and are fed at random.

        What comes out of the app should not depend on it.
        """
        self._chance = self._callers.chance = Random(seed)

    def retry(
        self, step: "str | Stream[Any] | None" = None, *, key: Any = None, discard: bool = False
    ) -> int:
        """Have steps be given again what they have set aside, as `streamkit dlq retry` does: all
        that waits, or that of a step, or of a key. Gives how many events that were.

        `discard`: give them up, as `streamkit dlq discard`.
        """
        name = step if isinstance(step, str | None) else step.name
        data = None if key is None else serde_for(Untyped).encode(key)
        known = self._backend.topics()
        topics = [topic for topic in self._topology.dead_letters if topic in known]
        if not topics:
            return 0
        letters = DeadLetters(self._backend, topics, self._topology.app)
        choice = Choice(name, data)
        return letters.give_back(choice, discard=discard, clock=self.clock).total()

    # What a test looks at.

    def topic(self, name: "str | Stream[Any]") -> list[Record[Any]]:
        """The records of a topic, decoded, partition by partition."""
        name = name if isinstance(name, str) else name.name
        key_serde, value_serde = self._types.get(name, _RAW)
        found = []
        for number in range(self._partitions(name)):
            at = TopicPartition(name, number)
            position = self._backend.offsets(at).start
            while batches := self._backend.fetch({at: position}):
                for batch in batches:
                    found += [
                        Record(
                            name,
                            number,
                            record.offset,
                            record.timestamp,
                            _decode(key_serde, record.key),
                            _decode(value_serde, record.value),
                            record.headers,
                        )
                        for record in batch.records()
                    ]
                    position = batch.next_offset
        return found

    def sunk(self, name: "str | Stream[Any]") -> list[Record[Any]]:
        """What a sink would have been given, decoded, partition by partition: by the name of the
        sink or of its stream."""
        own = name if isinstance(name, str) else name.name
        app, connectors = self._topology.app, self._topology.connectors
        sinks = {own_name(app, one): one.topic for one in connectors if one.kind == "sink"}
        if own not in sinks:
            raise UsageError(f"the app has no sink {own!r}{nearest(own, sinks)}")
        return self.topic(sinks[own])

    def values(self, name: "str | Stream[Any]") -> list[Any]:
        """The values of a topic, decoded, partition by partition."""
        return [record.value for record in self.topic(name)]

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks at work, to look at their `stats` and `watermark`."""
        found = [task for worker in self._started() for task in worker.tasks]
        order = [sub.name for sub in self._topology.subtopologies]
        return tuple(sorted(found, key=lambda t: (order.index(t.subtopology.name), t.number)))

    @property
    def members(self) -> int:
        """How many processes share the tasks."""
        return self._members

    # The shell.

    def _started(self) -> list[Worker]:
        self._callers.open()
        # Made when first needed: what a test sent to a table before is there from the beginning.
        while len(self._workers) < self._members:
            self._workers.append(self._worker())
        return list(self._workers)

    def _worker(self) -> Worker:
        return Worker(
            self._topology,
            self._backend,
            self._layout,
            self._settings,
            self.clock,
            order=self._order,
            callers=self._callers,
        )

    def _order(self, running: list[Running]) -> list[Running]:
        for one in running:
            one.feed_at_most = self.batch
            if self._chance is not None:
                one.feed_at_most = self._chance.randint(1, self.batch)
        if self._chance is not None:
            self._chance.shuffle(running)
        return running

    def _chosen(self, member: int | None) -> list[Worker]:
        workers = self._started()
        if member is None:
            return workers
        if not isinstance(member, int) or not 0 <= member < len(workers):
            raise UsageError(
                f"there is no member {member!r}: there are {len(workers)}, numbered from 0; "
                "app.test(members=...) and rebalance(members=...) say how many"
            )
        return [workers[member]]

    def _act(self, act: Callable[[Running], bool]) -> None:
        for worker in self._started():
            self._let(worker, lambda worker: worker.act(act))

    def _let(self, worker: Worker, act: Callable[[Worker], Any]) -> Any:
        """What fails ends its process, as live; the test may go on with another."""
        try:
            return act(worker)
        except BaseException:
            self._replace(worker)
            raise

    def _replace(self, worker: Worker) -> None:
        worker.close()
        self._workers[self._workers.index(worker)] = self._worker()

    def _moments(self) -> list[int]:
        """When (ms) a silence comes to mean something to a task, or a tick is due."""
        now, moment = self.clock.now(), self.clock.monotonic()
        due = [at for task in self.tasks if (at := task.answers.due_at) is not None]
        ticks = [tick for task in self.tasks if (tick := task.tick_at) is not None]
        return (
            due
            + ticks
            + [
                now - round((moment - since) * 1000) + step
                for worker in self._started()
                for one in worker.running
                for since in [one.silent_since.get(at, moment) for at in one.task.inputs]
                for step in one.task.idle_steps
            ]
        )

    def _partitions(self, topic: str) -> int:
        known = self._backend.topics()
        if topic not in known:
            raise UnknownTopic(f"the app has no topic {topic!r}{nearest(topic, known)}")
        return known[topic].partitions


_UNTYPED: tuple[Serde, Serde] = (serde_for(Untyped), serde_for(Untyped))
_RAW: tuple[Serde, Serde] = (serde_for(str | None), serde_for(bytes | None))


def _decode(serde: Serde, data: bytes | None) -> Any:
    return None if data is None else serde.decode(data)


def _written(serde: Serde, value: Any) -> bytes | None:
    try:
        return serde.encode(value)
    except SerdeError:
        if isinstance(value, bytes):
            return value
        raise


def _types(topology: Topology) -> dict[str, tuple[Serde, Serde]]:
    """How the app's topics are encoded; text where the app itself does not know."""
    text = serde_for(str)
    return {
        topic: (text if key.type is Untyped else key, text if value.type is Untyped else value)
        for topic, (key, value) in topology.types().items()
    }
