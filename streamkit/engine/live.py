"""Run an app live: a member of its group, with the tasks that fall to it.

Each process that runs the app is a member. Its loop follows the group (a task that another member
waits for is committed and given up; one that comes is restored), lets each task do what there is
to do, commits once a second, and sleeps when nothing happens.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from threading import Event
from typing import TypeVar

from streamkit.backends.base import Backend, Membership
from streamkit.backends.values import Unit
from streamkit.clock import Clock, SystemClock
from streamkit.dsl.topology import Layout, Topology
from streamkit.engine.outputs import Outputs
from streamkit.engine.running import Place, Running, Span, commit, rescue
from streamkit.engine.signals import stop_on_signals
from streamkit.engine.task import Stats, Task
from streamkit.engine.topics import create_topics, orphans, wait_for_sources
from streamkit.engine.watermarks import FOREVER, NEVER
from streamkit.errors import Fenced, StreamkitError, TopologyError
from streamkit.records import TopicPartition

T = TypeVar("T")

logger = logging.getLogger("streamkit.engine")

WAIT = 0.2
"""Seconds of sleep at most: how long a stop may go unnoticed, and idle inputs be judged late."""
PROGRESS = 0.25
"""Seconds between two calls of `on_progress`."""
PATIENCE = 1.0
"""Seconds of restoring after which it is worth a line."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far this process is. `lag`: records its tasks have still to read."""

    tasks: int
    processed: int
    late: int
    lag: int
    rate: float
    """Records per second since the last Progress."""


def run(
    topology: Topology,
    backend: Backend,
    *,
    stop: Event | None = None,
    commit_interval: float = 1.0,
    until_end: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    clock: Clock | None = None,
) -> None:
    """Run the app's tasks until `stop` is set; without one, until SIGINT or SIGTERM.

    Waits for the topics the app reads, and creates those it writes. When it returns, everything
    it did is committed. With `until_end` it waits for nothing, and also returns when its tasks
    and those of other members have processed all there is. `commit_interval` in seconds;
    `on_progress` is called a few times a second.

    Raises FunctionError, SerdeError or DataError when a record cannot be processed: what was done
    before it is committed, and the next run begins at it. Raises TopologyError, also when a topic
    that the app reads grows while it runs.
    """
    signals: AbstractContextManager[Event]
    if stop is not None:
        signals = nullcontext(stop)
    elif threading.current_thread() is threading.main_thread():
        signals = stop_on_signals()
    else:
        signals = nullcontext(Event())
    with signals as stopping:
        # To the end of what? A topic that is not there is an error then, raised by the layout.
        if not until_end and not wait_for_sources(topology, backend, stopping, logger.warning):
            return
        worker = Worker(topology, backend, commit_interval, clock or SystemClock(), on_progress)
        worker.run(stopping, until_end)


class Worker:
    """The tasks of one process."""

    def __init__(
        self,
        topology: Topology,
        backend: Backend,
        commit_interval: float,
        clock: Clock,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._topology = topology
        self._backend = backend
        self._commit_interval = commit_interval
        self._clock = clock
        self._on_progress = on_progress
        for text in orphans(topology, backend):
            logger.warning("%s", text)
        self._layout: Layout = create_topics(topology, backend)
        known = backend.topics()
        ids = {name: known[name].topic_id for name in self._layout.partitions if name in known}
        self._place = Place(backend, topology.app, ids=ids)
        self._outputs = Outputs(backend, self._place.topic)
        self._running: dict[Unit, Running] = {}
        self._member = self._join()
        self._retired = Stats()
        self._told = (clock.monotonic(), 0)

    def run(self, stop: Event, until_end: bool) -> None:
        """Work until `stop`; everything done is committed when it returns."""
        logger.info(
            "app %s on log %s: %d tasks, reading %s",
            self._topology.app,
            self._backend.url,
            sum(self._layout.tasks.values()),
            ", ".join(self._topology.sources),
        )
        try:
            while self._works(stop, until_end):
                # Whoever has the tasks now has begun at the last commit, and so do we.
                self._running.clear()
                self._member.leave()
                self._member = self._join()
        finally:
            self._member.leave()
        told = "app %s ended: %d records processed here, %d events late"
        logger.info(told, self._topology.app, *self._counts())

    def _join(self) -> Membership:
        app = self._topology.app
        return self._backend.join(app, self._layout.tasks, client_id=f"app {app}")

    def _works(self, stop: Event, until_end: bool) -> bool:
        """The loop of one membership; True when it ended because the member was fenced."""
        try:
            self._loop(stop, until_end)
        except Fenced as error:
            logger.warning("%s; going on from the last commit", error)
            return True
        return False

    def _loop(self, stop: Event, until_end: bool) -> None:
        committed = looked = self._clock.monotonic()
        while not stop.is_set():
            self._follow()
            now = self._clock.monotonic()
            busy = False
            for one in list(self._running.values()):
                busy |= not stop.is_set() and self._guarded(one, Running.step)
            if now - looked >= WAIT:
                looked = now
                for one in list(self._running.values()):
                    self._guarded(one, Running.idle)
            if now - committed >= self._commit_interval:
                self._commit()
                self._refuse_growth()
                committed = self._clock.monotonic()
            self._report()
            if busy or stop.is_set():
                continue
            if until_end and self._at_end():
                break
            positions = {at: o for one in self._running.values() for at, o in one.positions.items()}
            due = committed + self._commit_interval - self._clock.monotonic()
            self._backend.wait(positions, max(0.0, min(WAIT, due)))
        self._commit()
        self._report(last=True)
        self._refuse_growth()

    def _refuse_growth(self) -> None:
        """Raises TopologyError when a topic that is read has other partitions than at the start.

        The tasks read only those of the start, and a key's state is where its records were then.
        """
        known = self._backend.topics()
        for sub in self._topology.subtopologies:
            for name in dict.fromkeys(source.topic for source in sub.sources):
                was = self._layout.partitions[name]
                if name not in known or known[name].partitions == was:
                    continue
                todo = "start it again"
                if sub.stores:
                    stores = ", ".join(repr(store.name) for store in sub.stores)
                    todo += (
                        f". The records of a key may now be in another partition than what {sub} "
                        f"knows of it in {stores}: give the stores other names with name=, and "
                        "they are computed anew"
                    )
                raise TopologyError(
                    f"topic {name} has {known[name].partitions} partitions by now, and had {was} "
                    f"when app {self._topology.app!r} started, which reads no others. What it has "
                    f"done is committed: {todo}"
                )

    def _at_end(self) -> bool:
        """Whether everything there is has been processed, by these tasks and by those of others."""
        if not all(one.at_end for one in self._running.values()):
            return False
        elsewhere = [
            TopicPartition(source.topic, number)
            for sub in self._topology.subtopologies
            for number in range(self._layout.tasks[sub.name])
            if Unit(sub.name, number) not in self._running
            for source in sub.streams
        ]
        if not elsewhere:
            return True
        committed = self._backend.committed(self._topology.app)
        return all(
            at in committed and committed[at].offset >= self._place.end(at) for at in elsewhere
        )

    def _follow(self) -> None:
        """Take the tasks that come, and give up those that another member waits for."""
        ownership = self._member.poll()
        for unit in self._running.keys() - ownership.owned:
            self._retire(unit)
        if ownership.revoking:
            leaving = [self._running[u] for u in ownership.revoking if u in self._running]
            commit(leaving, self._place, self._outputs, self._member)
            for unit in ownership.revoking & self._running.keys():
                self._retire(unit)
            self._member.release(ownership.revoking)
        gained = ownership.owned - ownership.revoking - self._running.keys()
        if gained:
            self._begin(sorted(gained))

    def _begin(self, units: list[Unit]) -> None:
        committed = self._backend.committed(self._topology.app)
        told = self._clock.monotonic()

        def restoring(what: str, done: int, total: int) -> None:
            nonlocal told
            now = self._clock.monotonic()
            if now - told >= PATIENCE:
                told = now
                logger.info("restoring %s: %d of %d records", what, done, total)

        begun = []
        for unit in units:
            one = self._make(unit, self._place)
            one.begin(committed, restoring)
            begun.append(one)
        commit(begun, self._place, self._outputs, self._member)
        self._running |= zip(units, begun, strict=True)

    def _make(self, unit: Unit, place: Place) -> Running:
        task = Task(
            self._topology,
            self._layout,
            self._topology.subtopology(unit.topic),
            unit.partition,
            run=self._clock.now(),
            limits=place.limits(),
        )
        return Running(task, place, self._outputs, self._clock)

    def _retire(self, unit: Unit) -> None:
        stats = self._running.pop(unit).task.stats
        self._retired.processed += stats.processed
        for store, late in stats.late.items():
            self._retired.late[store] = self._retired.late.get(store, 0) + late

    def _commit(self) -> None:
        commit(self._running.values(), self._place, self._outputs, self._member)

    def _guarded(self, one: Running, act: Callable[[Running], T]) -> T:
        """Let a task act; when it fails, commit what can be committed, of it and of the others."""
        try:
            return act(one)
        except Exception as error:
            failed = one.task.failed
            if one.task.torn and failed is not None:
                one = self._redo(one, error)
            rescue(error, one, self._commit_whole)
            if failed is not None:
                self._advise(error, failed, one.task.positions)
            raise

    def _redo(self, torn: Running, error: Exception) -> Running:
        """The task again, from the last commit to before the record that tore its state.

        Without this nothing before that record would count, and to skip the record would be to
        lose those as well. Gives the torn one when it does not come so far.
        """
        unit = Unit(torn.task.subtopology.name, torn.task.number)
        ends = {at: Span(0, end, NEVER, FOREVER) for at, end in torn.task.positions.items()}
        one = self._make(unit, replace(self._place, spans=ends))
        try:
            one.begin(self._backend.committed(self._topology.app))
            while one.lag or one.task.buffered:
                one.step()
        except StreamkitError as also:
            error.add_note(f"What was done before it could not be done again: {also}")
            return torn
        self._running[unit] = one
        return one

    def _advise(
        self,
        error: Exception,
        failed: tuple[TopicPartition, int],
        positions: Mapping[TopicPartition, int],
    ) -> None:
        """Say how to get past a record, when all before it is committed."""
        at, offset = failed
        committed = self._backend.committed(self._topology.app)
        if all(p in committed and committed[p].offset == o for p, o in positions.items()):
            error.add_note(
                f"Mend the app, or skip the record: streamkit groups reset {self._topology.app} "
                f"--topic {at.topic}:{at.partition} --to offset:{offset + 1}"
            )

    def _commit_whole(self) -> None:
        self._running = {unit: one for unit, one in self._running.items() if one.whole}
        self._commit()

    def _counts(self) -> tuple[int, int]:
        """How many records this process has read, and how many of the events were late."""
        stats = [self._retired, *(one.task.stats for one in self._running.values())]
        return sum(each.processed for each in stats), sum(sum(s.late.values()) for s in stats)

    def _report(self, last: bool = False) -> None:
        now = self._clock.monotonic()
        since, before = self._told
        if self._on_progress is None or (now - since < PROGRESS and not last):
            return
        processed, late = self._counts()
        self._told = (now, processed)
        self._on_progress(
            Progress(
                tasks=len(self._running),
                processed=processed,
                late=late,
                lag=sum(one.lag for one in self._running.values()),
                rate=(processed - before) / max(now - since, 1e-3),
            )
        )
