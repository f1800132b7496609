"""What every connector has to keep, as tests that an author's own tests inherit.

    class TestMySource(SourceContract):
        connector = my_source

        @pytest.fixture(autouse=True)
        def place(self, tmp_path):
            self.path = tmp_path / "input"
            ...

        def config(self): return MyConfig(path=str(self.path))
        def expected(self): return [b'{"n":1}', b'{"n":2}']

and functions to drive a connector by hand: `read` a source, `opened` for a sink.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from streamkit.backends.values import CommittedOffset
from streamkit.connect.api import (
    Bad,
    Pause,
    Place,
    Position,
    SinkConnector,
    SinkContext,
    SinkWriter,
    SourceConnector,
    SourceContext,
    SourceRecord,
)
from streamkit.connect.offsets import SourceOffsets
from streamkit.errors import DataError
from streamkit.records import Record, TopicPartition

_LOOKS = 200


@dataclass(slots=True)
class Reading:
    """What a source gave, and the offsets that a worker would have stored by then."""

    records: list[SourceRecord] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)
    offsets: list[tuple[Place, Place]] = field(default_factory=list)
    ended: bool = False
    """Whether the source had nothing more to read, rather than being stopped by `limit`."""

    @property
    def values(self) -> list[Any]:
        return [record.value for record in self.records]


def read(
    connector: SourceConnector[Any],
    config: Any,
    offsets: Iterable[tuple[Place, Place]] = (),
    *,
    limit: int | None = None,
) -> Reading:
    """Run a source until it pauses with nothing to read, or has given `limit` records."""
    stored = SourceOffsets("test")
    for partition, offset in offsets:
        stored.store(partition, _as_stored(offset))
    context = SourceContext("test", stored.all, stored.get)
    reading = Reading()
    looks = 0
    items = connector(config, context)
    try:
        for item in items:
            if isinstance(item, Pause):
                looks += 1
                assert looks < _LOOKS, "the source pauses without end, saying that it is not idle"
                if item.idle:
                    reading.ended = True
                    break
                context.wait(item.seconds)
                continue
            if isinstance(item, SourceRecord):
                reading.records.append(item)
            elif isinstance(item, Bad):
                reading.bad.append(item)
            else:
                assert isinstance(item, Position), f"the source yielded {item!r}"
            if item.partition is not None and item.offset is not None:
                stored.store(item.partition, _as_stored(item.offset))
            if limit is not None and len(reading.records) >= limit:
                break
        else:
            reading.ended = True
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()
    reading.offsets = stored.all()
    return reading


def _as_stored(offset: Place) -> Place:
    """As it comes back from the offsets topic: JSON."""
    decoded: Place = msgspec.json.decode(msgspec.json.encode(offset))
    return decoded


class SourceContract:
    """Tests that every source passes. Set `connector`, and say what the input holds."""

    connector: SourceConnector[Any]
    repeats: bool = False
    """True for a source that reads everything again when it was cut short."""

    def config(self) -> Any:
        """Options for the input that the test has prepared."""
        raise AssertionError("a contract test gives its own config()")

    def expected(self) -> Sequence[Any]:
        """The values of all records in the input, in any order; at least two."""
        raise AssertionError("a contract test gives its own expected()")

    def test_everything_is_read_once_and_then_the_source_pauses(self) -> None:
        reading = read(self.connector, self.config())
        assert reading.ended
        assert _sorted(reading.values) == _sorted(self.expected())

    def test_a_finished_source_has_nothing_to_read_after_a_restart(self) -> None:
        first = read(self.connector, self.config())
        assert read(self.connector, self.config(), first.offsets).values == []

    def test_a_source_stopped_after_any_record_goes_on_behind_it(self) -> None:
        expected = _sorted(self.expected())
        for limit in range(1, len(expected) + 1):
            before = read(self.connector, self.config(), limit=limit)
            after = read(self.connector, self.config(), before.offsets)
            if self.repeats:
                assert _sorted(after.values) == expected
            else:
                assert _sorted(before.values + after.values) == expected

    def test_offsets_survive_being_stored_as_json(self) -> None:
        for partition, offset in read(self.connector, self.config()).offsets:
            assert json.loads(json.dumps([partition, offset])) == [partition, offset]


@contextmanager
def opened(
    connector: SinkConnector[Any], config: Any, *, topic_id: str = "0" * 32
) -> Iterator[SinkWriter]:
    """An open sink, closed at the end."""
    writer = connector(config, SinkContext("test", lambda topic: topic_id))
    try:
        yield writer
    finally:
        writer.close()


def records(
    values: Iterable[bytes | None], *, topic: str = "events", first: int = 0
) -> list[Record[bytes | None]]:
    """Records of partition 0, with consecutive offsets from `first` and keys "0", "1", …"""
    return [
        Record(topic, 0, first + index, 1_000 + index, str(first + index).encode(), value)
        for index, value in enumerate(values)
    ]


class SinkContract:
    """Tests that every sink passes. Set `connector`, and say what has been written."""

    connector: SinkConnector[Any]
    exactly_once: bool = True
    """Whether records written before a crash, but not committed, are not written twice."""

    def config(self) -> Any:
        raise AssertionError("a contract test gives its own config()")

    def value(self, number: int) -> bytes:
        """The value of a record, different for every number."""
        return msgspec.json.encode({"n": number})

    def written(self) -> list[int]:
        """The numbers of the values that the target holds now, in any order."""
        raise AssertionError("a contract test gives its own written()")

    bad_value: bytes | None = b"{not json"
    """A value that the sink cannot take; None when there is none."""

    def _records(self, first: int, count: int) -> list[Record[bytes | None]]:
        return records((self.value(n) for n in range(first, first + count)), first=first)

    def _resume(self, sink: SinkWriter, committed: CommittedOffset) -> CommittedOffset:
        return sink.resume(PARTITION, committed) or committed

    def test_what_is_written_is_there(self) -> None:
        with opened(self.connector, self.config()) as sink:
            self._resume(sink, CommittedOffset(0))
            sink.write(self._records(0, 3))
            sink.write(self._records(3, 2))
        assert sorted(self.written()) == [0, 1, 2, 3, 4]

    def test_a_crash_between_a_write_and_its_commit_loses_and_repeats_nothing(self) -> None:
        with opened(self.connector, self.config()) as sink:
            committed = self._resume(sink, CommittedOffset(0))
            notes = sink.write(self._records(0, 3)) or {}
            committed = CommittedOffset(3, notes.get(PARTITION, committed.metadata))
            sink.write(self._records(3, 2))  # never committed
        with opened(self.connector, self.config()) as sink:
            start = self._resume(sink, committed).offset
            assert start <= 5
            sink.write(self._records(start, 6 - start)) if start < 6 else None
        if self.exactly_once:
            assert sorted(self.written()) == [0, 1, 2, 3, 4, 5]
        else:
            assert set(self.written()) == {0, 1, 2, 3, 4, 5}

    def test_a_crash_before_the_first_commit_loses_and_repeats_nothing(self) -> None:
        with opened(self.connector, self.config()) as sink:
            committed = self._resume(sink, CommittedOffset(0))
            sink.write(self._records(0, 2))
        with opened(self.connector, self.config()) as sink:
            start = self._resume(sink, committed).offset
            sink.write(self._records(start, 3 - start))
        if self.exactly_once:
            assert sorted(self.written()) == [0, 1, 2]
        else:
            assert set(self.written()) == {0, 1, 2}

    def test_a_call_with_a_bad_record_writes_nothing(self) -> None:
        if self.bad_value is None:
            pytest.skip("this sink takes every value")
        with opened(self.connector, self.config()) as sink:
            self._resume(sink, CommittedOffset(0))
            mixed = records([self.value(0), self.bad_value, self.value(2)])
            with pytest.raises(DataError, match="events-0@1"):
                sink.write(mixed)
            assert self.written() == []
            sink.write([mixed[0]])
            sink.write([mixed[2]])
        assert sorted(self.written()) == [0, 2]


PARTITION = TopicPartition("events", 0)


def _sorted(values: Sequence[Any]) -> list[Any]:
    return sorted(values, key=repr)
