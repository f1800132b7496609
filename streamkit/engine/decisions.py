"""What a task decides, or is told, that does not follow from its inputs alone.

Its own decisions go to its journal. A task that follows a journal takes none: it takes those that
are there, each where it was taken.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from streamkit.engine import journal
from streamkit.engine.inputs import Input
from streamkit.engine.journal import Cut, Entry, Finish, Left, Places, Step
from streamkit.engine.rows import Rows
from streamkit.engine.script import Script


class Decisions:
    """Of one task."""

    def __init__(self, named: Mapping[str, Input]) -> None:
        """`named`: what it reads, as a journal calls it."""
        self.own: list[Entry] = []
        """Since they were last given as rows."""
        self.others: list[Callable[[], Sequence[Entry]]] = []
        """Who else decides, each to be asked for what it has decided since it was asked last."""
        self.script: Script | None = None
        """The journal that it follows, if only as to when to finish."""
        self.whole: Script | None = None
        """The same when it follows all of it."""
        self.steps = 0
        """How many were taken of it."""
        self.is_paused = False
        """It is at an end that its journal has, and takes no more records."""
        self._named = named
        self._next: Step | None = None

    def places(self) -> Places:
        """How far everything has been read."""
        return {one.name: one.position for one in self._named.values()}

    def rows(self, stamp: int) -> Rows:
        """What was decided since the last call, for the journal, with this timestamp."""
        decided, self.own = self.own, []
        for other in self.others:
            decided += other()
        values = [journal.encode(entry) for entry in decided]
        return Rows([None] * len(values), values, [stamp] * len(values))

    # Following.

    def follow(self, entries: Iterable[Entry], whole: bool) -> Script:
        """Take these; none but those when to finish unless it is the `whole` journal."""
        self.script = Script(entries, self._named)
        if whole:
            self.whole = self.script
        return self.script

    def skip(self, steps: int) -> None:
        """So many were taken before a restart."""
        if self.script is not None and steps:
            self.script.skip(steps)
            self.steps = steps

    def due(self) -> Step | None:
        """The step to take before the next record, again and again until it was `took`."""
        if self._next is None and self.script is not None:
            self._next = self.script.due()
        if self.is_paused and not isinstance(self._next, Left | Cut):
            return None
        return self._next

    def took(self) -> None:
        """The step that was due is taken."""
        self._next = None
        self.steps += 1

    def due_at_rest(self, last: int) -> Step | None:
        """The end to take when other tasks have nothing more, if its number is `last` or less; it
        counts as taken."""
        step = None if self.script is None else self.script.due_at_rest(last)
        self.steps += step is not None
        return step

    @property
    def is_told(self) -> bool:
        """Whether the journal has still something to say."""
        return self.script is not None and not self.script.is_done

    def pause(self, step: Finish | None) -> None:
        """Take no more records of the inputs that an end in the journal names; None: go on."""
        if self.script is not None:
            self.script.paused = step
            self.is_paused = step is not None
