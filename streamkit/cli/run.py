"""`streamkit run`: run an app, live."""

from typing import Annotated

import typer

from streamkit.cli.loading import load_app
from streamkit.cli.output import note
from streamkit.cli.settings import DEFAULT_LOG, settings_of
from streamkit.cli.signals import stop_on_signals


def run(
    context: typer.Context,
    app: Annotated[str, typer.Argument(metavar="APP.PY[:NAME]", help="A file or a module.")],
    until_end: Annotated[
        bool,
        typer.Option("--until-end", help="Stop when everything there is now has been processed."),
    ] = False,
) -> None:
    """Run an app until Ctrl-C or SIGTERM; it commits what it did before it ends.

    Start it several times, in several terminals, and the processes share its tasks.
    """
    from streamkit.backends.locate import open_backend
    from streamkit.engine.live import run as run_live

    loaded = load_app(app)
    url = settings_of(context).log or loaded.log or DEFAULT_LOG
    with open_backend(url) as log, stop_on_signals() as stop:
        run_live(loaded.topology(), log, stop=stop, until_end=until_end, on_note=note)
        if stop.interrupted:
            raise typer.Exit(130)
