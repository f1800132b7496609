"""Sources and sinks of apps made by chance: what is around them, and how they die.

They run as they do live, one at a time, in the thread of the test: until there is nothing to do, or
until a call of theirs to the log is their last one.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from threading import Event
from typing import Any

import msgspec

from streamkit.backends.values import CommittedOffset
from streamkit.connect import Pause, SourceContext, SourceItem, SourceRecord, sink, source
from streamkit.connect.api import SinkContext
from streamkit.connect.beside import settings_of
from streamkit.connect.status import Progress
from streamkit.dsl.topology import Topology
from streamkit.records import Record, TopicPartition
from streamkit.testing import TestRun

CALLS = {"append_encoded", "commit", "create_topic", "join", "transactions", "add"}
"""Those of the log that change something."""


@dataclass(frozen=True, slots=True)
class FromWorld:
    topic: str


@dataclass(frozen=True, slots=True)
class ToWorld:
    into: str


@dataclass
class World:
    """What an app's sources read, by topic, and what its sinks have written, by name."""

    there: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    written: dict[str, dict[TopicPartition, list[Record[bytes | None]]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    stop: Event = field(default_factory=Event)

    def source(self) -> Any:
        """One that gives what there is, and knows how far it is."""

        @source(config=FromWorld)
        def bring(config: FromWorld, context: SourceContext) -> Iterator[SourceItem]:
            place = {"topic": config.topic}
            done = (context.offset(place) or {"done": 0})["done"]
            for number, one in enumerate(self.there[config.topic][done:], done + 1):
                value = None if one.value is None else msgspec.json.encode(one.value)
                offset = {"done": number}
                yield SourceRecord(config.topic, value, one.key, place, offset, one.time)
                if number % 3 == 0:
                    yield Pause(0)
            self.stop.set()

        return bring

    def sink(self, *, exactly: bool) -> Any:
        """One that keeps what it has written and how far in one place, and one that cannot."""
        written = self.written

        class Keeps:
            def __init__(self, config: ToWorld, context: SinkContext) -> None:
                self._kept = written[config.into]

            def resume(self, at: TopicPartition, start: CommittedOffset) -> CommittedOffset | None:
                kept = self._kept[at]
                if not kept:
                    return None
                # What is behind it may be a marker: reading from there is as good.
                return CommittedOffset(kept[-1].offset + 1)

            def write(self, records: list[Record[bytes | None]]) -> None:
                for record in records:
                    self._kept[TopicPartition(record.topic, record.partition)].append(record)

            def close(self) -> None:
                pass

        if exactly:
            return sink(config=ToWorld)(Keeps)

        def tell(config: ToWorld, records: list[Record[bytes | None]]) -> None:
            for record in records:
                at = TopicPartition(record.topic, record.partition)
                written[config.into][at].append(record)

        return sink(config=ToWorld)(tell)


class Killed(BaseException):
    pass


class Mortal:
    """The log, or transactions of it, for a connector whose process dies: in the last of so many
    `calls`, before anything is done or behind it. Nothing is heard of it from then on."""

    def __init__(self, of: Any, life: list[int], dice: Random, stop: Event) -> None:
        self._of, self._life, self._dice, self._stop = of, life, dice, stop

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._of, name)
        if not callable(found):
            return found

        def call(*args: Any, **options: Any) -> Any:
            return self._call(name, found, *args, **options)

        return call

    def _call(self, name: str, found: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if not self._life[0]:
            raise Killed
        if name == "wait":
            self._stop.set()  # nothing comes as long as this runs
            return False
        self._life[0] -= name in CALLS
        dies = not self._life[0]
        if dies and self._dice.random() < 0.5:
            raise Killed
        done = found(*args, **options)
        if dies:
            raise Killed
        return done if name != "transactions" else Mortal(done, self._life, self._dice, self._stop)


class Beside:
    """The connectors of a run."""

    def __init__(self, run: TestRun, topology: Topology, world: World, seed: int) -> None:
        self._run = run
        self._app = topology.app
        self._connectors = topology.connectors
        self._world = world
        self._dice = Random(seed)

    def turn(self, kind: str, calls: int | None) -> bool:
        """Let those of a kind run; False when one has died in its last of so many calls."""
        lives = True
        for one in self._connectors:
            if one.kind == kind:
                stop = self._world.stop = Event()
                life = [-1 if calls is None else calls]
                log = Mortal(self._run._backend, life, self._dice, stop)
                with suppress(Killed):
                    one.plan.task(
                        log, settings_of(self._app), self._run.clock, Progress(one.name), stop
                    ).run()
                lives &= life[0] != 0
        return lives

    def finish(self) -> None:
        """Let sources bring all there is. One may have to wait until another, which has died, has
        come again and ended what it left open."""
        for _ in self._connectors:
            self.turn("source", None)

    def check(self) -> None:
        """Sinks have all that their topics hold, in order; those that can have it once."""
        self.turn("sink", None)
        for one in self._connectors:
            if one.kind == "sink":
                kept = self._world.written[one.plan.options.into]
                for number in range(self._run._backend.topic(one.topic).partitions):
                    at = TopicPartition(one.topic, number)
                    records = list(self._records(at))
                    found = kept[at]
                    if one.what != "Keeps":
                        found = list({record.offset: record for record in found}.values())
                    assert found == records, f"{one}: {at}"

    def _records(self, at: TopicPartition) -> Iterator[Record[bytes | None]]:
        position = 0
        while batches := self._run._backend.fetch({at: position}):
            for batch in batches:
                yield from batch.records()
                position = batch.next_offset
