"""Records on their way out of a task."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from streamkit.records import Headers, TopicPartition


@dataclass(frozen=True, slots=True)
class Rows:
    """Records on their way out, column by column; `headers` None: no record has any."""

    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    timestamps: Sequence[int]
    headers: Sequence[Headers] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: Sequence[int]) -> "Rows":
        return Rows(
            [self.keys[row] for row in rows],
            [self.values[row] for row in rows],
            [self.timestamps[row] for row in rows],
            None if self.headers is None else [self.headers[row] for row in rows],
        )

    def part(self, start: int, end: int) -> "Rows":
        return Rows(
            self.keys[start:end],
            self.values[start:end],
            self.timestamps[start:end],
            None if self.headers is None else self.headers[start:end],
        )


@dataclass(frozen=True, slots=True)
class Drained:
    """What a task gave since it was last drained: rows per topic, then `everywhere`.

    A row goes to the partition that murmur2 of its key says; without a key, to the partition of
    the task's number modulo the topic's partitions, so that it lands in the same one when the task
    does its work again. The rows of `everywhere` (watermark markers) go to every partition of
    their topic, after the topic's rows.
    """

    rows: dict[str, Rows] = field(default_factory=dict)
    everywhere: dict[str, Rows] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Position:
    """Where a task goes on reading an input, and the note that is committed with the offset."""

    offset: int
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is committed together: positions per input, changes of state per changelog topic.

    A changelog's rows go to the partition of the task's number, whatever their keys.
    """

    positions: dict[TopicPartition, Position]
    changelog: dict[str, Rows]
