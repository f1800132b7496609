"""What changed since it was given, for emit=every(...)."""

from collections.abc import Iterable

from streamkit.dsl.windows import Emit, Every
from streamkit.engine.hot.moment import NEVER, NodeTime


class Changes:
    """Rows that changed since event time passed a multiple of so many ms.

    Which these are is told by what is kept: after a start it is `unknown` until someone has looked,
    and said it with `recall`.
    """

    __slots__ = ("_every", "_next", "_rows", "_time")

    def __init__(self, every: int, time: NodeTime) -> None:
        self._every = every
        self._time = time
        self._rows: dict[bytes, None] | None = None
        self._next: int | None = None

    @property
    def unknown(self) -> bool:
        return self._rows is None

    def recall(self, rows: list[bytes]) -> None:
        """Say what had changed and was not given when it was last committed."""
        self._rows = dict.fromkeys(rows)
        if self._next is None:
            self._next = self._after(self._time.watermark)

    @property
    def marks(self) -> tuple[int, ...]:
        """When to look at them, for who is interrupted while time passes."""
        return () if self._next is None else (self._next,)

    def keep(self, marks: tuple[int, ...]) -> None:
        """As it was then, before anything is done."""
        self._next = next(iter(marks), None)

    def put_back(self, rows: Iterable[bytes]) -> None:
        """They were taken, and are still to be given."""
        assert self._rows is not None, "taken from what is known"
        self._rows |= dict.fromkeys(rows)

    def add(self, row: bytes) -> None:
        assert self._rows is not None, "looked at before the first event"
        if not self._rows:
            self._next = next = self._after(self._time.watermark)
            self._time.wake(next)
        self._rows[row] = None

    def discard(self, row: bytes) -> None:
        """It is given, or gone."""
        if self._rows is not None:
            self._rows.pop(row, None)

    @property
    def due(self) -> int | None:
        """The watermark at which to look at them; None: there are none."""
        if self._rows is None and self._next is None:
            # First of all, where time was left: it may be further when it is asked again.
            self._next = self._after(self._time.watermark)
        if self._rows is not None and not self._rows:
            return None
        return self._next

    def take(self, watermark: int) -> list[bytes]:
        """The rows to give at the watermark, if it has come to where they are due."""
        if not self._rows or self._next is None or watermark < self._next:
            return []
        if self._next <= NEVER:
            # Before, no time was known: it has come to where it is now, and has passed nothing.
            self._next = self._after(watermark)
            return []
        rows, self._rows = list(self._rows), {}
        return rows

    def _after(self, watermark: int) -> int:
        return NEVER if watermark <= NEVER else (watermark // self._every + 1) * self._every


def changes(emit: Emit, time: NodeTime) -> Changes | None:
    """For who emits every so often; None for the others."""
    return Changes(emit.every, time) if isinstance(emit, Every) else None
