"""Others may want their turn at any moment, as a thread finds that looks now and then: wherever it
rings, nothing is lost of what was at hand, and nothing comes twice."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

import pytest

from streamkit import App, Context, State, Timer, dlq, retry, tumbling
from streamkit.engine import turn
from streamkit.testing import TestRun

ENGINE = str(Path(turn.__file__).parent)
AT_HAND = ("retried", "parking", "operators/unread")
"""Where a record is at hand, and it is not decided yet what comes of it."""
AS_TIME_PASSES = ("task_time",)
TIMERS = ("operators/timers",)
IN_ORDER = ("operators/in_order", "task_time")
Found: TypeAlias = dict[str, dict[Any, list[Any]]]
"""What comes out by topic, and by key."""
Moment: TypeAlias = tuple[str, int, int]
"""A line of a file, and which time it is come to."""


class Rings:
    """Has the tasks of a run end their turns at a moment in one of these modules."""

    def __init__(self, modules: tuple[str, ...], at: Moment | None = None) -> None:
        self.at = at
        self._files = [f"{ENGINE}/{name}.py" for name in modules]
        self.lines: Counter[tuple[str, int]] = Counter()
        """How often each was come to."""
        self.run: TestRun | None = None
        self.rang = False

    @contextmanager
    def looking(self) -> Iterator[None]:
        before = sys.gettrace()
        sys.settrace(self._enters)
        try:
            yield
        finally:
            sys.settrace(before)

    def _enters(self, frame: FrameType, event: str, arg: Any) -> Any:
        return self._line if frame.f_code.co_filename in self._files else None

    def _line(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "line":
            line = frame.f_code.co_filename, frame.f_lineno
            self.lines[line] += 1
            if self.at == (*line, self.lines[line]) and self.run is not None:
                self.rang = True
                for worker in self.run._workers:
                    for task in worker.tasks:
                        task.enough()
        return self._line


def shop() -> App:
    app = App("shop")
    numbers = app.stream("numbers", int, on_error=dlq("bad", mode="key"))
    last = dlq(mode="key")

    @numbers.process(to="out", on_error=retry(1, backoff="1s", pause="key", then=last))
    def listed(number: int, seen: State[list[int]], context: Context) -> list[int]:
        if number == 3:
            raise ValueError(f"not {number}")
        seen.set([*seen.get([]), number])
        return seen.get([])

    return app


def set_aside(rings: Rings) -> Found:
    """What was set aside comes back once."""
    with shop().test(1) as run:
        rings.run = run
        for number in range(9):
            run.send("numbers", b"?" if number == 2 else number, key="abc"[number % 3])
        with rings.looking():
            run.run()
        run.advance("1s")
        with rings.looking():
            assert run.retry() > 0
            run.run()
        run.advance("1s")
        return found(run, "out", "bad", "shop-dlq")


def till() -> App:
    app = App("till")
    numbers = app.stream("numbers", int, out_of_order="9ms")
    for ms in (4, 5):
        sums = numbers.window(tumbling(f"{ms}ms")).sum(name=f"of-{ms}", to=f"out-{ms}")
        sums.window(tumbling("10ms")).count(name=f"over-{ms}", to=f"out-{ms}")
    return app


def closed(rings: Rings) -> Found:
    """Some windows close as time passes, others at the end."""
    with till().test(1) as run:
        rings.run = run
        for number, time in enumerate((1, 2, 6, 14, 21)):
            run.send("numbers", number, key="ab"[number % 2], timestamp=time)
        with rings.looking():
            run.run()
            run.finish()
        return found(run, "out-4", "out-5")


def clock() -> App:
    app = App("clock")
    by = app.stream("numbers", int).by(str, name="by")

    @by.process(name="set")
    def set_(number: int, context: Context) -> None:
        for name in "ab":
            context.timer(f"{name}{number}", after="3ms")

    @set_.on_timer(name="rung")
    def rung(timer: Timer) -> str:
        return str(timer.name)

    def refused(name: str) -> None:
        raise ValueError(name)

    rung.map(refused, name="refused", on_error=dlq(mode="record")).to("out")
    return app


def set_aside_as_of(rings: Rings) -> Found:
    """Timers are due before events of their turn."""
    with clock().test(1) as run:
        rings.run = run
        for time in (1, 9, 30):
            run.send("numbers", 7, key="a", timestamp=time)
        with rings.looking():
            go_on(run, rings)
        run.finish()
        letters: Found = {}
        for one in run.topic("clock-dlq"):
            # Where it is in the topic between depends on where markers of time are.
            told = {name: data for name, data in one.headers if "ordinal" in name}
            letters.setdefault("letters", {}).setdefault(one.key, []).append((one.value, told))
        return letters


def desk() -> App:
    app = App("desk")
    rows, numbers = (
        app.stream(name, int, out_of_order="9ms").by(str, name=name, in_order=True)
        for name in ("rows", "numbers")
    )

    def with_row(number: int, row: int | None) -> str:
        return f"{number} {row}"

    met = numbers.join(rows.to_table(name="last"), how="left", name="met")(with_row)
    met.to("out")
    met.window(tumbling("4ms")).count(name="met-in-4ms", to="counts")
    return app


def in_one_order(rings: Rings) -> Found:
    """Two streams are in order, and a table is made of one for the other."""
    with desk().test(1) as run:
        rings.run = run
        for time in (1, 2, 5, 6, 9, 30, 31):
            run.send("rows" if time % 2 else "numbers", 7, key="a", timestamp=time)
        with rings.looking():
            go_on(run, rings)
            run.finish()
        return found(run, "out", "counts")


def hush() -> App:
    """Windows that close in silence, of windows that do."""
    app = App("hush")
    numbers = app.stream("numbers", int, out_of_order="9ms")
    for ms in (4, 5):
        windows = numbers.window(tumbling(f"{ms}ms"), close_after_idle="2s")
        sums = windows.sum(name=f"of-{ms}", to=f"out-{ms}")
        over = sums.window(tumbling("10ms"), close_after_idle="2s")
        over.count(name=f"over-{ms}", to=f"out-{ms}")
    return app


def told_once(app: App, rings: Rings, tell: Callable[[TestRun], object]) -> Found:
    """What closes that was told of before the app died, and is not told of again."""
    with app.test(1) as run:
        rings.run = run
        for number, time in enumerate((1, 2, 6, 14, 21)):
            run.send("numbers", number, key="ab"[number % 2], timestamp=time)
        run.run()
        with rings.looking():
            tell(run)
            go_on(run, rings)
        return found(run, "out-4", "out-5")


def closed_at_an_end(rings: Rings) -> Found:
    return told_once(till(), rings, lambda run: run._act(lambda one: one.end(1)))


def closed_in_silence(rings: Rings) -> Found:
    return told_once(hush(), rings, lambda run: run.clock.advance(3000))


def go_on(run: TestRun, rings: Rings) -> None:
    """Process what there is. The app dies where a turn ended, once that is committed."""
    while rings.rang or run.step() or any(worker.uncommitted for worker in run._workers):
        run.commit()
        if rings.rang:
            run.crash()
            rings.rang = False


def found(run: TestRun, *topics: str) -> Found:
    what: Found = {}
    for topic in topics:
        by_key = what[topic] = {}
        for one in run.topic(topic):
            by_key.setdefault(one.key, []).append((one.value, one.timestamp, one.headers))
    return what


@pytest.mark.parametrize(
    ("play", "modules"),
    [
        (set_aside, AT_HAND),
        (closed, AS_TIME_PASSES),
        (set_aside_as_of, TIMERS),
        (in_one_order, IN_ORDER),
        (closed_at_an_end, AS_TIME_PASSES),
        (closed_in_silence, AS_TIME_PASSES),
    ],
)
def test_wherever_a_turn_ends_nothing_is_lost_and_nothing_comes_twice(
    play: Callable[[Rings], Found], modules: tuple[str, ...]
) -> None:
    quiet = Rings(modules)
    whole = play(quiet)
    assert all(whole.values())
    moments = {(*line, time) for line, count in quiet.lines.items() for time in {1, count}}
    assert len(moments) > 30
    for moment in moments:
        assert play(Rings(modules, moment)) == whole, moment
