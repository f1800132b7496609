"""The tasks that come to a process: restored a slice at a time, beside those that are at work."""

import logging
from collections.abc import Callable, Iterable, Set

from streamkit.backends.base import Backend
from streamkit.backends.values import Unit
from streamkit.clock import Clock
from streamkit.engine.restore import Restoring
from streamkit.engine.running import Running

logger = logging.getLogger("streamkit.engine")


class Coming:
    """Those that are not at work yet: they are restored, or wait for who had them before."""

    def __init__(self, backend: Backend, app: str, clock: Clock) -> None:
        self._backend = backend
        self._app = app
        self._clock = clock
        self._tasks: dict[Unit, Running] = {}

    def __bool__(self) -> bool:
        return bool(self._tasks)

    @property
    def units(self) -> Set[Unit]:
        return self._tasks.keys()

    @property
    def restoring(self) -> list[Restoring]:
        """How far those are that have begun."""
        return [one.restoring for one in self._tasks.values() if one.begun]

    def add(self, one: Running) -> None:
        """A task that has not begun."""
        self._tasks[one.unit] = one

    def drop(self, units: Iterable[Unit]) -> None:
        """Others have these, or are to have them."""
        for unit in units:
            self._tasks.pop(unit).close()

    def restore(self, seconds: float, is_there: Callable[[Running], None]) -> bool:
        """Bring them further, for about so long, and hand over those that are complete: they come
        no more. False when nothing was done. Raises SerdeError for what cannot be read."""
        if not self._tasks:
            return False
        self._begin()
        busy = False
        until = self._clock.monotonic() + seconds
        for unit, one in list(self._tasks.items()):
            if one.begun:
                before = one.restoring.left
                complete = one.restore(until)
                one.tidy()
                if complete:
                    is_there(self._tasks.pop(unit))
                busy |= complete or one.restoring.left < before
        return busy

    def _begin(self) -> None:
        waiting = [one for one in self._tasks.values() if not one.begun]
        if not waiting:
            return
        # In this order: what is pending may be committed before the second is asked for.
        pending = self._backend.pending(self._app)
        committed = self._backend.committed(self._app)
        for one in waiting:
            if pending.isdisjoint(one.committing):
                one.begin(committed)
                for text in one.missing:
                    logger.warning("%s", text)

    def close(self) -> None:
        """Let go of all."""
        for one in self._tasks.values():
            one.close()
        self._tasks.clear()
