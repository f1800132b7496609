"""What is done with apps of `random_apps`: what they are sent, and what happens meanwhile."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from random_apps import GLOBAL, SENT, SOURCES, TABLES, Item, Spec, Torn, in_vain

from streamkit import Producer, codec
from streamkit.backends.base import Batch
from streamkit.codec import partition_for
from streamkit.codec.header import stamp
from streamkit.codec.latest import LatestOffsets, keep_latest
from streamkit.engine.running import Running
from streamkit.engine.worker import Worker
from streamkit.errors import FunctionError
from streamkit.records import TopicPartition
from streamkit.testing import TestRun

END = 10_000
FAR = 1 << 42
"""ms since 1970 that nobody believes."""
KEYS = "adgw"  # of all partitions, if there are two or three


MANY = 60 if "STREAMKIT_SOAK" in os.environ else 1
"""So many times as many apps."""


def examples(count: int) -> settings:
    return settings(
        max_examples=count * MANY,
        deadline=None,
        phases=[phase for phase in Phase if phase != Phase.explain],  # which takes minutes
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


@dataclass(frozen=True)
class Sent:
    topic: str
    key: str | None
    partition: int
    value: Item | Torn | int | None
    time: int
    alone: bool = False
    """Compaction has removed the records around it."""


@dataclass(frozen=True)
class Gap:
    """Records of a transaction that is aborted."""

    topic: str
    partition: int


table_rows = st.lists(
    st.tuples(
        st.sampled_from((*TABLES, GLOBAL, GLOBAL)),
        st.sampled_from(KEYS + "xy"),
        st.none() | st.integers(1, 1 << 20),
        st.integers(0, 60),
    ),
    max_size=12,
)
moves = st.lists(
    st.one_of(
        *[  # of one strategy only the first would count
            st.tuples(
                st.sampled_from(SOURCES),
                st.sampled_from(KEYS),
                st.integers(0, 60),
                st.sampled_from("xyz"),
            )
            for _ in range(3)
        ],
        st.tuples(
            st.sampled_from(
                [
                    *["run", "run", "gap", "step", "commit", "crash", "rebalance", "advance"],
                    *["step", "commit", "crash", "pass", "pass", "away", "finish"],
                    *["source", "source", "sink"],
                ]
            ),
            st.integers(0, 3),
        ),
    ),
    min_size=10,
    max_size=50,
)


class Bell:
    """Rings while functions are called, or events are read, now and then, as if that had taken too
    long."""

    def __init__(self, seed: int) -> None:
        self._dice = Random(seed)
        self._ring: Callable[[], None] | None = None

    @contextmanager
    def at(self, moment: float, ring: Callable[[], None]) -> Iterator[None]:
        self._ring = ring
        yield
        self._ring = None

    def slow(self) -> None:
        if self._ring is not None and self._dice.random() < 0.3:
            self._ring()


class Interrupted(TestRun):
    """A run whose tasks have to let others have their turn when a bell rings, and know no more of
    how fast they are than chance does."""

    bell: Any

    def _worker(self) -> Worker:
        worker = super()._worker()
        worker._bell = self.bell
        return worker

    def _order(self, running: list[Running]) -> list[Running]:
        for one in super()._order(running):
            if self._chance is not None:
                one._pace = self._chance.randint(1, 6)
        return running


def planned(spec: Spec, chosen: list[Any], partitions: int) -> list[Any]:
    """What is sent, and what happens in between."""
    plan: list[Any] = []
    for number, move in enumerate(chosen):
        if move[0] == "gap":
            plan.append(Gap(SOURCES[move[1] % 2], move[1] % partitions))
        elif move[0] not in SOURCES:
            plan.append(move)
        else:
            topic, key, time, other = move
            time -= time % spec.grain
            if spec.ahead and number % 7 == 3:
                time += FAR
            keys = (key,) if spec.grain == 1 else KEYS  # many of one time, or one
            for at, key in enumerate(keys, number * len(keys) + 1):
                partition = partition_for(key.encode(), partitions)
                if spec.nulls and number % 3 == 0:
                    key, partition = None, at % partitions
                k = f"{partition}{other}" if spec.apart else other
                # Numbers that are far apart: what is made of some can be told from all others.
                torn = spec.reads(topic) is not None and at % 9 in (3, 6)
                item: Item | Torn | None
                item = Torn(str(at**7), k) if torn else Item(at**7, k)
                # Those of a stream that takes none are torn.
                if topic in spec.voids and at % 5 == 3 and (torn or spec.nullable(topic)):
                    item = None
                alone = key is not None and at % 4 == 1
                plan.append(Sent(topic, key, partition, item, time, alone))
    return plan


def send(t: TestRun, one: Sent | Gap) -> None:
    if one.topic not in t._backend.topics():
        return  # nothing of the app reads it
    if isinstance(one, Sent):
        value = one.value
        if isinstance(value, Item | Torn):
            value = msgspec.json.encode(value)
        if one.alone:
            at = TopicPartition(one.topic, one.partition)
            t._backend.append_encoded(at, _left_alone(one, value), acks=1)
            return
        t.send(one.topic, value, key=one.key, partition=one.partition, timestamp=one.time)
        return
    with (
        suppress(Abandoned),
        Producer(t._backend, transactional_id="gaps") as producer,
        producer.transaction() as transaction,
    ):
        transaction.send(one.topic, b"never read", key="a", partition=one.partition)
        producer.flush()
        raise Abandoned


def _left_alone(one: Sent, value: Any) -> bytes:
    """What compaction leaves of a batch: one record, and holes before and behind it."""
    assert one.key is not None, "of a topic that is compacted"
    keys = [b"removed", one.key.encode(), b"removed"]
    batch = codec.encode([b"", value, b""], keys=keys, timestamps=[one.time] * 3)
    later = codec.encode([b""], keys=[b"removed"], timestamps=[one.time])
    latest = LatestOffsets(1 << 10)
    head = stamp(later, 3, 0)
    latest.add(head + later[len(head) :])
    count, left = keep_latest(batch, latest, tombstones=True, horizon=0)
    assert count == 1 and left is not None
    return left


def act(t: TestRun, one: Any) -> None:
    """What may stop the app is done again until it does not."""
    if isinstance(one, Sent | Gap):
        send(t, one)
        return
    what, which = one
    if what in ("source", "sink"):
        return  # as long as none run
    with suppress(FunctionError):
        if what in ("run", "step", "finish"):
            getattr(t, what)()
        elif what == "rebalance":
            t.rebalance(which or None)
        elif what == "advance":
            t.advance(f"{which * 3}s")
        elif what == "away":
            t.crash()
            t.clock.advance(1500)
        elif what == "pass":
            t.advance("40ms")  # too little for any input to be idle
        else:
            getattr(t, what)(None if which == 3 else which % t.members)


def end(t: TestRun, finish: Callable[[], None]) -> None:
    """Have all that was sent processed, whatever stops it, and all attempts made."""
    for _ in range(1000):
        with suppress(FunctionError):
            t.run()
            while any(task.answers.is_waiting for task in t.tasks):
                t.advance("1s")
            finish()
            if not any(task.answers.is_waiting for task in t.tasks):
                return
    raise AssertionError("it does not come to an end")


def finish(t: TestRun, spec: Spec, by_itself: bool) -> Callable[[], None]:
    """What closes all that is open: for a time that is known, where something comes later."""
    if (
        by_itself
        and not spec.mended()
        and all(step.op not in ("timer", "quiet") for step in spec.steps)
    ):
        return t.finish
    return lambda: t.finish(END)


def retry(t: TestRun, spec: Spec, mended: set[int], dice: Random | None = None) -> None:
    """Mend one step after the other, and have it given again what it has set aside, all of it
    once, whatever happens meanwhile."""
    for number in spec.mended():
        if in_vain(number):
            _retry(t, f"s{number}", dice)
        mended.add(number)
        times = 0
        while _retry(t, f"s{number}", dice):
            times += 1
            assert times < 100, f"s{number} sets aside again what it does not fail for"
    if spec.mended():
        # What timers gave of it may wait, for steps with timers, until time goes on.
        end(t, lambda: t.finish(END + 1))


def _retry(t: TestRun, step: str, dice: Random | None) -> bool:
    """Whether there was anything."""
    if not t.retry(step):
        return False
    assert t.retry(step) == 0
    for _ in range(0 if dice is None else dice.randrange(5)):
        act(t, (dice.choice(["step", "step", "commit", "crash", "rebalance"]), 3))
    end(t, lambda: None)
    return True


def is_told_alike(one: Any) -> bool:
    """Whether what happens has no part in what the results are: the clock decides nothing."""
    return isinstance(one, Sent | Gap) or one[0] not in ("advance", "finish")


def batches(t: TestRun, at: TopicPartition) -> Iterator[Batch]:
    position = 0
    while found := t._backend.fetch({at: position}):
        for batch in found:
            yield batch
            position = batch.next_offset


class Abandoned(Exception):
    pass


def fill(t: TestRun, table: list[Any], partitions: int) -> None:
    """What is there before the app begins."""
    if SENT not in t._backend.topics():
        t.create_topic(SENT)
    for topic, key, value, time in table:
        send(t, Sent(topic, key, partition_for(key.encode(), partitions), value, time))
