"""`streamkit topics`: create, list, describe, delete."""

import sys
from typing import Annotated

import typer

from streamkit.cli.output import iso, print_json, print_table
from streamkit.cli.settings import open_log
from streamkit.errors import ConfigError, TopicExists
from streamkit.records import TopicPartition

app = typer.Typer(no_args_is_help=True, help="Create, list, describe and delete topics.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


@app.command()
def create(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="TOPIC...")],
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
    everything: Annotated[
        bool, typer.Option("--all", help="Streamkit's own topics (`__...`), too.")
    ] = False,
) -> None:
    """List the topics."""
    with open_log(context, read_only=True) as log:
        rows = []
        for topic in sorted(log.topics().values(), key=lambda topic: topic.name):
            if topic.internal and not everything:
                continue
            ends = [
                log.offsets(TopicPartition(topic.name, number))
                for number in range(topic.partitions)
            ]
            rows.append((topic.name, topic.partitions, sum(end.end - end.start for end in ends)))
    if json:
        print_json(
            [{"topic": name, "partitions": count, "records": size} for name, count, size in rows]
        )
    else:
        print_table(None, ["topic", "partitions", "records"], rows)


@app.command()
def describe(context: typer.Context, name: str, json: Json = False) -> None:
    """Show a topic's configs, and of each partition its offsets and latest record."""
    with open_log(context, read_only=True) as log:
        topic = log.topic(name)
        rows = []
        for number in range(topic.partitions):
            partition = TopicPartition(name, number)
            offsets = log.offsets(partition)
            last = None
            if offsets.end > offsets.start:
                for batch in log.fetch({partition: offsets.end - 1}):
                    stamps = batch.columns().timestamps
                    last = stamps[-1] if stamps else last
            rows.append((number, offsets.start, offsets.end, last))
    if json:
        columns = ["partition", "start", "end", "last_timestamp"]
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
        ["partition", "start", "end", "last record"],
        [(*row[:3], "-" if row[3] is None else iso(row[3])) for row in rows],
    )


@app.command()
def delete(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="TOPIC...")],
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


def _key_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--config {text!r} is not KEY=VALUE, as in segment.bytes=16777216")
    return key.strip(), value.strip()
