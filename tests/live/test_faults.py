"""A process that dies at every single call it makes to the log, before it or after it."""

import json
from collections import Counter, defaultdict
from collections.abc import Collection
from threading import Event
from typing import Any

import pytest
from msgspec import Struct

from streamkit import App, State, tumbling
from streamkit.backends.base import Backend
from streamkit.backends.locate import open_backend
from streamkit.clock import ManualClock
from streamkit.codec import partition_for
from streamkit.engine import running
from streamkit.engine.headers import WINDOW
from streamkit.engine.live import run
from streamkit.engine.settings import Settings
from streamkit.records import TopicPartition

PARTITIONS = 2
SECOND = 1000
CALLS = ("append_encoded", "sync", "commit_offsets")
STEPS = ("add", "end", "sync", "mark")


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


class Mortal:
    """A log that its process can use for `lifetime` calls that change something.

    Then it is dead, and changes nothing any more; `late` says whether the last call had its effect.
    """

    def __init__(self, log: Backend, lifetime: int, late: bool) -> None:
        self._log = log
        self._lifetime = lifetime
        self._late = late
        self.calls = 0

    @property
    def is_dead(self) -> bool:
        return self.calls >= self._lifetime

    def transactions(self, transactional_id: str, *, timeout: float) -> Any:
        found = self._log.transactions(transactional_id, timeout=timeout)
        found._coordinator = _Steps(self, found._coordinator)
        return _Mortal(self, found)

    def __getattr__(self, name: str) -> Any:
        return self.counted(self._log, name, CALLS)

    def counted(self, whose: Any, name: str, names: Collection[str]) -> Any:
        found = getattr(whose, name)
        if name not in names:
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls > self._lifetime or (self.calls == self._lifetime and not self._late):
                raise Killed
            result = found(*arguments, **options)
            if self.calls == self._lifetime:
                raise Killed
            return result

        return call


class _Mortal:
    """Its transactions. When it dies, the lock goes that says it lives, and nothing else does."""

    def __init__(self, process: Mortal, transactions: Any) -> None:
        self._process = process
        self._transactions = transactions

    def __getattr__(self, name: str) -> Any:
        return self._process.counted(self._transactions, name, CALLS)

    def close(self) -> None:
        if self._process.is_dead:
            self._transactions._owned.close()
            self._transactions._forget(self._transactions)
        else:
            self._transactions.close()


class _Steps:
    """What its transactions are made of: it may die between the decision and the markers."""

    def __init__(self, process: Mortal, coordinator: Any) -> None:
        self._process = process
        self._coordinator = coordinator

    def __getattr__(self, name: str) -> Any:
        return self._process.counted(self._coordinator, name, STEPS)


class Sale(Struct):
    shop: str
    item: str
    amount: int


class Item(Struct):
    group: str


class Total(Struct):
    group: str
    amount: int


def shop() -> App:
    app = App("shop")
    sales = app.stream("sales", Sale)
    items = app.table("items", Item)

    @sales.process(to="numbered")
    def numbered(sale: Sale, count: State[int]) -> int:
        count.set(count.get(0) + 1)
        return count.get(0)

    @sales.join(items, on="item", to="joined")
    def joined(sale: Sale, item: Item) -> Total:
        return Total(item.group, sale.amount)

    per_group = joined.by("group").window(tumbling("10s", grace="0s"))

    @per_group.aggregate(to="totals")
    def totals(total: Total | None, each: Total) -> Total:
        if total is None:
            return each
        total.amount += each.amount
        return total

    @per_group.aggregate(to="running", emit="update")
    def running_totals(total: int | None, each: Total) -> int:
        return (total or 0) + each.amount

    totals.by("group", name="again").window(tumbling("30s", grace="0s")).count(to="counts")
    return app


def fill(log: Backend) -> None:
    for topic in ("sales", "items"):
        log.create_topic(topic, PARTITIONS)
    for number in range(6):
        key = b"item-%d" % number
        log.append(
            TopicPartition("items", partition_for(key, PARTITIONS)),
            [b'{"group": "group-%d"}' % (number % 3)],
            keys=[key],
            timestamps=0,
        )
    sale = b'{"shop": "shop-%d", "item": "item-%d", "amount": %d}'
    for number in range(36):
        key = b"shop-%d" % (number % 4)
        # The last ones come to each task and close every window before them.
        last = number >= 24
        log.append(
            TopicPartition(
                "sales", number % PARTITIONS if last else partition_for(key, PARTITIONS)
            ),
            [sale % (number % 4, number % 6, 1 << number)],
            keys=[key],
            timestamps=(number + 1000 * last) * 2 * SECOND,
        )


def until_end(log: Any) -> None:
    settings = Settings(commit_interval=0)
    # A clock that stands still: however slow the machine is, no input is idle.
    run(
        shop().topology(),
        log,
        stop=Event(),
        settings=settings,
        until_end=True,
        clock=ManualClock(),
    )


def read(log: Backend, topic: str) -> list[Any]:
    found = []
    for number in range(log.topic(topic).partitions):
        at = TopicPartition(topic, number)
        position, end = log.offsets(at).start, log.end(at)
        while position < end:
            for batch in log.fetch({at: position}):
                found += batch.records()
                position = batch.next_offset
    return found


def upserted(log: Backend, topic: str) -> dict[Any, Any]:
    """What somebody has in the end who upserts by key and window."""
    found: dict[Any, Any] = {}
    for record in read(log, topic):
        *window, events = json.loads(dict(record.headers)[WINDOW])
        found[record.key, tuple(window)] = (events, record.value)
    return found


def state(log: Backend) -> dict[Any, Any]:
    """What a restore would find; of events that wait for their turn, how many.

    Those tell where they stand in a repartition topic, which depends on upstream tasks' turns.
    """
    found: dict[Any, Any] = defaultdict(dict)
    committed = log.committed("shop")
    for topic in log.topics():
        if topic.endswith("-changelog"):
            for record in read(log, topic):
                at = TopicPartition(topic, record.partition)
                if at in committed and record.offset < committed[at].offset:
                    found[topic][record.key] = record.value
    kept = {t: {k: v for k, v in rows.items() if v is not None} for t, rows in found.items()}
    return {t: len(rows) if "-held-" in t else rows for t, rows in kept.items()}


def outcome(log: Backend) -> Any:
    """All that is there, each record as often as it is there.

    In which order updates come depends on how upstream tasks took turns: of these the last counts,
    and how many there are.
    """
    results = {
        topic: Counter((r.key, r.value, r.timestamp, r.headers) for r in read(log, topic))
        for topic in ("totals", "counts", "numbered", "joined")
    }
    updates = upserted(log, "running"), len(read(log, "running"))
    counts = {
        topic: Counter((r.key, r.value) for r in read(log, topic) if r.key is not None)
        for topic in log.topics()
        if topic.endswith(("-late", "-repartition"))
    }
    return results, updates, counts, state(log)


@pytest.fixture(autouse=True)
def one_batch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "FETCH_BYTES", 1)


def begin(path: Any) -> Any:
    log = open_backend(str(path))
    fill(log)
    return log


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_killed_at_any_call_an_app_ends_as_if_it_had_not_been(tmp_path: Any, late: bool) -> None:
    with begin(tmp_path / "whole") as log:
        calls = Mortal(log, 1 << 60, late)
        until_end(calls)
        expected = outcome(log)
    assert len(expected[0]["totals"]) > 10
    # Some of them: an odd stride meets every kind of call. All take minutes.
    for lifetime in range(1 + late, calls.calls + 1, 97):
        with begin(tmp_path / str(lifetime)) as log:
            with pytest.raises(Killed):
                until_end(Mortal(log, lifetime, late))
            until_end(log)
            assert outcome(log) == expected, f"killed at call {lifetime}"
