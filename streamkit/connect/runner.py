"""One connector's thread: runs its task, tries again what is worth it, and keeps its status."""

import logging
import random
import time
from collections.abc import Callable
from math import inf
from threading import Event, Thread
from typing import Protocol

from streamkit.connect.api import log_of
from streamkit.connect.config import ConnectorConfig
from streamkit.connect.retry import Backoff, Kind, kind_of, restart_delay
from streamkit.connect.status import Progress

START_RETRY_SECONDS = 30.0
"""How long a connector that has not worked yet tries again, unless `errors.retry.timeout` says."""


class Task(Protocol):
    """What a runner runs: a SourceTask or a SinkTask, made anew for every try."""

    def run(self) -> None: ...

    def wake(self) -> None: ...


class Runner:
    """A connector in a thread of its own.

    `error` is what it failed with, and `message` says so to a person; `fatal` says that the worker
    should not go on without it: it never worked, or the log itself failed.
    """

    def __init__(
        self, config: ConnectorConfig, make_task: Callable[[Progress, Event], Task]
    ) -> None:
        self.config = config
        self.progress = Progress(config.name)
        self.error: BaseException | None = None
        self.message = ""
        self.fatal = False
        self._make_task = make_task
        self._stop = Event()
        self._task: Task | None = None
        self._log = log_of(config.name)
        # A daemon: a connector stuck in a driver's call must not keep the process from ending.
        self._thread = Thread(target=self._run, name=f"connector-{config.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ask_to_stop(self) -> None:
        self._stop.set()
        if self._task is not None:
            self._task.wake()

    def join(self, timeout: float) -> bool:
        """True when the thread has ended within `timeout` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def _run(self) -> None:
        attempt = failures = 0
        trouble_since = 0.0
        worked_before = False
        while not self._stop.is_set():
            self.progress.worked = False
            self._task = self._make_task(self.progress, self._stop)
            try:
                self._task.run()
            except BaseException as error:
                if self.progress.worked:
                    worked_before = True
                    attempt = 0
                now = time.monotonic()
                attempt += 1
                trouble_since = now if attempt == 1 else trouble_since
                kind = kind_of(error)
                left = self._retry_seconds(worked_before) - (now - trouble_since)
                if kind is Kind.TRANSIENT and left > 0:
                    self._sleep_after(error, attempt, left)
                    continue
                self._failed(error, kind)
                if kind is not Kind.FATAL or not self.progress.proved:
                    gave_up_at_start = kind is Kind.TRANSIENT and not worked_before
                    self.fatal = kind in (Kind.STORAGE, Kind.FATAL) or gave_up_at_start
                    return
                failures += 1
                delay = restart_delay(failures)
                self._log.error("starting it again in %d minutes", delay / 60)
                if not self._stop.wait(delay):
                    self.error = None
            else:
                break
        if self.error is None:
            self.progress.state = "stopped"

    def _retry_seconds(self, worked_before: bool) -> float:
        limit = self.config.shared.errors_retry_timeout
        if limit is None:
            return inf if worked_before else START_RETRY_SECONDS
        return inf if limit < 0 else limit / 1000

    def _sleep_after(self, error: BaseException, attempt: int, left: float) -> None:
        """Until the next try, of which the last is when no time is `left` (seconds)."""
        longest = self.config.shared.errors_retry_delay_max_ms / 1000
        delay = min(left, Backoff(longest=longest).delay(attempt, random.random()))
        text = self._text(error)
        self.progress.trouble("retrying", text)
        self._log.warning("%s (try %d; again in %.1f s)", text, attempt, delay)
        self._stop.wait(delay)

    def _failed(self, error: BaseException, kind: Kind) -> None:
        self.error = error
        text = self._text(error)
        self.message = text + self._advice(kind)
        self.progress.trouble("failed", text)
        self._log.error("failed: %s", text, exc_info=self._log.isEnabledFor(logging.DEBUG))

    def _text(self, error: BaseException) -> str:
        text = self.config.masked(str(error)) or type(error).__name__
        known = type(error).__module__.startswith("streamkit.")
        return text if known else f"{type(error).__name__}: {text}"

    def _advice(self, kind: Kind) -> str:
        if kind is Kind.DATA and self.config.shared.errors_tolerance == "none":
            return (
                "\nMend it and start again: nothing behind it is lost. Or set errors.tolerance = "
                '"all" and errors.deadletterqueue.topic.name to set such records aside.'
            )
        if kind is Kind.TRANSIENT:
            return "\nGave up; errors.retry.timeout (ms, -1: never) says after what time."
        return ""
