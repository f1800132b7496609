"""The journal: what the wall clock decided for a task, and at which records.

What a task gives is a function of what its inputs hold and of its journal. An entry says where in
the inputs something was decided, so that a task that reads the same inputs again decides the same:

    held      a record that was processed after later ones of other inputs, because its partition
              stood at its end when they were there; `until`: where the others stood by then
    silence   inputs that were idle from there on (all that were), and nodes whose windows closed
              because nothing came
    counted   tasks upstream that were not idle from there on, though they had said so
    finish    nothing more was to come from there on: what was open closed
    tables    the tables were read ahead to their ends, when the task started
    ahead     a record whose time was too far ahead of the clock, and did not count
    left      calls whose results were given: the answers of a step that events wait at
    cut       what such a step had gathered was a batch, because of the time
    parked    an event for which a function failed, and that began to wait for a later attempt

Places are offsets by partition ("orders-0"): everything before them had been processed. The merge
of the inputs by timestamp needs no entry, only what deviates from it does.
"""

from typing import TypeAlias

import msgspec

from streamkit.errors import DataError

Places: TypeAlias = dict[str, int]


class Held(msgspec.Struct, tag="held", tag_field="kind", frozen=True):
    """The record at `offset` of `input` was processed when the others stood at `until`."""

    input: str
    offset: int
    until: Places


class Silence(msgspec.Struct, tag="silence", tag_field="kind", frozen=True, omit_defaults=True):
    """From `at` on the inputs `idle` are idle, and no others; the windows of `closed` closed."""

    at: Places
    idle: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()


class Counted(msgspec.Struct, tag="counted", tag_field="kind", frozen=True, omit_defaults=True):
    """From `at` on these tasks upstream, by the input that they hand over in, are not idle although
    they said so, until they say something else; and no others."""

    at: Places
    tasks: dict[str, tuple[int, ...]] = {}


class Finish(msgspec.Struct, tag="finish", tag_field="kind", frozen=True, omit_defaults=True):
    """At `at` the task was told that nothing more comes, as all tasks were under that number.
    `at_rest`, said where a replay reads it: only once everything has been done there that other
    tasks give it."""

    at: Places
    number: int
    at_rest: bool = False


class Tables(msgspec.Struct, tag="tables", tag_field="kind", frozen=True):
    """At `at` the tables were read from their places there to those in `to`."""

    at: Places
    to: Places


class Ahead(msgspec.Struct, tag="ahead", tag_field="kind", frozen=True):
    """The record at `offset` of `input` was further ahead of the clock than is allowed: its time
    was after `limit`."""

    input: str
    offset: int
    limit: int


class Left(msgspec.Struct, tag="left", tag_field="kind", frozen=True):
    """At `at` the calls of step `node` left whose first events are these: topic, partition and
    offset of the record, which of those made of it, time and key. Of a step that keeps the order of
    its input, all up to that one."""

    at: Places
    node: str
    calls: list[tuple[str, int, int, int, int, bytes | None]]


class Cut(msgspec.Struct, tag="cut", tag_field="kind", frozen=True):
    """At `at` all that step `node` had gathered became a batch."""

    at: Places
    node: str


class Parked(msgspec.Struct, tag="parked", tag_field="kind", frozen=True):
    """The function of step `node` failed for this event when it came."""

    node: str
    event: tuple[str, int, int, int, int, bytes | None]


Step: TypeAlias = Silence | Counted | Finish | Tables | Left | Cut
"""What happens between two records."""
Entry: TypeAlias = Held | Silence | Counted | Finish | Tables | Ahead | Left | Cut | Parked

encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(Entry).decode


def decode(data: bytes | None, where: object) -> Entry:
    """An entry as it was written. Raises DataError; `where` names the record in it."""
    try:
        entry: Entry = _decode(data or b"")
    except msgspec.DecodeError as error:
        raise DataError(f"{where}: no entry of a journal: {error}") from error
    return entry
