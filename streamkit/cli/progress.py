"""What long commands show on stderr: log lines, and on a terminal a table that renews itself."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

from streamkit.cli.output import is_terminal, table

if TYPE_CHECKING:
    from rich.console import Console


class _Lines(logging.Handler):
    """Log lines through the console that also draws, so that neither disturbs the other."""

    def __init__(self, console: "Console") -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        from rich.text import Text

        self._console.print(Text(self.format(record)), soft_wrap=True)


@contextmanager
def messages(
    columns: Sequence[str], debug: bool
) -> Iterator[Callable[[list[Sequence[Any]]], None]]:
    """Show streamkit's log lines, and give a function that shows rows of a table.

    The table is drawn on a terminal only; elsewhere the function does nothing.
    """
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True, highlight=False)
    handler = _Lines(console)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    logger = logging.getLogger("streamkit")
    level = logger.level
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    logger.addHandler(handler)
    try:
        if not is_terminal():
            yield lambda rows: None
            return
        with Live(console=console, refresh_per_second=4) as live:
            yield lambda rows: live.update(table(None, columns, rows))
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar with rate and time left; the function takes how many are done, and in all."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    began = monotonic()
    first: int | None = None
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=None, rate="-")

        def update(done: int, total: int) -> None:
            nonlocal first
            first = done if first is None else first
            rate = (done - first) / max(monotonic() - began, 1e-3)
            progress.update(task, completed=done, total=total, rate=f"{rate:,.0f}")

        yield update
