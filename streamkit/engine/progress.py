"""How far the tasks of a process are, told from time to time."""

import logging
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from streamkit.backends.values import Unit
from streamkit.clock import Clock
from streamkit.engine.failed import Failed
from streamkit.engine.late import TooLate
from streamkit.engine.restore import Restoring
from streamkit.errors import counted

logger = logging.getLogger("streamkit.engine")

PROGRESS = 0.25
"""Seconds between two calls of `on_progress`."""
FAILURES = 60.0
"""Seconds between two lines about events that a step fails for."""
LATENESS = 30.0
"""Seconds between two lines about events that come too late for a step."""
PATIENCE = 1.0
"""Seconds of restoring after which it is worth a line, and then another."""
_BAR = 16
_NAMED = 8
"""So many tasks are named, when there are more."""


@dataclass(frozen=True, slots=True)
class Restored:
    """How far state and tables are that tasks need before their first event."""

    tasks: int
    done: int
    """Records read."""
    total: int
    rate: float
    """Records per second until now."""

    @property
    def seconds_left(self) -> float | None:
        """At this rate; None: nobody can tell yet."""
        return (self.total - self.done) / self.rate if self.rate > 0 else None

    @property
    def bar(self) -> str:
        """What is done, drawn."""
        done = _BAR if not self.total else _BAR * self.done // self.total
        return "━" * done + "─" * (_BAR - done)

    def __str__(self) -> str:
        left = "" if self.seconds_left is None else f", {self.seconds_left:,.0f} s left"
        return f"{self.done:,} of {self.total:,} records, {self.rate:,.0f}/s{left}"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far this process is. `lag`: records its tasks have still to read."""

    tasks: int
    processed: int
    late: int
    lag: int
    rate: float
    """Records per second since the last Progress."""
    restoring: Restored | None = None
    """Of tasks that are to come; None: there are none."""
    failed: int = 0
    """Events that steps have skipped or set aside."""
    notes: tuple[str, ...] = ()
    """How its connectors are, in a few words each."""


class Reports:
    """Tells `on_progress` a few times a second, and the log about restores that take long, and
    about events that were put off, skipped or set aside, or came too late."""

    def __init__(self, clock: Clock, on_progress: Callable[[Progress], None] | None) -> None:
        self._clock = clock
        self._on_progress = on_progress
        self._told = (clock.monotonic(), 0)
        self._began: float | None = None
        self._logged = 0.0
        self._known: dict[int, Restoring] = {}
        self._restored: Restored | None = None
        self._failures: dict[tuple[str, bool], _Failures] = {}
        self._late: dict[str, _Lateness] = {}
        self._taking: dict[str, _Taking] = {}

    def failed(self, failed: Failed) -> None:
        """Of a step's first with its traceback, then no more than a line in `FAILURES` seconds."""
        now = self._clock.monotonic()
        which = (failed.step, failed.waits)
        known = self._failures.get(which)
        if known is None:
            known = self._failures[which] = _Failures(now)
            trace = f"\n{failed.trace.rstrip()}" if failed.trace else ""
            text = "%s: an event was %s: %s%s"
            logger.warning(text, failed.step, failed.done, failed.first, trace)
            failed = replace(failed, count=failed.count - 1)
        known.waiting += failed.count
        known.last = failed
        if now - known.told >= FAILURES:
            self._tell_failures(known, now)

    def _tell_failures(self, known: "_Failures", now: float) -> None:
        failed = known.last
        if failed is not None and known.waiting:
            text = "%s: %s %s, the last: %s"
            count = "1 more was" if known.waiting == 1 else f"{known.waiting:,} more were"
            logger.warning(text, failed.step, count, failed.done, failed.last)
            known.told, known.waiting = now, 0

    def late(self, late: TooLate) -> None:
        """Of a step's first at once, then no more than a line in `LATENESS` seconds."""
        known = self._late.get(late.step)
        if known is None:
            self._late[late.step] = _Lateness(self._clock.monotonic())
            self._say_late(late, "")
        elif known.waiting is None:
            known.waiting = late
        else:
            known.waiting = replace(known.waiting, count=known.waiting.count + late.count)

    def _tell_late(self, last: bool) -> None:
        now = self._clock.monotonic()
        for known in self._late.values():
            if known.waiting is not None and (last or now - known.told >= LATENESS):
                self._say_late(known.waiting, "more ")
                known.told, known.waiting = now, None

    def _say_late(self, late: TooLate, more: str) -> None:
        events = counted(late.count, f"{more}event")
        text = "step %s: %s came too late, the first %s; in %s"
        logger.warning(text, late.step, events, late.first, late.topic)

    def taking(self, left_by: Mapping[Unit, str], owned: Set[Unit]) -> None:
        """Tasks come that others had, who have gone; `owned` are still ours."""
        for who, known in list(self._taking.items()):
            known.missing &= owned
            self._tell_taken(who, known)
        for unit, who in left_by.items():
            known = self._taking.setdefault(who, _Taking(self._clock.monotonic()))
            known.missing.add(unit)

    def taken(self, unit: Unit, restored: int) -> None:
        """A task goes to work, for which so many records were read. Those that one has left are
        told of together."""
        for who, known in list(self._taking.items()):
            if unit in known.missing:
                known.missing.discard(unit)
                known.taken.append(unit)
                known.restored += restored
                self._tell_taken(who, known)

    def _tell_taken(self, who: str, known: "_Taking") -> None:
        if known.missing:
            return
        del self._taking[who]
        if not known.taken:
            return
        units = sorted(known.taken)
        more = f" and {len(units) - _NAMED:,} more" if len(units) > _NAMED else ""
        logger.info(
            "took over from %s, which has gone: %s%s; %s of state and tables restored, "
            "at work after %.1f s",
            who,
            ", ".join(map(str, units[:_NAMED])),
            more,
            counted(known.restored, "record"),
            self._clock.monotonic() - known.began,
        )

    def restoring(self, ongoing: Sequence[Restoring]) -> None:
        """These are being restored at the moment. Those that were, in one go with them, count."""
        if not ongoing:
            self._began, self._restored = None, None
            self._known.clear()
            return
        now = self._clock.monotonic()
        if self._began is None:
            self._began = self._logged = now
        self._known.update((id(one), one) for one in ongoing)
        total = sum(one.total for one in self._known.values())
        done = total - sum(one.left for one in self._known.values())
        self._restored = Restored(len(ongoing), done, total, done / max(now - self._began, 1e-3))
        if now - self._logged >= PATIENCE:
            self._logged = now
            logger.info("restoring %s: %s", ongoing[0].what, self._restored)

    def due(self, last: bool) -> bool:
        """Whether to `tell` now; the `last` time in any case."""
        self._tell_late(last)
        for known in self._failures.values() if last else ():
            self._tell_failures(known, self._clock.monotonic())
        if self._on_progress is None:
            return False
        return last or self._clock.monotonic() - self._told[0] >= PROGRESS

    def tell(self, tasks: int, processed: int, late: int, failed: int, lag: int) -> None:
        """Call `on_progress`."""
        assert self._on_progress is not None
        now = self._clock.monotonic()
        since, before = self._told
        self._told = (now, processed)
        rate = (processed - before) / max(now - since, 1e-3)
        self._on_progress(Progress(tasks, processed, late, lag, rate, self._restored, failed))


@dataclass(slots=True)
class _Failures:
    """Of one step: when they were last told of, and what came since."""

    told: float
    waiting: int = 0
    last: Failed | None = None


@dataclass(slots=True)
class _Lateness:
    """Of one step: when late events were last told of, and which came since."""

    told: float
    waiting: TooLate | None = None


@dataclass(slots=True)
class _Taking:
    """What one has left: since when it comes, what is not at work yet, what is."""

    began: float
    missing: set[Unit] = field(default_factory=set)
    taken: list[Unit] = field(default_factory=list)
    restored: int = 0
