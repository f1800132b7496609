"""`streamkit run`: run an app, live."""

from typing import TYPE_CHECKING, Annotated

import typer

from streamkit.cli import INTERRUPTED
from streamkit.cli.loading import load_app
from streamkit.cli.progress import messages
from streamkit.cli.settings import settings_of
from streamkit.cli.workers import workers
from streamkit.engine.signals import stop_on_signals
from streamkit.errors import UsageError

if TYPE_CHECKING:
    from streamkit.engine.progress import Progress


def run(
    context: typer.Context,
    app: Annotated[str, typer.Argument(metavar="APP.PY[:NAME]", help="A file or a module.")],
    until_end: Annotated[
        bool,
        typer.Option("--until-end", help="Stop when everything there is now has been processed."),
    ] = False,
    processes: Annotated[
        int, typer.Option("--workers", "-w", min=1, help="How many processes share the tasks.")
    ] = 1,
    accept: Annotated[
        bool,
        typer.Option(
            "--accept",
            help="Go on even if the app changed so that state is orphaned: see `streamkit plan`.",
        ),
    ] = False,
) -> None:
    """Run an app until Ctrl-C or SIGTERM; it commits what it did before it ends.

    Start it several times, in several terminals, and the processes share its tasks; --workers does
    that in one.
    """
    settings = settings_of(context)
    columns = ("app", "tasks", "events", "events/s", "behind", "late")
    with stop_on_signals() as stop, messages(columns, settings.debug) as show:
        # In here, as all of this takes a while, and may be stopped as well.
        from streamkit.backends.locate import open_backend
        from streamkit.engine.live import run as run_live
        from streamkit.engine.worker import Settings

        loaded = load_app(app)
        url = (settings.log if settings.log_asked else None) or loaded.log
        if processes > 1 and url.startswith("memory:"):
            raise UsageError("--workers: processes cannot share a log in memory; use a directory")
        # The same command without --workers; where the log is has been decided here.
        arguments = ["--log", url, "run", app, *(["--until-end"] if until_end else [])]
        arguments += ["--accept"] if accept else []

        def progress(now: "Progress") -> None:
            rate = round(now.rate)
            show([(loaded.name, now.tasks, now.processed, rate, now.lag, now.late)])

        with open_backend(url) as log, workers(processes - 1, arguments, stop):
            run_live(
                loaded.topology(),
                log,
                stop=stop,
                settings=Settings(memory=loaded.memory),
                until_end=until_end,
                accept=accept,
                on_progress=progress,
            )
        if stop.interrupted:
            raise typer.Exit(INTERRUPTED)
