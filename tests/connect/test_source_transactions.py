"""Records of a source and its positions are one: both count, or neither."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from streamkit import codec
from streamkit.backends.base import Backend
from streamkit.backends.locate import open_backend
from streamkit.clients.transactional import TransactionalAppends
from streamkit.clock import SystemClock
from streamkit.connect import SourceContext, SourceItem, SourceRecord, source
from streamkit.connect.config import parse_worker
from streamkit.connect.offsets import SourceOffsets, encode_key, encode_value
from streamkit.connect.source_task import SourceTask
from streamkit.connect.status import Progress
from streamkit.connect.transaction import SourceTransaction
from streamkit.errors import OutOfSpace, ProducerFenced
from streamkit.records import TopicPartition

OFFSETS = TopicPartition("connect-offsets", 0)
PLACE = {"numbers": "all"}


@dataclass
class Gate:
    """Where the source waits for the test, and what it was told to begin with."""

    reached: Event = field(default_factory=Event)
    go_on: Event = field(default_factory=Event)
    began: int = -1


@dataclass(frozen=True, slots=True)
class NumbersConfig:
    upto: int = 4
    gate: int = 2


def gated(gate: Gate) -> Any:
    @source(config=NumbersConfig)
    def numbers(config: NumbersConfig, ctx: SourceContext) -> Iterator[SourceItem]:
        gate.began = (ctx.offset(PLACE) or {"next": 0})["next"]
        for n in range(gate.began, config.upto):
            if n == config.gate:
                gate.reached.set()
                gate.go_on.wait(30)
            yield SourceRecord("numbers", str(n), None, PLACE, {"next": n + 1})

    return numbers


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Backend]:
    with open_backend(str(tmp_path / "log")) as log:
        yield log


def task(log: Backend, gate: Gate, stop: Event, options: NumbersConfig | None = None) -> SourceTask:
    document = {"connectors": {"n": {"connector.class": "any:numbers"}}}
    (config,) = parse_worker(document, "w.toml", lambda *_: "").connectors
    options = options or NumbersConfig()
    progress, clock = Progress("n"), SystemClock()
    return SourceTask(
        config, gated(gate), options, log, "workers", OFFSETS.topic, progress, clock, stop
    )


def values(log: Backend, partition: TopicPartition, **how: Any) -> list[bytes | None]:
    found: list[bytes | None] = []
    position = 0
    while batches := log.fetch({partition: position}, **how):
        for batch in batches:
            found += batch.columns().values
            position = batch.next_offset
    return found


def run_to_its_end(log: Backend) -> Gate:
    """One whole run, in this thread; where it began."""
    gate, stop = Gate(), Event()
    gate.go_on.set()
    working = task(log, gate, stop)
    thread = Thread(target=working.run)
    thread.start()
    numbers = TopicPartition("numbers", 0)
    while "numbers" not in log.topics() or len(values(log, numbers)) < 4:
        assert thread.is_alive()
        stop.wait(0.01)
    stop.set()
    working.wake()
    thread.join(30)
    return gate


def test_a_task_that_another_has_taken_the_place_of_stores_nothing_more(log: Backend) -> None:
    slow, stop = Gate(), Event()
    errors: list[BaseException] = []

    def run() -> None:
        try:
            task(log, slow, stop).run()
        except BaseException as error:
            errors.append(error)

    zombie = Thread(target=run)
    zombie.start()
    assert slow.reached.wait(30)
    assert run_to_its_end(log).began == 0  # nothing was stored by the one that stands still
    slow.go_on.set()
    stop.set()
    zombie.join(30)
    assert [type(error) for error in errors] == [ProducerFenced]
    assert values(log, TopicPartition("numbers", 0)) == [b"0", b"1", b"2", b"3"]


def test_records_without_their_positions_never_count(
    log: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = SourceTransaction.append

    def full(self: SourceTransaction, target: TopicPartition, rows: Any) -> None:
        if target == OFFSETS:
            raise OutOfSpace("the disk is full")
        append(self, target, rows)

    gate = Gate()
    gate.go_on.set()
    with monkeypatch.context() as patch:
        patch.setattr(SourceTransaction, "append", full)
        with pytest.raises(OutOfSpace):
            task(log, gate, Event(), NumbersConfig(gate=-1)).run()
    numbers = TopicPartition("numbers", 0)
    assert values(log, numbers, isolation="read_uncommitted")
    assert not values(log, numbers)
    assert run_to_its_end(log).began == 0
    assert values(log, numbers) == [b"0", b"1", b"2", b"3"]


def test_positions_behind_an_open_transaction_of_another_connector_are_waited_for(
    log: Backend,
) -> None:
    log.create_topic(OFFSETS.topic, 1, {"cleanup.policy": "compact"})
    other = log.transactions("workers-other-0", timeout=60.0)
    appends = TransactionalAppends(log, other, "workers-other-0")
    theirs = codec.encode([b"{}"], keys=[encode_key("other", {})], timestamps=1)
    appends.append(log.topic(OFFSETS.topic).topic_id, OFFSETS, theirs)
    log.append(OFFSETS, [encode_value({"next": 7})], keys=[encode_key("n", PLACE)], acks="all")

    asked: list[bool] = []

    def stopping() -> bool:
        asked.append(True)
        if len(asked) == 2:
            other.commit()
        return False

    offsets = SourceOffsets("n")
    assert offsets.load(log, OFFSETS, stopping)
    assert offsets.get(PLACE) == {"next": 7}
    assert len(asked) >= 2
    other.close()


def test_a_stop_ends_that_wait_and_nothing_is_read_from_the_wrong_place(log: Backend) -> None:
    log.create_topic(OFFSETS.topic, 1, {"cleanup.policy": "compact"})
    other = log.transactions("workers-other-0", timeout=60.0)
    appends = TransactionalAppends(log, other, "workers-other-0")
    theirs = codec.encode([b"{}"], keys=[encode_key("other", {})], timestamps=1)
    appends.append(log.topic(OFFSETS.topic).topic_id, OFFSETS, theirs)
    gate, stop = Gate(), Event()
    stop.set()
    task(log, gate, stop).run()
    assert gate.began == -1
    other.close()
