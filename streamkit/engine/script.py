"""A journal that a task follows, in place of deciding anything itself."""

from collections import Counter, deque
from collections.abc import Iterable, Mapping

from streamkit.engine.inputs import Input
from streamkit.engine.journal import Ahead, Cut, Entry, Finish, Held, Left, Parked, Places, Step
from streamkit.engine.waiting import Identity
from streamkit.records import TopicPartition


class Script:
    """What is still to come of a journal, by what the task's inputs have come to."""

    def __init__(self, entries: Iterable[Entry], inputs: Mapping[str, Input]) -> None:
        self._inputs = inputs
        self._steps: deque[Step] = deque()
        self._held: dict[str, deque[Held]] = {name: deque() for name in inputs}
        self._ahead: dict[tuple[str, int], int] = {}
        self.paused: Finish | None = None
        """The end that the task is at: of the inputs it names no more records are there yet."""
        self._parked: set[tuple[str, Identity]] = set()
        for entry in what_counts(entries):
            if isinstance(entry, Held):
                held = self._held.setdefault(entry.input, deque())
                while held and held[-1].offset >= entry.offset:
                    held.pop()
                held.append(entry)
            elif isinstance(entry, Ahead):
                self._ahead[entry.input, entry.offset] = entry.limit
            elif isinstance(entry, Parked):
                self._parked.add((entry.node, entry.event))
            else:
                self._steps.append(entry)
        self._telling = Counter(step.node for step in self._steps if isinstance(step, Left | Cut))

    def due(self) -> Step | None:
        """The step that comes next, taken off, when the inputs have come to it."""
        if self._steps and not self._is_at_rest and self._reached(self._steps[0].at):
            return self._take_off()
        return None

    def due_at_rest(self, last: int) -> Step | None:
        """The end that comes next, taken off, if it comes once other tasks have nothing more, and
        its number is `last` or less."""
        step = self._steps[0] if self._is_at_rest else None
        if isinstance(step, Finish) and step.number <= last and self._reached(step.at):
            return self._take_off()
        return None

    @property
    def _is_at_rest(self) -> bool:
        step = self._steps[0] if self._steps else None
        return isinstance(step, Finish) and step.at_rest

    def _take_off(self) -> Step:
        step = self._steps.popleft()
        if isinstance(step, Left | Cut):
            self._telling[step.node] -= 1
        return step

    def hides(self, name: str) -> bool:
        """Whether the first record of an input that has some was not there yet, in the journal."""
        offset = self._inputs[name].head_offset
        if self.paused is not None and name in self.paused.at:
            return True
        if self._steps and offset >= self._steps[0].at.get(name, offset + 1):
            return True
        held = self._held[name]
        while held and held[0].offset <= offset:
            if not self._reached(held[0].until):
                return True
            held.popleft()
        return False

    def stop(self, name: str) -> int | None:
        """The offset of an input at which something may have to happen first; None: no such."""
        offset = self._inputs[name].head_offset
        stops = [self._steps[0].at.get(name)] if self._steps else []
        for other, held in self._held.items():
            if held:
                stops.append(held[0].offset if other == name else held[0].until.get(name))
        return min((at for at in stops if at is not None and at > offset), default=None)

    def is_ahead(self, name: str, offset: int) -> bool:
        """Whether a record was further ahead of the clock than is allowed."""
        return (name, offset) in self._ahead

    def limit_of(self, name: str, offset: int) -> int:
        """What the limit was for a record that was."""
        return self._ahead[name, offset]

    def parked(self, node: str, event: Identity) -> bool:
        """Whether the function of a step failed for an event when it came."""
        return (node, event) in self._parked

    def tells(self, node: str) -> bool:
        """Whether it has still something to say about what leaves a step."""
        return self._telling[node] > 0

    @property
    def is_done(self) -> bool:
        """Whether no more steps come."""
        return not self._steps

    def skip(self, count: int) -> None:
        """Take off the first steps, which were taken before a restart."""
        for _ in range(min(count, len(self._steps))):
            self._take_off()

    def _reached(self, places: Places) -> bool:
        return all(self._inputs[name].has_reached(at) for name, at in places.items())


def what_counts(entries: Iterable[Entry]) -> list[Entry]:
    """Those of a journal that nothing came after which was before them: where entries go back, the
    app was begun again from there."""
    counting: list[Entry] = []
    reached: Places = {}
    for entry in entries:
        places = _places(entry)
        if isinstance(entry, Step) and _goes_back(reached, places):
            counting = _before(counting, places)
            reached = {}
            for one in counting:
                _reach(reached, _places(one))
        counting.append(entry)
        _reach(reached, places)
    return counting


def _before(entries: list[Entry], places: Places) -> list[Entry]:
    """Those of what was before these places; what was of no record, if it is behind some of it, and
    before all else."""
    kept: list[Entry] = []
    is_undone = False
    for entry in entries:
        its = _places(entry)
        if _goes_back(its, places):
            is_undone = True
        elif its or (kept and not is_undone):
            kept.append(entry)
    return kept


def _places(entry: Entry) -> Places:
    """How far inputs had come, at least."""
    match entry:
        case Held():
            return entry.until | {entry.input: entry.offset + 1}
        case Ahead():
            return {entry.input: entry.offset + 1}
        case Parked():
            topic, partition, offset, *_ = entry.event
            return {} if offset < 0 else {str(TopicPartition(topic, partition)): offset + 1}
    return entry.at


def _reach(reached: Places, places: Places) -> None:
    for name, at in places.items():
        reached[name] = max(reached.get(name, at), at)


def _goes_back(before: Places, after: Places) -> bool:
    return any(after.get(name, at) < at for name, at in before.items())
