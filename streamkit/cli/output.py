"""What commands print: tables for people, JSON for programs, notes and errors on stderr."""

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from rich.table import Table


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ANY_WIDTH = 1_000_000


def print_json(value: object) -> None:
    """Print one JSON document on a line of its own; bytes become text where they are text."""
    sys.stdout.write(json_line(value))


def json_line(value: object) -> str:
    return msgspec.json.encode(value).decode() + "\n"


def print_table(title: str | None, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows as a table: as wide as the terminal, or in a pipe one plain line per row."""
    from rich.console import Console

    terminal = sys.stdout.isatty()
    console = Console(highlight=False, width=None if terminal else _ANY_WIDTH)
    made = table(title, columns, rows)
    if not terminal:
        made.box = None
        made.padding = (0, 2, 0, 0)
    with console.capture() as capture:
        console.print(made)
    text = capture.get()
    if not terminal:
        text = "\n".join(line.rstrip() for line in text.split("\n"))
    sys.stdout.write(text)


def table(title: str | None, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> "Table":
    """Rows as a table; whole columns of numbers stand at the right, with separators."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    rows = [list(row) for row in rows]
    made = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for at, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[at], int) or row[at] is None for row in rows)
        made.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(_cell(cell)) for cell in row))
    return made


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def note(text: str) -> None:
    """Say something to a person, on stderr, so that stdout stays what was asked for."""
    print(text, file=sys.stderr, flush=True)


def print_error(text: str) -> None:
    """Print an error of one screen, with its first word in red on a terminal."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text.assemble(("error: ", "bold red"), text))


def text_of(data: bytes | None) -> str | None:
    """Bytes as text; what is not UTF-8 is shown with backslashes, so that nothing is hidden."""
    return None if data is None else data.decode("utf-8", "backslashreplace")


def iso(timestamp: int) -> str:
    """A timestamp in ms as ISO 8601 in UTC; "-" for the timestamp that records without one have.

    One that no calendar has (after the year 9999) stays the number that it is.
    """
    if timestamp < 0:
        return "-"
    try:
        moment = _EPOCH + timedelta(milliseconds=timestamp)
    except OverflowError:
        return str(timestamp)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def is_terminal() -> bool:
    """Whether a person looks at stderr: only then progress bars are drawn."""
    return sys.stderr.isatty()
