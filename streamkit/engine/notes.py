"""What a task commits beside its offsets, as the text that each offset carries.

It says how far time had come, so that late stays late over a restart. Kafka allows 4096
characters per offset.
"""

from typing import Any

import msgspec

from streamkit.engine.headers import Marker
from streamkit.errors import DataError

LIMIT = 4096


class Paused(msgspec.Struct, frozen=True, array_like=True):
    """A task was in the middle of what the record of a place had brought about, or an answer.

    Operators were `acting`, and what is open of the nodes `closing`, at an `end` of all, is to be
    closed. `marks` is what some know beside their rows, by name. They were in what is due `before`
    the event of another place has its turn: of that some have `marks_before`.
    """

    at: tuple[str, int, int, int | None]
    acting: bool
    closing: tuple[str, ...]
    end: bool
    marks: dict[str, tuple[int, ...]]
    before: tuple[str, int, int, int | None] | None = None
    marks_before: dict[str, tuple[int, ...]] = {}


class Note(msgspec.Struct, omit_defaults=True, rename={
    "latest": "t", "watermark": "w", "closed": "c", "told": "u", "idle": "i", "passed": "p",
    "tables": "l", "steps": "s", "tasks": "n", "waiting": "q", "ticked": "k", "ahead": "a",
    "asked": "d", "tables_passed": "m", "finished": "f", "end": "e",
    "paused": "b", "counted": "x",
}):  # fmt: skip
    """One input's note. Times in ms; None: not known yet.

    `latest` is the latest event time. `told` are the markers of the `tasks` upstream, [task,
    watermark, 1 if idle, and twice the number of the end it has come to].
    `counted`: those of them that said to be idle, and are not.
    `idle`: the input was. `passed` is the last by time, [timestamp, topic, partition], of what
    other inputs had processed since this one's last record. `ticked` is the last tick of the wall
    clock that was written to it.

    The task's are in the first input's note: `watermark`; `closed`, per node; `tables`, how far
    they had been read, per topic, and `tables_passed`, what `passed` is for these; `ahead` and
    `asked` of those that are read ahead; `steps`, how many of a journal that it follows were taken;
    `waiting`, the events that wait for answers; `end`, the number of the last end that it was told
    of; `finished`, 1 when nothing has come since, 2 when all is closed that was open; `paused`,
    what it was in the middle of.
    """

    latest: int | None = None
    watermark: int | None = None
    closed: dict[str, int] = {}
    tasks: int = 0
    told: list[tuple[int, int | None, int]] = []
    counted: tuple[int, ...] = ()
    idle: bool = False
    passed: tuple[int, str, int] | None = None
    tables: dict[str, int] = {}
    tables_passed: dict[str, tuple[int, str, int]] = {}
    ahead: dict[str, list[int]] = {}
    asked: dict[str, list[int | bool]] = {}
    steps: int = 0
    waiting: int = 0
    end: int = 0
    finished: int = 0
    ticked: int | None = None
    paused: Paused | None = None

    def markers(self) -> list[Marker]:
        return [Marker(task, self.tasks, at, bool(n & 1), n >> 1) for task, at, n in self.told]

    def text(self) -> str:
        """Raises DataError when it is longer than an offset can carry."""
        text = str(_encode(self), "utf-8")
        if len(text) > LIMIT:
            raise DataError(
                f"the note of an offset has {len(text)} characters, more than {LIMIT}; read fewer "
                "partitions through one repartition topic"
            )
        return text


_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(Note).decode


def read_note(text: str, where: Any) -> Note | None:
    """A committed note; None when there is none, as after a reset of the group.

    Raises DataError when it is somebody else's.
    """
    if not text:
        return None
    try:
        return _decode(text)
    except msgspec.DecodeError as error:
        raise DataError(
            f"{where}: the committed offset carries {text[:60]!r}, which no app wrote ({error}); "
            "is the group's name also another program's?"
        ) from error


def is_waiting(text: str, where: Any) -> bool:
    """Whether events wait for answers in the task that committed a note, or it has something to go
    on with. Raises DataError."""
    note = read_note(text, where)
    return note is not None and (note.waiting > 0 or note.paused is not None)


def end_of(text: str, where: Any) -> tuple[int, int]:
    """Of the task that committed a note with its first input: the number of the last end that it
    was told of, and 0: something came since, 1: nothing did, 2: and all is closed.

    Raises DataError.
    """
    note = read_note(text, where)
    return (0, 0) if note is None else (note.end, note.finished)
