"""What is drawn, and what is folded in order, depends on events, and not on when they were read, or
between whom."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest
from msgspec import Struct

from streamkit import (
    App,
    Context,
    State,
    Timer,
    count,
    dlq,
    every,
    first,
    hopping,
    last,
    retry,
    session,
    sliding,
    tumbling,
)
from streamkit.dsl.nodes.in_order import InOrder
from streamkit.dsl.nodes.outputs import Repartition
from streamkit.errors import TopologyError
from streamkit.testing import TestRun

PARTITIONS = 3
BRIEF: State[int] = State(ttl="2ms")


class Item(Struct):
    n: int
    k: str


def drawn(item: Item, seen: State[int], context: Context) -> str:
    return f"{item.n} {item.k} {context.uuid()} {context.random()}"


def plain(a: Any, b: Any) -> None:
    a.by("k", name="last").process(name="end", to="out")(drawn)


def several_of_one(a: Any, b: Any) -> None:
    plain(a.flat_map(twice), b)


def twice(item: Item) -> list[Item]:
    return [item, item]


def after_another(a: Any, b: Any) -> None:
    def next_of(item: Item) -> str:
        return str(item.n % 3)

    counted = a.by("k", name="first").window(tumbling("20ms")).aggregate(name="all")(total)
    plain(counted.by(next_of, name="second"), b)


def total(sofar: Item | None, item: Item) -> Item:
    return item if sofar is None else Item(sofar.n + item.n, item.k)


def of_a_session(a: Any, b: Any) -> None:
    windowed = a.by("k", name="k").window(session("4ms", grace="9ms"))
    windowed.count(name="counted").process(name="end", to="out")(lone)


def lone(count: int, seen: State[int], context: Context) -> str:
    return f"{count} {context.uuid()}"


def met(a: Any, b: Any) -> None:
    within = a.by("k", name="k").join(b.by("k", name="l"), within="5ms", how="outer", name="met")

    @within
    def both(one: Item | None, other: Item | None, context: Context) -> str:
        return f"{one} {other} {context.uuid()}"

    both.to("out")


def met_and_handed_over(a: Any, b: Any) -> None:
    near = a.by("k", name="k").join(b.by("k", name="l"), within="5ms", how="left", name="met")

    @near
    def both(one: Item, other: Item | None) -> Item:
        return Item(one.n * 100 + (other.n if other else 0), str(one.n % 2))

    plain(both, b)


def nearest(a: Any, b: Any) -> None:
    found = a.by("k", name="k").join_as_of(
        b.by("k", name="l"), tolerance="9ms", direction="nearest", how="left", name="near"
    )

    @found
    def both(one: Item, other: Item | None, context: Context) -> str:
        return f"{one} {other} {context.uuid()}"

    both.to("out")


def waited_for(a: Any, b: Any) -> None:
    @a.by("k", name="k").process(name="waits", order="key", concurrency=4)
    async def waits(item: Item, context: Context) -> Item:
        return Item(item.n, f"{item.k} {context.uuid()}")

    waits.process(name="end", to="out")(drawn)


def tried_again(a: Any, b: Any) -> None:
    met = set()  # in the first run: later ones meet no failure

    @a.by("k", name="k").process(name="again", on_error=retry(1, backoff="1ms", pause="key"))
    def again(item: Item, context: Context) -> Item:
        made = Item(item.n, f"{item.k} {context.uuid()}")
        if item.n % 3 == 0 and item.n not in met:
            met.add(item.n)
            raise ConnectionError
        return made

    again.process(name="end", to="out")(drawn)


def set_aside(a: Any, b: Any) -> None:
    @a.by("k", name="k").process(name="fails", on_error=dlq("dead"))
    def fails(item: Item, seen: State[int], context: Context) -> Iterator[Item]:
        yield Item(item.n, f"{item.k} {context.uuid()}")
        if item.n % 3 == 0:
            raise ValueError
        yield item

    fails.process(name="end", to="out")(drawn)


def timed(a: Any, b: Any) -> None:
    @a.by("k", name="k").process(name="waits")
    def waits(item: Item, context: Context) -> Item:
        context.timer(item.k, after="5ms")
        return item

    waits.process(name="end", to="out")(drawn)

    @waits.on_timer(name="fired")
    def fired(timer: Timer) -> Item:
        return Item(0, str(timer.name))

    fired.process(name="behind", to="fired-out")(drawn)


def windowed(a: Any, window: Any) -> Any:
    return a.by("k", name="k").window(window)


def collected(a: Any, b: Any) -> None:
    windowed(a, hopping("4ms", "2ms")).collect(50, "n", to="out")


def reduced_by_another_key(a: Any, b: Any) -> None:
    seen = a.by("n", name="n").process(name="seen")(with_state)
    again = seen.by("k", name="k").window(tumbling("4ms", grace="9ms"))
    again.reduce(to="out", name="both")(in_order)


def with_state(item: Item, seen: State[int]) -> Item:
    seen.set(seen.get(0) + 1)
    return item


def in_order(one: Item, other: Item) -> Item:
    return Item(one.n * 31 % 999_983 + other.n, other.k)


def folded_in_sessions(a: Any, b: Any) -> None:
    @windowed(a, session("2ms", grace="9ms")).aggregate(to="out")
    def told(sofar: str | None, item: Item) -> str:
        return f"{sofar} {item.n}"


def what_has_met_is_folded(a: Any, b: Any) -> None:
    near = a.by("k", name="k").join(b.by("k", name="l"), within="5ms", how="left", name="met")

    @near
    def both(one: Item, other: Item | None) -> Item:
        return Item(one.n * 100 + (other.n if other else 0), one.k)

    @both.window(sliding("4ms")).aggregate(to="out")
    def told(sofar: str | None, item: Item) -> str:
        return f"{sofar} {item.n}"


def first_and_last(a: Any, b: Any) -> None:
    parts = {"one": first("n"), "other": last("n"), "all": count()}
    windowed(a, tumbling("4ms")).aggregates(**parts, to="out", name="some")


def the_last_before(a: Any, b: Any) -> None:
    near = a.by("k", name="k").join_as_of(b.by("k", name="l"), tolerance="9ms", name="near")

    @near
    def both(one: Item, other: Item) -> Item:
        return Item(one.n * 100 + other.n, one.k)

    both.window(tumbling("4ms")).collect(50, "n", to="out")


def the_first_after_what_was_waited_for(a: Any, b: Any) -> None:
    rights = waiting(b.by("k", name="l"), order="key", concurrency=4)
    near = a.by("k", name="k").join_as_of(
        rights, tolerance="9ms", direction="forward", how="left", name="near"
    )

    @near
    def both(one: Item, other: Item | None) -> str:
        return f"{one} {other}"

    both.to("out")


def what_was_waited_for_is_folded(a: Any, b: Any) -> None:
    kept = waiting(a.by("k", name="k"), order="key", concurrency=4)
    kept.window(tumbling("4ms")).collect(50, "n", to="out")


def keys_overtake_each_other(a: Any, b: Any) -> None:
    kept = waiting(a.by("n", name="n"), order="key", concurrency=4)
    kept.by("k", name="k").window(tumbling("4ms")).collect(50, "n", to="out")


def parts_of_one_meet_again(a: Any, b: Any) -> None:
    parts = a.flat_map(two_of).by("n", name="n").process(name="seen")(with_state)
    parts.by("k", name="k").window(tumbling("4ms")).collect(50, "n", to="out")


def two_of(item: Item) -> list[Item]:
    return [Item(2 * item.n, item.k), Item(2 * item.n + 1, item.k)]


def windows_of_one_time_meet_again(a: Any, b: Any) -> None:
    def next_of(item: Item) -> str:
        return str(item.n % 5)

    windows = a.by("n", name="n").window(tumbling("4ms")).aggregate(name="all")(total)
    parts = windows.by(next_of, name="next").process(name="seen")(with_state)
    parts.by("k", name="k").window(tumbling("4ms")).collect(50, "n", to="out")


def keys_of_windows_overtake_each_other(a: Any, b: Any) -> None:
    totals = a.by("n", name="n").window(tumbling("4ms")).aggregate(name="all")(total)
    kept = totals.process(name="again", on_error=tried_once("key"))(failing_once())
    kept.filter(any_one).by("k", name="k").window(tumbling("4ms")).collect(50, "n", to="out")


def batches_are_folded(a: Any, b: Any) -> None:
    kept = a.by("k", name="k").process(name="waits", batch=3, within="5ms")(as_they_are)
    kept.window(tumbling("4ms")).collect(50, "n", to="out")


def what_was_tried_again_is_folded(a: Any, b: Any) -> None:
    kept = a.by("k", name="k").process(name="again", on_error=tried_once("partition"))
    kept(failing_once()).window(tumbling("4ms")).collect(50, "n", to="out")


def tried_once(pause: Any) -> Any:
    return retry(1, backoff="1ms", pause=pause)


def failing_once() -> Callable[[Item, State[int]], Item]:
    met = set()  # in the first run: later ones meet no failure

    def again(item: Item, seen: State[int]) -> Item:
        if item.n % 3 == 0 and item.n not in met:
            met.add(item.n)
            raise ConnectionError
        return item

    return again


def merged_and_folded(a: Any, b: Any) -> None:
    both = a.by("k", name="k").merge(b.by("k", name="l"), name="both")
    both.window(tumbling("4ms")).collect(50, "n", to="out")


def merged_and_handed_over(a: Any, b: Any) -> None:
    both = waiting(a.merge(b, name="both"), order="key", concurrency=4)
    both.by("k", name="k").window(tumbling("4ms")).collect(50, "n", to="out")


def merged_again(a: Any, b: Any) -> None:
    keyed = a.by("k", name="k")
    both = keyed.merge(keyed.flat_map(two_of, name="parts"), name="both").merge(b.by("k", name="l"))
    met = both.join_as_of(b.by("k", name="m"), tolerance="9ms", how="left", name="near")

    @met
    def near(one: Item, other: Item | None) -> str:
        return f"{one} {other}"

    near.to("out")


def merged_windows_overtake_each_other(a: Any, b: Any) -> None:
    lefts, rights = (
        each.by("n", name=f"n-{name}").window(tumbling("4ms")).aggregate(name=f"all-{name}")(total)
        for name, each in (("a", a), ("b", b))
    )
    both = lefts.merge(rights, name="both")
    kept = both.process(name="again", on_error=tried_once("key"))(failing_once())
    kept.filter(any_one).by("k", name="k").window(tumbling("4ms")).collect(50, "n", to="out")


def merged_and_drawn(a: Any, b: Any) -> None:
    both = a.by("k", name="k").merge(b.by("k", name="l"), name="both")
    plain(both.merge(a.by("k", name="k2"), name="more"), b)


def merged_parts_of_one(a: Any, b: Any) -> None:
    parts = a.by("k", name="parted").flat_map(five_of, name="parts")
    odd, rest = parts.branch(is_odd)
    plain(odd.merge(rest, name="whole").merge(parts, name="twice"), b)


def merged_after_waiting(a: Any, b: Any) -> None:
    some = a.filter(any_one, name="some", on_error="skip")
    both = waiting(a, concurrency=3).merge(some, name="both").merge(a, name="all")
    both.process(name="end", to="out")(an_id_of)


def merged_with_what_is_tried_again(a: Any, b: Any) -> None:
    keyed = a.by("k", name="k")
    again = keyed.process(name="again", on_error=tried_once("key"))(failing_once())
    # As often as what waits names what it gives, so that names alone would be the same ones.
    both = keyed.merge(b.by("k", name="l"), name="both").merge(b.by("k", name="m"), name="more")
    both.merge(again, name="all").process(name="end", to="out")(an_id_of)


def an_id_of(item: Item, context: Context) -> str:
    return f"{item.n} {context.uuid()}"


def is_odd(item: Item) -> bool:
    return item.n % 2 == 1


def five_of(item: Item) -> list[Item]:
    return [Item(5 * item.n + more, item.k) for more in range(5)]


def waiting(stream: Any, **options: Any) -> Any:
    @stream.process(name="waits", **options)
    async def waits(item: Item) -> Item:
        return item

    return waits


def any_one(item: Item) -> bool:
    return True


def as_they_are(items: list[Item]) -> list[Item]:
    return items


ORDERED = (
    collected, reduced_by_another_key, folded_in_sessions, what_has_met_is_folded, first_and_last,
    the_last_before, the_first_after_what_was_waited_for, what_was_waited_for_is_folded,
    keys_overtake_each_other, keys_of_windows_overtake_each_other, batches_are_folded,
    what_was_tried_again_is_folded, parts_of_one_meet_again, windows_of_one_time_meet_again,
    merged_and_folded, merged_and_handed_over, merged_again, merged_windows_overtake_each_other,
)  # fmt: skip
SHAPES = (
    plain, several_of_one, after_another, of_a_session, met, met_and_handed_over, nearest,
    waited_for, tried_again, set_aside, timed, merged_and_drawn, merged_parts_of_one,
)  # fmt: skip


def app_of(shape: Callable[[Any, Any], None]) -> App:
    app = App("r")
    shape(*[app.stream(name, Item, out_of_order="3ms") for name in "ab"])
    return app


def results(app: App, seed: int | None, together: int = 2) -> Counter[tuple[Any, ...]]:
    """Of what is sent at once, or, by a seed, mixed and with crashes; so many of one time."""
    with ran(app, seed, together) as t:
        topics = [topic for topic in ("out", "fired-out", "dead") if topic in t._backend.topics()]
        return Counter(
            (
                topic,
                r.key,
                repr(r.value),
                r.timestamp,
                dict(r.headers).get("__streamkit.errors.root"),
            )
            for topic in topics
            for r in t.topic(topic)
        )


@contextmanager
def ran(app: App, seed: int | None, together: int) -> Iterator[TestRun]:
    dice = Random(seed)
    options: Any = {} if seed is None else {"members": 1 + seed % 3, "batch": 1 + seed}
    with TestRun(app.topology(), PARTITIONS, **options) as t:
        if seed is not None:
            t.shuffle(seed)
        for n in range(80):
            # Of two of one time both are alike, but for where they are; some are late.
            number = n // 2 if together == 2 else n
            item, late = Item(number, "xyz"[n // 2 % 3]), 20 * (n % 26 < 2)
            time = max(0, n // together - late)
            at = {"partition": n * 7 // 4 % PARTITIONS, "timestamp": time}
            if (topic := "ab"[n // 6 % 2]) in t._backend.topics():
                t.send(topic, item, **at)
            if seed is not None and dice.random() < 0.3:
                getattr(t, dice.choice(["step", "step", "run", "commit", "crash"]))()
        t.run()
        t.advance("1s")
        t.finish(10_000)
        t.advance("1s")  # what came of that, and failed
        t.finish(10_001)
        yield t


@pytest.mark.parametrize("shape", SHAPES)
def test_ids_are_the_same_however_events_were_mixed(shape: Callable[[Any, Any], None]) -> None:
    app = app_of(shape)
    handed = [n for sub in app.topology().subtopologies for n in sub.nodes]
    assert all(node.drawn for node in handed if isinstance(node, Repartition))
    at_once = results(app, None)
    assert at_once
    assert max(at_once.values()) == 1  # no two are alike
    for seed in (0, 4):
        again = results(app, seed)
        assert again == at_once, (again - at_once, at_once - again)


@pytest.mark.parametrize(
    "shape", [merged_parts_of_one, merged_after_waiting, merged_with_what_is_tried_again]
)
def test_no_two_events_of_merged_streams_draw_the_same_id(
    shape: Callable[[Any, Any], None],
) -> None:
    events = Counter[str]()
    for (topic, _, value, _, _), times in results(app_of(shape), None).items():
        if topic == "out":
            events[value.strip("'").split(" ")[-2 if shape is merged_parts_of_one else -1]] += times
    assert len(events) > 80
    assert max(events.values()) == 1


@pytest.mark.parametrize("shape", ORDERED)
def test_what_is_folded_is_the_same_however_events_were_mixed(
    shape: Callable[[Any, Any], None],
) -> None:
    app = app_of(shape)
    at_once = results(app, None, together=14)
    assert at_once
    for seed in (0, 4):
        again = results(app, seed, together=14)
        assert again == at_once, (again - at_once, at_once - again)


def all_behind_one(a: Any, b: Any) -> None:
    keyed = a.by("k", name="k", in_order=True)
    keyed.reduce(name="folded", to="folded")(in_order)
    keyed.window(hopping("4ms", "2ms", grace="3ms")).aggregate(
        name="grows", emit="update", to="grows"
    )(told)
    keyed.window(session("2ms")).count(name="met", emit="update", to="met")
    keyed.window(tumbling("4ms")).collect(50, "n", emit=every("3ms"), name="often", to="often")
    windows = keyed.window(tumbling("4ms")).reduce(name="one", any_order=True)(in_order)
    windows.reduce(name="of-windows", to="of-windows")(in_order)
    keyed.filter(any_one).to_table(name="latest")
    b.by("k", name="l", in_order=True).sum("n", name="added", to="added")

    @keyed.filter(any_one).process(name="gathers", to="gathers")
    def gathers(item: Item, context: Context, sofar: State[int], seen: State[int] = BRIEF) -> Item:
        sofar.set((sofar.get(0) * 31 + item.n) % 999_983)
        seen.set(seen.get(0) + 1)
        context.timer(after="3ms")
        return Item(sofar.get(0) * 100 + seen.get(0), str(sofar.get(0) % 4))

    @gathers.on_timer(name="quiet", to="quiet")
    def quiet(timer: Timer, sofar: State[int]) -> Item:
        found = sofar.get(0)
        sofar.delete()
        return Item(found, timer.key)

    gathers.by("k", name="anew", in_order=True).reduce(name="again", to="again")(in_order)


def told(sofar: str | None, item: Item) -> str:
    return f"{sofar} {item.n}"


def test_all_that_was_asked_to_be_in_order_is_the_same_to_the_byte() -> None:
    app = app_of(all_behind_one)
    topics = app.topology().sinks
    nodes = [node for sub in app.topology().subtopologies for node in sub.nodes]
    held = [node.name for node in nodes if isinstance(node, InOrder)]
    assert held == ["k-held", "l-held", "anew-held"]  # each once, whatever follows

    def found(seed: int | None) -> dict[tuple[str, int], list[Any]]:
        with ran(app, seed, together=3) as t:
            there: dict[tuple[str, int], list[Any]] = defaultdict(list)
            for topic in topics:
                for r in t.topic(topic):
                    at = topic, r.partition
                    there[at].append((r.key, repr(r.value), r.timestamp, r.headers))
            rows = {r.key: r.value for r in t.topic("r-latest-changelog")}
            there["latest", -1] = sorted(rows.items())
            return there

    at_once = found(None)
    written = {topic for topic, _ in at_once}
    assert {"folded", "gathers", "grows", "met", "often", "of-windows", "quiet", "again"} <= written
    for seed in (0, 4, 5):
        again = found(seed)
        assert again.keys() == at_once.keys()
        for at, records in at_once.items():
            assert again[at] == records, at


@pytest.mark.parametrize("how", ["one by one", "finished", "silence", "crashes"])
def test_events_in_order_find_the_rows_that_were_there_before_them(how: str) -> None:
    app = App("r")
    rows, items = (
        app.stream(name, Item, out_of_order="1h").by("k", name=name, in_order=True) for name in "ab"
    )
    items.join(rows.to_table(name="rows"), how="left", name="met", to="out")(with_row)
    with app.test(partitions=1) as t:
        play(t, [("ab"[n % 2], n, n * 10) for n in range(6)], how)
        if how == "silence":
            t.advance("6s")
        else:
            t.finish()
        assert t.values("out") == ["1 0", "3 2", "5 4"]


def as_timers_fire(rows: Any) -> Any:
    @rows.process(name="set")
    def set_(item: Item, context: Context) -> None:
        context.timer(str(item.n), after="5ms")

    @set_.on_timer(name="fired")
    def fired(timer: Timer) -> Item:
        return Item(int(timer.name or ""), timer.key)

    return fired


def as_windows_close(rows: Any) -> Any:
    return rows.window(tumbling("5ms")).aggregate(name="all")(total)


@pytest.mark.parametrize("made", [as_timers_fire, as_windows_close])
@pytest.mark.parametrize("how", ["one by one", "finished", "crashes"])
def test_events_in_order_find_the_rows_that_time_had_made_before_them(
    made: Callable[[Any], Any], how: str
) -> None:
    app = App("r")
    rows, items = (app.stream(name, Item).by("k", name=name, in_order=True) for name in "ab")
    items.join(made(rows).to_table(name="rows"), how="left", name="met", to="out")(with_row)
    with app.test(partitions=1) as t:
        play(t, [("a", 0, 0), ("b", 1, 4), ("b", 2, 6), ("a", 3, 50), ("b", 4, 60)], how)
        t.finish(100)
        assert t.values("out") == ["1 None", "2 0", "4 3"]


def play(t: TestRun, sent: list[tuple[str, int, int]], how: str) -> None:
    for topic, n, at in sent:
        t.send(topic, Item(n, "x"), timestamp=at)
        if how == "one by one":
            t.run()
    if how == "crashes":
        for _ in range(5):
            t.step()
            t.commit()
            t.crash()
    t.run()


def with_row(item: Item, row: Item | None) -> str:
    return f"{item.n} {row and row.n}"


@pytest.mark.parametrize("asked", [False, True])
def test_after_silence_what_had_its_turn_is_complete_only_if_it_was_given_as_complete(
    asked: bool,
) -> None:
    app = App("r")
    items = app.stream("a", Item, out_of_order="100ms").by("k", name="k", in_order=asked)
    items.window(tumbling("10ms")).collect(9, "n", emit=every("5ms"), name="often", to="often")
    items.window(tumbling("10ms")).collect(9, "n", name="final", to="final")
    items.process(name="seen", to="seen")(with_state)
    with app.test(partitions=1) as t:
        for time in (3, 1, 12, 50):
            t.send("a", Item(time, "x"), timestamp=time)
        t.run()
        assert len(t.topic("seen")) == (0 if asked else 4)
        assert not t.topic("often")
        t.advance("20s")
        assert t.values("often") == [[1, 3], [12]]
        assert not t.topic("final")  # that event time tells
        if asked:
            assert [item.n for item in t.values("seen")] == [1, 3, 12, 50]
        t.send("a", Item(4, "x"), timestamp=4)
        t.run()
        t.finish()
        assert [item.n for item in t.values("r-often-late")] == [4]
        assert t.values("often") == [[1, 3], [12], [50]]
        assert t.values("final") == [[1, 3, 4], [12], [50]]


def test_who_draws_nothing_hands_over_nothing_for_it() -> None:
    app = App("r")
    items = app.stream("a", Item)
    items.by("k", name="k").window(tumbling("1s")).count(to="out")
    items.process(to="ids")(an_id)  # it draws, but not behind what is handed over
    handed = [n for sub in app.topology().subtopologies for n in sub.nodes]
    assert [node.drawn for node in handed if isinstance(node, Repartition)] == [False]


@pytest.mark.parametrize("kept", [False, True])
def test_who_goes_by_no_order_is_handed_no_places(kept: bool) -> None:
    app = App("r")
    lefts, rights = (app.stream(name, Item).by("k", name=name) for name in "ab")
    met = lefts.join_as_of(rights, tolerance="9ms", name="met")(in_order)
    if kept:
        met.process(with_state, name="seen")
    handed = [n for sub in app.topology().subtopologies for n in sub.nodes]
    placed = {node.topic: node.placed for node in handed if isinstance(node, Repartition)}
    assert placed == {"r-a-repartition": kept, "r-b-repartition": True}


def an_id(item: Item, context: Context) -> str:
    return str(context.uuid())


@pytest.mark.parametrize("keyed_anew", [False, True])
def test_what_comes_of_timers_that_one_record_sets_more_than_once_is_told_apart(
    keyed_anew: bool,
) -> None:
    app = App("r")
    items = app.stream("a", Item)
    if keyed_anew:
        items = items.by("k", name="k")

    drawn = set()

    @items.flat_map(twice).process
    def sets(item: Item, context: Context) -> None:
        for name in "ab":
            context.timer(name, at=3 + 2 * item.n)

    @sets.on_timer
    def fires(timer: Timer, context: Context) -> Item:
        drawn.add(context.uuid())
        return Item(0, timer.name or "")

    fires.process(name="here", to="here")(an_id)
    fires.by("k", name="last").process(name="there", to="there")(an_id)
    with app.test(partitions=1) as t:
        for n, time in ((1, 5), (0, 2)):
            t.send("a", Item(n, "x"), key="x", timestamp=time)
        t.run()
        t.finish()
        for topic in ("here", "there"):
            assert len(set(t.values(topic))) == len(t.values(topic)) == 8
    assert len(drawn) == 8


@pytest.mark.parametrize("timed", [False, True])
def test_what_is_kept_until_its_turn_is_of_a_known_type(timed: bool) -> None:
    app = App("r")
    numbers = app.stream("a", Item).by("k", name="k").map(lambda item: item.n)
    if timed:

        @numbers.process
        def sets(number: int, context: Context) -> None:
            context.timer(after="1s")

        @sets.on_timer
        def fires(timer: Timer) -> None: ...

    else:
        numbers.window(tumbling("1s")).aggregate(any_order=True)(added)
        app.topology()
        numbers.window(tumbling("1s")).aggregate(name="mixed")(added)
    with pytest.raises(TopologyError, match=rf"^{'sets' if timed else 'mixed'}: .* is unknown"):
        app.topology()


def added(sofar: int | None, number: int) -> int:
    return (sofar or 0) + number
