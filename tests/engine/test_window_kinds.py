"""Every kind of window, whatever is emitted when, against a model that has all events at once."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from window_model import Windows, arrivals, windows

from streamkit.app import App
from streamkit.dsl.aggregates import collect, first, last
from streamkit.dsl.stream import Stream
from streamkit.dsl.windowed import WindowedStream
from streamkit.dsl.windows import Window, WindowKind, every, hopping, session, sliding, tumbling
from streamkit.engine.rows import Position
from streamkit.engine.task import Task
from streamkit.errors import DataError, TopologyError
from streamkit.records import Columns, Record, TopicPartition
from streamkit.testing import TestRun

OUT_OF_ORDER = 3

KINDS: dict[str, WindowKind] = {
    "tumbling": tumbling("10ms", grace="5ms"),
    "hopping": hopping("10ms", "4ms", grace="2ms"),
    "sliding": sliding("6ms", grace="4ms"),
    "session": session("5ms", grace="3ms"),
    "session_without_grace": session("4ms"),
}


class Event(msgspec.Struct):
    id: int
    user: str
    time: int


Declare = Callable[[WindowedStream[Event], Any], Stream[Any]]


def collected(stream: WindowedStream[Event], emit: Any) -> Stream[Any]:
    return stream.collect(1000, "id", to="out", emit=emit, name="w")


def merged(stream: WindowedStream[Event], emit: Any) -> Stream[Any]:
    def both(one: list[int], other: list[int]) -> list[int]:
        return one + other

    @stream.aggregate(to="out", emit=emit, merge=both, name="w")
    def ids(sofar: list[int] | None, event: Event, window: Window) -> list[int]:
        assert window.start <= event.time < window.end
        return [*(sofar or ()), event.id]

    return ids


def folded_again(stream: WindowedStream[Event], emit: Any) -> Stream[Any]:
    @stream.aggregate(to="out", emit=emit, name="w")
    def ids(sofar: list[int] | None, event: Event, window: Window) -> list[int]:
        assert window.start <= event.time < window.end
        return [*(sofar or ()), event.id]

    return ids


FOLDS: dict[str, Declare] = {
    "collected": collected,
    "merged": merged,
    "folded_again": folded_again,
}


def app_of(kind: str, fold: str, emit: Any = "final", by: bool = False) -> App:
    app = App("w")
    events = app.stream("events", Event, time="time", out_of_order=f"{OUT_OF_ORDER}ms")
    FOLDS[fold]((events.by("user") if by else events).window(KINDS[kind]), emit)
    return app


Play = tuple[Any, ...]
times = st.integers(0, 60)
users = st.sampled_from("abc")
moves = st.lists(
    st.one_of(
        st.tuples(st.just("send"), users, times, st.integers(0, 2)),
        st.tuples(st.just("send"), users, times, st.integers(0, 2)),
        st.sampled_from([("step",), ("commit",), ("crash",)]),
    ),
    max_size=50,
)


def play(t: TestRun, plays: list[Play], partitions: int, by: bool) -> list[list[Event]]:
    """Send and disturb; what was sent, per partition. Without `by`, a key is in one partition."""
    sent: list[list[Event]] = [[] for _ in range(partitions)]
    for number, (what, *more) in enumerate(plays):
        if what == "send":
            user, time, partition = more
            partition %= partitions
            name = user if by else f"{user}{partition}"
            event = Event(number, name, time)
            sent[partition].append(event)
            t.send("events", event, key=name, partition=partition)
        else:
            getattr(t, what)()
    return sent


def expected(kind: str, sent: list[list[Event]]) -> tuple[Windows, set[int]]:
    every_one = [
        arrival
        for events in sent
        for arrival in arrivals([(e.id, e.user, e.time) for e in events], OUT_OF_ORDER)
    ]
    return windows(KINDS[kind], every_one)


def identity(record: Record[Any]) -> tuple[str, int, int, int]:
    store, start, end, sequence = json.loads(dict(record.headers)["__streamkit.window"] or b"")
    assert store == "w"
    assert record.timestamp == end - 1
    return record.key, start, end, sequence


def latest(records: list[Record[Any]]) -> dict[tuple[str, int, int], list[int]]:
    """What upserts by key and start of window lead to; a null value deletes."""
    rows: dict[tuple[str, int], tuple[int, list[int]]] = {}
    for record in records:
        key, start, end, sequence = identity(record)
        if record.value is None:
            rows.pop((key, start), None)
        else:
            assert len(record.value) == sequence
            rows[key, start] = (end, record.value)
    return {(key, start, end): ids for (key, start), (end, ids) in rows.items()}


@pytest.mark.parametrize("fold", FOLDS)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(plays=moves, partitions=st.integers(1, 3), batch=st.integers(1, 7), by=st.booleans())
def test_final_results_are_those_of_the_model(
    kind: str, fold: str, plays: list[Play], partitions: int, batch: int, by: bool
) -> None:
    t = TestRun(app_of(kind, fold, by=by).topology(), partitions, batch=batch)
    sent = play(t, plays, partitions, by)
    t.run()
    t.finish(10_000)
    found, late = expected(kind, sent)
    got: dict[tuple[str, int, int], list[int]] = {}
    for record in t.topic("out"):
        key, start, end, sequence = identity(record)
        assert sequence == len(record.value)
        assert (key, start, end) not in got, "a final result is given once"
        got[key, start, end] = record.value
    assert {w: sorted(ids) for w, ids in got.items()} == {w: sorted(i) for w, i in found.items()}
    assert {record.value.id for record in t.topic("w-w-late")} == late
    if fold == "folded_again" and not by and kind not in ("tumbling", "hopping"):
        assert got == found, "events are folded in order of time, and of arrival"


@pytest.mark.parametrize("emit", ["update", every("7ms")], ids=["update", "every"])
@pytest.mark.parametrize("fold", FOLDS)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(plays=moves, partitions=st.integers(1, 3), batch=st.integers(1, 7))
def test_upserts_of_what_is_emitted_before_end_as_the_final_results(
    kind: str, fold: str, emit: Any, plays: list[Play], partitions: int, batch: int
) -> None:
    t = TestRun(app_of(kind, fold, emit).topology(), partitions, batch=batch)
    sent = play(t, plays, partitions, by=False)
    t.run()
    t.finish(10_000)
    found, late = expected(kind, sent)
    got = latest(t.topic("out"))
    assert {w: sorted(ids) for w, ids in got.items()} == {w: sorted(i) for w, i in found.items()}
    assert {record.value.id for record in t.topic("w-w-late")} == late


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None)
@given(plays=moves)
def test_every_so_often_gives_what_changed_between_and_nothing_else(
    kind: str, plays: list[Play]
) -> None:
    """Event by event: what the model says of those so far, when time passes a multiple of 7."""
    t = TestRun(app_of(kind, "collected", every("7ms")).topology(), 1)
    given_: dict[tuple[str, int], tuple[int, int]] = {}
    sent: list[Event] = []
    closes = KINDS[kind].grace
    before = -(10**9)
    for number, (what, *more) in enumerate(plays):
        if what != "send":
            continue
        user, time, _ = more
        sent.append(Event(number, user, time))
        t.send("events", sent[-1], key=user)
        seen = len(t.topic("out"))
        t.run()
        watermark = max(event.time for event in sent) - OUT_OF_ORDER
        found, _ = expected(kind, [sent])
        passed = before // 7 != watermark // 7 and before > -(10**9)
        due = {}
        for (key, start, end), ids in found.items():
            last = given_.get((key, start), (0, 0))
            if last[0] != len(ids) and (passed or end + closes <= watermark):
                due[key, start] = (len(ids), end)
        told = {}
        for record in t.topic("out")[seen:]:
            key, start, end, sequence = identity(record)
            if record.value is None:
                assert (key, start) in given_, "only what was given is taken back"
                del given_[key, start]
            else:
                told[key, start] = (sequence, end)
        assert told == due
        given_ |= told
        before = max(before, watermark)


@pytest.mark.parametrize("fold", FOLDS)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None)
@example(plays=[("send", "a", 59, 0), ("crash",), ("send", "a", 60, 0)], batch=1)
@given(plays=moves, batch=st.integers(1, 9))
def test_bytes_do_not_depend_on_how_the_input_was_cut_or_where_a_task_began_again(
    kind: str, fold: str, plays: list[Play], batch: int
) -> None:
    for emit in ("final", "update", every("7ms")):
        written = []
        for size, disturbed in ((batch, True), (500, False)):
            t = TestRun(app_of(kind, fold, emit).topology(), 1, batch=size)
            for number, (what, *more) in enumerate(plays):
                if what == "send":
                    t.send("events", Event(number, more[0], more[1]), key=more[0])
                elif disturbed and what == "crash":
                    t.run()
                    t.crash()
            t.run()
            written.append([(r.key, r.value, r.timestamp, r.headers) for r in t.topic("out")])
        assert written[0] == written[1]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=6, deadline=None)
@given(plays=moves, emit=st.sampled_from(["final", "update"]))
def test_the_first_and_the_last_event_are_so_by_time_and_not_by_when_they_came(
    kind: str, plays: list[Play], emit: Any
) -> None:
    app = App("w")
    events = app.stream("events", Event, time="time", out_of_order=f"{OUT_OF_ORDER}ms")
    windows = events.window(KINDS[kind])
    windows.aggregates(all=collect(1000), one=first(), other=last(), to="out", emit=emit, name="w")
    events.last("id", to="newest")
    with app.test(partitions=1) as t:
        sent = sorted(play(t, plays, 1, by=False)[0], key=lambda event: event.time)
        t.finish()
        for value in t.values("out"):
            if value is not None:  # which takes a session back
                assert value.one == min(value.all, key=lambda event: event.time)
                assert value.other == max(reversed(value.all), key=lambda event: event.time)
        newest = {record.key: record.value for record in t.topic("newest")}
        assert newest == {event.user: event.id for event in sent}


@pytest.mark.parametrize("fold", FOLDS)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_kept_of_what_is_closed(kind: str, fold: str) -> None:
    topology = app_of(kind, fold).topology()
    layout = topology.layout({"events": 1})
    one = TopicPartition("events", 0)
    task = Task(topology, layout, topology.subtopologies[0], 0)
    task.resume({one: Position(0)})
    kept: dict[tuple[str, bytes | None], bytes | None] = {}

    def commit() -> None:
        task.drain()
        for changelog, rows in task.checkpoint().changelog.items():
            kept.update(zip(((changelog, key) for key in rows.keys), rows.values, strict=True))

    times = (1, 3, 2, 9, 4, 30, 33, 28)
    values = [msgspec.json.encode(Event(time, "a", time)) for time in times]
    task.feed(one, Columns(range(len(times)), times, [b"a"] * len(times), values))
    task.run()
    commit()
    assert any(value is not None for value in kept.values())
    task.finish(10_000)
    commit()
    assert set(kept.values()) == {None}


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_without_a_key_or_a_time_is_refused(kind: str) -> None:
    for key, stamp, message in ((None, 5, "needs a key"), ("a", -1, "needs an event time")):
        app = App("w")
        app.stream("events", str).window(KINDS[kind]).count(to="out")
        with app.test(partitions=1) as t, pytest.raises(DataError, match=message):
            t.send("events", "x", key=key, timestamp=stamp)
            t.run()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_open_closes_when_nothing_comes_for_long(kind: str) -> None:
    app = App("w")
    stream = app.stream("events", Event, time="time")
    stream.window(KINDS[kind], close_after_idle="1m").collect(9, "id", to="out", name="w")
    with app.test(partitions=1) as t:
        for time in (1, 2, 4):
            t.send("events", Event(time, "a", time), key="a")
        t.run()
        t.advance("70s")
        found, _ = windows(KINDS[kind], arrivals([(n, "a", n) for n in (1, 2, 4)], 0))
        assert latest(t.topic("out")) == found
        t.crash()
        t.send("events", Event(3, "a", 3), key="a")
        t.run()
        t.advance("70s")
        assert [record.value.id for record in t.topic("w-w-late")] == [3]
        assert latest(t.topic("out")) == found


def test_a_session_that_bridges_two_retracts_the_later_one() -> None:
    with app_of("session_without_grace", "collected", "update").test(partitions=1) as t:
        for number, time in enumerate((10, 15, 12)):
            t.send("events", Event(number, "a", time), key="a")
        t.run()
        told = [(r.value, identity(r)[1:]) for r in t.topic("out")]
    assert told == [
        ([0], (10, 14, 1)),
        ([1], (15, 19, 1)),
        (None, (15, 19, 2)),
        ([0, 2, 1], (10, 19, 3)),
    ]


def test_a_session_that_begins_earlier_than_was_said_is_retracted() -> None:
    with app_of("session_without_grace", "collected", "update").test(partitions=1) as t:
        for number, time in enumerate((10, 8)):
            t.send("events", Event(number, "a", time), key="a")
        t.run()
        told = [(r.value, identity(r)[1:]) for r in t.topic("out")]
    assert told == [([0], (10, 14, 1)), (None, (10, 14, 2)), ([0, 1], (8, 14, 2))]


def test_only_what_was_given_is_retracted() -> None:
    with app_of("session", "collected", every("7ms")).test(partitions=1) as t:
        for number, time in enumerate((13, 17, 12, 11, 30)):
            t.send("events", Event(number, "a", time), key="a")
        t.run()
        told = [(r.value, identity(r)[1:]) for r in t.topic("out")]
    # Given at 14, which is 17 - 3; that the session began at 12 was never said.
    assert told == [
        ([0, 1], (13, 22, 2)),
        (None, (13, 22, 3)),
        ([0, 1, 2, 3], (11, 22, 4)),
        ([4], (30, 35, 1)),
    ]


@pytest.mark.parametrize("in_order", [False, True])
def test_what_changed_is_given_when_it_is_due_where_a_task_began_again_before(
    in_order: bool,
) -> None:
    """Time comes with the event after a restart, which is given behind a multiple that it passes:
    the window is given as it was there."""
    app = App("w")
    events = app.stream("events", Event, time="time", out_of_order="4ms")
    windows = events.by("user", in_order=in_order).window(tumbling("10ms"))
    windows.collect(9, "id", emit=every("5ms"), to="out", name="w")
    with app.test(partitions=1) as t:
        for number, time in enumerate((1, 6, 12, 40)):
            t.send("events", Event(number, "a", time))
            t.run()
            t.crash()
        assert t.values("out") == [[0], [0, 1], [2]]


def test_an_event_is_not_in_a_sliding_window_that_only_another_partition_holds_open() -> None:
    app = App("w")
    events = app.stream("events", Event, time="time").by("user")
    events.window(sliding("6ms")).collect(9, "id", to="out", name="w")
    with app.test(partitions=2) as t:
        for number, (time, partition) in enumerate(((20, 0), (17, 0), (18, 1), (90, 0), (90, 1))):
            user = "a" if time < 90 else "z"
            t.send("events", Event(number, user, time), key="any", partition=partition)
        t.run()
        found = latest(t.topic("out"))
        late = [record.value.id for record in t.topic("w-w-late")]
    assert late == [1]
    assert {start + 5: ids for (user, start, _), ids in found.items() if user == "a"} == {
        18: [2],  # 17 came when its partition was at 20: too late for what ends at 18
        20: [1, 2, 0],
    }


def test_events_are_kept_until_the_last_window_that_they_are_in_is_closed() -> None:
    app = App("w")
    events = app.stream("events", Event, time="time")
    events.window(sliding("6ms")).collect(9, "id", to="out", name="w")
    with app.test(partitions=1) as t:
        for time in (0, 5, 6, 20):
            t.send("events", Event(time, "a", time), key="a")
            t.run()
        found = latest(t.topic("out"))
    assert {end - 1: ids for (_, _, end), ids in found.items()} == {0: [0], 5: [0, 5], 6: [5, 6]}


@pytest.mark.parametrize("kind", ["table", "global_table"])
def test_a_retraction_passes_functions_and_lookups_after_a_window(kind: str) -> None:
    app = App("w")
    events = app.stream("events", Event, time="time", out_of_order="9ms")
    counts = events.window(session("4ms")).count(emit="update", name="w")

    @counts.filter
    def many(count: int) -> bool:
        return count > 0

    @many.process
    def told(count: int) -> str:
        return f"{count} events"

    @told.join(getattr(app, kind)("names", str), how="left", to="out")
    def named(text: str, name: str | None) -> str:
        return f"{text} of {name}"

    with app.test(partitions=1) as t:
        t.send("names", "Ada", key="a", timestamp=0)
        for number, time in enumerate((10, 15, 12)):
            t.send("events", Event(number, "a", time), key="a")
        t.run()
        values = [record.value for record in t.topic("out")]
    assert values == ["1 events of Ada", "1 events of Ada", None, "3 events of Ada"]


def _early_sessions(app: App, **options: Any) -> Stream[int]:
    events = app.stream("events", Event, time="time", out_of_order="9ms")
    return events.window(session("4ms")).count(emit="update", name="w", **options)


def test_what_sessions_take_back_is_refused_where_functions_are_waited_for() -> None:
    app = App("w")

    @_early_sessions(app).filter
    def many(count: int) -> bool:
        return count > 0

    @many.process
    async def told(count: int) -> str:
        return f"{count} events"

    assert app.topology()  # nothing is written
    told.map(str.upper, name="loud").to("out")
    with pytest.raises(TopologyError, match=r"told .* stands between them and 'out'.* int \| None"):
        app.topology()


def _other_key(counts: Stream[int]) -> None:
    counts.to("out", key=str)


def _by_another_key(counts: Stream[int]) -> None:
    counts.by(str).to("out")


def _table_by_another_key(counts: Stream[int]) -> None:
    counts.by(str).to_table()


def _as_of(counts: Stream[int]) -> None:
    counts.join_as_of(counts, tolerance="3ms", name="pairs")(_either).to("out")


def _either(one: int, other: int) -> int:
    return one + other


def _joined_then_kept(counts: Stream[int]) -> None:
    counts.join(counts, within="3ms", name="pairs")(_either).to_table()


@pytest.mark.parametrize(
    "go_on",
    [_other_key, _by_another_key, _table_by_another_key, _as_of, _joined_then_kept],
)
def test_what_sessions_take_back_is_refused_where_it_would_have_no_key(
    go_on: Callable[[Stream[int]], None],
) -> None:
    app = App("w")
    go_on(_early_sessions(app))
    with pytest.raises(TopologyError, match=r"of 'w' give results before .* int \| None"):
        app.topology()


def test_a_stream_of_early_sessions_that_takes_no_null_is_refused() -> None:
    app = App("w")
    _early_sessions(app, to="counts")
    app.stream("counts", int)
    with pytest.raises(TopologyError, match=r"'counts', int\) takes none.*int \| None"):
        app.topology()


def test_early_sessions_may_be_counted_under_another_key_and_kept_under_theirs() -> None:
    app = App("w")
    counts = _early_sessions(app)
    counts.by(str).count(to="out", name="sizes")
    counts.to_table()
    assert app.topology()


def test_what_sessions_take_back_is_none_where_their_topic_is_read() -> None:
    app = App("w")
    _early_sessions(app, to="counts")

    @app.stream("counts", int | None).process(to="out")
    async def told(count: int | None) -> str:
        return f"{count} events"

    with app.test(partitions=1) as t:
        for number, time in enumerate((10, 15, 12)):
            t.send("events", Event(number, "a", time), key="a")
        t.run()
        values = [record.value for record in t.topic("out")]
    assert values == ["1 events", "1 events", "None events", "3 events"]


def test_an_event_that_is_late_for_some_of_its_windows_is_in_the_others_and_told_once() -> None:
    app = App("w")
    events = app.stream("events", Event, time="time")
    events.window(hopping("10ms", "5ms")).collect(9, "id", to="out", name="w")
    with app.test(partitions=1) as t:
        for time in (12, 7, 31):
            t.send("events", Event(time, "a", time), key="a")
        t.run()
        (late,) = t.topic("w-w-late")
        assert late.value.id == 7
        assert late.headers == (("__streamkit.late", b'["w",0,10,12]'),)
        assert latest(t.topic("out"))["a", 5, 15] == [12, 7]


def test_a_table_of_the_results_of_two_windows_is_seen() -> None:
    app = App("shop")
    orders = app.stream("orders", bytes)
    orders.window(tumbling("1h")).count(to="counts", name="hourly")
    daily = orders.window(tumbling("1d")).count(name="daily")
    daily.map(str, name="told").to("texts")
    daily.filter(bool, name="some").to("counts")
    orders.count(name="all").to("texts")  # of no window
    for topic in ("counts", "texts"):
        app.stream(f"of-{topic}", bytes).join(app.table(topic, bytes), name=topic)(max)
    assert app.topology().mixed == {"counts": ["hourly", "daily"]}
