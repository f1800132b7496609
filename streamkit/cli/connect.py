"""`streamkit connect`: run the connectors of a worker file."""

from pathlib import Path
from typing import Annotated

import typer

from streamkit.cli.output import note
from streamkit.cli.settings import settings_of
from streamkit.cli.signals import stop_on_signals


def connect(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="WORKER.TOML...")],
) -> None:
    """Run the connectors of these files until Ctrl-C or SIGTERM.

    Several workers on one log share the connectors, and take over from one that dies.
    """
    from streamkit.connect.worker import run

    with stop_on_signals() as stop:
        run(files, settings_of(context).url, stop_event=stop, on_progress=note)
        if stop.interrupted:
            raise typer.Exit(130)
