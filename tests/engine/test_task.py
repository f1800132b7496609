"""A task by hand: what is fed, what comes out, what is committed, what is said when it fails."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from columns_as_read import as_read

from streamkit.app import App
from streamkit.dsl.context import Context
from streamkit.dsl.state import State
from streamkit.dsl.topology import MAX_UPSTREAM_TASKS
from streamkit.dsl.windows import tumbling
from streamkit.engine.headers import Marker
from streamkit.engine.rows import Position
from streamkit.engine.task import Task
from streamkit.errors import DataError, FunctionError, SerdeError
from streamkit.records import Columns, Record, TopicPartition


class Event(msgspec.Struct):
    n: int


def _task(app: App, sub: int = 0, number: int = 0, **sizes: int) -> Task:
    topology = app.topology()
    layout = topology.layout({topic: sizes.get(topic, 1) for topic in topology.sources})
    task = Task(topology, layout, topology.subtopologies[sub], number)
    task.resume({partition: Position(0) for partition in task.inputs})
    return task


def _columns(*records: tuple[int, int, str | None, bytes | None]) -> Columns:
    """Of (offset, timestamp, key, value)."""
    return as_read(
        [r[0] for r in records],
        [r[1] for r in records],
        [None if r[2] is None else r[2].encode() for r in records],
        [r[3] for r in records],
    )


def _values(task: Task, topic: str) -> list[bytes | None]:
    rows = task.drain().rows.get(topic)
    return [] if rows is None else list(rows.values)


def test_positions_are_after_the_last_processed_record_whatever_holes_there_are() -> None:
    app = App("a")
    app.stream("in", bytes).to("out")
    task, one = _task(app), TopicPartition("in", 0)
    task.feed(one, _columns((3, 1, "k", b"x"), (9, 2, "k", b"y"), (10, 3, "k", b"z")))
    assert task.run(limit=2) == 2
    assert task.checkpoint().positions[one].offset == 10
    assert task.buffered == 1
    assert _values(task, "out") == [b"x", b"y"]


def test_inputs_are_merged_by_time_and_wait_for_each_other() -> None:
    app = App("a")
    table = app.table("names", str)
    for topic in (
        "right",
        "left",
    ):  # of one time, the topic's name decides, whatever was said first

        @app.stream(topic, str).join(table, how="left", to="out", name=f"join-{topic}")
        def joined(value: str, name: str | None) -> str:
            return f"{value}:{name}"

    task = _task(app)
    left, right, names = (TopicPartition(topic, 0) for topic in ("left", "right", "names"))
    task.feed(left, _columns((0, 10, "k", b"l10"), (1, 5, "k", b"l5"), (2, 30, "k", b"l30")))
    assert task.run() == 0  # what is missing of the others might come first
    task.feed(right, _columns((0, 10, "k", b"r10"), (1, 20, "k", b"r20")))
    task.caught_up([names])
    assert task.run() == 4
    task.feed(names, _columns((0, 25, "k", b"Ada")))
    task.caught_up([right])
    assert task.run() == 1  # Ada, at 25; after her the table might have more before 30
    task.caught_up([names])
    assert task.run() == 1
    expected = [b"l10:None", b"l5:None", b"r10:None", b"r20:None", b"l30:Ada"]
    assert _values(task, "out") == expected


def test_a_table_loaded_first_is_seen_by_the_first_event_and_its_tombstones_count() -> None:
    app = App("a")
    table = app.table("names", str)

    @app.stream("in", str).join(table, to="out")
    def joined(value: str, name: str) -> str:
        return name

    task = _task(app)
    names = TopicPartition("names", 0)
    assert task.tables == (names,)
    task.load_table(names, _columns((0, 9, "a", b"Ada"), (1, 9, "b", b"Bob"), (2, 9, "b", None)))
    task.caught_up([names])
    task.feed(
        TopicPartition("in", 0), _columns((0, 1, "a", b""), (1, 1, "b", b""), (2, 1, None, b""))
    )
    task.run()
    assert _values(task, "out") == [b"Ada"]


def _failing(app: App) -> None:
    @app.stream("in", Event).process(to="out")
    def fussy(event: Event) -> Iterator[int]:
        yield event.n
        yield 10 // event.n


def test_a_raising_function_is_named_with_its_record_and_what_came_before_can_be_committed() -> (
    None
):
    app = App("a")
    _failing(app)
    task, one = _task(app), TopicPartition("in", 0)
    task.feed(one, _columns((4, 1, "k", b'{"n":5}'), (5, 1, "bad", b'{"n":0}'), (6, 1, "k", b"?")))
    with pytest.raises(FunctionError) as raised:
        task.run()
    text = str(raised.value)
    assert "fussy (test_task.py:" in text
    assert "in-0@5" in text and "'bad'" in text and "ZeroDivisionError" in text
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
    assert not task.torn
    assert _values(task, "out") == [b"5", b"2"]  # not the 0 that was yielded before it raised
    assert task.checkpoint().positions[one].offset == 5


def test_a_failure_after_a_look_at_the_state_leaves_the_task_torn() -> None:
    app = App("a")

    @app.stream("in", Event).process()
    def keep(event: Event, seen: State[list[int]]) -> None:
        numbers = seen.get([])
        numbers.append(event.n)
        seen.set(numbers)
        if event.n == 0:
            raise ValueError("zero")

    task = _task(app)
    task.feed(TopicPartition("in", 0), _columns((0, 1, "k", b'{"n":1}'), (1, 1, "k", b'{"n":0}')))
    with pytest.raises(FunctionError, match="zero"):
        task.run()
    assert task.torn


@pytest.mark.parametrize(
    ("value", "key", "message"),
    [
        (b'{"n":"x"}', "k", r"in-0@3: value: expected Event: .* at `\$\.n`"),
        (None, "k", r"in-0@3: value: expected Event, got a null value"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_coordinates(
    value: bytes | None, key: str, message: str
) -> None:
    app = App("a")
    _failing(app)
    task = _task(app)
    task.feed(TopicPartition("in", 0), _columns((3, 1, key, value)))
    with pytest.raises(SerdeError, match=message):
        task.run()
    assert task.checkpoint().positions[TopicPartition("in", 0)].offset == 3


def test_an_output_that_does_not_fit_its_type_is_named_with_its_topic_and_its_source() -> None:
    app = App("a")

    @app.stream("in", Event).map
    def wrong(event: Event) -> str:
        return event.n  # type: ignore[return-value]

    wrong.to("out")
    task = _task(app)
    task.feed(TopicPartition("in", 0), _columns((3, 1, "k", b'{"n":1}')))
    with pytest.raises(SerdeError, match=r"^record for out: expected str, got int; .* in-0@3"):
        task.run()


def test_a_key_that_does_not_fit_its_type_is_told_from_the_value() -> None:
    app = App("a")

    def text(event: Event) -> str:
        return event.n  # type: ignore[return-value]

    app.stream("in", Event).by(text).to("out")
    task = _task(app)
    task.feed(TopicPartition("in", 0), _columns((3, 1, "k", b'{"n":1}')))
    with pytest.raises(SerdeError, match=r"^key of a record for out: expected str, got int"):
        task.run()


def test_an_event_without_key_or_time_in_a_window_is_an_error_with_the_way_out() -> None:
    app = App("a")
    app.stream("in", Event).window(tumbling("1m", grace="0s")).count(name="n")
    for record, message in (
        ((0, 1, None, b'{"n":1}'), "in-0@0: the window of n needs a key"),
        ((0, -1, "k", b'{"n":1}'), "in-0@0: the window of n needs an event time"),
    ):
        task = _task(app)
        task.feed(TopicPartition("in", 0), _columns(record))
        with pytest.raises(DataError, match=message):
            task.run()


def test_state_comes_back_from_its_changelog_and_only_changes_are_written() -> None:
    app = App("a")

    @app.stream("in", Event).process(to="out")
    def total(event: Event, sofar: State[int]) -> int | None:
        if event.n < 0:
            sofar.delete()
            return None
        sofar.set(sofar.get(0) + event.n)
        return sofar.get()

    task, one = _task(app), TopicPartition("in", 0)
    assert task.changelogs == ("a-total-sofar-changelog",)
    task.feed(
        one, _columns((0, 1, "a", b'{"n":1}'), (1, 2, "b", b'{"n":2}'), (2, 3, "a", b'{"n":3}'))
    )
    task.run()
    first = task.checkpoint().changelog["a-total-sofar-changelog"]
    assert (list(first.keys), list(first.values)) == ([b"a", b"b"], [b"4", b"2"])
    task.feed(one, _columns((3, 4, "b", b'{"n":-1}')))
    task.run()
    second = task.checkpoint().changelog["a-total-sofar-changelog"]
    assert (list(second.keys), list(second.values)) == ([b"b"], [None])
    assert task.checkpoint().changelog == {}

    again = _task(app)
    for rows in (first, second):
        zeros = [0] * len(rows)
        again.restore("a-total-sofar-changelog", Columns(zeros, zeros, rows.keys, rows.values))
    assert again.stored("a-total-sofar-changelog", b"a") == b"4"
    assert again.stored("a-total-sofar-changelog", b"b") is None
    again.feed(one, _columns((4, 5, "a", b'{"n":1}')))
    again.run()
    assert _values(again, "out") == [b"5"]


def test_state_that_no_longer_fits_its_type_is_named() -> None:
    app = App("a")

    @app.stream("in", Event).process()
    def total(event: Event, sofar: State[int]) -> None: ...

    with pytest.raises(SerdeError, match=r"a-total-sofar-changelog@8: expected int.*name="):
        _task(app).restore("a-total-sofar-changelog", _columns((8, 1, "k", b'"x"')))


class Loose(msgspec.Struct):
    mean: float


@pytest.mark.parametrize("kept", [None, Loose("1"), Loose(float("nan"))])  # type: ignore[arg-type]
def test_state_that_could_not_be_restored_is_not_committed(kept: Any) -> None:
    """Struct's fields are not checked when it is made; once committed, no restart would read it."""
    app = App("a")

    @app.stream("in", str).window(tumbling("10ms", grace="0s")).aggregate(to="out", emit="update")
    def fold(sofar: Loose | None, value: str) -> Loose:
        return kept

    @app.stream("too", str).process
    def keep(value: str, state: State[dict[str, Loose]]) -> None:
        state.set({"k": kept})

    for number, topic in enumerate(("in", "too")):
        task = _task(app, sub=number)
        task.feed(TopicPartition(topic, 0), _columns((0, 5, "k", b"v")))
        told = r"state for a-.*-changelog, key b'.*k'.*; (fold|keep) \(test_task.py:\d+\) kept or "
        with pytest.raises(SerdeError, match=f"record for out|{told}"):
            task.run()
            task.checkpoint()


@pytest.mark.parametrize("number", [0, 99, 100, 1099])
def test_what_is_in_a_result_is_looked_at_in_the_first_and_then_now_and_again(number: int) -> None:
    app = App("a")

    @app.stream("in", int).process(to="out")
    def listed(value: int) -> list[int]:
        return ["no number"] if value == number else [value]  # type: ignore[list-item]

    with app.test(partitions=1) as t:
        for value in range(1200):
            t.send("in", value)
        if number == 100:
            t.run()
            return
        with pytest.raises(SerdeError, match=rf"record for out: expected list.* in-0@{number}\n"):
            t.run()


def test_context_gives_the_same_whenever_an_event_is_processed() -> None:
    app = App("a")
    drawn: list[Any] = []

    @app.stream("in", Event).process()
    def draw(event: Event, context: Context) -> None:
        drawn.append((context.now(), context.uuid(), context.random(), context.uuid()))

    records = [(0, 1_000, "k", b'{"n":1}'), (1, 2_000, "k", b'{"n":2}')]
    for cut in ([records], [[records[0]], [records[1]]]):
        task = _task(app)
        for part in cut:
            task.feed(TopicPartition("in", 0), _columns(*part))
            task.run()
    assert drawn[:2] == drawn[2:]
    assert len({drawn[0][1], drawn[0][3], drawn[1][1], drawn[1][3]}) == 4
    assert all(0 <= number < 1 for _, _, number, _ in drawn)
    assert drawn[0][0].isoformat() == "1970-01-01T00:00:01+00:00"


def test_a_function_can_send_to_any_topic() -> None:
    app = App("a")

    @app.stream("in", Event).process()
    def audit(event: Record[Event], context: Context) -> None:
        context.send("audit", f"saw {event.value.n}", key=event.key)
        context.send("table", None, key="gone", timestamp=77)

    task = _task(app)
    task.feed(TopicPartition("in", 0), _columns((0, 5, "k", b'{"n":1}')))
    task.run()
    rows = task.drain().rows
    assert (rows["audit"].keys, rows["audit"].values) == ([b"k"], [b"saw 1"])
    assert (rows["table"].values, rows["table"].timestamps) == ([None], [77])


def test_none_is_nothing_a_list_is_one_value_and_a_generator_is_many() -> None:
    app = App("a")
    events = app.stream("in", Event)

    @events.process(to="listed")
    def listed(event: Event) -> list[int] | None:
        return [event.n] * event.n if event.n else None

    @events.process(to="many")
    def many(event: Event) -> Iterator[int | None]:
        yield from [event.n, None, event.n + 1]

    @events.process(to="untyped")
    def untyped(event):  # type: ignore[no-untyped-def]
        return (n for n in range(event.n)) if event.n != 1 else "one"

    events.flat_map(lambda event: ["x"] * event.n).to("flat")
    events.map(lambda event: None).to("nulls")
    task = _task(app)
    task.feed(TopicPartition("in", 0), _columns(*((n, 1, "k", b'{"n":%d}' % n) for n in range(3))))
    task.run()
    rows = {topic: list(rows.values) for topic, rows in task.drain().rows.items()}
    assert rows["listed"] == [b"[1]", b"[2,2]"]
    assert rows["many"] == [b"0", b"1", b"1", b"2", b"2", b"3"]
    assert rows["untyped"] == [b"one", b"0", b"1"]
    assert rows["flat"] == [b"x"] * 3
    assert rows["nulls"] == [None] * 3


def test_headers_and_keys_go_along_and_to_can_give_another_key() -> None:
    app = App("a")
    events = app.stream("in", Event)
    events.filter(lambda event: event.n).to("out", key="n").to("same")

    def of_both(record: Record[Event]) -> str:
        return f"{record.key}-{record.value.n}"

    events.by(of_both).to("both")
    task = _task(app)
    columns = Columns([0], [5], [b"k"], [b'{"n":3}'], [(("trace", b"1"),)])
    task.feed(TopicPartition("in", 0), columns)
    task.run()
    rows = task.drain().rows
    assert (rows["out"].keys, rows["out"].headers) == ([b"3"], [(("trace", b"1"),)])
    assert rows["same"].keys == [b"k"]
    assert (rows["both"].keys, rows["both"].headers) == ([b"k-3"], [(("trace", b"1"),)])


def test_a_repartitioned_event_that_is_behind_takes_along_how_far_time_was() -> None:
    app = App("a")
    app.stream("in", Event).by("n").window(tumbling("10ms", grace="0s")).count(to="out", name="c")
    up, down = _task(app), _task(app, sub=1)
    topic = "a-in-by-n-repartition"
    events = (4, 1, "k", b'{"n":3}'), (5, 30, "k", b'{"n":3}'), (6, 2, "k", b'{"n":3}')
    up.feed(TopicPartition("in", 0), _columns(*events))
    up.run()
    drained = up.drain()
    rows, marker = drained.rows[topic], drained.everywhere[topic]
    assert rows.headers == [(), (), (("__streamkit.frontier", b"30"),)]
    assert marker.headers == [(("__streamkit.watermark", b"[0,1,30,false]"),)]
    assert up.drain().everywhere == {}  # said once

    one = TopicPartition(topic, 0)
    down.feed(one, Columns([0, 1, 2], rows.timestamps, rows.keys, rows.values, rows.headers))
    down.run()
    late = down.drain().rows["a-c-late"]
    assert late.headers == [(("__streamkit.late", b'["c",0,10,30]'),)]
    down.feed(one, Columns([4], marker.timestamps, marker.keys, marker.values, marker.headers))
    down.run()
    assert _values(down, "out") == [b"1"]


def test_headers_that_look_like_the_apps_own_are_not_taken_for_them() -> None:
    app = App("a")
    windows = app.stream("in", Event).by("n").window(tumbling("10ms", grace="0s"))
    windows.count(to="out", name="c", emit="update")
    up, down = _task(app), _task(app, sub=1)
    topic = "a-in-by-n-repartition"
    for name in ("__streamkit.frontier", "__streamkit.watermark"):
        foreign = [((name, b"[0,1,30,false]"),)]
        up.feed(TopicPartition("in", 0), Columns([0], [5], [b"k"], [b'{"n":3}'], foreign))
    up.run()
    rows = up.drain().rows[topic]
    down.feed(
        TopicPartition(topic, 0),
        Columns([0, 1], rows.timestamps, rows.keys, rows.values, rows.headers),
    )
    down.run()
    assert _values(down, "out") == [b"1", b"2"]


def test_a_foreign_note_on_an_offset_is_refused() -> None:
    app = App("a")
    app.stream("in", bytes).to("out")
    task = _task(app)
    with pytest.raises(DataError, match="in-0: the committed offset carries 'hello'"):
        task.resume({TopicPartition("in", 0): Position(3, "hello")})


def test_times_are_read_from_fields_of_every_kind_and_wrong_ones_named() -> None:
    class Timed(msgspec.Struct):
        at: Any

    app = App("a")
    app.stream("in", Timed, time="at").to("out")
    stamps = [
        b'{"at":5}',
        b'{"at":"1970-01-01T00:00:00.006Z"}',
        b'{"at":"1970-01-01T00:00:00.007"}',
    ]
    task = _task(app)
    task.feed(TopicPartition("in", 0), _columns(*((n, 1, "k", v) for n, v in enumerate(stamps))))
    task.run()
    assert task.drain().rows["out"].timestamps == [5, 6, 7]
    for value in (b'{"at":1.5}', b'{"at":"soon"}', b'{"at":-5}'):
        task = _task(app)
        task.feed(TopicPartition("in", 0), _columns((0, 1, "k", value)))
        with pytest.raises(DataError, match="in-0@0: event time: field 'at'"):
            task.run()


def test_a_generator_goes_on_with_its_own_context_after_later_functions_had_theirs() -> None:
    app = App("a")
    keys: list[Any] = []

    @app.stream("in", Event).process()
    def twice(event: Event, context: Context) -> Iterator[Event]:
        yield event
        keys.append((context.key, context.uuid()))

    @twice.by("n").process()
    def later(event: Event, context: Context) -> None:
        keys.append((context.key, context.uuid()))

    task = _task(app)
    task.feed(TopicPartition("in", 0), _columns((0, 5, "k", b'{"n":1}')))
    task.run()
    assert [key for key, _ in keys] == [1, "k"]
    assert keys[0][1] != keys[1][1]


def test_a_time_function_that_raises_is_named_with_the_record() -> None:
    app = App("a")
    app.stream("in", dict, time=lambda value: value["at"]).to("out")
    task = _task(app)
    task.feed(TopicPartition("in", 0), _columns((2, 1, "k", b"{}")))
    with pytest.raises(DataError, match="in-0@2: event time: KeyError: 'at'"):
        task.run()


def test_what_all_upstream_tasks_said_fits_into_a_note() -> None:
    app = App("a")
    app.stream("in", Event).by("n").window(tumbling("10ms", grace="0s")).count(to="out", name="c")
    one = TopicPartition("a-in-by-n-repartition", 0)
    down = _task(app, sub=1)
    for number in range(MAX_UPSTREAM_TASKS):
        marker = Marker(number, MAX_UPSTREAM_TASKS, 1_800_000_000_000 + number, number % 2 == 0)
        down.feed(one, Columns([number], [0], [None], [None], [marker.headers()]))
    down.run()
    again = _task(app, sub=1)
    again.resume(down.checkpoint().positions)
    assert again.watermark == down.watermark == 1_800_000_000_001
