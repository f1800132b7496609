"""`streamkit connect`: run the connectors of worker files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamkit.cli import INTERRUPTED
from streamkit.cli.progress import messages
from streamkit.cli.settings import Settings, settings_of
from streamkit.engine.signals import stop_on_signals

if TYPE_CHECKING:
    from streamkit.connect.status import ConnectorStatus


def connect(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="WORKER.TOML")],
    until_idle: Annotated[
        bool,
        typer.Option(
            "--until-idle",
            help="Stop when every source has nothing to read and every sink has written all.",
        ),
    ] = False,
    reset: Annotated[
        str | None,
        typer.Option(
            "--reset",
            metavar="NAME",
            help="Run nothing: forget where this source stands, so that the next run reads "
            "everything again. Refused while a worker runs it. Of an app's, with APP.PY in place "
            "of WORKER.TOML.",
        ),
    ] = None,
) -> None:
    """Run the connectors of these files until Ctrl-C or SIGTERM.

    Several workers on one log share the connectors, and take over from one that dies.
    """
    settings = settings_of(context)
    if reset is not None:
        if until_idle:
            raise typer.BadParameter("--reset runs nothing: give it without --until-idle")
        _reset(files, reset, settings)
        return
    columns = ("connector", "state", "records", "bad", "lag", "error")
    with stop_on_signals() as stop, messages(columns, settings.debug) as show:
        from streamkit.connect.worker import run  # takes a while, and may be stopped as well

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
            raise typer.Exit(INTERRUPTED)


def _reset(files: list[Path], name: str, settings: Settings) -> None:
    from streamkit.connect.offsets import names_of
    from streamkit.connect.reset import reset

    if len(files) == 1 and ".py" in files[0].name:
        from streamkit.cli.loading import load_app
        from streamkit.connect.beside import worker_config

        app = load_app(str(files[0]))
        url = settings.url if settings.log_asked else app.log
        places = reset(worker_config(app.topology()), name, url)
    else:
        places = reset(files, name, settings.url)
    if places:
        typer.echo(f"{name}: the next run reads again: {names_of(places)}")
    else:
        typer.echo(f"{name}: no position is stored; the next run reads everything")
