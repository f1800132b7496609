"""Operations of a history: what a process set out to do, and what it knows of the outcome.

A process writes each event as a line of JSON, out of the log and before it goes on:

    {"process": "w1", "type": "invoke", "time": 17, "txn": true}
    {"process": "w1", "type": "committing", "time": 29, "steps": [["send", "orders-0", "a", 4]]}
    {"process": "w1", "type": "ok", "time": 31}

A process does one thing at a time: `invoke`, then (a transaction only) `committing` when it is
about to ask for the commit, then how it ended: `ok`, `fail` (it surely did not happen), or `info`
(nobody knows). Killed before it could say so, it is `info`; but a transaction whose commit was
never asked for has failed. A process that is started again has another name: the old one crashed.
The steps of an event replace those of the event before; an event without steps leaves them. What
may get into the log is told before it does: by `invoke`, or in a transaction by `committing`.
"""

from collections.abc import Iterable, Iterator
from math import inf
from typing import Literal, TypeAlias

from msgspec import DecodeError, Struct, ValidationError, field
from msgspec.json import Decoder

from streamkit.errors import DataError

Value: TypeAlias = int | str
"""What tells a record from every other of the history."""

Outcome: TypeAlias = Literal["ok", "fail", "info"]


class Send(Struct, frozen=True, array_like=True, gc=False, tag="send"):
    """One record sent. `offset` is None where nobody was told.

    A `key` says that the partition is compacted: a later record of the key replaces this one. A
    tombstone may go without one.
    """

    partition: str
    value: Value
    offset: int | None = None
    key: str | None = None
    tombstone: bool = False


class Poll(Struct, frozen=True, array_like=True, gc=False, tag="poll"):
    """What one look at a partition gave: (offset, value) in the order in which they came."""

    partition: str
    records: list[tuple[int, Value]] = []


class Scan(Struct, frozen=True, array_like=True, gc=False, tag="scan"):
    """Everything that can be read from `start`, where the partition begins, up to `end`."""

    partition: str
    start: int
    end: int
    records: list[tuple[int, Value]] = []


class Assign(Struct, frozen=True, array_like=True, gc=False, tag="assign"):
    """These partitions are read from now on, for a group or ("") alone; new ones from anywhere."""

    partitions: list[str]
    group: str = ""


class Seek(Struct, frozen=True, array_like=True, gc=False, tag="seek"):
    """A partition is read on at `offset`."""

    partition: str
    offset: int


class Commit(Struct, frozen=True, array_like=True, gc=False, tag="commit"):
    """A group will go on at `offset`: it is done with all records before it."""

    group: str
    partition: str
    offset: int


Step: TypeAlias = Send | Poll | Scan | Assign | Seek | Commit


class Event(Struct, frozen=True, omit_defaults=True, gc=False):
    """One line of a history. `time` in nanoseconds of a clock that all processes share."""

    process: str
    type: Literal["invoke", "committing", "ok", "fail", "info"]
    time: int
    steps: list[Step] = field(default_factory=list)
    txn: bool = False


class Operation(Struct, frozen=True, gc=False):
    """An operation with its outcome. It happened, if it did, between `begun` and `ended`.

    `asked` is when its effect could be seen first: of a transaction, when its commit was asked for.
    `ended` is infinity when nobody knows. `line` is where it begins in its process's history.
    """

    process: str
    line: int
    outcome: Outcome
    steps: list[Step]
    begun: int
    asked: int
    ended: float
    txn: bool = False

    def __str__(self) -> str:
        steps = ", ".join(map(_described, self.steps[:6]))
        more = f", and {len(self.steps) - 6} more" if len(self.steps) > 6 else ""
        ended = "?" if self.ended == inf else f"{self.ended / 1e9:.6f}"
        return (
            f"{self.process}:{self.line} {'transaction ' if self.txn else ''}{self.outcome}"
            f" [{self.begun / 1e9:.6f} to {ended} s] {steps}{more}"
        )


def _described(step: Step) -> str:
    match step:
        case Send(partition, value, offset):
            return f"send {value!r} to {partition}" + ("" if offset is None else f"@{offset}")
        case Poll(partition, records):
            return f"poll {partition}: {_range(records)}"
        case Scan(partition, start, end, records):
            return f"scan {partition} from {start} to {end}: {_range(records)}"
        case Assign(partitions, group):
            return f"assign {' '.join(partitions)}" + (f" in {group}" if group else "")
        case Seek(partition, offset):
            return f"seek {partition}@{offset}"
        case Commit(group, partition, offset):
            return f"commit {partition}@{offset} of {group}"


def _range(records: list[tuple[int, Value]]) -> str:
    if not records:
        return "nothing"
    (first, value), (last, value_last) = records[0], records[-1]
    if len(records) == 1:
        return f"{value!r}@{first}"
    return f"{len(records)} records, {value!r}@{first} to {value_last!r}@{last}"


_decoder = Decoder(Event)


def read_events(lines: Iterable[bytes], name: str = "history") -> Iterator[Event]:
    """The events of a history. A last line without its end is what a kill left: passed over.

    Raises DataError, naming the line.
    """
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            return
        try:
            yield _decoder.decode(line)
        except (DecodeError, ValidationError) as error:
            raise DataError(f"{name}:{number}: not an event of a history: {error}") from error


def operations(events: Iterable[Event]) -> list[Operation]:
    """Pair the events of any number of processes, each in its own order. Raises DataError."""
    done: list[Operation] = []
    open_: dict[str, Operation] = {}
    lines: dict[str, int] = {}
    for event in events:
        who = event.process
        line = lines[who] = lines.get(who, 0) + 1
        before = open_.get(who)
        if event.type == "invoke":
            if before is not None:
                raise DataError(f"{who}: event {line} begins something before the last has ended")
            asked = UNASKED if event.txn else event.time
            open_[who] = Operation(
                who, line, "info", event.steps, event.time, asked, inf, event.txn
            )
            continue
        if before is None:
            raise DataError(f"{who}: event {line} ({event.type}) ends nothing that was begun")
        steps = event.steps or before.steps
        if event.type == "committing":
            open_[who] = Operation(
                who, before.line, "info", steps, before.begun, event.time, inf, before.txn
            )
            continue
        asked = before.asked
        if asked == UNASKED and event.type != "fail":
            asked = before.begun  # it says nothing of when: any time since
        ended = inf if event.type == "info" else event.time
        done.append(
            Operation(who, before.line, event.type, steps, before.begun, asked, ended, before.txn)
        )
        del open_[who]
    for left in open_.values():
        outcome: Outcome = "fail" if left.asked == UNASKED else "info"
        done.append(
            Operation(
                left.process, left.line, outcome, left.steps, left.begun, left.asked, inf, left.txn
            )
        )
    return done


UNASKED = 1 << 62
"""`asked` of a transaction that nobody asked to be committed."""
