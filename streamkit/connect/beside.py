"""The connectors of an app, beside its tasks: a worker of `streamkit connect` in a thread.

The processes of an app share its connectors as they share its tasks; those of one that is killed
are taken over at once.
"""

import logging
from threading import Event, Thread

from streamkit.backends.base import Backend
from streamkit.connect.config import WorkerConfig, WorkerSettings
from streamkit.connect.runner import Runner
from streamkit.connect.status import ConnectorStatus
from streamkit.connect.worker import Worker
from streamkit.dsl.topology import Topology
from streamkit.errors import counted

_log = logging.getLogger("streamkit.connect")


def settings_of(app: str) -> WorkerSettings:
    """Under which names in the log the processes of an app run its connectors."""
    return WorkerSettings(f"{app}-connect", f"{app}-connect-offsets")


def worker_config(topology: Topology) -> WorkerConfig:
    """An app's connectors, as a worker file would have them."""
    configs = tuple(one.plan.config for one in topology.connectors)
    return WorkerConfig(configs, settings_of(topology.app))


class Connectors:
    """See `streamkit.engine.companions`. Runs once."""

    def __init__(self, topology: Topology) -> None:
        self._config = worker_config(topology)
        self._plans = [one.plan for one in topology.connectors]
        self._sources = {one.name for one in topology.connectors if one.kind == "source"}
        self._backend: Backend | None = None
        self._worker: Worker | None = None
        self._thread: Thread | None = None
        self._stop = Event()
        self._error: BaseException | None = None
        self._told = False
        self._here: set[str] = set()
        """The sources that were here when it was last asked whether they are settled."""

    def start(self, backend: Backend) -> None:
        self._backend = backend
        self._worker = Worker(
            self._config, self._plans, backend, self._stop, None, all_or_none=True
        )
        self._thread = Thread(target=self._run, name="connectors", daemon=True)
        self._thread.start()

    @property
    def failed(self) -> bool:
        return self._thread is not None and not self._thread.is_alive()

    def settled(self) -> float | None:
        """None as well as long as other processes have all the sources: only they can tell, and
        we take them over when those have ended."""
        mine = self._mine()
        if mine is None:
            return None
        self._here = self._sources & mine.keys()
        sources = [mine[name] for name in self._here]
        if not sources and self._sources:
            if not self._told:
                _log.info("the sources are in another process; this one ends after it")
            self._told = True
            return None
        if not sources:
            return 0.0
        # In this order: what has stored something just now is not idle, and its time is 0.0.
        since = [runner.progress.idle_since for runner in sources]
        idle = all(since) and all(runner.progress.idle for runner in sources)
        return max(since) if idle else None

    def elsewhere(self) -> bool:
        mine = self._mine()
        return mine is not None and bool(self._sources) and self._sources.isdisjoint(mine)

    def spread(self) -> bool:
        return bool(self._here) and self._here != self._sources

    def leads(self) -> bool:
        first = min(self._sources)
        if first not in self._here:
            _log.info("the process that has source %s goes on with those of this one", first)
        return first in self._here

    def drained(self, since: float) -> bool:
        """Sinks that other processes have come to us when those have ended."""
        mine = self._mine()
        if mine is None:
            return False
        sinks = [runner for name, runner in mine.items() if name not in self._sources]
        return all(r.progress.idle and r.progress.looked_at > since for r in sinks)

    def notes(self) -> tuple[str, ...]:
        return () if self._worker is None else tuple(map(_told, self._worker.statuses()))

    def stop(self) -> None:
        self._stop.set()
        if self._thread is None:
            return
        self._thread.join()
        self._thread = None
        assert self._worker is not None
        if self._error is not None:
            raise self._error

    def _mine(self) -> dict[str, Runner] | None:
        """The connectors that this process runs; None: one is nobody's, or ours to start yet."""
        assert self._worker is not None and self._backend is not None
        mine = self._worker.runners
        rest = {plan.config.name for plan in self._plans} - mine.keys()
        if rest:
            us = self._worker.member_id
            if us is None:
                return None
            members = self._backend.group(self._config.settings.group_id).members
            others = {unit[0] for one in members if one.member_id != us for unit in one.units}
            if not rest <= others:
                return None
        return mine

    def _run(self) -> None:
        try:
            assert self._worker is not None
            self._worker.run(until_idle=False)
        except BaseException as error:  # raised by `stop`, in the thread of the tasks
            self._error = error
        finally:
            assert self._backend is not None
            self._backend.wake()


def _told(status: ConnectorStatus) -> str:
    behind = f", {status.lag:,} behind" if status.lag else ""
    return f"{status.name} {status.state}, {counted(status.records, 'record')}{behind}"
