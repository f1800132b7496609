"""Small apps made by chance of all operators, and what each gives, with all input on the table.

An app is a list of steps: each takes one of the streams there are (two for a join), and makes one
more. `build` declares it; `Model` evaluates the same steps over whole streams, one after the other.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

import join_model
import msgspec
from hypothesis import strategies as st
from window_model import BEFORE_ALL, Arrival, windows

from streamkit import App, Context, State, Timer
from streamkit.dsl.nodes.stream_joins import AsOf, Within
from streamkit.dsl.windows import WindowKind, hopping, session, sliding, tumbling

BIG = (1 << 52) - 47
SOURCES = ("a", "b")
TABLE = "t"


class Item(msgspec.Struct):
    """`n` tells events apart, and `k` is another key."""

    n: int
    k: str


@dataclass(frozen=True)
class Step:
    op: str
    on: int
    other: int = 0
    kind: Any = None


@dataclass(frozen=True)
class Spec:
    """An app, and what is sent to it. With `apart`, other keys name the partition they come from:
    events that are handed over keep their order then."""

    steps: tuple[Step, ...]
    out_of_order: int
    apart: bool
    nulls: bool


@dataclass(frozen=True)
class Event:
    key: str | None
    n: int
    k: str
    time: int
    frontier: int = BEFORE_ALL


@dataclass
class Stream:
    """What is known of one while steps are chosen: `raw` when it is of one source, under its own
    keys; `ordered` when the events of a key come in one order."""

    keyed: bool
    raw: bool = True
    ordered: bool = True
    of: frozenset[str] = frozenset()


WINDOWS: tuple[WindowKind, ...] = (
    tumbling("10ms", grace="5ms"),
    tumbling("4ms"),
    hopping("10ms", "4ms", grace="2ms"),
    sliding("6ms", grace="4ms"),
    session("5ms", grace="3ms"),
)
WITHIN = tuple(
    Within(before, after, how, grace)
    for before, after, grace in ((3, 5, 0), (0, 4, 6))
    for how in ("inner", "left", "outer")
)
AFTER = (0, 3, 40)
"""ms from an event to its timer."""
AS_OF = tuple(
    AsOf(6, direction, exact, how, 2)
    for direction in ("backward", "forward", "nearest")
    for exact, how in ((True, "left"), (False, "inner"))
)


@st.composite
def specs(draw: Callable[[Any], Any]) -> Spec:
    nulls, apart = draw(st.booleans()), draw(st.booleans())
    streams = [Stream(not nulls, of=frozenset({source})) for source in SOURCES]
    steps = []
    for _ in range(draw(st.integers(1, 6))):
        last = len(streams) - 1
        on = draw(st.just(last) | st.integers(0, last))
        stream = streams[on]
        ops = ["filter", "map", "flat_map", *["by"] * 3]
        others = []
        if stream.keyed:
            ops += ["window"] * 4 + ["table", "left_table", "left_table", "table_then"]
            ops += ["sum"] * 2 if stream.ordered else []
            ops += ["timer", "timer"]
            others = [n for n, each in enumerate(streams) if each.keyed]
            ops += ["within"] * 3
            if stream.ordered and any(streams[n].ordered for n in others):
                ops += ["as_of", "as_of"]
        op = draw(st.sampled_from(ops))
        made, step = stream, Step(op, on)
        if op == "by":
            made = Stream(True, False, stream.raw and apart, stream.of)
        elif op == "window":
            step = replace(step, kind=draw(st.sampled_from(WINDOWS)))
            made = Stream(True, False, True, stream.of)
        elif op == "timer":
            step = replace(step, kind=draw(st.sampled_from(AFTER)))
            made = Stream(True, False, False, stream.of)
        elif op in ("within", "as_of"):
            if op == "as_of":
                others = [n for n in others if streams[n].ordered]
            other = draw(st.sampled_from(others))
            kind = draw(st.sampled_from(WITHIN if op == "within" else AS_OF))
            step = replace(step, other=other, kind=kind)
            made = Stream(True, False, False, stream.of | streams[other].of)
        streams.append(made)
        steps.append(step)
    return Spec(tuple(steps), draw(st.integers(0, 4)), apart, nulls)


# The functions, for both.


def kept(n: int) -> bool:
    return n % 3 != 0


def mapped(n: int) -> int:
    return (n * 2 + 1) % BIG


def several(n: int) -> list[int]:
    return [(n + more * 7919) % BIG for more in range(n % 3)]


def with_row(n: int, row: int | None) -> int:
    return (n * 31 + (row or 0)) % BIG


def both(left: int | None, right: int | None) -> int:
    return ((left or 0) * 37 + (right or 0) * 41) % BIG


def added(one: Item, other: Item) -> Item:
    return Item((one.n + other.n) % BIG, max(one.k, other.k))


def build(spec: Spec, close_after_idle: str | None = None) -> App:
    """The app; the stream number `n` is written to `out<n>`."""
    app = App("r")
    order = f"{spec.out_of_order}ms"
    streams: list[Any] = [app.stream(name, Item, out_of_order=order) for name in SOURCES]
    table = app.table(TABLE, int)
    for number, step in enumerate(spec.steps, len(SOURCES)):
        made = _declare(streams, table, step, f"s{number}", close_after_idle)
        made.to(f"out{number}")
        streams.append(made)
    return app


def _declare(
    streams: list[Any], table: Any, step: Step, name: str, close_after_idle: str | None
) -> Any:
    stream = streams[step.on]
    match step.op:
        case "filter":
            return stream.filter(lambda item: kept(item.n))
        case "map":

            def change(item: Item) -> Item:
                return Item(mapped(item.n), item.k)

            return stream.map(change)
        case "flat_map":

            def multiply(item: Item) -> list[Item]:
                return [Item(n, item.k) for n in several(item.n)]

            return stream.flat_map(multiply)
        case "by":
            return stream.by("k", name=name)
        case "sum":

            @stream.process(name=name)
            def add(item: Item, sofar: State[int]) -> Item:
                sofar.set((sofar.get(0) * 3 + item.n) % BIG)
                return Item(sofar.get(0), item.k)

            return add
        case "timer":

            @stream.process(name=name)
            def set_(item: Item, context: Context) -> None:
                # Twice the same timer is one.
                name = f"{context.timestamp} {item.n} {item.k}"
                context.timer(name, after=f"{step.kind}ms")

            @set_.on_timer(name=f"{name}-fired")
            def fired(timer: Timer) -> Item:
                _, n, k = str(timer.name).split(" ")
                return Item(mapped(int(n)), k)

            return fired
        case "window":
            windowed = stream.window(step.kind, close_after_idle=close_after_idle)

            @windowed.aggregate(name=name, merge=added)
            def fold(sofar: Item | None, item: Item) -> Item:
                return item if sofar is None else added(sofar, item)

            return fold
        case "table" | "left_table" | "table_then":
            how = "left" if step.op == "left_table" else "inner"
            history = "1h" if step.op == "table_then" else None

            @stream.join(table, how=how, name=name, history=history)
            def look(item: Item, row: int | None) -> Item:
                return Item(with_row(item.n, row), item.k)

            return look
    return _meeting(stream, streams[step.other], step, name)


def _meeting(left: Any, right: Any, step: Step, name: str) -> Any:
    kind = step.kind
    grace = f"{kind.grace}ms"
    if step.op == "within":
        near = {"before": f"{kind.before}ms", "after": f"{kind.after}ms"}
        joining = left.join(right, how=kind.how, grace=grace, name=name, **near)
    else:
        joining = left.join_as_of(
            right,
            tolerance=f"{kind.tolerance}ms",
            direction=kind.direction,
            allow_exact_matches=kind.exact,
            how=kind.how,
            grace=grace,
            name=name,
        )

    def meet(one: Item | None, other: Item | None) -> Item:
        here = one or other
        assert here is not None
        return Item(both(one and one.n, other and other.n), here.k)

    return joining(meet)


Found = dict[str, Counter[tuple[str | None, int, int]]]
"""Topic → (key, n, time) of what is in it, and how often."""


class Model:
    """`sources`: events per source, partition by partition, with how far time had come for each.
    `rows`: key, value and time of the table's records, in order. `handed`: the steps that are given
    events through a topic although these keep their key, as `<name>-left`, "-right", "-events"."""

    def __init__(
        self,
        spec: Spec,
        sources: list[list[Event]],
        rows: list[tuple[str, int | None, int]],
        handed: Collection[str] = (),
    ) -> None:
        self.streams = list(sources)
        self.delays = [0] * len(sources)
        self.found: Found = defaultdict(Counter)
        self._rows = rows
        self._handed = handed
        for number, step in enumerate(spec.steps, len(sources)):
            made = self._step(step, f"s{number}")
            self.streams.append(made)
            self.found[f"out{number}"] = _counted(made)

    def _step(self, step: Step, name: str) -> list[Event]:
        events, delay = self.streams[step.on], self.delays[step.on]
        self.delays.append(delay)
        match step.op:
            case "filter":
                return [event for event in events if kept(event.n)]
            case "map":
                return [replace(event, n=mapped(event.n)) for event in events]
            case "flat_map":
                return [replace(event, n=n) for event in events for n in several(event.n)]
            case "by":
                self.delays[-1] = 0
                return [replace(event, key=event.k) for event in _handed_over(events, delay)]
            case "sum":
                sums: Counter[str | None] = Counter()
                made = []
                for event in events:
                    sums[event.key] = (sums[event.key] * 3 + event.n) % BIG
                    made.append(replace(event, n=sums[event.key]))
                return made
            case "timer":
                return _timed(events, step.kind, delay)
            case "table" | "left_table" | "table_then":
                if f"{name}-events" in self._handed:
                    events, self.delays[-1] = _handed_over(events, delay), 0
                then = step.op == "table_then"
                looked = [(e, self._row(e.key, e.time if then else None)) for e in events]
                return [
                    replace(event, n=with_row(event.n, row))
                    for event, row in looked
                    if row is not None or step.op == "left_table"
                ]
            case "window":
                self.delays[-1] = delay + step.kind.grace
                return self._window(step.kind, events, delay, name)
        others, other_delay = self.streams[step.other], self.delays[step.other]
        if f"{name}-left" in self._handed:
            events, delay = _handed_over(events, delay), 0
        if f"{name}-right" in self._handed:
            others, other_delay = _handed_over(others, other_delay), 0
        delay = max(delay, other_delay)
        self.delays[-1] = delay + step.kind.delay
        return self._meet(step, events, others, delay, name)

    def _row(self, key: str | None, time: int | None) -> int | None:
        chosen: tuple[str, int | None, int] | None = None
        for row in self._rows:
            if row[0] == key and (
                time is None or (row[2] <= time and (chosen is None or row[2] >= chosen[2]))
            ):
                chosen = row
        return None if chosen is None else chosen[1]

    def _window(self, kind: WindowKind, events: list[Event], delay: int, name: str) -> list[Event]:
        found, late = windows(kind, _arrivals(events, delay))
        self.found[f"r-{name}-late"] += _counted([events[id] for id in late])
        results = []
        for key, start, end in sorted(found, key=lambda window: (window[2], window[0])):
            inside = [events[id] for id in found[key, start, end]]
            n, k = sum(each.n for each in inside) % BIG, max(each.k for each in inside)
            results.append(Event(key, n, k, end - 1))
        return results

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
            n = both(left and events[left.id].n, right and events[right.id].n)
            results.append(Event(here[0].key, n, here[0].k, max(event.time for event in here)))
        for side, label in zip(sides, ("left", "right"), strict=True):
            in_time = {each.id for each in join_model.in_time(side, step.kind.grace)}
            late = [events[each.id] for each in side if each.id not in in_time]
            self.found[f"r-{name}-{label}-late"] += _counted(late)
        return results


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
