"""What runs beside the tasks of an app in its processes: the connectors that it has declared."""

from typing import Protocol

from streamkit.backends.base import Backend
from streamkit.engine.finishing import Finishing
from streamkit.engine.running import Running
from streamkit.engine.worker import Worker


class Companions(Protocol):
    """They have threads of their own; all calls come from that of the tasks. `stop` them, whatever
    happened. Times are monotonic seconds."""

    def start(self, backend: Backend) -> None: ...

    @property
    def failed(self) -> bool:
        """Whether one of them has failed for good, so that the app is to end."""
        ...

    def settled(self) -> float | None:
        """Since when there is nothing that they could bring; None: there is, or may be."""
        ...

    def elsewhere(self) -> bool:
        """Whether all that bring something are in other processes, which know how far it is."""
        ...

    def spread(self) -> bool:
        """Whether some of those that bring something are here and others in other processes, when
        `settled` was asked last."""
        ...

    def leads(self) -> bool:
        """Whether this is the one of these processes that waits until it has all of them."""
        ...

    def drained(self, since: float) -> bool:
        """Whether they have taken away all that there was at a time."""
        ...

    def notes(self) -> tuple[str, ...]:
        """How each is, in a few words."""
        ...

    def stop(self) -> None:
        """End them, each with what it has finished stored. Raises what they failed with."""
        ...


class Ending:
    """Whether an app has come to the end of all there is: what its companions bring, what its
    tasks make of it, and what its companions take away, in this order."""

    def __init__(
        self, worker: Worker, companions: Companions | None, finishing: Finishing | None = None
    ) -> None:
        """`finishing`: what is open then is closed; None: it is left open."""
        self._worker = worker
        self._companions = companions
        self._finishing = finishing
        self._since: float | None = None
        """From when on the tasks were seen at their end."""
        self.is_left_to_others = False
        """It was reached only here: what is open others close."""

    def worked(self) -> None:
        """The tasks have done something."""
        self._since = None

    def reached(self, now: float) -> bool:
        # Asked before the tasks are: what comes between is looked for again.
        settled = 0.0 if self._companions is None else self._companions.settled()
        if settled is None or not self._worker.at_end():
            self._since = None
            if settled is None:
                self._follow()
            return False
        if self._finishing is not None and self._is_spread:
            # What is elsewhere may bring more before the end. All of it comes to one process, as
            # the others go when what they have is settled.
            self._since = None
            self.is_left_to_others = not (self._worker.uncommitted or self._leads)
            return self.is_left_to_others
        if self._finishing is None:
            self._worker.act(Running.leave_out)
        elif not self._finishing.reached(self._worker, now):
            self._since = None
            # Who alone has what brings something, and no task to say by that this is the end, goes,
            # so that it comes to somebody who has one. Nothing else tells of it.
            self.is_left_to_others = settled > 0.0 and self._finishing.is_unheard
            return self.is_left_to_others
        if self._worker.uncommitted:
            self._since = None
            return False
        if self._since is None or self._since <= settled:
            self._since = now
        if self._companions is None:
            return True
        return settled < self._since and self._companions.drained(self._since)

    @property
    def _is_spread(self) -> bool:
        return self._companions is not None and self._companions.spread()

    @property
    def _leads(self) -> bool:
        return self._companions is not None and self._companions.leads()

    def _follow(self) -> None:
        """Have our tasks finish when they are told of an end where the sources are: who has these
        waits for our tasks, as we do for them."""
        if self._finishing is None or self._companions is None or not self._companions.elsewhere():
            return
        # In this order: what the sources had brought by that end is there for our tasks to see.
        number = self._finishing.under_way(self._worker)
        if number and self._worker.at_end():
            self._finishing.follow(self._worker, number)
