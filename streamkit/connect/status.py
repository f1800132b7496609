"""How a connector is doing: written by its thread, read by whoever shows it."""

import time
from dataclasses import dataclass
from typing import Literal, TypeAlias

State: TypeAlias = Literal["starting", "running", "idle", "retrying", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class ConnectorStatus:
    """One connector at one moment.

    `records` counts what was stored since the worker started, `bad` what went to the dead letter
    queue or was skipped, `lag` how many records a sink has still to write (None for a source).
    `error` is the last error's text while it is retrying or failed.
    """

    name: str
    state: State
    records: int = 0
    bad: int = 0
    lag: int | None = None
    error: str = ""


class Progress:
    """The counters of a running connector. One thread writes, others read single attributes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state: State = "starting"
        self.records = 0
        self.bad = 0
        self.lag: int | None = None
        self.error = ""
        self.missing: tuple[str, ...] = ()
        """Topics that a sink waits for."""
        self.worked = False
        """Whether it was open and at work since the last try: its other side answers."""
        self.proved = False
        """Whether it has stored a record, or (a source) read its input to the end, ever."""
        self.idle = False
        """Whether it has nothing to do at this moment."""
        self.idle_since = 0.0
        """When (monotonic seconds) it first had nothing to do after its last record; 0.0: never."""
        self.looked_at = 0.0
        """When (monotonic seconds) the last look began that found nothing to do."""

    def stored(self, records: int) -> None:
        self.records += records
        self._works("running")
        self.proved = True
        self.idle = False
        self.idle_since = 0.0

    def nothing_to_do(self, looked_at: float = 0.0) -> None:
        """It has looked, from `looked_at` (monotonic seconds) on, and there was nothing."""
        self._works("idle")
        self.looked_at = looked_at
        self.idle_since = self.idle_since or time.monotonic()
        self.idle = True

    def looking(self) -> None:
        """It looks for something to do now."""
        self.idle = False

    def waiting(self) -> None:
        """There is input, but it cannot be read yet."""
        self._works("running")
        self.idle = False
        self.idle_since = 0.0

    def _works(self, state: State) -> None:
        self.worked = True
        self.state = state
        self.error = ""

    def trouble(self, state: State, error: str) -> None:
        self.state = state
        self.error = error
        self.idle = False

    def snapshot(self) -> ConnectorStatus:
        return ConnectorStatus(self.name, self.state, self.records, self.bad, self.lag, self.error)
