"""`streamkit produce`: lines into records."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from streamkit.cli.output import note
from streamkit.cli.settings import open_log
from streamkit.errors import (
    ConfigError,
    InvalidRecord,
    LogError,
    OutOfSpace,
    StreamkitError,
    counted,
)


def produce(
    context: typer.Context,
    topic: str,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", help="Read lines of this file.  [default: standard input]"),
    ] = None,
    key_separator: Annotated[
        str | None,
        typer.Option(
            "--key-separator", "-k", metavar="TEXT", help="What stands before it is the key."
        ),
    ] = None,
    null_values: Annotated[
        bool,
        typer.Option(
            "--null-values",
            "-Z",
            help="What is empty is null: of a table it deletes the row of its key.",
        ),
    ] = False,
) -> None:
    """Append every line as one record. Returns when all of them are on stable storage."""
    from streamkit.clients.producer import Producer

    if key_separator == "":
        raise ConfigError("--key-separator: nothing stands between a key and a value; name a text")
    separator = None if key_separator is None else key_separator.encode()
    source = file or "standard input"
    count = 0
    stopped: LogError | None = None
    with open_log(context) as log:
        log.topic(topic)
        try:
            with Producer(log) as producer:
                for number, line in enumerate(_lines(file), 1):
                    key = None
                    if separator is not None:
                        key, found, line = line.partition(separator)
                        if not found:
                            raise InvalidRecord(
                                f"{source}:{number}: no {key_separator!r} between a key and a"
                                f" value; {counted(count, 'line')} before it went to {topic}"
                            )
                    try:
                        producer.send(topic, None if null_values and not line else line, key=key)
                    except LogError as error:  # about lines before: closing tries them once more
                        stopped = error
                        break
                    except StreamkitError as error:
                        error.add_note(f"at {source}:{number}")
                        raise
                    count = number
        except OutOfSpace as error:
            error.add_note(f"{count:,} lines of {source} were read; the others are in {topic}")
            raise
        if stopped is not None:
            stopped.__notes__ = [
                f"the first {count:,} lines of {source} have been produced: go on after them"
            ]
            raise stopped
    note(f"{counted(count, 'record')} to {topic}")


def _lines(file: Path | None) -> Iterator[bytes]:
    stream = sys.stdin.buffer if file is None else file.open("rb")
    try:
        for line in stream:
            yield line.removesuffix(b"\n")
    finally:
        if file is not None:
            stream.close()
