"""What was set aside comes back to its step: each once, and by key in order."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit import (
    App,
    Context,
    FunctionError,
    Record,
    State,
    TopicPartition,
    UnknownTopic,
    UsageError,
    dlq,
    retry,
    tumbling,
)
from streamkit.clients.admin import Admin
from streamkit.engine.dead_letters import Choice, Dead, DeadLetters
from streamkit.testing import TestRun


class Order(msgspec.Struct):
    amount: int


class Lax(msgspec.Struct):
    amount: int | str


@dataclass
class Broken:
    """What fails for the time being."""

    numbers: set[int] = field(default_factory=set)

    def check(self, number: int) -> None:
        if number in self.numbers:
            raise ValueError(f"{number} fails")


def shop(broken: Broken, mode: Any = "record") -> App:
    app = App("shop")

    @app.stream("numbers", int).process(to="out", on_error=dlq(mode=mode))
    def listed(number: int, seen: State[list[int]], context: Context) -> list[int]:
        numbers = seen.get([])
        numbers.append(number)
        seen.set(numbers)
        context.send("sent", number, key=context.key)
        broken.check(number)
        return numbers

    return app


def started(app: App, partitions: int = 1) -> TestRun:
    run = app.test(partitions)
    run.create_topic("sent")
    return run


def letters(run: TestRun, topic: str = "shop-dlq") -> DeadLetters:
    return DeadLetters(run._backend, [topic], None)


def give_back(run: TestRun, dead: Dead, *, discard: bool = False) -> None:
    choice = Choice(at=frozenset([(dead.at.partition, dead.offset)]))
    letters(run).give_back(choice, discard=discard, clock=run.clock)


def test_what_fails_comes_back_when_it_is_asked_for() -> None:
    broken = Broken({2})
    with started(shop(broken)) as run:
        for number in (1, 2, 3):
            run.send("numbers", number, key="a")
        run.run()
        assert run.values("out") == [[1], [1, 3]]
        broken.numbers.clear()
        assert run.retry("listed") == 1
        with pytest.raises(UsageError, match=r"no step 'lsted' .* did you mean 'listed'"):
            run.retry("lsted")
        assert run.retry() == 0
        run.run()
        assert run.values("out") == [[1], [1, 3], [1, 3, 2]]
        assert [record.timestamp for record in run.topic("out")] == [run.clock.now()] * 3
        assert list(letters(run).waiting()) == []
        (one,) = letters(run).summaries()
        assert (one.waiting, one.retried) == (0, 1)


def test_what_fails_again_is_set_aside_again_and_says_how_often() -> None:
    with started(shop(Broken({2}))) as run:
        run.send("numbers", 2, key="a")
        for _ in range(3):
            run.run()
            assert run.retry() == 1
        run.run()
        *_, last = letters(run).all()
        assert (last.letter.attempts, last.letter.source) == (4, "numbers-0@0")
        assert [dead.offset for dead in letters(run).waiting()] == [last.offset]


def test_it_is_processed_as_of_the_record_it_was_made_of() -> None:
    app, broken, seen = App("shop"), Broken({1}), []

    @app.stream("numbers", int).process(to="out", on_error="dlq")
    def told(number: int, context: Context) -> int:
        at = (context.topic, context.partition, context.offset, context.timestamp, context.headers)
        seen.append((*at, context.key, context.uuid()))
        broken.check(number)
        return number

    with app.test(2) as run:
        run.send("numbers", 0, key="k", partition=1, timestamp=5)
        run.send("numbers", 1, key="k", partition=1, timestamp=7, headers=(("a", b"b"),))
        run.run()
        run.retry()
        run.run()  # fails again
        broken.numbers.clear()
        run.retry()
        run.run()
        _, *times = seen
        assert len(times) == 3
        assert len(set(times)) == 1
        assert run.topic("out")[-1].headers == (("a", b"b"),)


def test_events_of_one_record_have_ids_of_their_own_when_they_come_back_too() -> None:
    app, broken, drawn = App("shop"), Broken({1, 2}), defaultdict(list)

    @app.stream("numbers", int).process
    def each(number: int) -> Iterator[int]:
        yield from range(number)

    @each.process(to="out", on_error="dlq")
    def told(number: int, context: Context) -> int:
        drawn[number].append(context.uuid())
        broken.check(number)
        return number

    with app.test(1) as run:
        run.send("numbers", 4, key="k", timestamp=5)
        run.run()
        broken.numbers.clear()
        run.retry()
        run.run()
        assert sorted(run.values("out")) == [0, 1, 2, 3]
        assert [len(ids) for _, ids in sorted(drawn.items())] == [1, 2, 2, 1]
        assert [len(set(ids)) for ids in drawn.values()] == [1, 1, 1, 1]
        assert len({id_ for ids in drawn.values() for id_ in ids}) == 4


def test_by_key_later_events_wait_behind_the_first_that_failed() -> None:
    broken = Broken({2})
    with started(shop(broken, "key")) as run:
        for number in (1, 2, 3):
            run.send("numbers", number, key="a")
        run.send("numbers", 9, key="b")
        run.send("numbers", 2)  # of no key, so that nothing follows it
        run.send("numbers", 4, key="a")
        run.run()
        assert sorted(run.values("out")) == [[1], [9]]
        found = [(d.value, d.letter.error, d.letter.behind) for d in letters(run).waiting()]
        assert [value for value, _, _ in found] == [b"2", b"3", b"2", b"4"] or len(found) == 4
        run.retry()  # fails again, and all go back
        run.run()
        assert len(run.values("out")) == 2
        broken.numbers.clear()
        run.send("numbers", 5, key="a")  # still behind them
        run.run()
        assert len(run.values("out")) == 2
        run.retry(key="a")
        run.run()
        assert run.values("out")[-1] == [1, 2, 3, 4, 5]
        run.send("numbers", 6, key="a")
        run.run()
        assert run.values("out")[-1] == [1, 2, 3, 4, 5, 6]


def test_whoever_comes_back_before_its_turn_goes_to_the_others() -> None:
    broken = Broken({1})
    with started(shop(broken, "key")) as run:
        for number in (1, 2, 3):
            run.send("numbers", number, key="a")
        run.run()
        broken.numbers.clear()
        first, _, third = letters(run).waiting()
        give_back(run, third)
        give_back(run, first)
        run.run()
        assert run.values("out") == [[1]]
        run.send("numbers", 4, key="a")  # two are still before it
        run.run()
        assert run.values("out") == [[1]]
        assert run.retry() == 3
        run.run()
        assert run.values("out")[-1] == [1, 2, 3, 4]


def test_what_is_given_up_holds_up_nothing() -> None:
    broken = Broken({1})
    with started(shop(broken, "key")) as run:
        for number in (1, 2):
            run.send("numbers", number, key="a")
        run.run()
        first, _ = letters(run).waiting()
        give_back(run, first, discard=True)
        assert run.retry() == 1
        run.run()
        assert run.values("out") == [[2]]


def test_who_is_given_up_before_its_turn_has_left_the_row() -> None:
    broken = Broken({1})
    with started(shop(broken, "key")) as run:
        for number in range(1, 6):
            run.send("numbers", number, key="a")
        run.run()
        broken.numbers.clear()
        for dead in list(letters(run).waiting())[1::2]:
            give_back(run, dead, discard=True)
        last = list(letters(run).waiting())[-1]
        give_back(run, last, discard=True)
        run.run()
        assert [dead.value for dead in letters(run).waiting()] == [b"1", b"3"]
        assert run.retry() == 2
        run.run()
        assert run.values("out")[-1] == [1, 3]
        run.send("numbers", 6, key="a")  # nobody is before it any more
        run.run()
        assert run.values("out")[-1] == [1, 3, 6]


def test_what_came_back_and_waits_for_an_answer_has_come_back_after_a_crash_too() -> None:
    app, broken = App("shop"), Broken({1})

    @app.stream("numbers", int).process(
        name="asked", to="out", order="key", on_error=dlq(mode="key")
    )
    async def asked(number: int) -> int:
        await asyncio.sleep(1)
        broken.check(number)
        return number

    with app.test(1) as run:
        for number in (1, 2):
            run.send("numbers", number, key="a")
        run.run()
        broken.numbers.clear()
        assert run.retry() == 2
        run.step()
        run.commit()
        run.crash()
        run.send("numbers", 3, key="a")
        run.run()
        assert run.values("out") == [1, 2, 3]
        assert list(letters(run).waiting()) == []


def test_records_of_a_stream_come_back_as_bytes_and_are_decoded() -> None:
    def declared(type_: Any, mode: Any) -> App:
        app = App("shop")

        @app.stream("orders", type_, on_error=dlq("bad", mode=mode)).process(to="amounts")
        def amount(order: Any) -> int:
            return int(order.amount)

        return app

    with declared(Order, "key").test(1) as run:
        at = TopicPartition("orders", 0)
        values = [b'{"amount":1}', b'{"amount":"2"}', b'{"amount":3}', b'{"amount":4}']
        run._backend.append(at, values, keys=[b"a", b"a", b"a", b"b"], timestamps=5)
        run.run()
        assert run.values("amounts") == [1, 4]

        later = declared(Lax, "key")
        run._topology = later.topology()
        run.crash()
        run.run()
        assert run.retry("orders") == 2
        run.run()
        assert run.values("amounts") == [1, 4, 2, 3]


def test_an_event_that_comes_back_after_its_window_is_late_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app, broken = App("shop"), Broken({1})
    numbers = app.stream("numbers", int)

    @numbers.process(on_error="dlq")
    def checked(number: int) -> int:
        broken.check(number)
        return number

    @checked.window(tumbling("10ms", grace="0s")).aggregate(to="sums", name="sums")
    def total(sofar: int | None, number: int) -> int:
        return (sofar or 0) + number

    with app.test(1) as run:
        for number, stamp in ((1, 1), (2, 2), (1, 12), (4, 13)):
            run.send("numbers", number, key="a", timestamp=stamp)
        run.run()
        assert run.values("sums") == [2]
        broken.numbers.clear()
        caplog.clear()
        run.retry()
        run.run()
        assert caplog.messages == [
            "step sums: 1 event came too late, the first numbers-0@0 of 1970-01-01T00:00:00.001Z, "
            "when time there had come to 1970-01-01T00:00:00.013Z; in shop-sums-late"
        ]
        run.finish(20)
        assert run.values("sums") == [2, 5]
        assert run.values("shop-sums-late") == [1]


def test_where_a_later_step_stops_at_what_comes_back_it_begins_again() -> None:
    app, broken, later = App("shop"), Broken({1, 2}), Broken({2})

    @app.stream("numbers", int).process(on_error="dlq")
    def checked(number: int) -> int:
        broken.check(number)
        return number

    @checked.process(to="out")
    def counted(number: int, seen: State[list[int]]) -> list[int]:
        seen.set([*seen.get([]), number])
        later.check(number)
        return seen.get([])

    with app.test(1) as run:
        for number in (0, 1, 2, 3):
            run.send("numbers", number, key="a", timestamp=number)
        run.run()
        broken.numbers.clear()
        run.retry()
        for _ in range(2):
            with pytest.raises(FunctionError, match="2 fails; it was given the record numbers-0@2"):
                run.run()
        assert run.values("out")[2:] == [[0, 3, 1]]
        later.numbers.clear()
        run.run()
        assert run.values("out")[2:] == [[0, 3, 1], [0, 3, 1, 2]]


def test_what_one_that_came_back_gave_is_there_when_another_of_its_record_stops_the_app() -> None:
    app, broken, later = App("shop"), Broken({1, 2}), Broken({2})

    @app.stream("numbers", int).process
    def each(number: int) -> Iterator[int]:
        yield from range(number)

    @each.process(on_error="dlq")
    def checked(number: int) -> int:
        broken.check(number)
        return number

    @checked.process(to="out")
    def told(number: int, context: Context) -> Iterator[int]:
        context.send("sent", number)
        yield number
        later.check(number)

    with started(app) as run:
        run.send("numbers", 3)
        run.run()
        broken.numbers.clear()
        run.retry()
        with pytest.raises(FunctionError, match="2 fails"):
            run.run()
        assert sorted(run.values("out")) == [0, 1]
        later.numbers.clear()
        run.run()
        assert sorted(run.values("out")) == [0, 1, 2]
        assert [record.value for record in run.topic("sent")] == [b"0", b"1", b"2"]


@pytest.mark.parametrize("how", ["reset", "delete", "rebuild"])
def test_what_had_come_back_does_not_come_once_more_when_all_is_read_again(how: str) -> None:
    app, failing = App("shop"), {1}
    numbers = app.stream("numbers", int)

    @numbers.process(to="out", on_error="dlq")
    def listed(number: int) -> int:
        if number in failing:
            raise ValueError
        return number

    with app.test(1) as run:
        for number in range(3):
            run.send("numbers", number, key="a")
        run.run()
        failing.clear()
        run.retry()
        run.run()
        assert run.values("out") == [0, 2, 1]
        run.__exit__()  # its processes end
        log, at = run._backend, TopicPartition("numbers", 0)
        if how == "reset":
            Admin(log).reset_offsets("shop", "earliest")
        elif how == "delete":
            log.delete_group("shop")
        else:
            run.send("numbers", 3, key="a")
            log.delete_records(at, 4)
            run.send("numbers", 4, key="a")
            run._settings = replace(run._settings, on_missing="rebuild")
        run.run()
        assert run.values("out")[3:] == ([4] if how == "rebuild" else [0, 1, 2])


def test_a_task_is_made_anew_also_where_what_came_back_was_removed_before_it_was_read() -> None:
    app, failing = App("shop"), {1}

    @app.stream("numbers", int).process(to="out", on_error="dlq")
    def listed(number: int) -> int:
        if number in failing:
            raise ValueError
        return number

    with app.test(1) as run:
        for number in range(3):
            run.send("numbers", number, key="a")
        run.run()
        failing.clear()
        run.retry()
        run.__exit__()  # its processes end
        log = run._backend
        run.send("numbers", 3, key="a")
        for topic in ("numbers", "shop-listed-retry"):
            log.delete_records(at := TopicPartition(topic, 0), log.end(at))
        run.send("numbers", 4, key="a")
        run._settings = replace(run._settings, on_missing="rebuild")
        run.run()
        assert run.values("out") == [0, 2, 4]


def test_a_topic_made_again_has_letters_of_its_own() -> None:
    broken = Broken({1})
    with started(shop(broken)) as run:
        run.send("numbers", 1, key="a")
        run.run()
        assert run.retry() == 1
        run._backend.delete_topic("shop-dlq")
        run._backend.create_topic("shop-dlq", 1)
        run.crash()
        run.run()
        assert run.retry() == 1


def test_what_no_step_takes_is_refused() -> None:
    with started(shop(Broken({1}))) as run:
        run.send("numbers", 1, key="a")
        run.run()
        run._backend.delete_topic("shop-listed-retry")
        with pytest.raises(UsageError, match="no step 'listed'"):
            run.retry()
        with pytest.raises(UnknownTopic, match="no app that has run"):
            DeadLetters.of(run._backend, "shops")


# By chance.


@settings(max_examples=60, deadline=None)
@given(
    keys=st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=25),
    failing=st.lists(st.sets(st.integers(0, 24)), min_size=1, max_size=3),
    mode=st.sampled_from(["record", "key"]),
    how=st.sampled_from(["sync", "partition", "key", "async", "async key", "batch"]),
    seed=st.integers(0, 1 << 16),
)
def test_by_chance_nothing_is_lost_nothing_comes_twice_and_keys_keep_their_order(
    keys: list[str | None], failing: list[set[int]], mode: Any, how: str, seed: int
) -> None:
    chance = Random(seed)
    broken = Broken()
    app = App("shop")

    stream: Any = app.stream("numbers", int)

    def plain(number: int, context: Context) -> int:
        context.send("sent", number, key=context.key)
        broken.check(number)
        return number

    async def waits(number: int, context: Context) -> int:
        await asyncio.sleep(number % 3)
        return plain(number, context)

    def batched(some: list[int]) -> list[int]:
        for number in some:
            broken.check(number)
        return some

    said: dict[str, Any] = {"to": "out", "name": "listed", "on_error": dlq(mode=mode)}
    call: Any = plain
    match how:
        case "partition" | "key":
            said["on_error"] = retry(2, backoff="1s", pause=how, then=said["on_error"])
        case "async":
            call = waits
        case "async key":
            said |= {"order": "key", "on_error": retry(1, backoff="1s", then=said["on_error"])}
            call = waits
        case "batch":
            said["batch"] = 3
            call = batched
    listed = stream.process(**said)(call)

    def has_key(record: Record[int]) -> bool:
        return record.key is not None

    @listed.filter(has_key).process(to="kept")
    def kept(number: int, seen: State[list[int]]) -> list[int]:
        seen.set([*seen.get([]), number])
        return seen.get([])

    events = list(zip(keys, range(len(keys)), strict=True))
    rounds: list[set[int]] = [*failing, set()]
    with app.test(2, members=2) as run:
        run.create_topic("sent")
        run.shuffle(seed)
        waiting = list(events)
        for at, numbers in enumerate(rounds):
            broken.numbers = numbers
            run.retry()
            if chance.random() < 0.3:
                run.retry()  # somebody does so twice
            some = len(waiting) if at == len(rounds) - 1 else chance.randint(0, len(waiting))
            for key, number in waiting[:some]:
                run.send("numbers", number, key=key)
            del waiting[:some]
            for _ in range(chance.randrange(4)):
                run.step()
                match chance.randrange(5):
                    case 0:
                        run.crash()
                    case 1:
                        run.commit()
                    case 2:
                        run.rebalance(chance.randint(1, 3))
            run.run()
            run.advance("20s")
        while run.retry():
            run.run()
        got: dict[str | None, list[int]] = defaultdict(list)
        for record in run.topic("out"):
            got[record.key].append(record.value)
        wanted = {key: [n for k, n in events if k == key] for key in {key for key, _ in events}}
        assert {key: sorted(numbers) for key, numbers in got.items()} == wanted
        if mode == "key":
            assert {k: n for k, n in got.items() if k} == {k: n for k, n in wanted.items() if k}
        if how != "batch":
            sent = sorted(int(record.value) for record in run.topic("sent"))
            assert sent == [number for _, number in events]
        last = {record.key: record.value for record in run.topic("kept")}
        assert last == {key: numbers for key, numbers in got.items() if key is not None}
        assert list(letters(run).waiting()) == []


def test_what_is_made_of_it_has_the_ids_that_it_would_have_had() -> None:
    app, broken = App("shop"), Broken()

    @app.stream("numbers", int).process(name="spread")
    def spread(number: int) -> Iterator[int]:
        yield from range(3)

    @spread.process(name="checked", on_error="dlq")
    def checked(number: int) -> str:
        broken.check(number)
        return "good"

    @checked.process(to="out")
    def named(value: str, context: Context) -> str:
        return str(context.uuid())

    found = []
    for broken.numbers in (set[int](), {0, 1}):
        with app.test() as run:
            run.send("numbers", 1, key="a")
            run.run()
            broken.numbers = set()
            run.retry()
            run.crash()
            run.run()
            found.append(sorted(run.values("out")))
    assert found[0] == found[1] and len(set(found[0])) == 3
