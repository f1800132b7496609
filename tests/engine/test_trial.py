"""What a test can do to an app, and that the app does not mind."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit import App, Context, State
from streamkit.dsl.windows import tumbling
from streamkit.errors import (
    DataError,
    FunctionError,
    InvalidRecord,
    SerdeError,
    UnknownTopic,
    UsageError,
)
from streamkit.testing import TestRun


def shop(fail_at: int | None = None) -> App:
    """Counts per key, per first letter behind a repartition, and a window of these."""
    app = App("shop")
    events = app.stream("events", int)

    @events.process(to="counts")
    def count(number: int, seen: State[int], context: Context) -> tuple[int, int]:
        if number == fail_at:
            raise ValueError("this one")
        seen.set(seen.get(0) + 1)
        return number, seen.get(0)

    by_last = events.by(lambda number: str(number % 3), name="last")

    @by_last.process(to="sums")
    def total(number: int, sofar: State[int]) -> tuple[int, int]:
        sofar.set(sofar.get(0) + number)
        return number, sofar.get(0)

    by_last.window(tumbling("10ms", grace="0s")).count(to="windows")
    return app


plays = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 3)),
        st.tuples(st.sampled_from(["step", "commit", "crash"]), st.integers(0, 3)),
        st.tuples(st.just("rebalance"), st.integers(0, 3)),
        st.tuples(st.just("advance"), st.integers(1, 7000)),
    ),
    max_size=30,
)


@settings(max_examples=80, deadline=None)
@given(plays, st.integers(1, 3), st.integers(1, 3), st.integers(1, 5), st.integers(0, 99))
def test_each_result_is_there_once_whatever_happens_in_between(
    plays: list[tuple[str, int]], partitions: int, members: int, batch: int, seed: int
) -> None:
    sent: Counter[str] = Counter()
    numbers = []
    with TestRun(shop().topology(), partitions, members=members, batch=batch) as t:
        t.shuffle(seed)
        for number, (play, which) in enumerate(plays):
            if play == "send":
                key = "abcd"[which]
                t.send("events", number, key=key, timestamp=number)
                sent[key] += 1
                numbers.append(number)
            elif play == "step":
                t.step()
            elif play == "rebalance":
                t.rebalance(which or None)
            elif play == "advance":
                t.advance(f"{which}ms")
            else:
                getattr(t, play)(None if which == 3 else which % t.members)
        t.run()
        assert sorted(number for number, _ in t.values("counts")) == numbers
        counted: Counter[str] = Counter()
        for record in t.topic("counts"):
            counted[record.key] += 1
            assert record.value[1] == counted[record.key]
        assert counted == sent
        sums: Counter[str] = Counter()
        for record in t.topic("sums"):
            number, total = record.value
            sums[record.key] += number
            assert total == sums[record.key]
        assert sum(sums.values()) == sum(numbers)
        t.finish(10_000)
        windows = t.topic("windows")
        assert len({(r.key, r.timestamp) for r in windows}) == len(windows)
        late = len(t.topic("shop-last-count-late"))
        assert sum(record.value for record in windows) + late == len(numbers)


def test_nothing_is_read_before_it_is_committed() -> None:
    with shop().test(partitions=1) as t:
        t.send("events", 1, key="a")
        while t.step():
            pass
        assert t.values("counts") == []
        t.commit()
        assert len(t.values("counts")) == 1


def test_at_least_once_shows_results_at_once_and_twice_after_a_crash_but_state_is_exact() -> None:
    with TestRun(shop().topology(), 1, guarantee="at_least_once") as t:
        t.send("events", 1, key="a")
        t.step()
        assert t.values("counts") == [(1, 1)]
        t.crash()
        t.run()
        assert t.values("counts") == [(1, 1), (1, 1)]
        t.send("events", 2, key="a")
        t.run()
        assert t.values("counts")[-1] == (2, 2)
        t.send("events", 4, key="a")
        t.run()
        assert t.values("sums")[-1] == (4, 5)  # what the app hands to itself is there once


def counted_by_hand(events: Any) -> None:
    @events.process
    def seen(number: int, before: State[int]) -> None:
        before.set(before.get(0) + 1)


@pytest.mark.parametrize(
    ("keeping", "what"),
    [
        (counted_by_hand, r"the State of seen \(.*\)"),
        (lambda events: events.count(name="n"), "the fold of n"),
        (lambda events: events.to_table(name="latest"), "the table latest"),
    ],
)
def test_an_event_without_a_key_is_refused_where_something_is_kept_of_keys(
    keeping: Callable[[Any], None], what: str
) -> None:
    app = App("shop")
    keeping(app.stream("events", int))
    with app.test(partitions=1) as t:
        t.send("events", 1)
        with pytest.raises((DataError, FunctionError), match=f"events-0@0: {what} needs a key"):
            t.run()


def test_tasks_and_members_take_turns_in_another_order_with_another_seed() -> None:
    for members in (1, 4):
        met = {tuple(order_of_turns(seed, members)) for seed in range(8)}
        assert len(met) > 1
        assert {tuple(sorted(each)) for each in met} == {(0, 1, 2, 3)}


def order_of_turns(seed: int, members: int) -> list[int]:
    app, met = App("shop"), []

    @app.stream("events", int).process
    def note(number: int) -> None:
        met.append(number)

    with TestRun(app.topology(), 4, members=members) as t:
        t.shuffle(seed)
        for number in range(4):
            t.send("events", number, partition=number)
        t.run()
    return met


def test_how_far_time_has_come_by_finish_outlives_a_crash() -> None:
    app = App("shop")
    app.stream("events", int).window(tumbling("10ms", grace="0s")).count(to="windows")
    with app.test(partitions=1) as t:
        t.finish(100)
        t.crash()
        t.send("events", 1, key="a", timestamp=5)
        t.run()
        assert len(t.topic("shop-events-count-late")) == 1


def test_members_share_the_tasks_and_who_comes_or_goes_takes_its_state_along() -> None:
    with shop().test(partitions=4, members=2) as t:
        for number in range(20):
            t.send("events", number, key=str(number % 7))
        t.run()
        assert len(t.tasks) == 8
        for members in (3, 1, None, 4):
            t.rebalance(members)
            assert t.members == (members or 1)
            for number in range(20):
                t.send("events", number, key=str(number % 7))
            t.run()
            assert len(t.tasks) == 8
        assert max(count for _, count in t.values("counts")) == 15
        assert len(t.values("counts")) == 100


def test_what_fails_stops_its_member_and_the_test_can_go_on() -> None:
    with shop(fail_at=2).test(partitions=1) as t:
        for number in range(4):
            t.send("events", number, key="a")
        for _ in range(2):
            with pytest.raises(FunctionError, match=r"this one.*events-0@2"):
                t.run()
            # What came before is committed, as live.
            assert t.values("counts") == [(0, 1), (1, 2)]


def test_what_a_function_sends_to_has_to_be_there_as_live() -> None:
    app = App("x")

    @app.stream("events", str).process
    def send(event: str, context: Context) -> None:
        context.send("elsewhere", event)

    with app.test() as t:
        t.send("events", "a")
        with pytest.raises(UnknownTopic, match="elsewhere"):
            t.run()
        t.create_topic("elsewhere")
        t.run()
        assert len(t.topic("elsewhere")) == 1


def test_senseless_numbers_are_refused() -> None:
    topology = shop().topology()
    for wrong in ({"partitions": 0}, {"members": 0}, {"batch": 0}):
        with pytest.raises(UsageError, match="at least one"):
            TestRun(topology, **wrong)
    with TestRun(topology) as t:
        for number in (0, -1, "two", 1.5):
            with pytest.raises(UsageError, match=f"members={number!r}: an int, at least one"):
                t.rebalance(number)  # type: ignore[arg-type]
        for number in (7, -1, "one"):
            for act in (t.crash, t.commit):
                with pytest.raises(UsageError, match=f"no member {number!r}: there are 1, number"):
                    act(number)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="ms since 1970"):
            t.finish("1h")  # type: ignore[arg-type]
        with pytest.raises(InvalidRecord, match="milliseconds since 1970"):
            t.send(topology.sources[0], b"", timestamp=datetime.now(UTC))  # type: ignore[arg-type]


def test_bytes_that_are_not_of_the_type_are_sent_as_they_are() -> None:
    app = App("a")
    app.stream("numbers", int, on_error="dlq").to("same")
    with app.test() as t:
        t.send("numbers", b"rubbish")
        t.send("numbers", 7)
        t.run()
        assert t.values("same") == [7]
        (letter,) = t.topic("a-dlq")
        assert letter.value == b"rubbish"
        with pytest.raises(SerdeError, match="expected int, got str"):
            t.send("numbers", "rubbish")
