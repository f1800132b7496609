"""`streamkit connect`: run the connectors of worker files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamkit.cli.progress import messages
from streamkit.cli.settings import settings_of
from streamkit.engine.signals import stop_on_signals

if TYPE_CHECKING:
    from streamkit.connect.status import ConnectorStatus


def connect(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="WORKER.TOML...")],
    until_idle: Annotated[
        bool,
        typer.Option(
            "--until-idle",
            help="Stop when every source has nothing to read and every sink has written all.",
        ),
    ] = False,
) -> None:
    """Run the connectors of these files until Ctrl-C or SIGTERM.

    Several workers on one log share the connectors, and take over from one that dies.
    """
    from streamkit.connect.worker import run

    settings = settings_of(context)
    columns = ("connector", "state", "records", "bad", "lag", "error")
    with stop_on_signals() as stop, messages(columns, settings.debug) as show:

        def progress(statuses: "tuple[ConnectorStatus, ...]") -> None:
            show([(s.name, s.state, s.records, s.bad, s.lag, s.error) for s in statuses])

        run(
            files,
            settings.url,
            stop_event=stop,
            until_idle=until_idle,
            on_progress=progress,
        )
        if stop.interrupted:
            raise typer.Exit(130)
