"""What was skipped or set aside live, a replay skips and sets aside again, to the byte; what came
back live is no business of its."""

import json
from collections import defaultdict
from itertools import combinations_with_replacement, cycle
from threading import Event as Flag
from typing import Any

import pytest

from streamkit.app import App
from streamkit.backends.base import Backend
from streamkit.backends.locate import open_backend
from streamkit.dsl.context import Context
from streamkit.dsl.failures import dlq, retry
from streamkit.dsl.state import State
from streamkit.engine.dead_letters import Choice, DeadLetters
from streamkit.engine.live import run as run_live
from streamkit.records import TopicPartition
from streamkit.replay.begin import begin
from streamkit.replay.run import run


def app(mode: Any, on_error: Any) -> App:
    app = App("shop")
    numbers = app.stream("numbers", int, on_error=dlq("bad", mode=mode))

    @numbers.process(to="out", on_error=on_error)
    def listed(number: int, seen: State[list[int]], context: Context) -> list[int]:
        if number % 7 == 0:
            raise ValueError(f"{number} will not do: {context.uuid()}")
        seen.set([*seen.get([]), number])
        return seen.get([])

    return app


def read(log: Backend, topic: str) -> dict[Any, list[Any]]:
    """By key: two tasks write to each partition, in no order."""
    found: dict[Any, list[Any]] = defaultdict(list)
    for number in range(log.topic(topic).partitions):
        at = TopicPartition(topic, number)
        position = log.offsets(at).start
        while position < log.offsets(at).end:
            for batch in log.fetch({at: position}):
                for r in batch.records():
                    found[number, r.key].append((r.value, r.timestamp, r.headers))
                position = batch.next_offset
    return found


@pytest.mark.parametrize("policy", ["skip", "dlq", "retry"])
@pytest.mark.parametrize("mode", ["record", "key"])
def test_a_replay_sets_aside_what_was_set_aside(tmp_path: Any, policy: str, mode: Any) -> None:
    on_error: Any = {
        "skip": "skip",
        "dlq": dlq(mode=mode),
        "retry": retry(2, backoff="10ms", pause="key", then=dlq(mode=mode)),
    }[policy]
    topology = app(mode, on_error).topology()
    with open_backend(tmp_path / "log") as log:
        log.create_topic("numbers", 2)
        for n in range(60):
            at, value = TopicPartition("numbers", n % 2), b"?" if n % 23 == 5 else b"%d" % n
            log.append(at, [value], keys=[b"k%d" % (n % 10)], timestamps=1000 * n)
        run_live(topology, log, until_end=True, stop=Flag())
        topics = ["out", "bad", *(["shop-dlq"] if policy != "skip" else [])]
        live = {topic: read(log, topic) for topic in topics}
        assert all(live.values())
        assert DeadLetters.of(log, "shop").give_back().total() > 2
        run_live(topology, log, until_end=True, stop=Flag())
        session = begin(topology, log, name="r", from_text="earliest", to_text="latest", now=10**9)
        assert run(topology, log, session, stop=Flag()).finished
        for topic, rows in live.items():
            assert read(log, session.shadow(topic)) == rows, topic


@pytest.mark.parametrize("pause", ["key", "partition"])
def test_whenever_attempts_come_letters_are_in_order_and_a_replay_gives_the_same(
    pause: Any,
) -> None:
    """Between any two records, also those of other keys; at the end; around commits and crashes."""
    app, once = App("shop"), [1]
    numbers = app.stream("numbers", int)

    @numbers.process(to="out", on_error=retry(2, backoff="10ms", pause=pause, then=dlq(mode="key")))
    def listed(number: int, seen: State[list[int]], context: Context) -> list[int]:
        if number in once:
            once.clear()
            raise ConnectionError(f"{number} will do later")
        if number in (0, 3):
            raise ValueError(f"{number} will not do: {context.uuid()}")
        seen.set([*seen.get([]), number])
        return seen.get([])

    # Into the same topic: of when anything leaves the other step its order tells.
    numbers.map(lambda number: [-number], name="plain").to("out")
    topology, keys = app.topology(), "abaa"
    does = cycle([[], ["commit"], ["crash"], ["commit", "crash"], ["rebalance"]])
    for first, second in combinations_with_replacement(range(len(keys) + 2), 2):
        what, when = next(does), (first + second) % len(keys)
        once[:] = [1]
        with app.test(1) as live:
            live.batch = 1
            for number, key in enumerate(keys):
                live.send("numbers", number, key=key)
            for step in range(len(keys) + 1):
                live.clock.advance(10 * (step == first) + 20 * (step == second))
                for each in what if step == when else []:
                    getattr(live, each)()
                live.step()
            live.run()
            live.advance("1s")  # those that come after the last record
            log, told = live._backend, (first, second, what, when)
            letters = list(DeadLetters(log, ["shop-dlq"], "shop").all())
            assert [dead.letter.offset for dead in letters] == [0, 2, 3], told
            session = begin(
                topology, log, name="r", from_text="earliest", to_text="latest", now=10**9
            )
            assert run(topology, log, session, stop=Flag()).finished
            assert read(log, session.shadow("shop-dlq")) == read(log, "shop-dlq"), told
            again = [json.loads(value) for value in live.values(session.shadow("out"))]
            assert again == live.values("out"), told


@pytest.mark.parametrize("behind", [False, True])
def test_what_came_back_live_moves_nothing_in_a_replay(behind: bool) -> None:
    """`behind`: it came back while another event waited, and then it will do."""
    app = App("shop")
    numbers = app.stream("numbers", int)

    @numbers.process(to="out", on_error=retry(1, backoff="1s", then=dlq(mode="key")))
    def listed(number: int, context: Context) -> int | None:
        if number < 4:
            raise ValueError(f"{number} will not do")
        return None if number == 5 else number

    # Into the same topic: of when anything leaves the other step its order tells.
    numbers.map(lambda number: -number, name="plain").to("out")

    def send(*events: tuple[str, int]) -> None:
        for key, number in events:
            live.send("numbers", number, key=key, timestamp=1000)
        live.run()

    with app.test(1) as live:
        send(("a", 0))
        live.advance("1s")
        follows = 5 if behind else 1  # goes where the one before it has gone
        send(("a", follows), ("b", 10), ("b", 11))
        letters = DeadLetters(live._backend, ["shop-dlq"], "shop")
        first = next(letters.all())
        where = frozenset([(first.at.partition, first.offset)])
        letters.give_back(Choice(at=where), discard=True, clock=live.clock)
        live.run()
        if behind:
            send(("c", 2))
        live.retry()
        live.advance("3s")
        send(("d", 12), ("d", 13), ("e", 3))
        live.advance("1s")
        log, topology = live._backend, app.topology()
        session = begin(topology, log, name="r", from_text="earliest", to_text="latest", now=10**9)
        assert run(topology, log, session, stop=Flag()).finished
        out = live.values("out")
        assert [number for number in out if number > 0] == [10, 11, 12, 13]
        assert list(map(int, live.values(session.shadow("out")))) == out
