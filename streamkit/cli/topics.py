"""`streamkit topics`: create, list, describe, alter, delete."""

import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from streamkit.cli.output import iso, note, print_json, print_table
from streamkit.cli.settings import open_log
from streamkit.errors import ConfigError, TopicExists, UsageError, counted
from streamkit.records import TopicPartition

if TYPE_CHECKING:
    from streamkit.backends.base import Backend
    from streamkit.backends.values import PartitionInfo

app = typer.Typer(no_args_is_help=True, help="Create, list, describe, alter and delete topics.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


@app.command()
def create(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="TOPIC")],
    partitions: Annotated[int, typer.Option("--partitions", "-p", min=1)] = 1,
    config: Annotated[
        list[str] | None,
        typer.Option(
            "--config",
            "-c",
            metavar="KEY=VALUE",
            help="A topic config by Kafka's name, e.g. cleanup.policy=compact. Repeatable.",
        ),
    ] = None,
    if_missing: Annotated[
        bool, typer.Option("--if-missing", help="Leave topics alone that exist.")
    ] = False,
) -> None:
    """Create topics."""
    configs = dict(_key_value(text) for text in config or ())
    with open_log(context, create=True) as log:
        for name in names:
            try:
                log.create_topic(name, partitions, configs)
            except TopicExists:
                if not if_missing:
                    raise


@app.command("list")
def list_(
    context: typer.Context,
    json: Json = False,
    internal: Annotated[
        bool, typer.Option("--internal", help="Streamkit's own topics (`__...`), too.")
    ] = False,
) -> None:
    """List the topics, with how many offsets they hold and the bytes that these take on disk.

    Each record has one; so have records that compaction removed, and the ends of transactions.
    """
    columns = ["topic", "partitions", "offsets", "bytes"]
    with open_log(context, read_only=True) as log:
        rows: list[tuple[str, int, int | None, int | None]] = []
        for name, topic in sorted(log.topics().items()):
            if topic.internal and not internal:
                continue
            try:
                held = log.partitions(name)
            except ConfigError as error:  # a broker's, that cannot be obeyed here
                note(str(error))
                rows.append((name, topic.partitions, None, None))
                continue
            offsets = sum(partition.end - partition.start for partition in held)
            rows.append((name, len(held), offsets, sum(partition.bytes for partition in held)))
    if json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_table(None, columns, rows)


@app.command()
def describe(context: typer.Context, name: str, json: Json = False) -> None:
    """Show a topic's configs, and of each partition its offsets, size and latest record.

    From offset `stable` on are transactions that have not ended: it is where most readers wait.
    """
    columns = ["partition", "start", "stable", "end", "segments", "bytes"]
    with open_log(context, read_only=True) as log:
        topic = log.topic(name)
        rows = []
        for held in log.partitions(name):
            last = _last_timestamp(log, held)
            offsets = (held.start, held.stable, held.end)
            rows.append((held.partition.partition, *offsets, held.segments, held.bytes, last))
    if json:
        columns.append("last_timestamp")
        print_json(
            {
                "topic": topic.name,
                "id": topic.topic_id,
                "config": dict(topic.config),
                "partitions": [dict(zip(columns, row, strict=True)) for row in rows],
            }
        )
        return
    typer.echo(f"{topic.name}  id {topic.topic_id}")
    for key, value in sorted(topic.config.items()):
        typer.echo(f"  {key} = {value}")
    print_table(
        None,
        [*columns, "last record"],
        [(*row[:-1], "-" if row[-1] is None else iso(row[-1])) for row in rows],
    )


def _last_timestamp(log: "Backend", held: "PartitionInfo") -> int | None:
    """Of the last record that can be read; None: there is none among the last 4096 offsets.

    At the end may stand markers of transactions and what was aborted: so it is looked for in ever
    longer stretches.
    """
    last = None
    for stretch in (1, 8, 64, 512, 4096):
        position = max(held.start, held.stable - stretch)
        moved = True
        while moved and position < held.stable:
            moved = False
            for batch in log.fetch({held.partition: position}):
                stamps = batch.columns().timestamps
                last = stamps[-1] if stamps else last
                moved = batch.next_offset > position
                position = batch.next_offset
        if last is not None or held.stable - stretch <= held.start:
            break
    return last


@app.command()
def alter(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="TOPIC")],
    config: Annotated[
        list[str] | None,
        typer.Option("--config", "-c", metavar="KEY=VALUE", help="Set a config. Repeatable."),
    ] = None,
    delete_config: Annotated[
        list[str] | None,
        typer.Option(
            "--delete-config", metavar="KEY", help="Give a config its default again. Repeatable."
        ),
    ] = None,
    partitions: Annotated[
        int | None,
        typer.Option("--partitions", "-p", help="Let the topic have so many: more than now."),
    ] = None,
) -> None:
    """Change a topic's configs, or add partitions, while it is in use.

    A key's later records may then go to another partition than its earlier ones. So an app that
    reads the topic stops, and says what to do.
    """
    changes: dict[str, str | None] = dict(_key_value(text) for text in config or ())
    for key in delete_config or ():
        if key in changes:
            raise ConfigError(f"{key} is both set and deleted: leave out one of them")
        changes[key] = None
    if not changes and partitions is None:
        raise UsageError("nothing to alter: name --config, --delete-config or --partitions")
    with open_log(context) as log:
        if partitions is not None:
            log.add_partitions(name, partitions)
            note(f"{name}: {counted(partitions, 'partition')}")
        if changes:
            log.alter_topic(name, changes)
            told = (f"{k} = {'(default)' if v is None else v}" for k, v in changes.items())
            note(f"{name}: {', '.join(told)}")


@app.command()
def delete(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="TOPIC")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask on a terminal.")] = False,
) -> None:
    """Delete topics and all their records. Asks first, if a person is there to answer."""
    with open_log(context) as log:
        for name in names:
            log.topic(name)
        if not yes and sys.stdin.isatty():
            typer.confirm(f"Delete {', '.join(names)} and all their records?", abort=True)
        for name in names:
            log.delete_topic(name)


@app.command("delete-records")
def delete_records(
    context: typer.Context,
    places: Annotated[
        list[str],
        typer.Argument(
            metavar="TOPIC:P@OFFSET",
            help="The first record to keep, as in orders:0@1234; orders:0@end keeps none.",
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask on a terminal.")] = False,
) -> None:
    """Delete the records of partitions before an offset. Asks first, if a person is there."""
    before = dict(_place(text) for text in places)
    with open_log(context) as log:
        bounds = {tp: log.offsets(tp) for tp in before}
        if not yes and sys.stdin.isatty():
            told = ", ".join(
                f"{tp}@{bounds[tp].start} to {(bounds[tp].end if at < 0 else at) - 1}"
                for tp, at in before.items()
            )
            typer.confirm(f"Delete {told}?", abort=True)
        for tp, offset in before.items():
            note(f"{tp} starts at {log.delete_records(tp, offset)}")


_PLACE = re.compile(r"(.+):(\d+)@(\d+|end)$")


def _place(text: str) -> tuple[TopicPartition, int]:
    found = _PLACE.match(text)
    if found is None:
        raise UsageError(f"{text!r} is not TOPIC:PARTITION@OFFSET, as in orders:0@1234")
    return TopicPartition(found[1], int(found[2])), -1 if found[3] == "end" else int(found[3])


def _key_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--config {text!r} is not KEY=VALUE, as in segment.bytes=16777216")
    return key.strip(), value.strip()
