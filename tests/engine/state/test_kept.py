"""Lists, maps and times to live in tasks: what expires, what the changelog has, what comes back."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamkit.app import App
from streamkit.clock import ManualClock
from streamkit.dsl.state import ListState, MapState, Place, State
from streamkit.engine.cursor import Cursor
from streamkit.engine.rows import Position, Rows
from streamkit.engine.state import cache
from streamkit.engine.state.disk import open_disk
from streamkit.engine.state.store import Store
from streamkit.engine.task import Task
from streamkit.records import Columns, TopicPartition
from streamkit.serde import serde_for


class Paid(msgspec.Struct):
    by: str
    amount: int


IN = TopicPartition("in", 0)


def _task(app: App) -> Task:
    topology = app.topology()
    task = Task(topology, topology.layout({"in": 1}), topology.subtopologies[0], 0)
    task.resume({IN: Position(0)})
    return task


def _feed(task: Task, *events: tuple[int, str, bytes]) -> list[bytes | None]:
    offset = task.positions[IN]
    task.feed(
        IN,
        Columns(
            range(offset, offset + len(events)),
            [stamp for stamp, _, _ in events],
            [key.encode() for _, key, _ in events],
            [value for _, _, value in events],
        ),
    )
    task.run()
    rows = task.drain().rows.get("out")
    return [] if rows is None else list(rows.values)


def _restored(app: App, changes: list[Rows]) -> Task:
    task = _task(app)
    changelog, offset = task.changelogs[0], 0
    for rows in changes:
        task.restore(
            changelog,
            Columns(range(offset, offset + len(rows)), rows.timestamps, rows.keys, rows.values),
        )
        offset += len(rows)
    return task


def _changes(task: Task) -> Rows:
    task.drain()
    return task.checkpoint().changelog.get(task.changelogs[0], Rows([], [], []))


def _recent() -> App:
    app = App("a")

    @app.stream("in", str).process(to="out")
    def recent(value: str, last: ListState[str]) -> str:
        last.append(value)
        if len(last) > 3:
            last.popleft()
        return "".join(last)

    return app


def test_a_list_is_kept_item_by_item_and_comes_back() -> None:
    app = _recent()
    task = _task(app)
    assert _feed(task, *[(1, "k", b"%d" % n) for n in range(5)])[-1] == b"234"
    first = _changes(task)
    assert _feed(task, (2, "k", b"5"), (2, "other", b"x"))[0] == b"345"
    second = _changes(task)
    # The new item, the one that went, and where the list begins and ends; and the other key's.
    assert len(second) == 5
    assert second.values.count(None) == 1
    again = _restored(app, [first, second])
    assert _feed(again, (3, "k", b"6"), (3, "other", b"y")) == [b"456", b"xy"]


def test_a_long_list_is_not_written_whole() -> None:
    app = App("a")

    @app.stream("in", str).process(to="out")
    def collected(value: str, all_: ListState[str]) -> int:
        all_.append(value)
        return len(all_)

    task = _task(app)
    _feed(task, *[(1, "k", b"x" * 50) for _ in range(10_000)])
    _changes(task)
    assert _feed(task, (2, "k", b"y")) == [b"10001"]
    assert sum(len(value or b"") for value in _changes(task).values) < 50


def test_entries_of_a_map_are_changed_one_by_one() -> None:
    app = App("a")

    @app.stream("in", Paid).process(to="out")
    def paid(event: Paid, sums: MapState[str, int]) -> dict[str, int]:
        sums[event.by] = sums.get(event.by, 0) + event.amount
        return dict(sums)

    task = _task(app)
    events = [(1, "k", b'{"by":"%s","amount":2}' % by) for by in (b"bob", b"ada", b"bob")]
    assert _feed(task, *events)[-1] == b'{"ada":2,"bob":4}'
    first = _changes(task)
    _feed(task, (2, "k", b'{"by":"eve","amount":9}'))
    second = _changes(task)
    assert list(second.values) == [b"9"]
    again = _restored(app, [first, second])
    assert _feed(again, (3, "k", b'{"by":"ada","amount":1}')) == [b'{"ada":3,"bob":4,"eve":9}']


@pytest.mark.parametrize("where", ["by hand", "memory", "disk"])
def test_a_loop_over_a_map_comes_to_the_entries_that_it_adds_behind(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_FEW", 4)
    entries: MapState[str, int] = MapState()
    store = Store("log", serde_for(int), Cursor())
    if where == "disk":
        store.attach(open_disk(tmp_path, "id", 0, 99, ManualClock(), print))
    if where != "by hand":
        entries.bind(store, Place(), "entries", serde_for(str), serde_for(int))
    entries.update({f"{number:02}": number for number in range(0, 40, 2)})
    store.changes()
    store.committed(20)
    store.make_room()
    for number in range(0, 10, 2):
        del entries[f"{number:02}"]
    found = []
    for name in entries:
        found.append(int(name))
        entries[f"{int(name) | 1:02}"] = 0
    assert found == list(range(10, 40))
    store.close()


def _counting(ttl: str) -> App:
    app = App("a")

    @app.stream("in", str).process(to="out")
    def seen(value: str, times: State[int] = State(ttl=ttl)) -> int:  # noqa: B008
        times.set(times.get(0) + 1)
        return times.get(0)

    return app


def test_what_was_not_written_for_its_time_to_live_is_gone() -> None:
    task = _task(_counting("10s"))
    assert _feed(task, (0, "a", b""), (9_000, "a", b""), (9_000, "b", b"")) == [b"1", b"2", b"1"]
    # 18,999 is the watermark once that event has been processed.
    assert _feed(task, (18_999, "c", b""), (18_999, "a", b"")) == [b"1", b"3"]
    assert _feed(task, (19_000, "c", b""), (19_000, "b", b"")) == [b"2", b"1"]


def test_what_expired_gets_a_tombstone_and_does_not_come_back() -> None:
    app = _counting("10s")
    task = _task(app)
    _feed(task, (0, "a", b""), (5_000, "b", b""))
    changes = [_changes(task)]
    assert len(changes[0]) == 2
    _feed(task, (12_000, "c", b""))
    changes.append(_changes(task))
    assert dict(zip(changes[1].keys, changes[1].values, strict=True)) == {b"a": None, b"c": b"1"}
    assert _changes(task).keys == []
    again = _restored(app, changes)
    assert again.stored(again.changelogs[0], b"a") is None
    assert again.stored(again.changelogs[0], b"b") == b"1"


def test_whether_something_has_expired_does_not_depend_on_commits() -> None:
    events = [(n * 700 % 20_000, "abcdef"[n % 6], b"") for n in range(200)]
    whole = _feed(_task(_counting("3s")), *events)
    task = _task(_counting("3s"))
    cut = []
    for event in events:
        cut += _feed(task, event)
        _changes(task)
    assert cut == whole


def test_the_first_items_of_a_list_expire_first_also_when_events_come_out_of_order() -> None:
    app = App("a")

    @app.stream("in", str, out_of_order="30s").process(to="out")
    def recent(value: str, last: ListState[str] = ListState(ttl="10s")) -> str:  # noqa: B008
        last.append(value)
        return "".join(last)

    task = _task(app)
    late = [(20_000, "k", b"a"), (1_000, "k", b"b"), (25_000, "k", b"c")]
    assert _feed(task, *late, (60_001, "x", b""))[2] == b"abc"
    # The watermark is at 30,001: a and b, which stands behind it, go at 30,000.
    first = _changes(task)
    assert _feed(task, (60_001, "k", b"d")) == [b"cd"]
    again = _restored(app, [first, _changes(task)])
    assert _feed(again, (60_002, "x", b""), (60_002, "k", b"e"))[1] == b"cde"


def test_the_program_of_the_guide_keeps_what_it_says() -> None:
    page = (Path(__file__).parents[3] / "docs" / "state.md").read_text()
    (program,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"__name__": "guide"}
    exec(program, names)
    names["app"].topology()
    order = names["Order"]("ada", "lamp", "visa", 600.0, None)
    kept = State[float](), ListState[str](), MapState[str, float]()
    assert names["offer"](order, *kept) is None
    assert names["offer"](order, *kept) == "lamp, after 2 things in a week, with visa"
