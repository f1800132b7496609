"""What leaves the steps of a task that events wait at, and when: the answers' side of a task."""

from collections.abc import Callable, Iterable
from itertools import islice

from streamkit.engine.cursor import Place
from streamkit.engine.journal import Cut, Entry, Left, Parked, Places
from streamkit.engine.operators.waiting import WaitingStep
from streamkit.engine.script import Script
from streamkit.engine.site import Site
from streamkit.engine.task_time import TaskTime
from streamkit.engine.waiting import Call, Calls, Event

_ANY = 1 << 62


class Answers:
    """The steps, in the order of the nodes, and the calls that others make for them.

    Results leave between two records, which is when `places` and what was `decided` go together.
    """

    def __init__(
        self,
        site: Site,
        time: TaskTime,
        calls: Calls | None,
        places: Callable[[], Places],
        enter: Callable[[str, int], None],
    ) -> None:
        order = {node: place for place, node in enumerate(site.nodes)}
        self.steps = sorted(site.waiting, key=lambda step: order[step.node])
        self.script: Script | None = None
        self.left = 0
        """Calls whose results were given, or that failed and are to be made again: that is to be
        committed, too."""
        self.torn = False
        """What was left half done when it failed cannot be taken back."""
        self.pause: Place | None = None
        """Where the results of a call were being given when others had their turn."""
        self.interrupted: Place | None = None
        """The same as of the last commit, if there was something."""
        self._named = {step.name: step for step in self.steps}
        self._site = site
        self._cursor = site.cursor
        self._time = time
        self._calls = calls
        self._places = places
        self._enter = enter

    # Whoever has the task asks.

    @property
    def is_waiting(self) -> bool:
        """Whether something waits."""
        return self._site.is_waiting

    @property
    def waiting(self) -> int:
        """Events that wait."""
        return sum(len(step.queue) for step in self.steps)

    @property
    def calling(self) -> int:
        """Calls that are being made elsewhere."""
        return sum(step.queue.running for step in self.steps if step.is_elsewhere)

    @property
    def is_full(self) -> bool:
        """Whether so much waits that nothing more is to be read."""
        if self.pause is not None:
            return True
        return any(self._is_free(step) and not step.room for step in self.steps)

    @property
    def due_at(self) -> int | None:
        """When something is to be done if nothing comes: ms of the wall clock."""
        return min((at for step in self.steps if (at := step.due_at) is not None), default=None)

    def hurry(self) -> bool:
        """Let what is gathered for a batch be one at the next turn; False when there is nothing."""
        return [step.hurry() for step in self.steps if self._is_free(step)].count(True) > 0

    def parked(self) -> list[Parked]:
        """What was decided beside what `give` says, since the last call."""
        return [each for step in self.steps for each in step.parked()]

    # What the task has them do.

    def follow(self, script: Script) -> None:
        """Let things leave where a journal says so, as long as it says anything."""
        self.script = script
        for step in self.steps:
            step.follow(script)

    def begin(self) -> None:
        """Take up what waited at the last commit."""
        for step in self.steps:
            step.begin()
        if any(step.begun is not None for step in self.steps):
            self.pause = self.interrupted or self._cursor.place

    def tell(self, now: int) -> None:
        """The wall clock's time, in ms."""
        for step in self.steps:
            step.tell(now)

    def give(self, decided: list[Entry]) -> int:
        """Give the results that may leave, and add that to what was decided.

        Gives how many events the steps should be given before it is asked again. Raises what the
        steps behind raise; what could not be given goes on waiting, unless it is `torn`.
        """
        self._take_in()
        room = _ANY
        for step in self.steps:
            if not self._is_free(step):
                continue
            if step.is_due:
                decided.append(Cut(self._places(), step.name))
                step.cut()
            step.cut_back()
            while not self._cursor.enough and self._leave(step, step.leaving(), decided):
                pass
            if self._is_interrupted:
                break
            room = min(room, step.room)
        # What has left may have been given to functions that are slow: others have their turn.
        return 0 if self._cursor.enough else room

    def take(self, entry: Left | Cut) -> bool:
        """Do what a journal says; False when an answer is missing for that yet."""
        step = self._named.get(entry.node)
        if step is None:
            return True  # the app had it then
        if isinstance(entry, Cut):
            step.cut()
            return True
        self._take_in()
        calls, are_all = step.named(entry.calls)
        self._leave(step, calls, None)
        return are_all and not self._is_interrupted

    def go_on(self, decided: list[Entry]) -> int:
        """Go on with the results that were being given, and add what comes of that to what was
        decided; 0 when there is no answer for it. Raises what the steps behind raise."""
        self._take_in()
        (step,) = (step for step in self.steps if step.begun is not None)
        call = step.begun
        assert call is not None
        at, self.pause, before = self.pause, None, self.left
        if step.is_leaving:
            step.go_on(self._return_to, self._time.left)
            self.left += 1
            self._left(step, [call] if step.begun is None else [], decided)
        else:  # it was called again
            # And no other: one that is only looked at here would not be made any more.
            again = (one for one in step.leaving() if one is call)
            self._leave(step, islice(again, 1), decided)
        if step.begun is not None:
            self.pause = self._cursor.place if step.is_leaving else at
        return self.left - before

    def _take_in(self) -> None:
        if self._calls is not None:
            for name, number, answer in self._calls.answers():
                self.left += self._named[name].answer(number, answer)
            for step in self.steps:
                step.call()

    def _is_free(self, step: WaitingStep) -> bool:
        return self.script is None or not self.script.tells(step.name)

    def _leave(self, step: WaitingStep, calls: Iterable[Call], decided: list[Entry] | None) -> int:
        """Give the results of calls, until it is enough; how many it were. `decided` None: a
        journal says so, and of all."""
        done: list[Call] = []
        call = None
        count = 0
        try:
            for call in calls:
                if step.give(call, self._return_to, self._time.left):
                    done.append(call)
                self.left += 1
                count += 1
                if step.begun is not None:
                    self.pause = self._cursor.place
                    self._cursor.enough = True  # nothing else comes before what is left of it
                if self._is_interrupted or (self._cursor.enough and decided is not None):
                    break
        except BaseException:
            # Whether a part of it has left.
            self.torn = call is not None and call.number not in step.queue.events
            raise
        finally:
            self._left(step, done, decided)
        return count

    def _left(self, step: WaitingStep, done: list[Call], decided: list[Entry] | None) -> None:
        if done and self.script is None and decided is not None and (told := step.told(done)):
            decided.append(Left(self._places(), step.name, told))

    @property
    def _is_interrupted(self) -> bool:
        return self.pause is not None or self._time.pause is not None

    def _return_to(self, event: Event) -> None:
        self._enter(event.topic, event.partition)
        cursor = self._cursor
        cursor.offset, cursor.part = event.offset, event.ordinal
        cursor.origin, cursor.root, cursor.again = event.origin, event.root, event.again
