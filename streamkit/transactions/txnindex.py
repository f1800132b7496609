"""`.txnindex`: the aborted transactions whose markers stand in one segment.

    0         2              10             18            26                   34
    | version | producer id  | first offset | last offset | last stable offset |
    |  int16  |    int64     |    int64     |    int64    |       int64        |

In the order of their markers. The last offset is the marker's. The last stable offset is what it
was once the marker stood: every transaction that ends later begins at or after it, so that whoever
asks for aborted transactions below some offset may stop at the first entry that reaches it.
"""

from collections.abc import Iterable
from struct import Struct

import msgspec

from streamkit.errors import UnsupportedFormat

_ENTRY = Struct(">hqqqq")
ENTRY_BYTES = _ENTRY.size
_VERSION = 0


class Aborted(msgspec.Struct, frozen=True, gc=False):
    """One aborted transaction in one partition, its marker at `last_offset`."""

    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int


class Found(msgspec.Struct, frozen=True):
    """What the index of one segment says of a range of offsets.

    With `complete`, no later segment can add to it.
    """

    aborted: list[Aborted]
    complete: bool


def encode_entries(entries: Iterable[Aborted]) -> bytes:
    """The bytes that are appended to the index for these."""
    return b"".join(
        _ENTRY.pack(
            _VERSION,
            entry.producer_id,
            entry.first_offset,
            entry.last_offset,
            entry.last_stable_offset,
        )
        for entry in entries
    )


def decode_entries(raw: bytes, file: str) -> list[Aborted]:
    """The entries of an index; a part of one at the end, of a write cut short, is left out.

    `file` is for messages. Raises UnsupportedFormat for entries of a newer version.
    """
    entries: list[Aborted] = []
    whole = len(raw) - len(raw) % ENTRY_BYTES
    for number, (version, *fields) in enumerate(_ENTRY.iter_unpack(raw[:whole])):
        if version != _VERSION:
            raise UnsupportedFormat(
                f"{file} at byte {number * ENTRY_BYTES}: an aborted transaction of version"
                f" {version}, and {_VERSION} can be read: remove the file to have it rebuilt"
            )
        entries.append(Aborted(*fields))
    return entries


def aborted_in(entries: Iterable[Aborted], start: int, end: int) -> Found:
    """The aborted transactions with offsets in `start` … `end` − 1.

    Ask the segment that holds `start`, then the following ones, until the answer is complete. What
    an earlier segment's index has ended before `start`.
    """
    aborted: list[Aborted] = []
    for entry in entries:
        if entry.last_offset >= start and entry.first_offset < end:
            aborted.append(entry)
        if entry.last_stable_offset >= end:
            return Found(aborted, True)
    return Found(aborted, False)


def bytes_below(entries: Iterable[Aborted], offset: int) -> int:
    """How long an index stays when the log is cut at `offset`: markers at or above it are gone."""
    return ENTRY_BYTES * sum(entry.last_offset < offset for entry in entries)
