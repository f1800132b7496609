"""What is in the files of `__consumer_offsets`, read by others than us."""

import struct
import warnings
from collections.abc import Iterator
from pathlib import Path

from streamkit.backends.embedded import EmbeddedBackend
from streamkit.backends.locate import open_backend
from streamkit.backends.offsets_topic import OffsetsTopic
from streamkit.backends.values import CommittedOffset
from streamkit.clock import ManualClock
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

with warnings.catch_warnings():
    # kafka-python reads its schemas with a function that Python has deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka.record import MemoryRecords

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)


def records(folder: Path) -> Iterator[tuple[bytes, bytes | None]]:
    """Keys and values of a partition's files, by kafka-python. Its end is where zeros begin."""
    for file in sorted(folder.glob("*.log")):
        batches = MemoryRecords(file.read_bytes())
        while (batch := batches.next_batch()) is not None:
            yield from ((record.key, record.value) for record in batch)


class Fields:
    """Kafka's primitive types, one after the other."""

    def __init__(self, raw: bytes) -> None:
        self._raw, self._at = raw, 0

    def number(self, form: str) -> int:
        (number,) = struct.unpack_from(f">{form}", self._raw, self._at)
        self._at += struct.calcsize(form)
        return number

    def string(self) -> str:
        size = self.number("h")
        self._at += size
        return self._raw[self._at - size : self._at].decode()


def test_a_reader_of_kafkas_schema_finds_the_same_offsets(tmp_path: Path) -> None:
    with open_backend(tmp_path / "log") as log:
        log.create_topic("t", 2)
        member = log.join("g", {"t": 2})
        log.commit("g", {T0: CommittedOffset(5, "ü"), T1: CommittedOffset(7)}, member=member)
        log.commit("g", {T0: CommittedOffset(6, "six")}, member=member)
        member.leave()
        log.commit("gone", {T0: CommittedOffset(1)})
        log.delete_group("gone")
        (folder,) = (tmp_path / "log").rglob("__consumer_offsets-0")
        seen = list(records(folder))
    found: dict[tuple[str, str, int], tuple[int, str]] = {}
    generations: dict[str, int] = {}
    for key, value in seen:
        name = Fields(key)
        version, group = name.number("h"), name.string()
        if version == 1:
            where = (group, name.string(), name.number("i"))
            found.pop(where, None)
            if value is not None:
                commit = Fields(value)
                assert commit.number("h") == 3
                offset, _epoch = commit.number("q"), commit.number("i")
                found[where] = (offset, commit.string())
                assert commit.number("q") > 1_700_000_000_000
        elif value is not None:
            metadata = Fields(value)
            assert (version, metadata.number("h"), metadata.string()) == (2, 3, "consumer")
            generations[group] = metadata.number("i")
    assert found == {("g", "t", 0): (6, "six"), ("g", "t", 1): (7, "")}
    assert generations == {"g": 2}


def test_offsets_that_were_forgotten_long_ago_are_forgotten_by_who_has_not_looked_since(
    tmp_path: Path,
) -> None:
    clock = ManualClock()

    def opened() -> EmbeddedBackend:
        log = Log.open(tmp_path, clock=clock, maintenance=False, fsync="never")
        return EmbeddedBackend(log, OffsetsTopic(log, clock), clock=clock)

    with opened() as log, opened() as other:
        log.create_topic("t")
        log.commit("g", {T0: CommittedOffset(5000)})
        assert log.committed("g") == {T0: CommittedOffset(5000)}
        other.delete_topic("t")
        other.create_topic("t")
        partition = other._log.partition(TopicPartition("__consumer_offsets", 0))
        for _ in range(2):  # the first round gives the tombstone its time, the second removes it
            partition.trimmer.roll(partition.published())
            while (found := partition.trimmer.compact(force=True)) is not None and not found.done:
                pass
            clock.advance(partition.config.delete_retention_ms + 1)
            other.commit("others", {T0: CommittedOffset(1)})
        assert log.committed("g") == other.committed("g") == {}
