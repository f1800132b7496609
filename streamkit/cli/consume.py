"""`streamkit consume`: records into lines."""

import sys
from collections.abc import Callable
from string import Formatter
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from streamkit.cli import INTERRUPTED
from streamkit.cli.output import iso, json_line, text_of
from streamkit.cli.positions import check_inside, parse_position
from streamkit.cli.reading import Extent, read_alone, read_as_member
from streamkit.cli.settings import open_log
from streamkit.engine.signals import stop_on_signals
from streamkit.errors import ConfigError, UnknownPartition, nearest
from streamkit.records import Record, TopicPartition

if TYPE_CHECKING:
    from streamkit.backends.base import Backend

_FIELDS: dict[str, Callable[[Record[bytes | None]], object]] = {
    "topic": lambda record: record.topic,
    "partition": lambda record: record.partition,
    "offset": lambda record: record.offset,
    "timestamp": lambda record: record.timestamp,
    "time": lambda record: iso(record.timestamp),
    "key": lambda record: _shown(record.key),
    "value": lambda record: _shown(record.value),
    "headers": lambda record: ",".join(f"{n}={_shown(v)}" for n, v in record.headers),
}


def consume(
    context: typer.Context,
    topic: str,
    from_: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="WHERE",
            help="earliest, latest, a time (2026-01-31T12:00, -1h) or offset:N. "
            "A group goes on where it stands, and begins here when it stands nowhere.",
        ),
    ] = "earliest",
    group: Annotated[
        str | None,
        typer.Option(
            "--group", "-g", help="Read as a member of this group, and commit what was printed."
        ),
    ] = None,
    partition: Annotated[
        int | None, typer.Option("--partition", "-p", help="Only this partition.")
    ] = None,
    follow: Annotated[
        bool,
        typer.Option("--follow/--to-end", help="Wait for more, or stop at the end there is now."),
    ] = False,
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="Stop after so many records.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object per record, with its coordinates.")
    ] = False,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="TEXT",
            help="Text with {" + "} {".join(_FIELDS) + "}.  [default: {value}]",
        ),
    ] = None,
) -> None:
    """Print the records of a topic: the values, one per line."""
    from streamkit.clock import SystemClock

    if json and format_ is not None:
        raise ConfigError("--format: with --json the form is JSON; leave one of them out")
    if group is not None and partition is not None:
        raise ConfigError("--partition: the members of a group share its partitions by themselves")
    start = parse_position(from_, SystemClock().now(), key="--from")
    extent = Extent(follow, count)
    show = _as_json if json else _formatter(format_ or "{value}")
    with stop_on_signals() as stop, open_log(context, read_only=group is None) as log:
        partitions = _partitions(log, topic, partition)
        if group is None:
            for at in partitions:
                check_inside(log, at, start)
            records = read_alone(log, partitions, start, extent, stop)
        else:
            records = read_as_member(log, topic, group, start, extent, stop)
        for record in records:
            sys.stdout.write(show(record))
        sys.stdout.flush()
        if stop.interrupted:
            raise typer.Exit(INTERRUPTED)


def _partitions(log: "Backend", topic: str, number: int | None) -> list[TopicPartition]:
    count = log.topic(topic).partitions
    if number is None:
        return [TopicPartition(topic, each) for each in range(count)]
    if not 0 <= number < count:
        raise UnknownPartition(f"{topic} has no partition {number}; it has 0 to {count - 1}")
    return [TopicPartition(topic, number)]


def _as_json(record: Record[bytes | None]) -> str:
    line: dict[str, object] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": text_of(record.key),
        "value": _json_value(record.value),
    }
    if record.headers:
        # Pairs, as a name may come twice.
        line["headers"] = [(name, text_of(value)) for name, value in record.headers]
    return json_line(line)


def _json_value(value: bytes | None) -> object:
    """JSON as it stands but on one line, anything else as text."""
    if value is None:
        return None
    try:
        msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return text_of(value)
    return msgspec.Raw(msgspec.json.format(value, indent=-1) if b"\n" in value else value)


def _formatter(template: str) -> Callable[[Record[bytes | None]], str]:
    try:
        used = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise ConfigError(f"--format {template!r}: {error}") from None
    for name in used:
        if name not in _FIELDS:
            raise ConfigError(f"--format {template!r}: no field {name!r}{nearest(name, _FIELDS)}")

    fields = {name: field for name, field in _FIELDS.items() if name in used}

    def show(record: Record[bytes | None]) -> str:
        return template.format(**{name: of(record) for name, of in fields.items()}) + "\n"

    try:
        show(Record("", 0, 0, 0, b"", b""))
    except (ValueError, LookupError) as error:
        raise ConfigError(f"--format {template!r}: {error}") from None
    return show


def _shown(data: bytes | None) -> str:
    text = text_of(data)
    return "null" if text is None else text
