"""Whose turn it is to do a log's maintenance, and the thread that does it here."""

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from streamkit.clock import Clock
from streamkit.errors import LogError, StreamkitError
from streamkit.log.late import loading
from streamkit.log.space import Space
from streamkit.log.ticker import TICK_SECONDS, Ticker

if TYPE_CHECKING:  # loaded by the process whose turn it is
    from streamkit.log.maintenance import Maintained, Maintenance

logger = logging.getLogger(__name__)

BUSY_SECONDS = 0.15
"""Between two passes while something is compacted: a quarter of a processor, then."""

TAKE_OVER = 1_500_000
"""So many microseconds after the last pass another process does the next one."""


NEGLECTED = 60_000_000
"""After so many microseconds without a pass, who closes the log does one: on a log that is written
by short programs alone nobody would ever live to the first tick."""


class Upkeep:
    """One process's part in the maintenance of a log that it writes. Used from any thread."""

    def __init__(
        self, make: Callable[[], "Maintenance"], space: Space, *, clock: Clock, thread: bool
    ) -> None:
        """`make` is called before the first pass; without `thread` only `run` makes passes."""
        self._make = make
        self._space = space
        self._clock = clock
        self._ticker = Ticker(self._tick)
        self.ticks = not thread
        """Whether the thread runs, or never will."""
        self._maintenance: Maintenance | None = None
        self._duties: list[Callable[[], object]] = [space.restore]
        self._passed = -1
        self._began = False
        self._hindered = ""

    def start(self) -> None:
        """Begin to do maintenance about once a second, in a thread."""
        self.ticks = self._began = True
        if self._space.last_pass == 0:
            self._passed = self._microseconds()
            self._space.note_pass(self._passed)  # as if: a new log is not a neglected one
        self._ticker.start()

    def ask(self) -> None:
        """Have the thread do it now."""
        self._ticker.ask()

    def add_duty(self, duty: Callable[[], object]) -> None:
        """Have `duty` called with every pass; it is quick when there is nothing to do."""
        self._duties.append(duty)

    @property
    def maintenance(self) -> "Maintenance":
        """Loaded when it is first asked for."""
        if self._maintenance is None:
            with loading():
                if self._maintenance is None:
                    self._maintenance = self._make()
        return self._maintenance

    def _tick(self, asked: bool) -> float:
        """Do maintenance, if it is this process's turn; in how many seconds to look again."""
        since = self._microseconds() - self._space.last_pass
        # Who did it last goes on with it, having seen what there is; unless it was stopped.
        mine = self._space.last_pass == self._passed
        found = None
        if asked or mine or not 0 <= since < TAKE_OVER:
            try:
                found = self.run(patience=1.0 if asked else 0.0, everything=asked)
                self._hindered = ""
            except LogError as error:
                if self._hindered != (said := str(error)):  # said once, until it is over
                    logger.warning("maintenance: %s", error)
                self._hindered = said
        if found is None:
            self.rest()
        busy = self._maintenance is not None and self._maintenance.waiting
        return BUSY_SECONDS if busy else TICK_SECONDS

    def run(
        self, *, patience: float, everything: bool, to_the_end: bool = False
    ) -> "Maintained | None":
        """One pass; None when another process is at it for `patience` seconds.

        The others are as in `Maintenance.run`.
        """
        space = self._space
        deadline = time.monotonic() + patience
        while not space.try_lock():
            if time.monotonic() >= deadline or self._ticker.closed:
                return None
            time.sleep(0.02)
        try:
            return self.maintenance.run(self._duties, everything=everything, to_the_end=to_the_end)
        finally:
            self._passed = self._microseconds()
            space.note_pass(self._passed)
            space.unlock()

    def _microseconds(self) -> int:
        return int(self._clock.monotonic() * 1_000_000)

    def rest(self) -> None:
        """Another process does it from now on, or none: give up what is under way."""
        if self._maintenance is not None:
            self._maintenance.rest()

    def close(self) -> None:
        """End the thread, and what it is doing. Twice is fine."""
        self._ticker.close()
        self.ticks = True
        if self._began:
            self._began = False
            if not 0 <= self._microseconds() - self._space.last_pass < NEGLECTED:
                self._catch_up()
        self.rest()

    def _catch_up(self) -> None:
        try:
            self.run(patience=0.0, everything=False)
        except (StreamkitError, OSError) as error:
            logger.warning("maintenance: %s", error)

    def forked(self) -> None:
        """In a forked child: the thread is the parent's, and so is what is under way."""
        self.ticks = self.ticks and not self._ticker.started
        self._began = False
        self._ticker.forked()
        if self._maintenance is not None:
            self._maintenance.forked()
