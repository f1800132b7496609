"""`streamkit run`: run an app, live."""

from typing import TYPE_CHECKING, Annotated

import typer

from streamkit.cli.loading import load_app
from streamkit.cli.progress import messages
from streamkit.cli.settings import settings_of
from streamkit.engine.signals import stop_on_signals

if TYPE_CHECKING:
    from streamkit.engine.live import Progress


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

    settings = settings_of(context)
    loaded = load_app(app)
    columns = ("app", "tasks", "events", "events/s", "behind", "late")
    with (
        open_backend((settings.log if settings.log_asked else None) or loaded.log) as log,
        stop_on_signals() as stop,
        messages(columns, settings.debug) as show,
    ):

        def progress(now: "Progress") -> None:
            rate = round(now.rate)
            show([(loaded.name, now.tasks, now.processed, rate, now.lag, now.late)])

        run_live(loaded.topology(), log, stop=stop, until_end=until_end, on_progress=progress)
        if stop.interrupted:
            raise typer.Exit(130)
