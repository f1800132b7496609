"""The worker: runs the connectors of a config, sharing them with other workers on the same log."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from streamkit.backends.base import Backend, Membership
from streamkit.backends.values import Unit
from streamkit.clients.connection import connected
from streamkit.clock import Clock, SystemClock
from streamkit.connect.api import SourceConnector
from streamkit.connect.config import ConnectorConfig, Shared, WorkerConfig, WorkerSettings, parse
from streamkit.connect.config_file import load
from streamkit.connect.plugins import Connector, find
from streamkit.connect.runner import Runner, Task
from streamkit.connect.sink_task import SinkTask
from streamkit.connect.source_task import SourceTask
from streamkit.connect.status import ConnectorStatus, Progress
from streamkit.connect.topics import guess
from streamkit.errors import ConfigError, ConnectError, StreamkitError, UnknownTopic, counted

STOP_SECONDS = 5.0
LOOK_SECONDS = 0.05
REPORT_SECONDS = 0.2

_log = logging.getLogger("streamkit.connect")


def run(
    config: WorkerConfig | str | Path | Sequence[str | Path],
    log: str | Path | Backend,
    *,
    stop_event: Event | None = None,
    until_idle: bool = False,
    on_progress: Callable[[tuple[ConnectorStatus, ...]], None] | None = None,
) -> tuple[ConnectorStatus, ...]:
    """Run connectors until `stop_event` is set, and return how each one ended.

    `config` is a WorkerConfig or worker files (TOML); `log` a directory, URL or Backend. Workers
    with the same `group.id` on one log share the connectors; those of a killed worker are taken
    over at once. `until_idle` ends the run when every source has nothing to read and every sink
    has written what there is. `on_progress` is called a few times a second from this thread.

    Everything is checked before anything starts: raises ConfigError. A connector that fails before
    it has worked ends the run and its error is raised; one that fails later is reported, the
    others go on, and its error is raised when the run ends. Raises UnknownTopic when an idle run
    ends and a topic that a sink was to write has never appeared.
    """
    settings = config if isinstance(config, WorkerConfig) else load(config)
    plans = [plan(one, find(one, settings.directory)) for one in settings.connectors]
    with connected(log) as backend:
        worker = Worker(settings, plans, backend, stop_event or Event(), on_progress)
        return worker.run(until_idle)


@dataclass(frozen=True, slots=True)
class Plan:
    """A connector that has been found, and whose options have been checked."""

    config: ConnectorConfig
    connector: Connector
    options: Any

    def task(
        self,
        backend: Backend,
        worker: WorkerSettings,
        clock: Clock,
        progress: Progress,
        stop: Event,
    ) -> Task:
        if isinstance(self.connector, SourceConnector):
            return SourceTask(
                self.config,
                self.connector,
                self.options,
                backend,
                worker.group_id,
                worker.offset_storage_topic,
                progress,
                clock,
                stop,
            )
        return SinkTask(self.config, self.connector, self.options, backend, progress, clock, stop)


def plan(config: ConnectorConfig, connector: Connector) -> Plan:
    """A connector with its options checked. Raises ConfigError."""
    options = parse(
        connector.config, config.options, config.where, others=Shared, spell=config.spell
    )
    shared = config.shared
    if isinstance(connector, SourceConnector):
        if shared.topics:
            raise ConfigError(f"{config.where}: 'topics' is for sinks; this is a source")
    elif not shared.topics:
        raise ConfigError(f"{config.where}: 'topics' is missing: which topics it writes")
    if shared.errors_deadletterqueue_topic_name and shared.errors_tolerance == "none":
        raise ConfigError(
            f'{config.where}: errors.deadletterqueue.topic.name needs errors.tolerance = "all"'
        )
    return Plan(config, connector, options)


class Worker:
    """Follows the group: starts the runners of connectors it gets, stops those it must give."""

    def __init__(
        self,
        config: WorkerConfig,
        plans: list[Plan],
        backend: Backend,
        stop: Event,
        on_progress: Callable[[tuple[ConnectorStatus, ...]], None] | None,
        *,
        all_or_none: bool = False,
    ) -> None:
        """`all_or_none`: a connector that fails for good ends all of them."""
        self._all_or_none = all_or_none
        self._config = config
        self._plans = {plan.config.name: plan for plan in plans}
        self._backend = backend
        self._stop = stop
        self._on_progress = on_progress
        self._clock = SystemClock()
        self._runners: dict[str, Runner] = {}
        self._member_id: str | None = None

    @property
    def member_id(self) -> str | None:
        """What it is called in the group; None: it has not joined yet."""
        return self._member_id

    @property
    def runners(self) -> dict[str, Runner]:
        """Those of the connectors that this worker runs. May be asked for from any thread."""
        return dict(self._runners)

    def run(self, until_idle: bool) -> tuple[ConnectorStatus, ...]:
        member = self._backend.join(
            self._config.settings.group_id,
            dict.fromkeys(self._plans, 1),
            client_id=f"worker-{os.getpid()}",
        )
        self._member_id = member.member_id
        reported = 0.0
        idle = False
        try:
            while not self._stop.is_set():
                self._follow(member)
                if time.monotonic() - reported >= REPORT_SECONDS:
                    self._report()
                    reported = time.monotonic()
                if self._nothing_left():
                    break
                idle = until_idle and self._idle()
                if idle:
                    break
                self._stop.wait(LOOK_SECONDS)
        finally:
            self._stop_runners(self._runners.values())
            member.leave()
            self._report()
            for status in self.statuses():
                records = counted(status.records, "record")
                _log.info("%s ended: %s, %d bad", status.name, records, status.bad)
        self._raise_failures()
        if idle:
            self._raise_missing()
        return self.statuses()

    def _follow(self, member: Membership) -> None:
        now = member.poll()
        if now.revoking:
            self._give_up([runner for unit in now.revoking if (runner := self._runner_of(unit))])
            member.release(now.revoking)
        mine = {_name(unit) for unit in now.owned - now.revoking}
        lost = [runner for name, runner in self._runners.items() if name not in mine]
        if lost:
            self._give_up(lost)
        for name in sorted(mine & self._plans.keys() - self._runners.keys()):
            self._start(self._plans[name])

    def _runner_of(self, unit: Unit) -> Runner | None:
        return self._runners.get(_name(unit))

    def _start(self, plan: Plan) -> None:
        make = partial(plan.task, self._backend, self._config.settings, self._clock)
        runner = self._runners[plan.config.name] = Runner(plan.config, make)
        _log.info("starting %s", plan.config.name)
        runner.start()

    def _give_up(self, runners: list[Runner]) -> None:
        self._stop_runners(runners)
        for runner in runners:
            _log.info("giving %s to another worker", runner.config.name)
            del self._runners[runner.config.name]

    def _stop_runners(self, runners: Iterable[Runner]) -> None:
        asked = list(runners)
        for runner in asked:
            runner.ask_to_stop()
        deadline = time.monotonic() + STOP_SECONDS
        for runner in asked:
            if not runner.join(max(0.0, deadline - time.monotonic())):
                raise ConnectError(
                    f"connector {runner.config.name} did not stop within {STOP_SECONDS:.0f} s; "
                    "end this process: its position is stored up to its last finished batch"
                )

    def _nothing_left(self) -> bool:
        runners = list(self._runners.values())
        if any(r.fatal or (self._all_or_none and r.error is not None) for r in runners):
            return True
        return bool(runners) and all(runner.ended for runner in runners)

    def _idle(self) -> bool:
        """All have nothing to do, and every sink has looked since all others came to that.

        A sink may read what a source stores, or what another sink sets aside. Connectors that
        have failed do not count.
        """
        if not self._runners:
            return False
        runners = [runner for runner in self._runners.values() if runner.error is None]
        settled = {runner.config.name: runner.progress.idle_since for runner in runners}
        # Read in this order: a time of 0.0 is of one that has stored something just now.
        if not all(settled.values()) or not all(runner.progress.idle for runner in runners):
            return False
        return all(
            runner.progress.looked_at > since
            for runner in runners
            if not self._is_source(runner)
            for name, since in settled.items()
            if name != runner.config.name
        )

    def _is_source(self, runner: Runner) -> bool:
        return isinstance(self._plans[runner.config.name].connector, SourceConnector)

    def statuses(self) -> tuple[ConnectorStatus, ...]:
        """How those are now that it runs, or has run. May be asked for from any thread."""
        mine = self.runners
        return tuple(mine[name].progress.snapshot() for name in self._plans if name in mine)

    def _report(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self.statuses())

    def _raise_failures(self) -> None:
        failed = [runner for runner in self._runners.values() if runner.error is not None]
        if not failed:
            return
        error = failed[0].error
        texts = [f"connector {r.config.name} failed: {r.message}" for r in failed]
        # The class stays what it was: callers tell a wrong config from a bad row by it.
        if len(failed) == 1 and isinstance(error, StreamkitError):
            raise _same_class(error, texts[0]) from error
        raise ConnectError("\n".join(texts)) from error

    def _raise_missing(self) -> None:
        known = self._backend.topics()
        texts = [
            f"connector {name}: topic {topic} never appeared"
            f"{guess(topic, known.keys() - runner.config.shared.topics)}"
            for name, runner in sorted(self._runners.items())
            for topic in runner.progress.missing
        ]
        if texts:
            texts.append("What there is in the other topics is written; `topics` says which ones.")
            raise UnknownTopic("\n".join(texts))


def _same_class(error: StreamkitError, text: str) -> StreamkitError:
    return type(error)(text)


def _name(unit: Unit) -> str:
    return unit[0]
