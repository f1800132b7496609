"""Small apps made by chance of all operators. What each gives is said by `random_model`.

An app is a list of steps: each takes one of the streams there are (two for a join), and makes one
more.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from hypothesis import strategies as st
from random_connectors import World

from streamkit import App, Context, State, Tick, Timer, dlq, retry
from streamkit.dsl.nodes.stream_joins import AsOf, Within
from streamkit.dsl.windows import WindowKind, hopping, session, sliding, tumbling
from streamkit.serde import without_none

BIG = (1 << 52) - 47
SOURCES = ("a", "b")
TABLES = ("t", "u")
GLOBAL = "g"
SENT = "sent"
TICK = 1000
"""ms between two ticks."""


class Item(msgspec.Struct):
    """`n` tells events apart, and `k` is another key."""

    n: int
    k: str


NULL = Item(BIG - 7, "x")
"""What a null value counts as."""


class Torn(msgspec.Struct):
    """No Item, but for who looks closer."""

    n: str
    k: str


@dataclass(frozen=True)
class Fails:
    """What becomes of events that a step fails for: they are skipped, or set aside by "record" or
    by "key". With a `pause` they are tried again before, which helps some."""

    then: str
    pause: Any = None

    def on_error(self, topic: str) -> Any:
        then: Any = "skip" if self.then == "skip" else dlq(topic, mode=self.then)  # type: ignore[arg-type]
        if self.pause is None:
            return then
        return retry(ATTEMPTS, backoff="20ms", pause=self.pause, then=then)


@dataclass(frozen=True)
class Waits:
    """How a coroutine is called."""

    order: Any
    concurrency: int
    many: bool


@dataclass(frozen=True)
class Looks:
    """How a row is looked up: in the table of a topic, or in one that is made `how` of it and of
    the table of an `other`. With `by`, under another key than the event's: global tables have
    it. As of the event's time with `then`. The changes of the table that is made are `written`."""

    topic: str
    other: str | None = None
    how: Any = "inner"
    by: bool = False
    then: bool = False
    written: bool = False


@dataclass(frozen=True)
class Step:
    op: str
    on: int
    other: int = 0
    kind: Any = None
    fails: Fails | None = None

    @property
    def sets_aside(self) -> bool:
        return self.fails is not None and self.fails.then != "skip"


@dataclass(frozen=True)
class Spec:
    """An app, and what is sent to it. With `apart`, other keys name the partition they come from:
    events that are handed over keep their order then. The functions of the steps in `trips` stop
    the app now and then, each for an event only once."""

    steps: tuple[Step, ...]
    out_of_order: int
    apart: bool
    nulls: bool
    trips: frozenset[int] = frozenset()
    ticks: bool = False
    sourced: frozenset[str] = frozenset()
    """The topics that a source fills. It chooses partitions by keys, so that there are no nulls."""
    sinks: frozenset[int] = frozenset()
    """The streams that go to sinks."""
    retried: bool = False
    """Whether what is set aside comes again in the end, one step's after the other's."""
    grain: int = 1
    """Times are multiples of it, in ms: of larger ones many events are of one time."""
    torn: tuple[Fails | None, ...] = (None,) * len(SOURCES)
    """What becomes of records of each source that cannot be read; None: all can."""
    ahead: bool = False
    """Whether some events have wrong times, far ahead, and the sources are told so."""

    voids: frozenset[str] = frozenset()
    """The topics with null values; their streams are of these as well, but those that are torn."""

    @property
    def reads_back(self) -> bool:
        """Whether a topic that it writes is read as any."""
        return any(step.op == "through" for step in self.steps)

    def nullable(self, topic: str) -> bool:
        """Whether nulls are events of a source."""
        return topic in self.voids and self.reads(topic) is None

    def reads(self, topic: str) -> Fails | None:
        """What becomes of those of a source's topic."""
        return self.torn[SOURCES.index(topic)]

    def mended(self) -> list[int]:
        """The steps that are given again what they have set aside. Functions in other processes
        stay as they are."""
        return [
            number
            for number, step in enumerate(self.steps, len(SOURCES))
            if self.retried and step.sets_aside and step.op != "workers"
        ]

    def set_aside_again(self) -> set[str]:
        """The topics of events that may come again before their turn, while the first waits."""
        steps = {number: self.steps[number - len(SOURCES)] for number in self.mended()}
        return {f"dead{n}" for n, step in steps.items() if step.fails and step.fails.pause}


@dataclass
class Stream:
    """What is known of one while steps are chosen: `raw` when it is of one source, in its order;
    `ordered` when the events of a key come in one order; `placed` when that of its events of one
    time is known, or none of them is late. `alone` when `n` alone tells its events apart, which
    that of windows does not; `same` when nothing tells some apart, as pairs of these: whether the
    timers that they set are one depends on whether the first fires before; `told` when the model
    knows the order of all its events of a key; `made` when that is in the order in which they come,
    and not by a place of each, which goes along; `timely` when they come with events, and none
    when time has passed; `null` when some may be null: these are all alike."""

    keyed: bool
    raw: bool = True
    ordered: bool = True
    placed: bool = True
    alone: bool = True
    same: bool = False
    told: bool = True
    made: bool = False
    timely: bool = True
    null: bool = False

    @property
    def can_be_in_order(self) -> bool:
        """Whether the model knows in which one, when that is asked for."""
        return self.told and self.placed and not self.made


ATTEMPTS = 2
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
PARTS = ("first", "second", "rest", "both")
"""Of the three that a stream is branched into, or of two of them made one again."""
AFTER = (0, 3, 40)
"""ms from an event to its timer."""
AS_OF = tuple(
    AsOf(6, direction, exact, how, 2)
    for direction in ("backward", "forward", "nearest")
    for exact, how in ((True, "left"), (False, "inner"))
)
LOOKS = (
    Looks("t"),
    Looks("t", then=True),
    Looks("u", "t", "left", written=True),
    Looks("t", "u", "inner", written=True),
    Looks("t", "u", "outer", written=True),
    Looks("t", "u", "outer", then=True),
    Looks("t", GLOBAL, "left"),
    Looks("u", GLOBAL, "inner", then=True),
)
GLOBALLY = (Looks(GLOBAL), Looks(GLOBAL, by=True), Looks(GLOBAL, by=True, then=True))
FAILS = tuple(Fails(then) for then in ("skip", "record", "key"))
RETRIED = tuple(
    Fails(then, pause) for then in ("skip", "record", "key") for pause in ("partition", "key")
)
WAITS = tuple(
    Waits(order, concurrency, many)
    for order in ("partition", "key")
    for concurrency, many in ((1, False), (3, False), (5, True))
)
MAY_FAIL = {
    **dict.fromkeys(("filter", "map", "flat_map", "table", "left_table", "workers"), FAILS),
    **dict.fromkeys(("process", "sum", "async"), FAILS + RETRIED),
    **dict.fromkeys(("timer", "quiet"), FAILS[:1]),
    "batch": tuple(fails for fails in RETRIED if fails.then == "skip"),
}
"""Of each kind of step what may be said about its failures."""


@st.composite
def specs(draw: Callable[[Any], Any], *, wild: bool = False) -> Spec:
    """Those with results that depend on the clock as well, if `wild`. A third are of events that
    come mixed, many of one time."""
    nulls, apart, mixed = draw(st.booleans()), draw(st.booleans()), draw(st.integers(0, 2)) == 0
    apart = apart and not mixed
    torn = tuple(draw(st.sampled_from([None, None, *FAILS])) for _ in SOURCES)
    voids = draw(st.just(frozenset()) | st.frozensets(st.sampled_from(SOURCES)))
    null = [name in voids and fails is None for name, fails in zip(SOURCES, torn, strict=True)]
    streams = [Stream(not nulls, alone=not one, same=one, null=one) for one in null]
    steps = []
    if mixed:
        streams += [replace(one, keyed=True, raw=False, ordered=False) for one in streams]
        steps += [Step("by", number) for number in range(len(SOURCES))]
    for _ in range(draw(st.integers(1, 3)) + draw(st.integers(1, 4))):
        last = len(streams) - 1
        on = draw(st.just(last) | st.integers(0, last))
        stream = streams[on]
        ops = ["filter", "map", "flat_map", "process", "process", *["by"] * 3]
        ops += ["async", "async", "batch", "workers", *["batched"] * wild]
        ops += ["table", "left_table", "branch", *["through"] * stream.timely]
        ops += ["async", "batch", *["window"] * 4] * (mixed and stream.keyed)
        turned = [n for n, each in enumerate(streams) if each.can_be_in_order]
        ops += ["in_order"] * 2 * (on in turned) + ["found"] * (on in turned and len(turned) > 1)
        others = []
        if stream.keyed:
            ops += ["window"] * 4 + ["table", "left_table", "left_table"]
            ops += ["sum"] * 5 if stream.ordered else []
            ops += ["timer"] * 2 * (not stream.same) + ["quiet"] * 2 * stream.placed
            others = [n for n, each in enumerate(streams) if each.keyed]
            ops += ["merge"] * 3 + ["kept"] * 2 * wild
            ops += ["within"] * 3
            known = [n for n in others if streams[n].ordered or streams[n].told]
            if known and (stream.ordered or stream.told):
                ops += ["as_of", "as_of"]
        op = draw(st.sampled_from(ops))
        if op == "merge":
            other = draw(st.sampled_from(others))
            step = Step(op, on, other)
            timely, null = (
                stream.timely and streams[other].timely,
                stream.null or streams[other].null,
            )
            streams.append(
                Stream(True, False, False, False, False, True, False, False, timely, null)
            )
            steps.append(step)
            continue
        if op == "kept":
            other = draw(st.sampled_from(others))
            steps.append(Step(op, on, other))
            made = replace(stream, raw=False, ordered=False, placed=False, told=False, null=False)
            streams.append(made)
            continue
        if op in ("in_order", "found"):  # and something that it is for
            others = [n for n in turned if n != on] if op == "found" else []
            for one in (on, *([draw(st.sampled_from(others))] if others else [])):
                turn = {"keyed": True, "raw": False, "ordered": True, "timely": False}
                streams.append(replace(streams[one], **turn))
                steps.append(Step("by", one, kind="in order"))
            if op == "found":
                steps.append(Step("kept", len(streams) - 2, len(streams) - 1))
                streams.append(replace(streams[-2], null=False))
                continue
            on, stream, op = len(streams) - 1, streams[-1], "sum"
        allowed = [fails for fails in MAY_FAIL.get(op, ()) if stream.ordered or fails.then != "key"]
        fails = draw(st.sampled_from([None, *allowed])) if allowed else None
        made, step = stream, Step(op, on, fails=fails)
        if op in ("branch", "filter", "through", "by"):
            pass  # it gives what it is given
        elif stream.null:
            made = replace(stream, null=False)
        if fails is not None and fails.pause == "key":
            made = replace(stream, raw=False)  # keys overtake each other
        if step.sets_aside:
            # What comes again does so in the order of its key.
            made = replace(made, raw=False, placed=False)
        if op == "batched":
            made = replace(made, placed=False, told=False)
        if op == "branch":
            step = replace(step, kind=draw(st.sampled_from(PARTS)))
            if step.kind == "both":
                made = Stream(stream.keyed, False, False, False, stream.alone, told=False)
                made.same, made.timely, made.null = stream.same, stream.timely, stream.null
        elif op == "through":
            made = replace(made, raw=False, ordered=False, placed=False, told=False)
        elif op == "process":
            step = replace(step, kind=draw(st.sampled_from(["value", "many"])))
        elif op == "async":
            step = replace(step, kind=draw(st.sampled_from(WAITS)))
            made = made if step.kind.order == "partition" else replace(made, raw=False)
        elif op.endswith("table"):
            looks = LOOKS + GLOBALLY * 2 if stream.keyed else GLOBALLY
            step = replace(step, kind=draw(st.sampled_from(looks)))
        elif op == "by":
            ordered, told = stream.raw and apart, stream.told and not stream.made
            ordered = ordered and not stream.null  # whose key is the same in all partitions
            made = replace(made, keyed=True, raw=False, ordered=ordered, told=told, made=False)
        elif op == "window":
            by_order = int(stream.told and (mixed or draw(st.booleans())))
            step = replace(step, kind=draw(st.sampled_from(WINDOWS)), other=by_order)
            made = Stream(True, False, True, alone=False, made=True, timely=False)
        elif op in ("timer", "quiet"):
            after = AFTER if op == "timer" else AFTER[1:]
            step = replace(step, kind=draw(st.sampled_from(after)))
            made = replace(made, raw=False, ordered=False, placed=False, told=False, timely=False)
        elif op in ("within", "as_of"):
            if op == "as_of":
                others = known
            other = draw(st.sampled_from(others))
            kind = draw(st.sampled_from(WITHIN if op == "within" else AS_OF))
            step = replace(step, other=other, kind=kind)
            alone = stream.alone and streams[other].alone
            same = stream.same or streams[other].same or not alone
            told = op == "as_of" and stream.told
            made = Stream(True, False, told, alone=alone, same=same, told=told, made=True)
            made.timely = False
        streams.append(made)
        steps.append(step)
    first = len(SOURCES)
    all_steps = st.integers(first, first + len(steps) - 1)
    trips = draw(st.just(frozenset()) | st.frozensets(all_steps, max_size=3))
    sourced = draw(st.frozensets(st.sampled_from(SOURCES))) if not nulls else frozenset()
    sinks = draw(st.just(frozenset()) | st.frozensets(all_steps, max_size=2))
    late, ticks = draw(st.integers(0, 4)), draw(st.booleans())
    retried, grain = draw(st.booleans()), 20 if mixed else 1
    ahead = draw(st.booleans())
    return Spec(
        tuple(steps), late, apart, nulls, trips, ticks, sourced, sinks, retried, grain, torn, ahead,
        voids,
    )  # fmt: skip


# The functions, for both.


def kept(n: int) -> bool:
    return n % 3 != 0


def mapped(n: int) -> int:
    return (n * 2 + 1) % BIG


def several(n: int) -> list[int]:
    # No two events of a stream become the same by it, also when it comes twice.
    return [(n * 2 + more * 7919) % BIG for more in range(n % 3)]


def with_row(n: int, row: int | None) -> int:
    return (n * 31 + (row or 0)) % BIG


def row_of(left: int | None, right: int | None) -> int | None:
    """A row of two."""
    made = ((left or 0) * 43 + (right or 0) * 47) % BIG
    return None if made % 5 == 1 else made


def both(left: int | None, right: int | None) -> int:
    return ((left or 0) * 37 + (right or 0) * 41) % BIG


def added(one: Item, other: Item | None) -> Item:
    other = other or NULL
    return Item((one.n + other.n) % BIG, max(one.k, other.k))


def chained(one: Item, other: Item | None) -> Item:
    """The same of what comes in another order is something else."""
    other = other or NULL
    return Item((one.n * 3 + other.n) % BIG, other.k)


def of_first(n: int) -> bool:
    return n % 4 == 1


def of_second(n: int) -> bool:
    """And not of the first."""
    return n % 8 < 4


def last_of(item: Item | None) -> str:
    """What is looked up in a global table."""
    return key_of(item)[-1]


def bad(n: int) -> bool:
    """Whether functions that may fail do, for good."""
    return n % 5 == 2


def in_vain(number: int) -> bool:
    """Whether a step is given again what it has set aside before it is mended, too."""
    return number % 2 == 0


def known(item: Item | None) -> int | None:
    """The number of what may be missing, or null."""
    return None if item is None or item.n == NULL.n else item.n


def number_of(item: Item | None) -> int:
    return (item or NULL).n


def key_of(item: Item | None) -> str:
    return (item or NULL).k


def send(item: Item, context: Context) -> None:
    """Write an event beside what is given, with an id that no other has."""
    context.send(SENT, Item(item.n, str(context.uuid())), key=context.key)


class Trouble:
    """What goes wrong in the functions of one app; with `passing`, also what helps to do again.
    Each call is told to `slow`. Nothing is bad for steps that are `mended`."""

    def __init__(
        self,
        trips: Collection[int],
        passing: bool,
        slow: Callable[[], None],
        mended: Collection[int],
    ) -> None:
        self.mended = mended
        self._trips = trips
        self._passing = passing
        self._slow = slow
        self._met: Counter[tuple[int, int]] = Counter()

    def meet(self, number: int, fails: Fails | None, *several: int) -> None:
        """A function of step `number` has been given these."""
        self._slow()
        if fails is not None and number not in self.mended and any(bad(n) for n in several):
            raise ValueError(f"{several} are bad")
        self.pass_by(number, fails, *several)

    def pass_by(self, number: int, fails: Fails | None, *several: int) -> None:
        """The same, of what is never bad for good."""
        self._slow()
        if not self._passing:
            return
        times = [n % (ATTEMPTS + 1) for n in several] if fails is not None and fails.pause else []
        if fails is None and number in self._trips:
            times = [int(n % 3 == 0) for n in several]
        due = [n for n, most in zip(several, times, strict=False) if self._met[number, n] < most]
        self._met.update((number, n) for n in due)
        if due:
            raise ConnectionError(f"not now: {due}")


def as_item(item: Item | None) -> Item:
    """Of a subclass: two streams are of one type to be one."""
    item = item or NULL
    return Item(item.n, item.k)


def elsewhere(item: Item | None) -> Item:
    item = item or NULL
    return Item(mapped(item.n), item.k)


def elsewhere_or_not(item: Item | None) -> Item:
    item = item or NULL
    if bad(item.n):
        raise ValueError(f"{item.n} is bad")
    return Item(mapped(item.n), item.k)


def is_null(stream: Any) -> bool:
    """Whether nulls may be among its events."""
    return without_none(stream.type)[1]


def slowly(slow: Callable[[], None]) -> Callable[[Any], None]:
    """For what is read in some time."""
    return lambda _: slow()


def build(
    spec: Spec,
    close_after_idle: str | None = None,
    *,
    passing: bool = True,
    slow: Callable[[], None] = lambda: None,
    world: World | None = None,
    mended: Collection[int] = (),
) -> App:
    """The app; the stream number `n` is written to `out<n>`, and by its sink `k<n>` from there or
    from elsewhere; what its step sets aside to `dead<n>`. Without `passing` nothing fails that goes
    well when it is done again, and for steps that are `mended` by then nothing else. `slow` is
    called by functions, and as events are read."""
    app = App("r")
    order = f"{spec.out_of_order}ms"
    world = world or World()
    # To other processes it goes as what they know.
    own = {"__post_init__": slowly(slow), "__reduce__": lambda item: (Item, (item.n, item.k))}
    read = msgspec.defstruct("Read", (), bases=(Item,), namespace=own)
    streams: list[Any] = []
    for name in SOURCES:
        fails = spec.reads(name)
        on_error = "stop" if fails is None else fails.on_error(f"dead{name}")
        options: Any = {"out_of_order": order, "on_error": on_error}
        if spec.ahead:
            options["max_ahead"] = "1d"
        type_: Any = read | None if spec.nullable(name) else read
        if name in spec.sourced:
            # As many as any has, where nothing reads it.
            made = app.source(world.source(), type_, to=name, partitions=3, **options)
        else:
            made = app.stream(name, type_, **options)
        streams.append(made)
    tables: dict[str, Any] = {name: app.table(name, int) for name in TABLES}
    tables[GLOBAL] = app.global_table(GLOBAL, int)
    trouble = Trouble(spec.trips, passing, slow, mended)
    for number, step in enumerate(spec.steps, len(SOURCES)):
        made = _declare(streams, tables, step, number, trouble, close_after_idle)
        sink = world.sink(exactly=number % 4 < 2)
        if number in spec.sinks and number % 2:
            made.sink(sink, name=f"k{number}", into=f"k{number}")  # to a topic of its own
        made.to(f"out{number}")
        if number in spec.sinks and number % 2 == 0:
            made.sink(sink, name=f"k{number}", into=f"k{number}")
        streams.append(made)
    if spec.ticks:

        @app.every(f"{TICK}ms", missed="all", to="beats")
        def beat(tick: Tick, sofar: State[int]) -> Item:
            sofar.set(sofar.get(0) + 1)
            return Item(sofar.get(0), "")

    return app


def _declare(
    streams: list[Any],
    tables: dict[str, Any],
    step: Step,
    number: int,
    trouble: Trouble,
    close_after_idle: str | None,
) -> Any:
    stream, name, fails = streams[step.on], f"s{number}", step.fails
    on_error: Any = "stop" if fails is None else fails.on_error(f"dead{number}")

    def meet(*given: int) -> None:
        trouble.meet(number, fails, *given)

    def change(item: Item | None) -> Item:
        item = item or NULL
        meet(item.n)
        return Item(mapped(item.n), item.k)

    def multiply(item: Item | None) -> list[Item]:
        item = item or NULL
        meet(item.n)
        return [Item(n, item.k) for n in several(item.n)]

    match step.op:
        case "filter":

            def keep(item: Item | None) -> bool:
                item = item or NULL
                meet(item.n)
                return kept(item.n)

            return stream.filter(keep, on_error=on_error, name=name)
        case "map":
            return stream.map(change, on_error=on_error, name=name)
        case "flat_map":
            return stream.flat_map(multiply, on_error=on_error, name=name)
        case "process" if step.kind == "value":

            @stream.process(name=name, on_error=on_error)
            def one(item: Item | None, context: Context) -> Item:
                item = item or NULL
                send(item, context)
                return change(item)

            return one
        case "process":

            @stream.process(name=name, on_error=on_error)
            def some(item: Item | None) -> Iterator[Item]:
                item = item or NULL
                for n in several(item.n):
                    yield Item(n, item.k)
                meet(item.n)

            return some
        case "async":
            return _asynchronous(
                stream, step, name, meet, on_error, lambda: number not in trouble.mended
            )
        case "batch":

            @stream.process(name=name, batch=3, within="30ms", on_error=on_error)
            def together(items: list[Item | None]) -> list[Item]:
                trouble.pass_by(number, fails, *map(number_of, items))
                return [Item(mapped(number_of(item)), key_of(item)) for item in items]

            return together
        case "batched":

            @stream.process(name=name, batch=3, within="30ms")
            async def summed(items: list[Item | None]) -> list[Item]:
                meet(*map(number_of, items))
                return [Item(sum(map(number_of, items)) % BIG, key_of(items[0]))]

            return summed
        case "workers":
            call = elsewhere if fails is None else elsewhere_or_not
            return stream.process(name=name, workers=2, on_error=on_error)(call)
        case "by":
            key: Any = key_of if is_null(stream) else "k"
            return stream.by(key, name=name, in_order=step.kind == "in order")
        case "sum":

            @stream.process(name=name, on_error=on_error)
            def add(item: Item | None, sofar: State[int]) -> Item:
                item = item or NULL
                sofar.set((sofar.get(0) * 3 + item.n) % BIG)
                meet(item.n)
                return Item(sofar.get(0), item.k)

            return add
        case "timer":

            @stream.process(name=name, on_error=on_error)
            def set_(item: Item | None, context: Context) -> None:
                item = item or NULL
                # Twice the same timer is one.
                told = f"{context.timestamp} {item.n} {item.k}"
                context.timer(told, after=f"{step.kind}ms")
                meet(item.n)

            @set_.on_timer(name=f"{name}-fired")
            def fired(timer: Timer) -> Item:
                _, n, k = str(timer.name).split(" ")
                trouble.pass_by(number, fails, int(n) + 3)
                return Item(mapped(int(n)), k)

            return fired
        case "quiet":

            @stream.process(name=name, on_error=on_error)
            def gather(item: Item | None, sofar: State[Item], context: Context) -> None:
                item = item or NULL
                sofar.set(added(sofar.get(Item(0, "")), item))
                context.timer(after=f"{step.kind}ms", extend=True)
                meet(item.n)

            @gather.on_timer(name=f"{name}-fired")
            def quiet(timer: Timer, sofar: State[Item]) -> Item:
                found = sofar.get(Item(0, ""))
                sofar.delete()
                trouble.pass_by(number, fails, found.n + 3)
                return found

            return quiet
        case "window":
            windowed = stream.window(step.kind, close_after_idle=close_after_idle)
            together, merge = (chained, None) if step.other else (added, added)

            @windowed.aggregate(name=name, merge=merge, any_order=merge is not None)
            def fold(sofar: Item | None, item: Item | None) -> Item:
                item = item or NULL
                meet(item.n)
                return item if sofar is None else together(sofar, item)

            return fold
        case "branch":
            first, second, rest = stream.branch(
                lambda item: of_first(number_of(item)), lambda item: of_second(number_of(item))
            )
            if step.kind == "both":
                return rest.merge(first, name=name)
            made = {"first": first, "second": second, "rest": rest}[step.kind]
            return made.filter(lambda item: True, name=name)
        case "through":
            if not is_null(stream):
                stream = stream.map(as_item, name=name)
            return stream.through(f"on{number}", out_of_order="1h")
        case "kept":
            rows = streams[step.other].to_table(name=f"{name}-rows")

            @stream.join(rows, how="left", name=name)
            def find(item: Item | None, row: Item | None) -> Item:
                item = item or NULL
                return Item(with_row(item.n, known(row)), item.k)

            return find
        case "merge":
            left, right = stream, streams[step.other]
            if left.type != right.type:
                left, right = (each.map(as_item) for each in (left, right))
            return left.merge(right, name=name)
        case "table" | "left_table":
            looks: Looks = step.kind
            table = tables[looks.topic]
            if looks.other is not None:
                table = _made_table(table, tables[looks.other], looks, number)
            how = "left" if step.op == "left_table" else "inner"
            on = last_of if looks.by else None
            history = "1h" if looks.then else None

            @stream.join(table, on=on, how=how, name=name, history=history, on_error=on_error)
            def look(item: Item | None, row: int | None) -> Item:
                item = item or NULL
                meet(item.n)
                return Item(with_row(item.n, row), item.k)

            return look
    return _meeting(stream, streams[step.other], step, name, meet)


def _made_table(left: Any, right: Any, looks: Looks, number: int) -> Any:
    @left.join(right, how=looks.how, name=f"m{number}")
    def made(one: int | None, other: int | None) -> int | None:
        return row_of(one, other)

    return made.to(f"made{number}") if looks.written else made


def _asynchronous(
    stream: Any,
    step: Step,
    name: str,
    meet: Callable[[int], None],
    on_error: Any,
    is_bad: Callable[[], bool],
) -> Any:
    wait: Waits = step.kind
    process = stream.process(
        name=name,
        order=wait.order,
        concurrency=wait.concurrency,
        timeout="30s",
        on_error=on_error,
    )

    async def one(item: Item | None, context: Context) -> Item:
        item = item or NULL
        send(item, context)
        await asyncio.sleep(item.n % 4)
        if step.fails is not None and item.n % 20 == 2 and is_bad():
            await asyncio.sleep(60)  # too long
        meet(item.n)
        return Item(mapped(item.n), item.k)

    async def some(item: Item | None) -> AsyncIterator[Item]:
        item = item or NULL
        for n in several(item.n):
            yield Item(n, item.k)
            await asyncio.sleep(item.n % 4)
        meet(item.n)

    return process(some if wait.many else one)


def _meeting(left: Any, right: Any, step: Step, name: str, met: Callable[..., None]) -> Any:
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
        here = one or other or NULL
        met(here.n)
        return Item(both(known(one), known(other)), here.k)

    return joining(meet)
