"""The end of what one task is given: when it has come, and that all that is open closes then."""

from dataclasses import replace

from streamkit.dsl.topology import SubTopology
from streamkit.engine.site import Site
from streamkit.engine.task_time import TaskTime
from streamkit.engine.watermarks import RetryFrontier, UpstreamFrontier


class Ending:
    """How far a task is with that.

    Of what comes from outside it is told. Of what other tasks hand over these tell it, by markers:
    it finishes when all of them have, under one number.
    """

    def __init__(self, sub: SubTopology, time: TaskTime, site: Site) -> None:
        self.is_outside = any(one.upstream is None for one in sub.streams)
        """Whether some of it comes from outside."""
        self.is_mixed = self.is_outside and any(one.upstream for one in sub.streams)
        """Whether some of it does, and some is handed over."""
        self.number = 0
        """Of the last end that it was told of."""
        self.is_told = not self.is_outside
        """Nothing came from outside since."""
        self.is_finished = False
        """And all that was open is closed."""
        self._time = time
        self._site = site

    @property
    def last(self) -> tuple[int, int]:
        """The number of the last end that it was told of, and 0: something came since, 1: nothing
        did from outside, 2: and all that was open is closed."""
        return self.number, 2 if self.is_finished else int(self.is_told)

    def recall(self, number: int, finished: int) -> None:
        """As it was committed, with one input or another."""
        self.number = max(self.number, number)
        if finished:
            self.is_told, self.is_finished = True, finished == 2

    def came(self) -> None:
        """Something came from outside."""
        self.is_told = self.is_finished = False

    def came_again(self) -> None:
        """Something that was set aside did."""
        self.is_told, self.is_finished = not self.is_outside, False

    def heard(self) -> None:
        """A task has told how far it is whose events are handed over here."""
        self._time.moved()
        self.finish()

    def tell(self, number: int) -> None:
        """Nothing more comes from outside. Raises what steps raise."""
        self.number, self.is_told, self.is_finished = number, True, False
        self.go_on()

    def go_on(self) -> None:
        """Close what can be by now. Raises what steps raise."""
        self._time.leave_records()
        self.finish()

    def go_on_acting(self) -> bool:
        """Have operators go on after a pause, also with an end; False when there is another. Raises
        what steps raise; the attempt is then torn."""
        pause = self._time.pause
        done = self._time.go_on()
        if done and pause is not None and pause.end:
            self.finish()
        return self._time.pause is None

    def finish(self) -> None:
        """Close what is open, if nothing more comes from anywhere, and nothing waits."""
        if self._time.pause is not None:
            self._time.pause = replace(self._time.pause, end=True)
            return
        told = {self.number} if self.is_outside else set()
        for frontier in self._time.frontiers.values():
            if isinstance(frontier, UpstreamFrontier) and not isinstance(frontier, RetryFrontier):
                told.add(frontier.finished)
        end = told.pop() if len(told) == 1 else 0
        if not self.is_told or not end:
            self.is_finished = False
            return
        if (self.is_finished and end == self.number) or self._site.is_waiting:
            return
        self.number = end
        self._time.close_all()
        if self._time.pause is not None:
            self._time.pause = replace(self._time.pause, end=True)
        self.is_finished = not self._site.is_waiting and self._time.pause is None
