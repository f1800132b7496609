"""Timers fire once, at their time, in order, whatever happens to the processes meanwhile."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit import App, Context, FunctionError, Record, State, Timer, TopologyError, dlq, retry
from streamkit.codec import partition_for
from streamkit.dsl.windows import tumbling
from streamkit.errors import DataError
from streamkit.testing import TestRun

END = 10_000


class Event(msgspec.Struct):
    """`asks`: name, how long after the event (negative: before it) or None to cancel, `extend`."""

    asks: list[tuple[str | None, int | None, bool]]
    user: str = ""
    number: int = 0


def app_of(out_of_order: int, *, by: bool = False) -> App:
    app = App("a")
    read = app.stream("in", Event, out_of_order=f"{out_of_order}ms")
    events = read.by("user") if by else read

    @events.process(to="steps")
    def step(event: Event, seen: State[int], context: Context) -> str:
        seen.set(seen.get(0) + 1)
        for name, after, extend in event.asks:
            if after is None:
                context.cancel_timer(name)
            else:
                context.timer(name, at=max(0, context.timestamp + after), extend=extend)
        return f"{event.number} {seen.get(0)}"

    @step.on_timer(to="out")
    def fired(timer: Timer, seen: State[int], context: Context) -> Iterator[str]:
        yield f"{timer.name} {seen.get(0)}"
        if timer.name == "again" and seen.get(0) < 8:
            seen.set(seen.get(0) + 1)
            context.timer("again", after="5ms")
            context.timer(after="0ms")
        if timer.name == "clears":
            seen.delete()
            context.cancel_timer("again")
            yield f"cleared {context.uuid()}"

    return app


Found = list[tuple[str, Any, int]]
"""Key, value and time of records, in order."""


class Model:
    """One partition, with everything at hand."""

    def __init__(self, out_of_order: int) -> None:
        self.found: Found = []
        self.steps: Found = []
        self._out_of_order = out_of_order
        self._latest = -(10**9)
        self._seen: dict[str, int] = {}
        self._timers: dict[tuple[str, str], int] = {}

    def event(self, key: str, time: int, event: Event, came: int = 0) -> None:
        """`came`: how far its own partition was, where there are several."""
        self._latest = max(self._latest, time, came)
        self.reach(self._latest - self._out_of_order)
        self._seen[key] = self._seen.get(key, 0) + 1
        self.steps.append((key, f"{event.number} {self._seen[key]}", time))
        for name, after, extend in event.asks:
            if after is None:
                self._timers.pop((key, name or ""), None)
                continue
            before = self._timers.get((key, name or ""), 0) if extend else 0
            self._timers[key, name or ""] = max(before, time + after)
        self.reach(self._latest - self._out_of_order)

    def reach(self, time: int) -> None:
        while True:
            due = sorted((at, key, name) for (key, name), at in self._timers.items() if at <= time)
            if not due:
                return
            self._fire(*due[0])

    def _fire(self, at: int, key: str, name: str) -> None:
        del self._timers[key, name]
        seen = self._seen.get(key, 0)
        self.found.append((key, f"{name or None} {seen}", at))
        if name == "again" and seen < 8:
            self._seen[key] = seen + 1
            self._timers[key, "again"] = at + 5
            self._timers[key, ""] = at + 1
        if name == "clears":
            self._seen.pop(key, None)
            self._timers.pop((key, "again"), None)
            self.found.append((key, "cleared", at))


asks = st.tuples(
    st.sampled_from([None, None, "other", "again", "clears"]),
    st.none() | st.integers(-20, 40),
    st.booleans(),
)
sends = st.tuples(
    st.just("send"), st.sampled_from("abcd"), st.integers(0, 90), st.lists(asks, max_size=3)
)
doings = st.tuples(
    st.sampled_from(["run", "step", "commit", "crash", "rebalance"]), st.integers(0, 3)
)


Moves = list[tuple[int, tuple[Any, ...]]]
"""What happens, numbered."""


def expected(moves: Moves, out_of_order: int, partitions: int, *, by: bool) -> list[Model]:
    """By partition of the results. Where events come `by` another key, each has come at its time,
    or when its partition was further than that, then; of one time those of the first partition are
    first."""
    models = [Model(0 if by else out_of_order) for _ in range(partitions)]
    reached = [0] * partitions
    order = []
    for number, (what, *sent) in moves:
        if what != "send":
            continue
        key, time, wanted = sent
        model = models[partition_for(key.encode(), partitions)]
        if not by:
            model.event(key, time, Event(wanted, key, number))
            continue
        origin = number % partitions
        came = max(time, reached[origin])
        reached[origin] = max(reached[origin], time - out_of_order)
        order.append((came, origin, number, model, key, time, Event(wanted, key, number)))
    for came, _, _, model, *event in sorted(order, key=lambda one: one[:3]):
        model.event(*event, came)
    for model in models:
        model.reach(END)
    return models


def played(t: TestRun, moves: Moves, *, by: bool = False) -> list[tuple[Found, Found]]:
    """What timers gave, and what the step did, by partition."""
    for number, move in moves:
        if move[0] == "send":
            _, key, time, wanted = move
            origin = number % t._partitions("in") if by else None
            event = Event(wanted, key, number)
            t.send("in", event, key=key, partition=origin, timestamp=time)
        elif move[0] in ("run", "step"):
            getattr(t, str(move[0]))()
        elif move[0] == "rebalance":
            t.rebalance(move[1] or None)
        else:
            getattr(t, str(move[0]))(None if move[1] == 3 else move[1] % t.members)
    t.run()
    t.crash()
    t.finish(END)
    found: list[tuple[Found, Found]] = [([], []) for _ in range(t._partitions("out"))]
    for record in t.topic("out"):
        text = "cleared" if record.value.startswith("cleared") else record.value
        found[record.partition][0].append((record.key, text, record.timestamp))
    for record in t.topic("steps"):
        found[record.partition][1].append((record.key, record.value, record.timestamp))
    return found


@settings(max_examples=300, deadline=None)
@given(
    by=st.booleans(),
    moves=st.lists(sends | sends | sends | doings, max_size=40),
    out_of_order=st.sampled_from([0, 0, 7]),
    partitions=st.integers(1, 3),
    members=st.integers(1, 3),
    batch=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_each_fires_once_at_its_time_in_order_as_in_the_model(
    by: bool,
    moves: list[tuple[Any, ...]],
    out_of_order: int,
    partitions: int,
    members: int,
    batch: int,
    seed: int,
) -> None:
    numbered = list(enumerate(moves))
    models = expected(numbered, out_of_order, partitions, by=by)
    topology = app_of(out_of_order, by=by).topology()
    with TestRun(topology, partitions, members=members, batch=batch) as t:
        t.shuffle(seed)
        assert played(t, numbered, by=by) == [(model.found, model.steps) for model in models]
        whole = [(r.key, r.value, r.timestamp) for r in t.topic("out")]
    with TestRun(topology, partitions) as t:
        played(t, [one for one in numbered if one[1][0] == "send"], by=by)
        again = [(r.key, r.value, r.timestamp) for r in t.topic("out")]
        assert again == whole, "what a timer draws depends on itself alone"


MINUTE = 60_000
TEN = tumbling("10ms")


class Order(msgspec.Struct):
    customer: str


def test_those_that_are_past_fire_by_time_and_name_however_they_were_moved() -> None:
    with app_of(0).test(1) as t:
        t.send("in", Event([]), key="a", timestamp=1)
        asked = [(None, 1, False), ("other", 0, False), ("other", 1, False)]
        t.send("in", Event(asked), key="a", timestamp=0)
        t.run()
        assert t.values("out") == ["None 2", "other 2"]


def test_a_timer_that_every_event_moves_fires_once_the_events_stop() -> None:
    app = App("shop")
    clicks = app.stream("clicks", str)

    @clicks.process
    def cart(item: str, items: State[list[str]], context: Context) -> None:
        items.set([*items.get([]), item])
        context.timer(after="30m")

    @cart.on_timer(to="left")
    def left(timer: Timer, items: State[list[str]]) -> str:
        found = items.get([])
        items.delete()
        return f"{timer.time:%H:%M} {'+'.join(found)}"

    with app.test(1) as t:
        for minute, item in ((0, "a"), (10, "b"), (39, "c"), (100, "d")):
            t.send("clicks", item, key="ann", timestamp=minute * MINUTE)
        t.run()
        (first,) = t.topic("left")
        assert (first.key, first.value, first.timestamp) == ("ann", "01:09 a+b+c", 69 * MINUTE)
        t.finish(130 * MINUTE)
        assert t.values("left") == ["01:09 a+b+c", "02:10 d"]


def test_what_it_gives_can_be_followed_and_is_late_for_no_window() -> None:
    app = App("shop")
    orders = app.stream("orders", int)

    @orders.process
    def order(amount: int, context: Context) -> None:
        context.timer(str(amount), after="7ms")

    @order.on_timer
    def reminder(timer: Timer) -> int:
        return int(timer.name or 0)

    windowed = reminder.map(lambda n: n * 10).window(TEN)

    @windowed.aggregate(to="sums")
    def sums(total: int | None, n: int) -> int:
        return (total or 0) + n

    with app.test(1) as t:
        for time in (0, 2, 5, 13):
            t.send("orders", time, key="k", timestamp=time)
        t.send("orders", 99, key="k", timestamp=100)
        t.run()
        assert [(r.value, r.timestamp) for r in t.topic("sums")] == [(20, 9), (50, 19), (130, 29)]
        assert not t.topic("shop-sums-late")


def test_behind_other_keys_it_fires_as_time_is_handed_over() -> None:
    app = App("shop")
    orders = app.stream("orders", Order)
    by_customer = orders.by("customer")

    @by_customer.process
    def last(order: Order, context: Context) -> None:
        context.timer(after="10ms", extend=True)

    @last.on_timer(to="quiet")
    def quiet(timer: Timer) -> str:
        return str(timer.key)

    with app.test(3) as t:
        for number in range(30):
            t.send("orders", Order(f"c{number % 2}"), key=str(number), timestamp=number)
        t.run()
        assert not t.topic("quiet")
        t.finish(END)
        found = sorted((record.value, record.timestamp) for record in t.topic("quiet"))
        assert found == [("c0", 38), ("c1", 39)]


def test_an_event_of_one_of_two_streams_waits_until_time_has_passed_it() -> None:
    """The other holds time back, and a timer is not moved by what comes after it."""
    app = App("shop")
    beats = app.stream("beats", str)
    orders = app.stream("orders", str)

    @orders.process
    def last(order: str, seen: State[int], context: Context) -> None:
        seen.set(seen.get(0) + 1)
        context.timer(after="10ms")

    @last.on_timer(to="quiet")
    def quiet(timer: Timer, seen: State[int]) -> str:
        return f"{timer.timestamp} {seen.get()}"

    @beats.join(orders, after="1ms")
    def met(beat: str, order: str) -> str:
        return beat

    with app.test(1) as t:
        t.send("orders", "x", key="k", timestamp=0)
        t.send("beats", "x", key="k", timestamp=5)
        t.run()
        t.send("orders", "y", key="k", timestamp=50)
        t.run()
        assert t.values("quiet") == [], "beats are at 5"
        t.send("beats", "x", key="k", timestamp=90)
        t.run()
        assert t.values("quiet") == ["10 1"], "orders are at 50: one of that time may come yet"
        t.send("orders", "z", key="k", timestamp=70)
        t.run()
        assert t.values("quiet") == ["10 1", "60 2"]


class Click(msgspec.Struct):
    user: str
    page: str


def visits(on_error: str = "stop") -> App:
    """Pages by user, until the user is quiet."""
    app = App("site")

    @app.stream("clicks", Click).by("user").process(to="pages", on_error=on_error)
    def click(click: Click, pages: State[str], context: Context) -> str:
        pages.set(pages.get("") + str(click.page))
        context.timer(after="10s", extend=True)
        return str(int(click.page))

    @click.on_timer(to="visits")
    def visit(timer: Timer, pages: State[str]) -> str:
        found = pages.get("")
        pages.delete()
        return f"{timer.timestamp // 1000} {found}"

    return app


def clicked(t: TestRun, *clicks: tuple[int, int, str]) -> None:
    for partition, second, page in clicks:
        t.send("clicks", Click("ann", page), partition=partition, timestamp=second * 1000)
    t.run()


def test_what_is_kept_for_its_turn_is_told_and_given_when_nothing_else_is_to_come() -> None:
    with visits().test(2) as t:
        clicked(t, (0, 1, "1"), (1, 9, "2"), (0, 20, "3"))
        assert t.values("pages") == ["1"], "the other partition is at 9 s"
        (kept,) = (task.open for task in t.tasks if task.open)
        assert (kept["click-held"].count, kept["click-held"].what) == (2, "events")
        t.finish()
        assert (t.values("pages"), t.values("visits")) == (["1", "2", "3"], ["19 12"])
        clicked(t, (1, 15, "4"), (1, 25, "5"))
        assert t.values("pages") == ["1", "2", "3", "4"], "what was before is past"
        t.finish()
        assert (t.values("pages"), t.values("visits")) == (["1", "2", "3", "4", "5"], ["19 12"])


def test_when_all_is_silent_nothing_is_waited_for() -> None:
    with visits().test(2) as t:
        clicked(t, (0, 1, "1"), (1, 9, "2"), (0, 20, "3"))
        t.advance("4s")
        assert t.values("pages") == ["1"]
        t.advance("2s")
        assert (t.values("pages"), t.values("visits")) == (["1", "2", "3"], ["19 12"])
        clicked(t, (1, 15, "4"))
        assert t.values("pages") == ["1", "2", "3", "4"], "its turn is past"


def test_an_event_that_fails_in_its_turn_is_told_as_itself_and_may_be_skipped() -> None:
    with visits().test(2) as t:
        with pytest.raises(FunctionError, match=r"given the record site-clicks-by-user") as told:
            clicked(t, (0, 1, "1"), (1, 9, "x"), (0, 20, "3"), (1, 30, "4"))
        said = "\n".join(told.value.__notes__)
        assert "on_error= of the step" in said and "skip the record" not in said
    with visits("skip").test(2) as t:
        clicked(t, (0, 1, "1"), (1, 9, "x"), (0, 20, "3"), (1, 30, "4"), (0, 31, "5"))
        assert (t.values("pages"), t.values("visits")) == (["1", "3"], ["11 1", "30 3"])


def test_pairs_of_one_time_come_by_the_times_of_the_two_whichever_came_first() -> None:
    app = App("site")
    lefts, rights = (app.stream(name, Click, out_of_order="9s") for name in ("lefts", "rights"))

    @lefts.by("user", name="l").join(rights.by("user", name="r"), within="5s")
    def both(left: Click, right: Click) -> Click:
        return Click("all", left.page + right.page)

    again = both.by("user", name="again")
    for name, stream in (("here", both), ("there", again)):

        @stream.process(name=name, to=name)
        def pair(click: Click, context: Context) -> str:
            context.timer(after="10s")
            return click.page

        @pair.on_timer(name=f"{name}-fired")
        def nothing(timer: Timer) -> None: ...

    sent = [("lefts", n, "abc"[n]) for n in (0, 1, 2)] + [("rights", 3, "x"), ("rights", 2, "y")]
    found = []
    for order in (sent, sent[::-1]):
        with app.test(2) as t:
            for topic, second, page in order:
                t.send(topic, Click("ann", page), partition=second % 2, timestamp=second * 1000)
                t.run()
            t.finish(END * 100)
            found.append((t.values("here"), t.values("there")))
    assert found[0] == found[1]
    assert found[0][0][-3:] == ["ax", "bx", "cx"]
    assert found[0][0] == found[0][1]


def test_through_two_changes_of_key_events_of_one_time_keep_the_order_of_their_partitions() -> None:
    app = App("site")
    there_and_back = app.stream("clicks", Click).by("page", name="page").by("user", name="user")

    @there_and_back.process(to="pages")
    def click(click: Click, context: Context) -> str:
        context.timer(after="10s")
        return click.page

    @click.on_timer
    def nothing(timer: Timer) -> None: ...

    with app.test(3) as t:
        for page in "cab":
            clicked(t, ("abc".index(page), 5, page))
        clicked(t, *((number, 6, "z") for number in range(3)))
        t.finish(END)
        assert t.values("pages")[:3] == ["a", "b", "c"]


def test_what_a_timer_draws_does_not_depend_on_those_before_it() -> None:
    def drawn(crashes: bool) -> list[str]:
        with app_of(0).test(1) as t:
            for after, key in enumerate("abc", 1):
                t.send("in", Event([("clears", after, False)]), key=key, timestamp=0)
            t.run()
            for time in (1, 2, 3) if crashes else (3,):
                t.finish(time)
                t.crash()
            return [value for value in t.values("out") if value.startswith("cleared")]

    assert len(set(drawn(False))) == 3
    assert drawn(False) == drawn(True)


# What is refused, and what is said.


def orders_of(app: App) -> Any:
    return app.stream("orders", int)


def test_a_step_that_takes_no_context_sets_no_timers() -> None:
    @orders_of(App("a")).process
    def step(n: int) -> int:
        return n

    with pytest.raises(TopologyError, match=r"step .* sets no timers; let it take a Context"):

        @step.on_timer
        def fired(timer: Timer) -> None: ...


def test_only_a_step_of_process_sets_timers() -> None:
    doubled = orders_of(App("a")).map(lambda n: n * 2)
    with pytest.raises(TopologyError, match=r"<lambda> \(.*\) sets no timers; a function of"):
        doubled.on_timer(lambda timer: None)


def test_a_state_that_the_step_does_not_keep_is_refused_with_what_is_near() -> None:
    @orders_of(App("a")).process
    def step(n: int, items: State[int], context: Context) -> None: ...

    with pytest.raises(TopologyError, match=r"step .* keeps no 'item'.*'items'"):

        @step.on_timer
        def fired(timer: Timer, item: State[int]) -> None: ...

    with pytest.raises(TopologyError, match=r"'items' is not what step .* keeps under that name"):

        @step.on_timer
        def otherwise(timer: Timer, items: State[str]) -> None: ...


def test_its_first_parameter_is_the_timer() -> None:
    @orders_of(App("a")).process
    def step(n: int, context: Context) -> None: ...

    with pytest.raises(TopologyError, match="'n' is annotated int, but is given the timers"):

        @step.on_timer
        def fired(n: int) -> None: ...

    with pytest.raises(TopologyError, match="given a Timer, of no record"):

        @step.on_timer
        def recorded(n: Record[Timer]) -> None: ...


def test_there_is_one_function_for_the_timers_of_a_step() -> None:
    @orders_of(App("a")).process
    def step(n: int, context: Context) -> None: ...

    @step.on_timer
    def fired(timer: Timer) -> None: ...

    with pytest.raises(TopologyError, match=r"fired \(.*\) is called for the timers of 'step'"):

        @step.on_timer
        def too(timer: Timer) -> None: ...


def test_results_of_two_windows_that_close_at_once_are_given_in_order_of_time() -> None:
    app = App("a")
    windows = app.stream("orders", int).window(tumbling("10ms"))

    @windows.count(name="counts").merge(windows.sum(name="sums"), name="both").process(to="out")
    def told(result: int, context: Context) -> str:
        context.timer(after="5ms")
        return "result"

    @told.on_timer(to="out")
    def later(timer: Timer) -> str:
        return "timer"

    with app.test(1) as t:
        for at in (1, 11, 100):  # two are closed by the third
            t.send("orders", 1, key="k", timestamp=at)
        t.run()
        found = [(record.timestamp, record.value) for record in t.topic("out")]
    assert found == [
        (9, "result"), (9, "result"), (14, "timer"), (19, "result"), (19, "result"), (24, "timer"),
    ]  # fmt: skip


def failing(ask: Any, error: type[Exception], text: str, timed: bool = True, at: int = 5) -> None:
    app = App("a")

    @app.stream("orders", int).process
    def step(n: int, context: Context) -> None:
        ask(context)

    if timed:

        @step.on_timer
        def fired(timer: Timer) -> None: ...

    with app.test(1) as t:
        t.send("orders", 1, key=None if error is DataError else "k", timestamp=at)
        with pytest.raises(error, match=text):
            t.run()


def test_a_timer_that_cannot_be_is_an_error_of_the_function() -> None:
    later = lambda context: context.timer(after="1s")  # noqa: E731
    failing(later, FunctionError, "asks for a timer, but .* @step.on_timer", timed=False)
    failing(later, DataError, "orders-0@0: a timer of step needs a key")
    failing(lambda c: c.timer(), FunctionError, "say either at= or after=")
    failing(lambda c: c.timer(at=1, after="1s"), FunctionError, "say either at= or after=")
    failing(lambda c: c.timer(at=-1), FunctionError, "-1 is not between 1970")
    failing(later, FunctionError, "its record has no timestamp; say at=", at=-1)
    failing(lambda c: c.timer(at="noon"), FunctionError, "'noon' is no time")
    failing(lambda c: c.timer("", after="1s"), FunctionError, "a name is text")
    failing(lambda c: c.cancel_timer("a\0b"), FunctionError, "a name is text")


def test_when_its_function_raises_that_is_told_and_nothing_before_is_lost() -> None:
    app = App("a")

    @app.stream("orders", int).process
    def step(n: int, context: Context) -> int:
        context.timer(after="10ms")
        return n

    step.to("out")
    broken = True

    @step.on_timer(to="fired")
    def fired(timer: Timer) -> str:
        if broken:
            raise ValueError("no")
        return "fired"

    with app.test(1) as t:
        t.send("orders", 1, key="k", timestamp=5)
        t.send("orders", 2, key="l", timestamp=6)
        t.send("orders", 3, key="k", timestamp=50)
        told = r"fired \(.*\) raised ValueError: no; it was given the timer of 15 ms, key 'k'"
        with pytest.raises(FunctionError, match=told):
            t.run()
        assert t.values("out") == [1, 2]
        broken = False
        t.run()
        assert t.values("out") == [1, 2, 3]
        assert [(r.key, r.timestamp) for r in t.topic("fired")] == [("k", 15), ("l", 16)]


def test_a_timer_is_a_value_to_call_the_function_with() -> None:
    @orders_of(App("a")).process
    def step(n: int, items: State[int], context: Context) -> None: ...

    @step.on_timer
    def fired(timer: Timer, items: State[int]) -> str:
        return f"{timer.key} {timer.time:%Y} {items.get(0)}"

    items = State[int]()
    items.set(3)
    assert fired(Timer("ann", 0), items) == "ann 1970 3"
    assert Timer("ann", 1_000).time == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)


# Beside what else a step may do.


def test_a_call_that_fails_leaves_no_timers() -> None:
    app = App("a")

    @app.stream("orders", int).process(on_error="skip")
    def step(n: int, seen: State[int], context: Context) -> Iterator[int]:
        context.timer(str(n), after="10ms")
        context.cancel_timer("1")
        yield n
        if n == 2:
            raise ValueError("no")

    step.to("out")

    @step.on_timer(to="fired")
    def fired(timer: Timer) -> str:
        return str(timer.name)

    with app.test(1) as t:
        t.send("orders", 1, key="k", timestamp=0)
        t.send("orders", 3, key="l", timestamp=0)
        t.send("orders", 2, key="l", timestamp=1)
        t.send("orders", 2, key="k", timestamp=2)
        t.run()
        t.finish(END)
        assert t.values("out") == [1, 3]
        assert t.values("fired") == ["3"]


def test_an_event_that_is_processed_after_all_sets_its_timers() -> None:
    app = App("a")
    broken = True

    @app.stream("orders", int).process(on_error="dlq")
    def step(n: int, context: Context) -> None:
        context.timer(after="10ms")
        if broken:
            raise ValueError("no")

    @step.on_timer(to="fired")
    def fired(timer: Timer) -> int:
        return timer.timestamp

    with app.test(1) as t:
        t.send("orders", 1, key="k", timestamp=5)
        t.run()
        broken = False
        assert t.retry(step) == 1
        t.run()
        t.finish(END)
        assert [(r.key, r.value, r.timestamp) for r in t.topic("fired")] == [("k", 15, 15)]


@pytest.mark.parametrize("waits", [False, True])
def test_behind_events_that_wait_they_fire_as_if_none_had(waits: bool) -> None:
    app = App("a")
    orders = app.stream("orders", int)

    async def slow(n: int) -> int:
        await asyncio.sleep(n % 3)
        return n

    def quick(n: int) -> int:
        return n

    asked = orders.process(concurrency=8)(slow) if waits else orders.process(quick)

    @asked.process
    def step(n: int, context: Context) -> None:
        context.timer(str(n), after="3ms")

    @step.on_timer
    def fired(timer: Timer) -> int:
        return int(timer.name or 0)

    @fired.window(TEN).aggregate(to="lists")
    def lists(sofar: list[int] | None, n: int) -> list[int]:
        return [*(sofar or []), n]

    with app.test(1) as t:
        for n in range(40):
            t.send("orders", n, key="k", timestamp=n)
            if n % 7 == 0:
                t.step()
        t.run()
        t.finish(END)
        assert t.values("lists") == [
            [*range(7)],
            [*range(7, 17)],
            [*range(17, 27)],
            [*range(27, 37)],
            [37, 38, 39],
        ]
        assert not t.topic("a-lists-late")


def test_the_last_event_of_one_input_has_its_turn_when_nothing_more_comes() -> None:
    app = App("a")

    async def slow(n: int) -> int:
        return n

    @app.stream("orders", int).process(concurrency=8)(slow).process(to="out")
    def step(n: int, context: Context) -> int:
        context.timer(after="3ms")
        return n

    @step.on_timer
    def fired(timer: Timer) -> None: ...

    with app.test(1) as t:
        for n in range(3):
            t.send("orders", n, key="k", timestamp=n)
        t.run()
        assert t.values("out") == [0, 1]
        t.advance("6s")
        t.run()
        assert t.values("out") == [0, 1, 2]


def test_a_step_that_events_wait_at_sets_no_timers() -> None:
    @orders_of(App("a")).process
    async def step(n: int, context: Context) -> None: ...

    with pytest.raises(TopologyError, match=r"events wait at step \(.*such a step sets no timers"):

        @step.on_timer
        def fired(timer: Timer) -> None: ...


def reminding(on_error: Any, fails: set[int]) -> App:
    """A timer for each event, 10 ms after it; what it does for some fails when all is done."""
    app = App("a")

    @app.stream("in", int).process()
    def step(number: int, context: Context, seen: State[int]) -> None:
        context.timer(str(number), after="10ms")

    @step.on_timer(to="out", on_error=on_error)
    def remind(timer: Timer, seen: State[int], context: Context) -> Iterator[str]:
        seen.set(seen.get(0) + 1)
        context.send("sent", timer.name)
        yield f"{timer.name} {seen.get(0)}"
        if int(timer.name or 0) in fails:
            context.timer("100", after="1ms")
            raise ValueError(f"no {timer.name}")

    return app


def test_nothing_is_left_of_a_timer_that_is_skipped() -> None:
    with reminding("skip", {1, 2}).test(partitions=1) as t:
        t.create_topic("sent")
        for number in (0, 1, 2, 3, 14):
            t.send("in", number, key="k", timestamp=number)
        t.run()
        assert t.values("out") == ["0 1", "3 2"]
        assert [bytes(value) for value in t.values("sent")] == [b"0", b"3"]
        assert [task.stats.skipped["remind"] for task in t.tasks] == [2]


@pytest.mark.parametrize("mode", ["record", "key"])
def test_timers_that_fail_are_set_aside_and_come_again(mode: Any) -> None:
    fails = {1}
    with reminding(dlq(mode=mode), fails).test(partitions=1) as t:
        t.create_topic("sent")
        for number in (0, 1, 2, 13):
            t.send("in", number, key="k", timestamp=number)
        t.run()
        t.crash()
        behind = mode == "key"
        assert t.values("out") == (["0 1"] if behind else ["0 1", "2 2"])
        letters = t.topic("a-dlq")
        assert [(r.key, r.timestamp) for r in letters] == [(b"k", 11), (b"k", 12)][: 1 + behind]
        said = dict(letters[0].headers)
        assert said["__streamkit.errors.step"] == b"remind"
        assert "__streamkit.errors.offset" not in said
        fails.clear()
        assert t.retry("remind") == 1 + behind
        t.run()
        assert t.values("out") == (["0 1", "1 2", "2 3"] if behind else ["0 1", "2 2", "1 3"])


def test_timers_are_not_tried_again_later() -> None:
    with pytest.raises(TopologyError, match=r"remind .*let the timer give an event"):
        reminding(retry(3), set())
