"""`streamkit log config` and `streamkit log maintain`: what is kept, and removing the rest now."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from streamkit.cli.output import note, print_json, print_table
from streamkit.cli.settings import open_log
from streamkit.errors import ConfigError, LogError

Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


def config(
    context: typer.Context,
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="E.g. max.disk.bytes=5000000000; KEY= gives it its default again.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Show the configs of the log as a whole, or set some."""
    from streamkit.log.config import LOG_CONFIGS, LogConfig

    changes: dict[str, str | None] = {}
    for text in settings or ():
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"{text!r} is not KEY=VALUE, as in max.disk.bytes=5000000000")
        changes[key.strip()] = value.strip() or None
    with open_log(context, read_only=not changes) as log:
        if changes:
            log.alter_log(changes)
        given = log.log_config()
    if json:
        print_json(given)
        return
    for key, (field, _) in sorted(LOG_CONFIGS.items()):
        value = given.get(key) or f"{getattr(LogConfig(), field)} (default)"
        typer.echo(f"{key} = {value}")


def maintain(context: typer.Context, json: Json = False) -> None:
    """Remove now what retention does not keep any more, compact, and say what was done.

    Transactions whose producer was killed are aborted, too. The processes that write to the log
    do all of it by themselves, about once a second.
    """
    with open_log(context) as log, _quiet():
        done = log.maintain()
    removed = [
        {
            "partition": str(tp),
            "before": removal.before,
            "segments": removal.segments,
            "bytes": removal.size,
            "why": removal.why,
        }
        for tp, removal in done.removed
    ]
    compacted = [
        {
            "partition": str(tp),
            "clean_to": one.clean_to,
            "removed_records": one.removed_records,
            "written": one.written,
        }
        for tp, one in done.compacted
    ]
    if json:
        rolled = [str(tp) for tp in done.rolled]
        print_json(
            {
                "removed": removed,
                "compacted": compacted,
                "rolled": rolled,
                "problems": done.problems,
            }
        )
    else:
        for title, rows in (("removed", removed), ("compacted", compacted)):
            if rows:
                print_table(title, list(rows[0]), [list(row.values()) for row in rows])
        if not removed and not compacted:
            note("nothing to remove")
    if done.problems:
        raise LogError("\n".join(done.problems))


@contextmanager
def _quiet() -> Iterator[None]:
    """Maintenance logs the problems that it also gives, and that are said here as errors."""
    logger = logging.getLogger("streamkit.log.maintenance")
    logger.addFilter(_nothing)
    try:
        yield
    finally:
        logger.removeFilter(_nothing)


def _nothing(record: logging.LogRecord) -> bool:
    return False
