"""What a history says of each record: who sent it, where it stands, who saw it first."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from streamkit.errors import DataError
from streamkit.history.operations import Operation, Poll, Scan, Send, Value


@dataclass(frozen=True, slots=True)
class Anomaly:
    """Something that one log cannot have done, and the operations that say so."""

    kind: str
    text: str
    operations: tuple[Operation, ...] = ()

    def __str__(self) -> str:
        return "\n    ".join([f"{self.kind}: {self.text}", *map(str, self.operations)])


@dataclass(slots=True)
class Partition:
    """What is known of one partition."""

    values: dict[int, Value] = field(default_factory=dict)
    """offset → value, whoever said so: sends that were answered, polls, scans."""
    visible: list[int] = field(default_factory=list)
    """Offsets in order of what was seen or acknowledged."""
    scans: list[tuple[Operation, Scan]] = field(default_factory=list)
    start: int = 0
    """Nothing is missing below it: the largest `start` of a scan."""
    seen_to: int = -1
    """The largest offset that anybody saw."""
    newest: dict[str, int] = field(default_factory=dict)
    """key → largest visible offset, where records are replaced by later ones."""
    deleted: set[str] = field(default_factory=set)
    """Keys of which nothing need be left: the newest is a tombstone, or one may be there."""


@dataclass(slots=True)
class Evidence:
    """Everything about records, found in one pass; `conflicts` are what did not fit together."""

    writes: dict[Value, tuple[Operation, Send]] = field(default_factory=dict)
    offsets: dict[Value, tuple[str, int]] = field(default_factory=dict)
    seen: dict[Value, Operation] = field(default_factory=dict)
    """Who saw a value, of those the one that ended first."""
    partitions: dict[str, Partition] = field(default_factory=dict)
    conflicts: list[Anomaly] = field(default_factory=list)

    def partition(self, name: str) -> Partition:
        found = self.partitions.get(name)
        if found is None:
            found = self.partitions[name] = Partition()
        return found

    def replaced(self, value: Value, partition: Partition, offset: int | None) -> bool:
        """Compaction may have removed it: there is a later record of its key, or it deletes it."""
        write = self.writes.get(value)
        if write is None or write[1].key is None:
            return False
        newest = partition.newest.get(write[1].key, -1)
        return newest > (-1 if offset is None else offset) or write[1].key in partition.deleted


def evidence(history: Iterable[Operation]) -> Evidence:
    """Raises DataError when two operations send the same value: then nothing can be told."""
    found = Evidence()
    reported: set[tuple[str, int] | Value] = set()

    def claim(name: str, at: Partition, offset: int, value: Value, who: Operation) -> None:
        there = at.values.setdefault(offset, value)
        if there != value and (name, offset) not in reported:
            reported.add((name, offset))
            text = f"{name}@{offset} is {there!r} and {value!r}"
            found.conflicts.append(Anomaly("inconsistent-offsets", text, _two(found, there, who)))
        place = found.offsets.setdefault(value, (name, offset))
        if (place[1] != offset or place[0] != name) and value not in reported:
            reported.add(value)
            text = f"{value!r} stands at {place[0]}@{place[1]} and at {name}@{offset}"
            found.conflicts.append(Anomaly("duplicate", text, _two(found, value, who)))

    for operation in history:
        for step in operation.steps:
            if isinstance(step, Send):
                if step.value in found.writes:
                    first = found.writes[step.value][0]
                    raise DataError(
                        f"{step.value!r} is sent twice, by {first.process}:{first.line} and"
                        f" {operation.process}:{operation.line}: each value is sent only once"
                    )
                found.writes[step.value] = (operation, step)
                if step.offset is not None:
                    at = found.partition(step.partition)
                    claim(step.partition, at, step.offset, step.value, operation)
            elif isinstance(step, Poll | Scan):
                at = found.partition(step.partition)
                if isinstance(step, Scan):
                    at.scans.append((operation, step))
                    at.start = max(at.start, step.start)
                for offset, value in step.records:
                    place = (step.partition, offset)
                    if at.values.get(offset) != value or found.offsets.get(value) != place:
                        claim(step.partition, at, offset, value, operation)
                    if offset > at.seen_to:
                        at.seen_to = offset
                    first_seen = found.seen.get(value)
                    if first_seen is None or operation.ended < first_seen.ended:
                        found.seen[value] = operation
    _find_visible(found)
    return found


def _two(found: Evidence, value: Value, who: Operation) -> tuple[Operation, ...]:
    """Who stated something about a value first, as far as it is known, and who contradicts."""
    first = found.seen.get(value) or found.writes.get(value, (None,))[0]
    return (who,) if first is None or first is who else (first, who)


def _find_visible(found: Evidence) -> None:
    for value, (writer, send) in found.writes.items():
        if send.tombstone and send.key is not None and writer.outcome != "fail":
            placed = value in found.seen or (writer.outcome == "ok" and value in found.offsets)
            if not placed:  # it may stand anywhere, or have done its work and be gone
                found.partition(send.partition).deleted.add(send.key)
    for at in found.partitions.values():
        for offset, value in at.values.items():
            write = found.writes.get(value)
            if value not in found.seen and (write is None or write[0].outcome != "ok"):
                continue
            at.visible.append(offset)
            if write is not None and write[1].key is not None:
                at.newest[write[1].key] = max(offset, at.newest.get(write[1].key, -1))
        at.visible.sort()
        for key, offset in at.newest.items():
            if found.writes[at.values[offset]][1].tombstone:
                at.deleted.add(key)
