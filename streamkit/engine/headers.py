"""The headers the engine writes, and how they are read.

    __streamkit.window     on a window's result        ["store",start,end,sequence]
    __streamkit.late       on a late event             ["store",start,end,watermark]
    __streamkit.ahead      on a quarantined record     ["topic",partition,offset,time,limit]
    __streamkit.frontier   on a repartitioned event    how far time was where it came from
    __streamkit.origin     on one too, where steps     its place among those of its time: 4 bytes
                           with timers follow          the partition it came from, 8 the offset;
                                                       or 4 bytes the task that made it
    __streamkit.root       on one too, where steps     what it goes back to, the same in every run:
                           with a Context follow       see `roots.py`
    __streamkit.watermark  on a marker, key None       [task,tasks,watermark,idle], and after these
                                                       the number of the end it has come to

Times are in ms. An event without a frontier was not behind the time of its partition.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from streamkit.records import Headers

WINDOW = "__streamkit.window"
LATE = "__streamkit.late"
AHEAD = "__streamkit.ahead"
FRONTIER = "__streamkit.frontier"
ORIGIN = "__streamkit.origin"
ROOT = "__streamkit.root"
WATERMARK = "__streamkit.watermark"

_encode = msgspec.json.Encoder().encode
_decode_window = msgspec.json.Decoder(tuple[str, int, int, int]).decode


def window_identity(store: str, start: int, end: int, sequence: int) -> Headers:
    """What makes a window's result this one: an upsert or a diff goes by it."""
    return ((WINDOW, _encode((store, start, end, sequence))),)


@dataclass(frozen=True, slots=True)
class WindowNote:
    """Which window a result is of, by the step that gave it. Times in ms, `end` exclusive."""

    store: str
    start: int
    end: int
    sequence: int


def window_of(headers: Headers) -> WindowNote | None:
    """The window that a record is the result of, the innermost of several; None: of none.

    Raises msgspec.DecodeError when it is no such header.
    """
    for name, data in reversed(headers):
        if name == WINDOW:
            return WindowNote(*_decode_window(data or b""))
    return None


def late_note(store: str, start: int, end: int, watermark: int) -> Any:
    """Which window an event came too late for, and how far time had gone."""
    return (LATE, _encode((store, start, end, watermark)))


def ahead_note(topic: str, partition: int, offset: int, time: int, limit: int) -> Any:
    """Which record had a time that was after the latest that was let through then."""
    return (AHEAD, _encode((topic, partition, offset, time, limit)))


@dataclass(frozen=True, slots=True)
class Marker:
    """What one upstream task says about time: nothing earlier than `watermark` (ms; None: it
    does not know yet) will come, or, when `idle`, that it has nothing to say at the moment; when
    `finished`, that it was told so, and has closed what it had open; all tasks are told under one
    number, which this is, 0: it has not.

    It was written by task number `task` of `tasks`.
    """

    task: int
    tasks: int
    watermark: int | None
    idle: bool
    finished: int = 0

    def headers(self) -> Headers:
        told = (self.task, self.tasks, self.watermark, self.idle)
        return ((WATERMARK, _encode((*told, self.finished) if self.finished else told)),)

    @classmethod
    def read(cls, data: bytes) -> "Marker":
        """Raises msgspec.DecodeError when it is no marker."""
        told = _decode_watermark(data)
        return cls(told.task, told.tasks, told.watermark, told.idle, told.finished)


class _Told(msgspec.Struct, array_like=True):
    task: int
    tasks: int
    watermark: int | None
    idle: bool
    finished: int = 0


_decode_watermark = msgspec.json.Decoder(_Told).decode
