"""The tasks of one process: a member of the app's group, with what falls to it.

Whoever has a worker lets it take turns, and waits when it has nothing to do: live does so until it
is stopped, a test as long as there is something. In a turn it follows the group (a task that
another member waits for is committed and given up; one that comes is restored, a slice at a time,
while the others work), lets each task do what there is to do, and commits when it is time.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from threading import Event
from typing import TypeVar

from streamkit.backends.base import Backend, Membership
from streamkit.backends.values import Unit
from streamkit.clock import Clock
from streamkit.dsl.topology import Layout, Topology
from streamkit.engine.bell import Bell
from streamkit.engine.callers import Callers, LiveCallers
from streamkit.engine.coming import Coming
from streamkit.engine.committing import commit
from streamkit.engine.growth import refuse_growth
from streamkit.engine.hot.moment import FOREVER, NEVER
from streamkit.engine.limits import Limits
from streamkit.engine.others import Others
from streamkit.engine.outputs import Outputs
from streamkit.engine.place import Place, Span
from streamkit.engine.progress import Progress, Reports
from streamkit.engine.running import Running
from streamkit.engine.settings import Settings
from streamkit.engine.state.beside import Beside
from streamkit.engine.state.budget import Budget
from streamkit.engine.state.shared import SharedRows
from streamkit.engine.stats import Stats
from streamkit.engine.task import Task
from streamkit.engine.transaction import WorkTransaction
from streamkit.engine.upstream import Upstream
from streamkit.errors import Fenced, ProducerFenced, StreamkitError
from streamkit.records import TopicPartition

T = TypeVar("T")

logger = logging.getLogger("streamkit.engine")

WAIT = 0.2
"""Seconds of sleep at most: how long a stop may go unnoticed, and idle inputs be judged late."""
RESTORE = 0.05
"""About how many seconds of a turn go to restoring while other tasks are at work."""
REDO_WAITS = 25
"""How often what stops the app waits for an answer that it needs to commit what was before."""


class Worker:
    """See the module. For one thread. `close` it, whatever happened."""

    def __init__(
        self,
        topology: Topology,
        backend: Backend,
        layout: Layout,
        settings: Settings,
        clock: Clock,
        on_progress: Callable[[Progress], None] | None = None,
        order: Callable[[list[Running]], list[Running]] = list,
        callers: Callers | None = None,
        bell: Bell | None = None,
    ) -> None:
        """`order`: in which order tasks step, asked in each turn. `callers` are whose they are that
        gave them; None: the worker's own. `bell`: what ends a turn that takes too long."""
        self._topology = topology
        self._backend = backend
        self._settings = settings
        self._clock = clock
        self._layout = layout
        self._order = order
        streams = (source.topic for sub in topology.subtopologies for source in sub.streams)
        # What is set aside comes back to the app as well, by the hand of somebody. And what was too
        # far ahead before a kill may not be by the clock that is asked after it.
        self._committed_only = frozenset((*streams, *topology.dead_letters, *topology.ahead))
        known = backend.topics()
        ids = {name: known[name].topic_id for name in layout.partitions if name in known}
        self._place = Place(backend, topology.app, ids=ids)
        self._others = Others(topology, layout, self._place, clock)
        self._running: dict[Unit, Running] = {}
        self._coming = Coming(backend, topology.app, clock)
        self._retired = Stats()
        self._reports = Reports(clock, on_progress)
        self._bell = bell
        self._own = callers is None
        self._callers: Callers = LiveCallers(backend.wake) if callers is None else callers
        self._beside = Beside(backend, Budget(settings.memory), clock, _warn)
        self._shared = SharedRows(self._beside)
        self._open()
        self._committed_at = self._looked_at = clock.monotonic()
        self._uncommitted = False

    def _open(self) -> None:
        app = self._topology.app
        self._upstream = Upstream(self._topology, self._layout, self._place)
        self._member: Membership = self._backend.join(
            app, self._layout.tasks, client_id=f"app {app}"
        )
        try:
            self._transaction = WorkTransaction(self._backend, app, self._member.member_id)
        except BaseException:
            self._member.leave()
            raise
        self._outputs = Outputs(
            self._backend,
            self._place.topic,
            self._transaction,
            at_once=self._at_once,
        )

    def _at_once(self, topic: str) -> bool:
        """Whether what goes there may be there twice after a kill. Never what the app reads itself,
        which would count twice in state, nor what it may process after all."""
        at_least_once = self._settings.guarantee == "at_least_once"
        return at_least_once and topic not in self._committed_only

    # What whoever has it does.

    def turn(self, stop: Event | None = None) -> bool:
        """Do some of what there is to do; False when that was nothing. No longer than necessary
        once `stop` is set.

        Raises what processing raises: what was done before it is committed then, if that can be.
        """
        try:
            return self._turn(stop or Event())
        except (Fenced, ProducerFenced) as error:
            logger.warning("%s; going on from the last commit", error)
            self._begin_anew()
            return True

    def wait(self) -> None:
        """Sleep until there is something to do, or to commit, or a moment has passed."""
        # A task at which too much waits reads nothing, whatever there is: an answer wakes us.
        running = [one for one in self._running.values() if not one.task.answers.is_full]
        positions = {at: o for one in running for at, o in one.positions.items()}
        timeout = WAIT
        if self._uncommitted:
            due = self._committed_at + self._settings.commit_interval
            timeout = min(WAIT, max(0.0, due - self._clock.monotonic()))
        elif self._coming:
            timeout = 0.01
        for one in self._running.values():
            if (at := one.task.answers.due_at) is not None:
                timeout = min(timeout, max(0.0, (at - self._clock.now()) / 1000))
            if (tick := one.task.tick_at) is not None:
                timeout = min(timeout, max(0.0, (tick - self._clock.now()) / 1000))
        self._backend.wait(positions, timeout)

    def act(self, act: Callable[[Running], bool]) -> None:
        """Let each task do something that is no step; it says whether it gave anything."""
        for one in list(self._running.values()):
            if self._guarded(one, act):
                self._uncommitted = True

    def commit(self) -> None:
        """Commit what was done so far. Fenced, it begins anew and others do it again."""
        try:
            self._commit()
        except (Fenced, ProducerFenced) as error:
            logger.warning("%s; what was not committed is done again", error)
            self._begin_anew()

    def finish(self) -> None:
        """Commit, and report for the last time."""
        self.commit()
        self._report(last=True)
        refuse_growth(self._topology, self._layout, self._backend)

    def close(self) -> None:
        """Give everything up; what was not committed will be done again."""
        try:
            self._let_go()
        finally:
            try:
                if self._own:
                    self._callers.close()
            finally:
                try:
                    self._transaction.close()
                finally:
                    self._member.leave()

    def _let_go(self) -> None:
        """Of the stores, before another member opens them."""
        for one in self._running.values():
            one.close()
        self._coming.close()
        self._shared.close()

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks at work here."""
        return tuple(one.task for one in self.running)

    @property
    def running(self) -> tuple[Running, ...]:
        """The tasks at work here, and where they stand."""
        return tuple(self._running.values())

    @property
    def uncommitted(self) -> bool:
        """Whether anything was done since the last commit."""
        return self._uncommitted

    def at_end(self) -> bool:
        """Whether everything there is has been processed and committed, here and by others."""
        if self._coming or self._uncommitted:
            return False
        return self._others.at_end(self._running) and all(
            one.at_end for one in self._running.values()
        )

    def counts(self) -> tuple[int, int, int]:
        """How many records it has read, how many of the events were late, and for how many steps
        failed that went on."""
        stats = [self._retired, *(one.task.stats for one in self._running.values())]
        late = sum(sum(each.late.values()) for each in stats)
        return sum(each.processed for each in stats), late, sum(each.failed for each in stats)

    # A turn.

    def _turn(self, stop: Event) -> bool:
        busy = self._follow()
        busy |= self._coming.restore(RESTORE, self._goes_to_work)
        # Of all before any goes on: what one makes would be ahead of what others have to read.
        self.act(Running.rouse)
        for one in self._order(list(self._running.values())):
            if stop.is_set():
                break
            if self._guarded(one, Running.step):
                busy = self._uncommitted = True
            for failed in one.task.failures():
                self._reports.failed(failed)
            for late in one.task.late():
                self._reports.late(late)
            one.tidy()
        self._shared.tidy()
        now = self._clock.monotonic()
        if now - self._looked_at >= WAIT:
            self._looked_at = now
            self.act(Running.idle)
            if not self._uncommitted:  # nothing may ever come of what it reads
                refuse_growth(self._topology, self._layout, self._backend)
        if self._uncommitted and now - self._committed_at >= self._settings.commit_interval:
            self._commit()
        self._report()
        return busy

    def _follow(self) -> bool:
        """Take the tasks that come, and give up those that another member waits for.

        False when there were none.
        """
        ownership = self._member.poll()
        for unit in self._running.keys() - ownership.owned:
            self._retire(unit)
        self._coming.drop(self._coming.units - ownership.owned)
        if ownership.revoking:
            if not self._running.keys().isdisjoint(ownership.revoking):
                self._commit()
            for unit in ownership.revoking & self._running.keys():
                self._retire(unit)
            self._coming.drop(ownership.revoking & self._coming.units)
            self._member.release(ownership.revoking)
        self._reports.taking(ownership.left_by, ownership.owned)
        gained = ownership.owned - ownership.revoking - self._running.keys() - self._coming.units
        if gained:
            limits = self._place.limits()
            for unit in sorted(gained):
                self._coming.add(self._make(unit, self._place, limits))
        return bool(gained or ownership.revoking)

    def _goes_to_work(self, one: Running) -> None:
        self._running[one.unit] = one
        self._reports.taken(one.unit, one.restoring.total)
        self._uncommitted = True

    def _make(self, unit: Unit, place: Place, limits: Mapping[str, Limits]) -> Running:
        calls = self._callers.of_task()
        task = Task(
            self._topology,
            self._layout,
            self._topology.subtopology(unit.topic),
            unit.partition,
            limits=limits,
            calls=calls,
        )
        settings = self._settings
        return Running(
            task,
            place,
            self._outputs,
            self._clock,
            on_missing=settings.on_missing,
            beside=self._beside,
            shared=self._shared,
            calls=calls,
            bell=self._bell,
            upstream=None if task.subtopology.journal is None else self._upstream,
        )

    def _retire(self, unit: Unit) -> None:
        one = self._running.pop(unit)
        one.close()
        self._retired.add(one.task.stats)

    def _commit(self) -> None:
        self._committed_at = self._clock.monotonic()
        commit(self._running.values(), self._place, self._outputs, self._member)
        self._uncommitted = False
        refuse_growth(self._topology, self._layout, self._backend)

    def _abandon(self) -> None:
        """Forget what was done since the last commit."""
        for unit in list(self._running):
            self._retire(unit)
        self._let_go()
        self._uncommitted = False
        self._outputs.drop()

    def _begin_anew(self) -> None:
        """As another member. Whoever has the tasks now begins at the last commit, and so do we."""
        self.close()
        self._running.clear()
        self._uncommitted = False
        self._open()

    # When a record cannot be processed.

    def _guarded(self, one: Running, act: Callable[[Running], T]) -> T:
        """Let a task act; when it fails, commit what can be committed, of it and of the others."""
        try:
            return act(one)
        except (Fenced, ProducerFenced):
            raise
        except Exception as error:
            failed = error
        except SystemExit as error:
            # That is for whoever runs us to do; who did it is not told otherwise.
            for said in getattr(error, "__notes__", ["the app was ended"]):
                logger.error("%s: %s", one.unit, said)
            raise
        # Not while it is handled: what functions raise now would be told as having come of it.
        self._rescue(one, failed)
        raise failed

    def _rescue(self, one: Running, error: Exception) -> None:
        failed, again = one.task.failed, one.task.comes_again
        if again is not None:
            error.add_note(
                f"{again}. Mend the app, or say what is to become of such events: on_error= of the "
                "step, as errors.md has it"
            )
        try:
            if one.task.torn or self._outputs.broken:
                self._abandon()
                redone = None if failed is None else self._redo(one)
                if redone is None:
                    error.add_note("What was done since the last commit will be done again.")
                    return
                one = redone
            else:
                one.flush()
            self._commit()
        except StreamkitError as also:
            error.add_note(f"What was done before it could not be committed either: {also}")
            return
        if failed is not None and again is None:
            self._advise(error, failed, one.task.positions)

    def _redo(self, torn: Running) -> Running | None:
        """The task again, from the last commit to before the record that tore its state; None: it
        does not come there, as events wait, or another member waits for the task.

        Without this nothing before that record would count, and to skip the record would be to
        lose those as well.
        """
        ends = {
            at: Span(self._place.start(at), end, NEVER, FOREVER)
            for at, end in torn.task.positions.items()
        }
        one = self._make(torn.unit, replace(self._place, spans=ends), self._place.limits())
        try:
            one.begin(self._backend.committed(self._topology.app))
            while not one.restore(self._clock.monotonic() + RESTORE):
                pass
            waits = 0
            while one.lag or one.task.buffered or one.task.is_interrupted:
                if one.step() or not one.task.answers.is_full:
                    continue
                ownership = self._member.poll()
                waits += 1
                if waits > REDO_WAITS or torn.unit not in ownership.owned - ownership.revoking:
                    one.close()
                    return None
                self._callers.wait(WAIT)
        except BaseException:
            one.close()
            raise
        self._running[torn.unit] = one
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
        if all(p in committed and committed[p].offset >= o for p, o in positions.items()):
            error.add_note(
                "The next run begins at this record. Mend the app, say what is to become of such "
                "records (on_error=), or skip the record: streamkit groups reset "
                f"{self._topology.app} --topic {at.topic}:{at.partition} --to offset:{offset + 1}"
            )

    def _report(self, last: bool = False) -> None:
        self._reports.restoring(self._coming.restoring)
        if self._reports.due(last):
            lag = sum(one.lag for one in self._running.values())
            self._reports.tell(len(self._running), *self.counts(), lag)


def _warn(text: str) -> None:
    logger.warning("%s", text)
