"""The order of things: what each process read and wrote, and what came after what by the clock."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import inf

from streamkit.history.evidence import Anomaly, Evidence
from streamkit.history.operations import Assign, Commit, Operation, Poll, Seek, Send


@dataclass(slots=True)
class _Reader:
    """Where one process stands: partition → (the offset it reads next, who read the last one)."""

    next: dict[str, tuple[int, Operation]] = field(default_factory=dict)
    sent: dict[str, tuple[int, Operation]] = field(default_factory=dict)
    assigned: frozenset[str] = frozenset()


def polls_and_sends(found: Evidence, history: Iterable[Operation]) -> Iterator[Anomaly]:
    """Each process by itself reads on where it was, and what it sends comes after what it sent."""
    readers: dict[str, _Reader] = {}
    for operation in history:
        reader = readers.get(operation.process)
        if reader is None:
            reader = readers[operation.process] = _Reader()
        for step in operation.steps:
            if isinstance(step, Poll):
                if step.records:
                    yield from _poll(found, reader, operation, step)
            elif isinstance(step, Send):
                if step.offset is not None:
                    yield from _send(reader, operation, step)
            elif isinstance(step, Seek):
                reader.next[step.partition] = (step.offset, operation)
            elif isinstance(step, Assign):
                now = frozenset(step.partitions)
                for partition in reader.assigned ^ now:
                    reader.next.pop(partition, None)
                reader.assigned = now


def _poll(found: Evidence, reader: _Reader, operation: Operation, step: Poll) -> Iterator[Anomaly]:
    at = found.partitions[step.partition]
    following, before = reader.next.get(step.partition, (-1, operation))
    for offset, value in step.records:
        inside = "int-" if before is operation else ""
        if offset < following:
            text = f"{value!r} at {step.partition}@{offset} came after offset {following - 1}"
            yield Anomaly(f"{inside}nonmonotonic-poll", text, _each(before, operation))
        elif 0 <= following < offset:
            # Most records follow the one before: then there is nothing to look for.
            first = bisect_left(at.visible, following)
            for missed in at.visible[first : bisect_left(at.visible, offset, first)]:
                skipped = at.values[missed]
                if missed >= at.start and not found.replaced(skipped, at, missed):
                    text = f"{step.partition}@{offset} came next; {skipped!r} at {missed} did not"
                    yield Anomaly(f"{inside}poll-skip", text, _each(before, operation))
                    break
        following, before = offset + 1, operation
    reader.next[step.partition] = (following, operation)


def _send(reader: _Reader, operation: Operation, step: Send) -> Iterator[Anomaly]:
    assert step.offset is not None
    last, before = reader.sent.get(step.partition, (-1, operation))
    if step.offset < last:
        inside = "int-" if before is operation else ""
        text = f"{step.value!r} went to {step.partition}@{step.offset}, after offset {last}"
        yield Anomaly(f"{inside}nonmonotonic-send", text, _each(before, operation))
    reader.sent[step.partition] = (step.offset, operation)


def by_the_clock(found: Evidence) -> Iterator[Anomaly]:
    """An append that ended before another began has the smaller offset, whoever made them."""
    for name, at in found.partitions.items():
        soonest: tuple[float, Operation | None, int] = (inf, None, 0)
        for offset in sorted(at.values, reverse=True):
            write = found.writes.get(at.values[offset])
            if write is None or write[1].partition != name:
                continue
            writer = write[0]
            if soonest[0] < writer.begun:
                text = f"{name}@{soonest[2]} was written before {name}@{offset} was begun"
                assert soonest[1] is not None
                yield Anomaly("reordered", text, (soonest[1], writer))
            if writer.ended < soonest[0] and write[1].offset == offset:
                soonest = (writer.ended, writer, offset)


def commits(history: Iterable[Operation]) -> Iterator[Anomaly]:
    """A group's committed offsets do not go back: whoever lost a partition cannot commit it."""
    of: dict[tuple[str, str], list[tuple[Operation, int]]] = {}
    for operation in history:
        for step in operation.steps:
            if isinstance(step, Commit) and operation.outcome == "ok":
                of.setdefault((step.group, step.partition), []).append((operation, step.offset))
    for (group, partition), made in of.items():
        made.sort(key=lambda commit: commit[0].begun)
        # In the order of their ends, those that had ended when the present one began.
        ended = sorted(made, key=lambda commit: commit[0].ended)
        next_ended = 0
        highest: tuple[int, Operation | None] = (-1, None)
        for operation, offset in made:
            while ended[next_ended][0].ended < operation.begun:
                if ended[next_ended][1] > highest[0]:
                    highest = (ended[next_ended][1], ended[next_ended][0])
                next_ended += 1
            if offset < highest[0] and highest[1] is not None:
                text = f"{group} was at {partition}@{highest[0]} and went back to {offset}"
                yield Anomaly("nonmonotonic-commit", text, (highest[1], operation))


def _each(before: Operation, operation: Operation) -> tuple[Operation, ...]:
    return (operation,) if before is operation else (before, operation)
