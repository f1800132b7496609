"""What apps of `random_apps` give, with all input on the table: step by step over whole streams."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import join_model
from random_apps import (
    BIG,
    NULL,
    SENT,
    Item,
    Looks,
    Spec,
    Step,
    Waits,
    bad,
    both,
    chained,
    in_vain,
    kept,
    mapped,
    of_first,
    of_second,
    row_of,
    several,
    with_row,
)
from window_model import BEFORE_ALL, Arrival, windows

from streamkit.codec import partition_for
from streamkit.dsl.windows import Hopping


@dataclass(frozen=True)
class Event:
    key: str | None
    n: int
    k: str
    time: int
    frontier: int = BEFORE_ALL


AFTER_ALL = 10**9

Found = dict[str, Counter[tuple[str | None, int, int]]]
"""Topic → (key, n, time) of what is in it, and how often."""


Row = tuple[str, str, int | None, int]
"""Topic, key, value and time of a table's record."""


class Model:
    """`sources`: events per source, partition by partition, with how far time had come for each.
    `rows`: topic, key, value and time of the tables' records, in order, all there before the first
    event, in so many `partitions`: which row an event finds that comes with it is decided by when
    it is read, except as of times. `handed`: the steps that are given
    events through a topic although these keep their key, as `<name>-left`, "-right", "-events";
    `ordered`: those that are given events in order of time."""

    def __init__(
        self,
        spec: Spec,
        sources: list[list[Event]],
        rows: list[Row],
        partitions: int,
        handed: Collection[str] = (),
        ordered: Sequence[str] = (),
    ) -> None:
        self.streams = list(sources)
        self.delays = [0] * len(sources)
        self.found: Found = defaultdict(Counter)
        self._rows = rows
        self._partitions = partitions
        self._handed = handed
        self._mended = spec.mended()
        self._ordered = ordered
        for number, step in enumerate(spec.steps, len(sources)):
            made = self._step(step, number)
            self.streams.append(made)
            self.found[f"out{number}"] = _counted(made)
            if number in spec.sinks and number % 2:
                self.found[f"r-k{number}-sink"] = _counted(made)

    def _step(self, step: Step, number: int) -> list[Event]:
        events, delay, name = self.streams[step.on], self.delays[step.on], f"s{number}"
        self.delays.append(delay)
        if step.op.endswith("table"):
            if f"{name}-events" in self._handed:
                events, self.delays[-1] = _handed_over(events, delay), 0
            return self._look_up(step, number, events)
        events = self._passed(step, number, events, lambda event: bad(event.n))
        many = step.kind == "many" or (isinstance(step.kind, Waits) and step.kind.many)
        if step.op in ("process", "async") and not many:
            self.found[SENT] += _counted(events)
        match step.op:
            case "process" | "async" | "flat_map" if many or step.op == "flat_map":
                return [replace(event, n=n) for event in events for n in several(event.n)]
            case "map" | "process" | "async" | "batch" | "workers":
                return [replace(event, n=mapped(event.n)) for event in events]
            case "filter":
                return [event for event in events if kept(event.n)]
            case "branch":
                return [event for event in events if _is_of(step.kind, event.n)]
            case "through":
                # What is read there is late for nothing, but for what time has passed in the end.
                self.delays[-1] = 0
                return [
                    replace(event, frontier=BEFORE_ALL if event.frontier < AFTER_ALL else AFTER_ALL)
                    for event in events
                ]
            case "by":
                self.delays[-1] = 0
                made = [replace(event, key=event.k) for event in _handed_over(events, delay)]
                if step.kind == "in order":
                    made.sort(key=lambda event: max(event.time, event.frontier))
                return made
            case "sum":
                sums: Counter[str | None] = Counter()
                made = []
                for event in events:
                    sums[event.key] = (sums[event.key] * 3 + event.n) % BIG
                    made.append(replace(event, n=sums[event.key]))
                return made
            case "timer":
                return _timed(events, step.kind, delay)
            case "quiet":
                return _gathered(events, step.kind, delay, ordered=name in self._ordered)
            case "window":
                self.delays[-1] = delay + step.kind.grace
                return self._window(step, events, delay, name)
        others, other_delay = self.streams[step.other], self.delays[step.other]
        if f"{name}-left" in self._handed:
            events, delay = _handed_over(events, delay), 0
        if f"{name}-right" in self._handed:
            others, other_delay = _handed_over(others, other_delay), 0
        delay = max(delay, other_delay)
        if step.op == "merge":
            self.delays[-1] = delay
            return [*events, *others]
        if step.op == "kept":
            return self._find(step, events, others)
        self.delays[-1] = delay + step.kind.delay
        return self._meet(step, events, others, delay, name)

    def _passed(
        self, step: Step, number: int, events: list[Event], fails: Callable[[Event], bool]
    ) -> list[Event]:
        """The events that a step does not fail for, nor sets aside behind one of their key. Behind
        them come those that it is given again, when all time has passed."""
        if step.fails is None or step.op == "batch":
            return events
        keys: set[str | None] = set()
        passed, dead = [], []
        for event in events:
            if event.key in keys or fails(event):
                dead.append(event)
                if step.fails.then == "key" and event.key is not None:
                    keys.add(event.key)
            else:
                passed.append(event)
        if step.fails.then != "skip":
            again = number in self._mended and in_vain(number)
            self.found[f"dead{number}"] = _counted(dead * 2 if again else dead)
        if number in self._mended:
            passed += [replace(event, frontier=AFTER_ALL) for event in dead]
        return passed

    def _look_up(self, step: Step, number: int, events: list[Event]) -> list[Event]:
        looks: Looks = step.kind
        if looks.written:
            self.found[f"made{number}"] = self._changes(looks)

        def row(event: Event) -> int | None:
            key = event.k[-1] if looks.by else event.key
            return self._row(looks, key, event.time if looks.then else None)

        def is_met(event: Event) -> bool:
            return step.op == "left_table" or row(event) is not None

        passed = self._passed(step, number, events, lambda e: is_met(e) and bad(e.n))
        return [replace(e, n=with_row(e.n, row(e))) for e in passed if is_met(e)]

    def _row(self, looks: Looks, key: str | None, time: int | None) -> int | None:
        left = self._record(looks.topic, key, time)
        if looks.other is None:
            return left
        return _made(looks.how, left, self._record(looks.other, key, time))

    def _record(self, topic: str, key: str | None, time: int | None) -> int | None:
        """The last one of a key, or the last one of the latest time that is not after `time`."""
        chosen: Row | None = None
        for row in self._rows:
            if row[:2] == (topic, key) and (
                time is None or (row[3] <= time and (chosen is None or row[3] >= chosen[3]))
            ):
                chosen = row
        return None if chosen is None else chosen[2]

    def _changes(self, looks: Looks) -> Counter[tuple[str | None, int, int]]:
        """What becomes of the rows that are made of two, as these are read: by their times, each
        partition as it is."""
        found: Counter[tuple[str | None, int, int]] = Counter()
        topics = [topic for topic in (looks.topic, looks.other) if topic is not None]
        for number in range(self._partitions):
            there = {
                topic: [
                    row
                    for row in self._rows
                    if row[0] == topic
                    and partition_for(row[1].encode(), self._partitions) == number
                ]
                for topic in sorted(topics)
            }
            now: dict[tuple[str, str], int | None] = {}
            were: dict[str, int | None] = {}
            while any(there.values()):
                rows = min((rows for rows in there.values() if rows), key=lambda rows: rows[0][3])
                topic, key, value, time = rows.pop(0)
                now[topic, key] = value
                row = _made(looks.how, *(now.get((topic, key)) for topic in topics))
                if row is not None or were.get(key) is not None:
                    found[key, NULL.n if row is None else row, time] += 1
                were[key] = row
        return found

    def _window(self, step: Step, events: list[Event], delay: int, name: str) -> list[Event]:
        found, late = windows(step.kind, _arrivals(events, delay))
        self.found[f"r-{name}-late"] += _counted([events[id] for id in late])
        results = []
        for key, start, end in sorted(found, key=lambda window: (window[2], window[0])):
            inside = [events[id] for id in sorted(found[key, start, end])]
            n, k = sum(each.n for each in inside) % BIG, max(each.k for each in inside)
            if step.other:
                if name in self._ordered:
                    inside.sort(key=lambda event: max(event.time, event.frontier - delay))
                if not isinstance(step.kind, Hopping):  # it is folded when it is given
                    inside.sort(key=lambda event: event.time)
                made = reduce(chained, (Item(each.n, each.k) for each in inside))
                n, k = made.n, made.k
            results.append(Event(key, n, k, end - 1))
        return results

    def _find(self, step: Step, lefts: list[Event], rights: list[Event]) -> list[Event]:
        """What is met of the rows that others are, all of them in order of time."""
        numbers = [self._ordered.index(f"s{each}") for each in (step.on, step.other)]
        turns = [
            (max(event.time, event.frontier), number, place, event)
            for number, events in zip(numbers, (lefts, rights), strict=True)
            for place, event in enumerate(events)
        ]
        rows: dict[str | None, int | None] = {}
        made = []
        for _, number, _, event in sorted(turns, key=lambda turn: turn[:3]):
            if number == numbers[1]:
                rows[event.key] = _value(event)
            else:
                made.append(replace(event, n=with_row(event.n, rows.get(event.key))))
        return made

    def _meet(
        self, step: Step, lefts: list[Event], rights: list[Event], delay: int, name: str
    ) -> list[Event]:
        events = [*lefts, *rights]
        arrived = _arrivals(events, delay)
        sides = [arrived[: len(lefts)], arrived[len(lefts) :]]
        results = []
        pairs = (join_model.within if step.op == "within" else join_model.as_of)(step.kind, *sides)
        for left, right in pairs:
            here = [events[each.id] for each in (left, right) if each is not None]
            # A function is given None for a null value, too.
            given = sorted(here, key=_is_null)[0]
            n = both(*(each and _value(events[each.id]) for each in (left, right)))
            results.append(Event(here[0].key, n, given.k, max(event.time for event in here)))
        for side, label in zip(sides, ("left", "right"), strict=True):
            in_time = {each.id for each in join_model.in_time(side, step.kind.grace)}
            late = [events[each.id] for each in side if each.id not in in_time]
            self.found[f"r-{name}-{label}-late"] += _counted(late)
        return results


def _is_null(event: Event) -> bool:
    return event.n == NULL.n


def _value(event: Event) -> int | None:
    """What a function of two is given of one."""
    return None if _is_null(event) else event.n


def _is_of(part: str, n: int) -> bool:
    """Whether an event is of a part of the three that a stream is branched into."""
    if of_first(n):
        return part in ("first", "both")
    return part == "second" if of_second(n) else part in ("rest", "both")


def _made(how: str, left: int | None, right: int | None) -> int | None:
    if left is None and (how != "outer" or right is None):
        return None
    return None if right is None and how == "inner" else row_of(left, right)


def _timed(events: list[Event], after: int, delay: int) -> list[Event]:
    """What is past for an event where it comes from is as late as that; other timers are not."""
    made = {}
    for event in events:
        at, frontier = event.time + after, event.frontier
        late = frontier if at <= frontier - delay else BEFORE_ALL
        made[event.key, event.n, event.k, event.time] = replace(
            event, n=mapped(event.n), time=at, frontier=late
        )
    return list(made.values())


def _gathered(events: list[Event], after: int, delay: int, *, ordered: bool) -> list[Event]:
    """What came of each key until it was quiet for so long."""
    keys: dict[str | None, list[Event]] = defaultdict(list)
    for event in events:
        keys[event.key].append(event)
    made = []
    for key, some in keys.items():
        total: Event | None = None
        due = BEFORE_ALL
        if ordered:
            some.sort(key=lambda event: max(event.time, event.frontier - delay))
        for event in some:
            passed = max(event.time, event.frontier - delay) if ordered else event.frontier
            if total is not None and due <= passed:
                made.append(replace(total, time=due))
                total = None
            due = event.time + after if total is None else max(due, event.time + after)
            n, k = (0, "") if total is None else (total.n, total.k)
            total = Event(key, (n + event.n) % BIG, max(k, event.k), 0)
            if due <= passed:
                made.append(replace(total, time=due, frontier=event.frontier))
                total = None
        if total is not None:
            made.append(replace(total, time=due))
    return made


def _handed_over(events: list[Event], delay: int) -> list[Event]:
    """Results of windows come at their times; what is handed over late is late there."""
    return [replace(event, frontier=event.frontier - delay) for event in events]


def _counted(events: list[Event]) -> Counter[tuple[str | None, int, int]]:
    return Counter((event.key, event.n, event.time) for event in events)


def _arrivals(events: list[Event], delay: int) -> list[Arrival]:
    found = []
    for id, event in enumerate(events):
        assert event.key is not None
        found.append(Arrival(id, event.key, event.time, event.frontier - delay))
    return found
