"""Run an app live: a worker that takes turns until it is stopped, and sleeps when it can."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import replace
from threading import Event

from streamkit.backends.base import Backend
from streamkit.clock import Clock, SystemClock
from streamkit.dsl.topology import Topology
from streamkit.engine.bell import Bell
from streamkit.engine.callers import LiveCallers
from streamkit.engine.companions import Companions, Ending
from streamkit.engine.finishing import Finishing, tell_open
from streamkit.engine.plan import accept as accepted
from streamkit.engine.plan import begun_empty, plan, refuse_unsafe
from streamkit.engine.progress import Progress
from streamkit.engine.settings import Settings
from streamkit.engine.signals import stop_on_signals
from streamkit.engine.topics import create_topics, refuse_others, wait_for_sources
from streamkit.engine.worker import Worker
from streamkit.errors import StreamkitError, counted

logger = logging.getLogger("streamkit.engine")


def run(
    topology: Topology,
    backend: Backend,
    *,
    stop: Event | None = None,
    settings: Settings | None = None,
    until_end: bool = False,
    finish: bool = False,
    accept: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    clock: Clock | None = None,
    companions: Companions | None = None,
) -> None:
    """Run the app's tasks until `stop` is set; without one, until SIGINT or SIGTERM.

    Waits for the topics the app reads, and creates those it writes. When it returns, everything
    it did is committed. With `until_end` it waits for nothing, and also returns when its tasks
    and those of other members have processed all there is; what is still open then it says, or, to
    `finish`, closes. `on_progress` is called a few times a
    second. `companions` run beside the tasks; when one of them fails, its error is raised. What the
    app has for resources is open from before the first record to after the last.

    Raises FunctionError, SerdeError or DataError when a record cannot be processed: what was done
    before it is committed, and the next run begins at it. Raises FunctionError when a resource
    cannot be opened: then nothing is done. Raises TopologyError, also when a topic
    that the app reads grows while it runs; UnsafeChange when the app is not what it was, so that
    state would be orphaned or misread, unless that is to be `accept`ed; OffsetOutOfRange when
    records are gone that it has not read, unless `settings.on_missing` says otherwise.
    """
    signals: AbstractContextManager[Event]
    if stop is not None:
        signals = nullcontext(stop)
    elif threading.current_thread() is threading.main_thread():
        signals = stop_on_signals()
    else:
        signals = nullcontext(Event())
    with signals as stopping, ExitStack() as opened:
        # To the end of what? A topic that is not there is an error then, raised by the layout.
        if not until_end and not wait_for_sources(topology, backend, stopping, logger.warning):
            return
        refuse_others(topology, backend)
        changes = plan(topology, backend)
        refuse_unsafe(changes, accept=accept)
        for text in begun_empty(changes):
            logger.warning("%s", text)
        callers = opened.enter_context(closing(LiveCallers(backend.wake, topology.resources)))
        # Before it is a member: until it can work, others do.
        callers.open(stopping)
        if stopping.is_set():
            return
        layout = create_topics(topology, backend)
        accepted(topology, backend, changes, layout)
        bell = Bell()
        worker = Worker(
            topology,
            backend,
            layout,
            settings or Settings(),
            clock or SystemClock(),
            on_progress if companions is None else _noted(on_progress, companions),
            callers=callers,
            bell=bell,
        )
        try:
            tasks = sum(layout.tasks.values())
            sources = ", ".join(topology.sources) or "nothing but the clock"
            told = "app %s on log %s: %s, reading %s"
            logger.info(told, topology.app, backend.url, counted(tasks, "task"), sources)
            for name in (name for sub in topology.subtopologies for name in sub.unused):
                logger.warning(
                    "what %s gives is not used: to= (or .to(...)) writes it to a topic", name
                )
            for topic, windows in topology.mixed.items():
                logger.warning(
                    "%s, which is read as a table, is given the results of %s: the latest of "
                    "any is the row of a key; write them to topics of their own",
                    topic,
                    " and ".join(windows),
                )
            with _beside(companions, backend):
                finishing = Finishing(topology, layout, backend) if finish else None
                ending = Ending(worker, companions, finishing) if until_end else None
                _work(worker, stopping, ending, companions, clock or SystemClock())
        finally:
            worker.close()
            bell.close()
        told = (
            "app %s ended: %s processed here, those of its own topics included, %s late, %d failed"
        )
        records, late, failed = worker.counts()
        logger.info(told, topology.app, counted(records, "record"), counted(late, "event"), failed)


def _work(
    worker: Worker,
    stop: Event,
    ending: Ending | None,
    companions: Companions | None,
    clock: Clock,
) -> None:
    while not stop.is_set() and not (companions is not None and companions.failed):
        if worker.turn(stop) or stop.is_set():
            if ending is not None:
                ending.worked()
            continue
        if ending is not None:
            if worker.uncommitted:
                # What others read of it, and we too, they can only read then.
                worker.commit()
                ending.worked()
                continue
            if ending.reached(clock.monotonic()):
                if not ending.is_left_to_others:
                    tell_open(worker)
                break
        worker.wait()
    worker.finish()


@contextmanager
def _beside(companions: Companions | None, backend: Backend) -> Iterator[None]:
    """Companions at work; what they fail with is raised, unless the block itself fails."""
    if companions is None:
        yield
        return
    try:
        companions.start(backend)
        yield
    except BaseException as error:
        try:
            companions.stop()
        except StreamkitError as also:
            error.add_note(f"Beside that: {also}")
        raise
    companions.stop()


def _noted(
    on_progress: Callable[[Progress], None] | None, companions: Companions
) -> Callable[[Progress], None] | None:
    if on_progress is None:
        return None
    return lambda progress: on_progress(replace(progress, notes=companions.notes()))
