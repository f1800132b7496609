"""Writes the ticks of a schedule into their topic, as the wall clock comes to them."""

import msgspec

from streamkit.dsl.ticks import Tick, Ticks
from streamkit.engine.hot.outlet import Outlet

_encode = msgspec.json.Encoder().encode


class Ticker:
    """Of one source. `next` is when (ms) the next tick is due; None: it begins when it is told the
    time."""

    def __init__(self, ticks: Ticks, outlet: Outlet) -> None:
        self.next: int | None = None
        self.last: int | None = None
        """The tick that was dealt with last."""
        self._ticks = ticks
        self._outlet = outlet

    def begin(self, last: int) -> None:
        """Go on after the tick of that time."""
        self.last = last
        self.next = self._ticks.schedule.next_after(last)

    def tick(self, now: int) -> None:
        """Write what is due at a time (ms)."""
        if self.next is None:
            self.begin(now)
        assert self.next is not None
        if now < self.next:
            return
        due, last = self._ticks.due(self.next, now)
        key = self._ticks.name.encode()
        for stamp in due:
            self._outlet.add(key, _encode(Tick(stamp)), stamp, ())
        self.begin(last)
