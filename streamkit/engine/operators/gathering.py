"""What the next batches of a step are gathered of."""

from collections.abc import Iterator

from streamkit.engine.waiting import Event


class Gathering:
    """A batch is complete when it has `most` events, or when its first has waited `within` ms of
    the wall clock, which is told with each call."""

    def __init__(self, most: int, within: int | None) -> None:
        self.events: list[Event] = []
        self._most = most
        self._within = within
        self._due: int | None = None
        self._hurried = False

    def add(self, event: Event, now: int) -> None:
        """Another event comes."""
        self.again(event, None if self._within is None else now + self._within)

    def again(self, event: Event, due: int | None) -> None:
        """The same of one that had come before a restart. `due`, of the first: it was to be."""
        if not self.events:
            self._due = due
        self.events.append(event)

    def take(self) -> tuple[Event, ...]:
        """What there is, as a batch."""
        events, self.events, self._hurried = tuple(self.events), [], False
        return events

    @property
    def room(self) -> int:
        """How many events are missing."""
        return max(0, self._most - len(self.events))

    def hurry(self) -> bool:
        """Wait for no more of them; False when there is none to make a batch of."""
        self._hurried = bool(self.events)
        return self._hurried

    def is_due(self, now: int) -> bool:
        """Whether it is complete because of the time."""
        due = self.due_at
        return due is not None and (self._hurried or now >= due)

    @property
    def due_at(self) -> int | None:
        """When it will be."""
        return self._due if self.events else None


class Gatherings:
    """Of what comes, and of what had been set aside and came `back`, of which a replay knows
    nothing: that is in batches of its own, so that the others are the same without it."""

    def __init__(self, most: int, within: int | None) -> None:
        self.coming = Gathering(most, within)
        self.back = Gathering(most, within)

    def of(self, event: Event) -> Gathering:
        """The one that an event is for."""
        return self.back if event.again else self.coming

    @property
    def full(self) -> list[Gathering]:
        """Those that nothing is missing of."""
        return [one for one in (self.coming, self.back) if not one.room]

    def hurry(self) -> bool:
        """Wait for no more of either; False when there is none to make a batch of."""
        return [self.coming.hurry(), self.back.hurry()].count(True) > 0

    @property
    def due_at(self) -> int | None:
        """When one will be complete because of the time."""
        known = (self.coming.due_at, self.back.due_at)
        return min((at for at in known if at is not None), default=None)

    def events(self) -> Iterator[tuple[Event, int | None]]:
        """All, and of the first of each when it is due."""
        for one in (self.coming, self.back):
            due = one.due_at
            for event in one.events:
                yield event, due
                due = None
