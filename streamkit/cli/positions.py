"""Where to begin to read, as people write it after `--from` and `--to`."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from streamkit.errors import ConfigError, OffsetOutOfRange
from streamkit.records import TopicPartition
from streamkit.replay.times import Point, parse_time

if TYPE_CHECKING:
    from streamkit.backends.base import Backend


@dataclass(frozen=True, slots=True)
class Offset:
    """An offset, the same in every partition."""

    number: int


Position: TypeAlias = Offset | Point

_OFFSET = re.compile(r"offset:(\d+)$")

_SURELY_TIME = 1_000_000
"""Less than so many ms after 1970, a quarter of an hour, is an offset without its word."""


def parse_position(text: str, now: int, *, key: str, others: str = "or offset:10") -> Position:
    """Read `offset:N`, or any point in time.

    Raises ConfigError naming `key` and what can be written, at the end of it `others`.
    """
    text = text.strip()
    if match := _OFFSET.match(text):
        return Offset(int(match[1]))
    if text.startswith("offset:"):
        raise ConfigError(f"{key} {text!r}: write offset:10; offsets begin at 0")
    if text.isdecimal() and int(text) < _SURELY_TIME:
        raise ConfigError(f"{key} {text!r}: for an offset write offset:{text}, for a time a date")
    try:
        return parse_time(text, now, key=key)
    except ConfigError as error:
        raise ConfigError(f"{error}, {others}") from None


def check_inside(log: "Backend", partition: TopicPartition, position: Position) -> None:
    """Raises OffsetOutOfRange for a number that the partition does not have."""
    start, end = log.offsets(partition).start, log.end(partition)
    if isinstance(position, Offset) and not start <= position.number <= end:
        raise OffsetOutOfRange(
            f"{partition}@{position.number}: the partition goes from {start} to {end}; give an"
            " offset that it has, or name the partition that you mean"
        )


def offset_at(log: "Backend", partition: TopicPartition, position: Position) -> int:
    """The offset that a position means in one partition, never outside of what can be read."""
    start, end = log.offsets(partition).start, log.end(partition)
    if isinstance(position, Offset):
        return min(max(position.number, start), end)
    if position == "earliest":
        return start
    if position == "latest":
        return end
    found = log.offset_at(partition, position)
    return end if found is None else found
