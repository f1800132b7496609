"""Run a replay session: all tasks of the app in one process, over frozen bounds, to their end.

The tasks are those of a live app, and so is the order of a commit. What differs: topics the app
writes are their shadows, inputs end, and the wall clock decides nothing. When everything has been
read, each kind of task is told in turn that nothing more comes, those that feed others first. A
session that ends at a time T closes every window that ends by T. One that ends at the latest
record closes what a live app closes when its inputs stay silent.

A commit is one transaction, as in a live app: a process that goes on after a killed one begins at
its last commit, and of what that one did since nobody sees anything.
"""

from collections.abc import Callable
from threading import Event

import msgspec

from streamkit.backends.base import Backend, Membership
from streamkit.backends.values import CommittedOffset, Unit
from streamkit.clock import Clock, SystemClock
from streamkit.dsl.nodes.node import Node
from streamkit.dsl.topology import Layout, Topology
from streamkit.engine.callers import LiveCallers
from streamkit.engine.committing import commit
from streamkit.engine.outputs import Outputs
from streamkit.engine.place import Place, Span
from streamkit.engine.running import Running
from streamkit.engine.stages import stages
from streamkit.engine.task import Task
from streamkit.engine.transaction import WorkTransaction
from streamkit.errors import GroupActive, StreamkitError, UnknownTopic, nearest
from streamkit.records import TopicPartition
from streamkit.replay.begin import create_shadow, replay_layout, written
from streamkit.replay.recorded import is_whole, recorded
from streamkit.replay.session import Session, store

UNIT = Unit("replay", 0)
"""What a session's group hands out: the session, whole."""
NEVER, FOREVER = -(1 << 62), 1 << 62
COMMIT_INTERVAL = 1.0
WAIT = 0.05
"""Seconds between two looks whether functions that are waited for have answered."""
PROGRESS = 0.1
"""Seconds between two calls of `on_progress`."""


def run(
    topology: Topology,
    backend: Backend,
    session: Session,
    *,
    stop: Event,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    clock: Clock | None = None,
) -> Session:
    """Go on with a session until it is finished or `stop` is set; everything done is committed.

    `on_progress` takes the records of the frozen inputs that are done, and all of them. The app's
    resources are opened, as its functions are called. Raises GroupActive when another process runs
    the session, and like `engine.live.run`.
    """
    if session.finished:
        return session
    clock = clock or SystemClock()
    member = backend.join(session.group, {UNIT.topic: 1}, client_id=f"replay {session.name}")
    try:
        if not member.poll().owned:
            raise GroupActive(
                f"replay {session.name!r} of app {session.app!r} runs in another process already"
            )
        # One of this name at a time: what a killed process has left open is aborted here.
        transaction = WorkTransaction(backend, session.group, session.group)
        callers = LiveCallers(lambda: None, topology.resources)
        try:
            callers.open(stop)
            if stop.is_set():
                return session
            pass_ = _Pass(
                topology, backend, session, member, transaction, clock, on_progress, callers
            )
            if not pass_.run(stop):
                return pass_.session
        finally:
            callers.close()
            transaction.close()
    finally:
        member.leave()
    finished = msgspec.structs.replace(pass_.session, finished=True, ended=clock.now())
    store(backend, finished)
    return finished


class _Pass:
    """One process's part of a session: from the last commit to the end, or to where it stops."""

    def __init__(
        self,
        topology: Topology,
        backend: Backend,
        session: Session,
        member: Membership,
        transaction: WorkTransaction,
        clock: Clock,
        on_progress: Callable[[int, int], None],
        callers: LiveCallers,
    ) -> None:
        self.session = session
        self._callers = callers
        self._backend = backend
        self._member = member
        self._clock = clock
        self._on_progress = on_progress
        self._graces = _graces(topology)
        self._place = Place(
            backend,
            session.group,
            {topic: session.shadow(topic) for topic in written(topology)},
            _spans(session),
            session.ids,
        )
        committed = backend.committed(session.group)
        self._shadows: set[str] = set()
        # Not the place's: a function may send to any topic, and none of the live ones is touched.
        self._outputs = Outputs(backend, self._shadow, transaction)
        layout = replay_layout(topology, backend, session)
        self._stages = [
            [
                self._begin(topology, layout, sub.name, number, committed)
                for sub in stage
                for number in range(layout.tasks[sub.name])
            ]
            for stage in stages(topology)
        ]
        self._running = [one for stage in self._stages for one in stage]
        self._commit()

    def _begin(
        self,
        topology: Topology,
        layout: Layout,
        name: str,
        number: int,
        committed: dict[TopicPartition, CommittedOffset],
    ) -> Running:
        sub = topology.subtopology(name)
        limits = self._place.limits()
        journal = recorded(topology, self._backend, sub, number)
        calls = self._callers.of_task()
        task = Task(
            topology,
            layout,
            sub,
            number,
            limits=limits,
            journal=journal,
            calls=calls,
            whole=is_whole(topology, sub),
        )
        one = Running(task, self._place, self._outputs, self._clock, calls=calls)
        one.begin(committed)
        while not one.restore(self._clock.monotonic() + COMMIT_INTERVAL):
            pass
        return one

    def run(self, stop: Event) -> bool:
        """True when everything is done, False when it was stopped."""
        # What waits for a function leaves between two times, and may open what the next closes.
        finishing = (
            stage
            for stage in self._stages
            for _ in range(1 + max(len(one.task.answers.steps) for one in stage))
        )
        saved = told = self._clock.monotonic()
        uncommitted = False
        while not stop.is_set():
            now = self._clock.monotonic()
            busy = False
            for one in self._running:
                busy |= not stop.is_set() and self._guarded(one, Running.step)
            uncommitted |= busy
            if now - told >= PROGRESS:
                told = now
                self._on_progress(*self._progress())
            if now - saved >= COMMIT_INTERVAL:
                self._commit()
                saved, uncommitted = self._clock.monotonic(), False
            if busy or stop.is_set():
                continue
            if uncommitted:
                self._commit()  # what one task hands to another, that one can only read then
                uncommitted = False
                continue
            waiting = [one.task for one in self._running if one.task.answers.is_waiting]
            hurried = [task.answers.hurry() for task in waiting].count(True)
            if hurried or not all(map(_leaves_later, waiting)):
                self._callers.wait(WAIT)
                continue
            if self._go_on():
                uncommitted = True
                continue
            stage = next(finishing, None)
            if stage is None:
                self._commit()
                self._on_progress(*self._progress())
                return True
            for one in stage:
                self._guarded(one, self._finish)
            uncommitted = True
        self._commit()
        return False

    def _go_on(self) -> bool:
        """Behind where the live app was told that nothing more comes; False when that is done.

        Those that read what others write were told when these had finished. Only when all have
        finished does one go on with what came later.
        """
        paused = [one.task for one in self._running if one.task.paused_at is not None]
        first = min((task.paused_at or 0 for task in paused), default=FOREVER)

        def end(one: Running) -> bool:
            ended = one.task.end_at_rest(first)
            return one.flush() or ended

        for stage in self._stages:
            if [self._guarded(one, end) for one in stage].count(True):
                return True
        for task in paused:
            if task.paused_at == first:
                task.go_on()
        return bool(paused)

    def _finish(self, one: Running) -> bool:
        """Tell a task that nothing more comes, and append what that gives."""
        if self.session.end is not None:
            # Past the end by the largest grace: windows that end by then have had theirs.
            one.task.finish(self.session.end + self._graces)
        else:
            silence = one.task.idle_steps[-1]
            one.task.idle(dict.fromkeys(one.task.inputs, silence))
        return one.flush()

    def _commit(self) -> None:
        commit(self._running, self._place, self._outputs, self._member, [UNIT])

    def _shadow(self, topic: str) -> str:
        """The session's own topic for one the app writes, made now if only a function names it."""
        shadow = self.session.shadow(topic)
        if topic not in self._shadows:
            known = self._backend.topics()
            if topic not in (*self.session.results, *self.session.internal):
                results = sorted([*self.session.results, topic])
                self.session = msgspec.structs.replace(self.session, results=results)
                store(self._backend, self.session)
            if shadow not in known:
                if topic not in known:
                    raise UnknownTopic(
                        f"the app sends to {topic}, which does not exist{nearest(topic, known)}; "
                        f"create it: streamkit topics create {topic}"
                    )
                live = known[topic]
                create_shadow(self._backend, self.session, topic, live.partitions, live.config)
            self._shadows.add(topic)
        return shadow

    def _guarded(self, one: Running, act: Callable[[Running], bool]) -> bool:
        try:
            return act(one)
        except Exception as error:
            if not (one.task.torn or self._outputs.broken):
                try:
                    one.flush()
                    self._commit()
                except StreamkitError as also:
                    error.add_note(f"What was done before it could not be committed: {also}")
            raise

    def _progress(self) -> tuple[int, int]:
        done = total = 0
        for topic, bounds in self.session.streams.items():
            for number, (start, end) in enumerate(bounds):
                at = TopicPartition(topic, number)
                total += end - start
                # An input may be read by several tasks: the slowest counts.
                places = [one.positions[at] for one in self._running if at in one.positions]
                done += min(max(min(places, default=end), start), end) - start
        return done, total


def _leaves_later(task: Task) -> bool:
    """Whether what waits in a task does so beyond the end that it is at, as it did live."""
    return task.paused_at is not None and not task.answers.calling


def _spans(session: Session) -> dict[TopicPartition, Span]:
    since = NEVER if session.start is None else session.start
    until = FOREVER if session.end is None else session.end
    spans = {}
    for topic, bounds in session.tables.items():
        for number, (start, end) in enumerate(bounds):
            spans[TopicPartition(topic, number)] = Span(start, end, NEVER, FOREVER)
    for topic, bounds in session.streams.items():
        for number, (start, end) in enumerate(bounds):
            spans[TopicPartition(topic, number)] = Span(start, end, since, until)
    return spans


def _graces(topology: Topology) -> int:
    """How long after its end the last window of a chain of windows may close, in ms."""
    return max(_delay(node) for sub in topology.subtopologies for node in sub.nodes)


def _delay(node: Node | None) -> int:
    """Of a node, and of those whose results it is fed with."""
    delay = 0
    while node is not None:
        delay += node.delay
        node = node.above
    return delay
