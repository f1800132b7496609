"""What the clock decided is in the journal: a task that follows it gives the same bytes."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec
import pytest
from columns_as_read import as_read

from streamkit import State
from streamkit.app import App
from streamkit.dsl.windows import tumbling
from streamkit.engine.journal import Ahead, Entry, Held, Silence, Tables, decode
from streamkit.engine.rows import Position, Rows
from streamkit.engine.task import Task
from streamkit.errors import DataError
from streamkit.records import Columns, TopicPartition
from streamkit.testing import TestRun


class Event(msgspec.Struct):
    id: int
    time: int


NOW = 10_000


def _app() -> App:
    """Everything that order and time matter to, in one task."""
    app = App("j")
    names, world = app.table("names", str), app.global_table("world", str)
    streams = []
    for topic in ("left", "right"):
        stream = app.stream(topic, Event, time="time", max_ahead="1s")

        @stream.join(names, how="left", name=f"{topic}-named", to=f"{topic}-out")
        def named(event: Event, name: str | None, seen: State[list[int]]) -> Event:
            seen.set([*seen.get([]), event.id])
            return Event(event.id * 1000 + len(seen.get([])) * 10 + len(name or ""), event.time)

        def ids(sofar: list[int] | None, event: Event) -> list[int]:
            return [*(sofar or []), event.id]

        windows = named.window(tumbling("10ms", grace="2ms"), close_after_idle="30s")
        windows.aggregate(name=f"{topic}-ids", to=f"{topic}-windows")(ids)
        streams.append(stream)
    left, right = streams
    near = left.join(right, within="5ms", how="outer", close_after_idle="30s", to="near")
    near(pair)
    left.join_as_of(right, tolerance="9ms", how="left", direction="nearest", to="as-of")(as_of)
    left.join(names, how="left", history="10ms", name="then", to="then")(then)
    right.join(world, on=user, how="left", name="found", to="found")(then)
    right.join(left.to_table(), how="left", name="latest", to="latest")(latest)
    return app


def user(event: Event) -> str:
    return "ab"[event.id % 2]


def pair(one: Event | None, other: Event | None) -> list[int | None]:
    return [each and each.id for each in (one, other)]


def as_of(one: Event, other: Event | None) -> list[int | None]:
    return [one.id, other and other.id]


def then(event: Event, name: str | None) -> list[Any]:
    return [event.id, name]


def latest(event: Event, other: Event | None) -> list[int | None]:
    return [event.id, other and other.id]


INPUTS = tuple(TopicPartition(topic, 0) for topic in ("left", "right"))
NAMES, WORLD = TopicPartition("names", 0), TopicPartition("world", 0)
TABLES = (NAMES, WORLD)
PLACES = {"left-0": 0, "right-0": 0, "names-0": 0, "names-0 ahead": 0, "world-0 ahead": 0}

Written = dict[str, list[tuple[Any, ...]]]


@dataclass
class Log:
    """What is in the inputs, and what was committed."""

    records: dict[TopicPartition, list[tuple[int, int, bytes, bytes | None]]] = field(
        default_factory=lambda: {one: [] for one in (*INPUTS, *TABLES)}
    )
    written: Written = field(default_factory=lambda: defaultdict(list))
    positions: dict[TopicPartition, Position] = field(default_factory=dict)
    changes: dict[str, list[tuple[int, bytes | None, bytes | None]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    journal: list[Entry] = field(default_factory=list)

    def columns(self, one: TopicPartition, start: int, count: int) -> Columns:
        """Records with offsets from `start` on; there are holes."""
        chosen = [each for each in self.records[one] if each[0] >= start][:count]
        return as_read(*([each[at] for each in chosen] for at in range(4)))


class Runner:
    """A task over a log; what it gives counts once it is committed."""

    def __init__(self, log: Log, journal: Iterable[Entry] | None = None) -> None:
        topology = _app().topology()
        (sub,) = topology.subtopologies
        layout = topology.layout(dict.fromkeys(topology.sources, 1))
        self.journal, self.journal_topic = journal, sub.journal
        self.log = log
        self.task = Task(topology, layout, sub, 0, journal=journal)
        self.task.resume({one: log.positions.get(one, Position(0)) for one in INPUTS})
        self.fed = {one: log.positions.get(one, Position(0)).offset for one in INPUTS}
        for changelog in self.task.changelogs:
            if rows := log.changes[changelog]:
                stamps, keys, values = map(list, zip(*rows, strict=True))
                self.task.restore(changelog, Columns(range(len(rows)), stamps, keys, values))
        self.fed[NAMES] = self.load(NAMES, self.task.load_until(NAMES), self.task.load_table)
        assert self.task.ahead == TABLES
        self.ahead = {
            one: self.load(one, self.task.load_until(one, ahead=True), self.task.load_ahead)
            for one in TABLES
        }
        self.given: Written = defaultdict(list)

    def load(
        self,
        one: TopicPartition,
        until: int | None,
        take: Callable[[TopicPartition, Columns], None],
    ) -> int:
        table = self.log.columns(one, 0, 1000)
        loaded = len([each for each in table.offsets if until is None or each < until])
        take(one, self.log.columns(one, 0, loaded))
        return table.offsets[loaded - 1] + 1 if loaded else 0

    def feed_ahead(self, count: int = 1000) -> None:
        for one in TABLES:
            columns = self.log.columns(one, self.ahead[one], count)
            if len(columns):
                self.task.feed_ahead(one, columns)
                self.ahead[one] = columns.offsets[-1] + 1
            if not len(self.log.columns(one, self.ahead[one], 1)):
                self.task.caught_up_ahead([one])

    def feed(self, one: TopicPartition, count: int) -> None:
        columns = self.log.columns(one, self.fed[one], count)
        if len(columns):
            self.task.feed(one, columns)
            self.fed[one] = columns.offsets[-1] + 1

    def finish(self) -> None:
        """Process all there is, and commit."""
        for one in self.fed:
            self.feed(one, 1000)
        self.feed_ahead()
        self.run()
        while self.task.buffered:
            self.run()
        self.commit()

    def run(self, limit: int | None = None) -> None:
        """With what was fed; inputs of which no more is there are said to be at their ends."""
        at_end = [one for one in self.fed if not len(self.log.columns(one, self.fed[one], 1))]
        self.task.caught_up(at_end)
        if self.journal is None:
            self.feed_ahead()
        self.task.run(limit, now=NOW)
        for topic, rows in self.task.drain().rows.items():
            self.given[topic] += _listed(rows)

    def commit(self) -> None:
        for topic, rows in self.given.items():
            self.log.written[topic] += rows
        self.given = defaultdict(list)
        checkpoint = self.task.checkpoint()
        self.task.settle()
        self.log.positions |= checkpoint.positions
        for topic, changed in checkpoint.changelog.items():
            if topic == self.journal_topic:
                self.log.journal += [decode(value, topic) for value in changed.values]
            else:
                self.log.changes[topic] += zip(
                    changed.timestamps, changed.keys, changed.values, strict=True
                )


def _listed(rows: Rows) -> list[tuple[Any, ...]]:
    headers = rows.headers or [()] * len(rows)
    return list(zip(rows.keys, rows.values, rows.timestamps, headers, strict=True))


def _replayed(live: Log, random: Random) -> Log:
    """The same inputs and the journal, fed in other pieces, with restarts in between."""
    log = Log(records=live.records)
    runner = Runner(log, live.journal)
    left = True
    while left:
        one = random.choice([*INPUTS, NAMES])
        runner.feed(one, random.randint(1, 8))
        if random.random() < 0.5:
            runner.feed_ahead(random.randint(1, 8))
        runner.run(random.choice([1, 3, None]))
        if random.random() < 0.2:
            runner.commit()
        if random.random() < 0.1:
            runner = Runner(log, live.journal)
        left = any(len(log.columns(each, runner.fed[each], 1)) for each in runner.fed)
    runner.finish()
    return log


def _chosen(random: Random) -> list[tuple[Any, ...]]:
    """What happens to a task: mostly that something comes, and some of it is read."""
    kinds = ["write", "feed", "run", "idle", "commit", "crash", "far"]
    plays: list[tuple[Any, ...]] = []
    for kind in random.choices(kinds, [12, 8, 6, 2, 3, 1, 1], k=random.randint(5, 90)):
        if kind == "write":
            topic = random.choice(["left", "right", "left", "right", "names", "names", "world"])
            # Mostly in order, with what is behind that, and windows that are over.
            time = max(0, len(plays) + random.randint(-12, 4))
            plays.append((kind, topic, random.choice("ab"), time))
        elif kind == "idle":
            plays.append((kind, random.randint(0, 3), random.random() < 0.5, 0))
        else:
            plays.append((kind, random.randint(0, 2), random.randint(1, 4), 0))
    return plays


def _lived(chosen: list[tuple[Any, ...]]) -> Log:
    log = Log()
    runner = Runner(log)
    for number, (play, what, more, time) in enumerate(chosen):
        if play == "write":
            records = log.records[TopicPartition(what, 0)]
            offset = records[-1][0] + 1 + number % 2 if records else 0
            value = b"n" * (number % 7) if what in ("names", "world") else _event(number, time)
            records.append((offset, time, more.encode(), value))
        elif play == "far":
            records = log.records[INPUTS[0]]
            offset = records[-1][0] + 1 if records else 0
            records.append((offset, 3, b"a", _event(number, NOW + 1001)))
        elif play == "feed":
            runner.feed([*INPUTS, NAMES][what], more)
        elif play == "run":
            runner.run(2 if what else None)
        elif play == "idle":
            silent = [one for bit, one in enumerate(INPUTS) if what >> bit & 1]
            runner.run()
            runner.task.idle(dict.fromkeys(silent, 60_000 if more else 10_000))
            runner.run()
        elif play == "commit":
            runner.commit()
        else:
            runner = Runner(log)
    runner.finish()
    return log


def _event(number: int, time: int) -> bytes:
    return msgspec.json.encode(Event(number, time))


@pytest.mark.parametrize("seed", range(250))
def test_a_task_that_follows_a_journal_gives_the_same_bytes(seed: int) -> None:
    random = Random(seed)
    live = _lived(_chosen(random))
    again = _replayed(live, random)
    assert again.written == live.written
    assert again.journal == []


def _write(log: Log, topic: str, *records: tuple[int, int]) -> None:
    for offset, time in records:
        log.records[TopicPartition(topic, 0)].append((offset, time, b"a", _event(offset, time)))


def test_only_what_deviates_from_the_order_by_time_is_in_the_journal() -> None:
    log = Log()
    _write(log, "left", (0, 5), (1, 15))
    _write(log, "right", (0, 10))
    runner = Runner(log)
    runner.finish()
    assert log.journal == []
    _write(log, "right", (1, 12), (2, 20))
    runner.finish()
    assert log.journal == [Held("right-0", 1, {"left-0": 2})]


def test_how_far_tables_were_read_at_the_first_start_is_in_the_journal_and_not_at_the_next() -> (
    None
):
    log = Log()
    _write(log, "names", (0, 5), (1, 15))
    runner = Runner(log)
    runner.finish()
    at = PLACES | {"names-0 ahead": 2}
    assert log.journal == [Tables(at, {"names-0": 2})]
    _write(log, "names", (2, 5))
    runner = Runner(log)
    runner.finish()
    assert len(log.journal) == 1


def test_a_row_that_came_after_somebody_asked_for_its_time_is_in_the_journal() -> None:
    log = Log()
    _write(log, "left", (0, 5), (1, 20))
    runner = Runner(log)
    runner.finish()
    _write(log, "names", (0, 21))
    runner.finish()
    _write(log, "names", (1, 25), (2, 20), (3, 1))
    runner.finish()
    assert [entry for entry in log.journal if isinstance(entry, Held)] == [
        Held("names-0 ahead", 2, {"left-0": 2, "names-0": 1})
    ]


def test_idle_inputs_and_windows_that_closed_are_in_the_journal_once() -> None:
    log = Log()
    _write(log, "left", (0, 5))
    runner = Runner(log)
    runner.feed(INPUTS[0], 9)
    runner.run()
    for _ in range(3):
        runner.task.idle({INPUTS[0]: 6_000, INPUTS[1]: 1_000})
        runner.task.idle(dict.fromkeys(INPUTS, 31_000))
    runner.run()
    runner.commit()
    at = PLACES | {"left-0": 1}
    assert log.journal == [
        Silence(at, idle=("left-0",)),
        Silence(at, idle=("left-0", "right-0"), closed=("left-ids", "right-ids", "pair")),
    ]
    assert [row[1] for row in log.written["left-windows"]] == [b"[10]"]


@pytest.mark.parametrize("by", [False, True])
def test_that_an_input_is_idle_is_in_the_journal_if_it_changes_anything(by: bool) -> None:
    app = App("w")
    events = app.stream("events", str)
    (events.by(str, name="words") if by else events).window(tumbling("1m")).count(name="n")
    with app.test(partitions=1) as t:
        t.send("events", "x", key="k", timestamp=0)
        t.advance("1m")
        found = [decode(record.value, "") for record in t.topic("w-events-journal")]
        at = {"events-0": 1}
        assert found == ([Silence(at, idle=("events-0",))] if by else [])


def test_a_restart_makes_idle_inputs_count_again_and_says_so() -> None:
    log = Log()
    _write(log, "left", (0, 5))
    runner = Runner(log)
    runner.feed(INPUTS[0], 9)
    runner.run()
    runner.task.idle(dict.fromkeys(INPUTS, 6_000))
    runner.commit()
    again = Runner(log)
    again.run()
    again.commit()
    at = PLACES | {"left-0": 1}
    assert log.journal[-1] == Silence(at)


def test_what_is_too_far_ahead_moves_no_time_and_is_kept_beside_with_the_reason() -> None:
    log = Log()
    _write(log, "left", (0, 5), (1, NOW + 1001), (2, 7), (3, NOW + 1000))
    runner = Runner(log)
    runner.finish()
    assert Ahead("left-0", 1, NOW + 1000) in log.journal
    note = b'["left",0,1,11001,11000]'
    expected = (b"a", _event(1, NOW + 1001), NOW + 1001, (("__streamkit.ahead", note),))
    assert log.written["j-left-ahead"] == [expected]
    assert "j-left-ids-late" not in log.written
    assert runner.task.stats.ahead == {"left-0": 1, "right-0": 0}
    assert _replayed(log, Random(1)).written == log.written


def test_what_is_too_far_ahead_is_found_in_what_a_log_gives() -> None:
    app = App("j")
    app.stream("left", int, max_ahead="1s").to("out")
    with app.test(1) as t:
        ahead = t.clock.now() + 1001
        for number, time in enumerate((0, ahead, 1, ahead, 2)):
            t.send("left", number, key="a", timestamp=time)
        t.run()
        assert t.values("out") == [0, 2, 4]
        assert [record.value for record in t.topic("j-left-ahead")] == [1, 3]


def test_what_was_too_far_ahead_only_before_a_crash_is_processed_and_nothing_else() -> None:
    app = App("j")
    app.stream("left", int, max_ahead="1s").to("out")
    with TestRun(app.topology(), 1, guarantee="at_least_once") as t:
        now = t.clock.now()
        for number, time in enumerate((now, now + 1500, now + 5000)):
            t.send("left", number, timestamp=time)
        t.step()
        t.crash()
        t.clock.advance(1000)
        t.run()
        assert set(t.values("out")) == {0, 1}
        assert [record.value for record in t.topic("j-left-ahead")] == [2]


def test_a_journal_of_other_inputs_is_refused_instead_of_waiting_for_ever() -> None:
    log = Log()
    _write(log, "left", (0, 5))
    runner = Runner(log, [Held("left-0", 0, {"right-0": 3}), Held("right-0", 0, {"left-0": 1})])
    _write(log, "right", (0, 6), (5, 7))
    for one in INPUTS:
        runner.feed(one, 9)
    runner.feed_ahead()
    with pytest.raises(DataError, match="does not go with what left-0, right-0"):
        runner.run()
