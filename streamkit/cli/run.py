"""`streamkit run`: run an app, live."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from streamkit.cli import INTERRUPTED
from streamkit.cli.draining import drained
from streamkit.cli.loading import load_app
from streamkit.cli.progress import messages
from streamkit.cli.reload import begin_again, until_changed
from streamkit.cli.reports import COLUMNS, Board, reporting
from streamkit.cli.settings import settings_of
from streamkit.cli.workers import stop_when_alone, workers
from streamkit.dsl.durations import milliseconds
from streamkit.engine.settings import OnMissing
from streamkit.engine.signals import stop_on_signals
from streamkit.errors import LogNotFound, UsageError

if TYPE_CHECKING:
    from streamkit.engine.progress import Progress


def run(
    context: typer.Context,
    app: Annotated[str, typer.Argument(metavar="APP.PY[:NAME]", help="A file or a module.")],
    until_end: Annotated[
        bool,
        typer.Option("--until-end", help="Stop when everything there is now has been processed."),
    ] = False,
    finish: Annotated[
        bool,
        typer.Option(
            "--finish",
            help="With --until-end: then close what is open. Windows, sessions and joins give what "
            "they have; what comes for them later is late.",
        ),
    ] = False,
    processes: Annotated[
        int, typer.Option("--workers", "-w", min=1, help="How many processes share the tasks.")
    ] = 1,
    drain: Annotated[
        str,
        typer.Option(
            "--drain",
            metavar="DURATION",
            help="How long what is at work may take to finish when it is to stop.",
        ),
    ] = "25s",
    reload: Annotated[
        bool,
        typer.Option(
            "--reload", help="For development: begin again whenever the app's files change."
        ),
    ] = False,
    accept: Annotated[
        bool,
        typer.Option(
            "--accept",
            help="Go on even if the app changed so that state is orphaned: see `streamkit plan`.",
        ),
    ] = False,
    commit_interval: Annotated[
        str | None,
        typer.Option(
            "--commit-interval",
            metavar="DURATION",
            help="How far commits are apart, in place of what the app says (100ms by default).",
        ),
    ] = None,
    on_missing: Annotated[
        OnMissing,
        typer.Option(
            "--on-missing",
            help="When records are gone that the app has not read: stop; go on with the earliest "
            "that are left; or rebuild the state of their task from these.",
        ),
    ] = "fail",
    report: Annotated[int | None, typer.Option("--report", hidden=True)] = None,
) -> None:
    """Run an app until Ctrl-C or SIGTERM; it commits what it did before it ends.

    Start it several times, in several terminals, and the processes share its tasks; --workers does
    that in one. They may come, go and be killed at any time.
    """
    if finish and not until_end:
        raise UsageError("--finish closes what is open at the end: say --until-end as well")
    settings = settings_of(context)
    seconds = milliseconds(drain, "--drain") / 1000
    interval = None
    if commit_interval is not None:
        interval = milliseconds(commit_interval, "--commit-interval")
    with ExitStack() as open_things:
        stop = open_things.enter_context(stop_on_signals())
        on_progress: Callable[[Progress], None]
        board: Board | None = None
        if report is None:
            show = open_things.enter_context(messages(COLUMNS, settings.debug))
            board = Board(app, show)
            on_progress = board.progress
        else:
            on_progress = open_things.enter_context(reporting(report, settings.debug)).progress
            stop_when_alone(report, stop, seconds)

        def work() -> None:
            # In here, as all of this takes a while, and may be stopped as well.
            from streamkit.backends.locate import open_backend

            loaded = load_app(app)
            url = (settings.log if settings.log_asked else None) or loaded.log
            how = replace(loaded.settings(), on_missing=on_missing)
            if interval is not None:
                how = replace(how, commit_interval=interval / 1000)
            if processes > 1 and url.startswith("memory:"):
                raise UsageError(
                    "--workers: processes cannot share a log in memory; use a directory"
                )
            # The same command without --workers; where the log is has been decided here.
            arguments = ["--log", url, *(["--debug"] if settings.debug else []), "run", app]
            arguments += ["--drain", drain]
            arguments += ["--on-missing", on_missing]
            arguments += [] if commit_interval is None else ["--commit-interval", commit_interval]
            arguments += ["--until-end"] if until_end else []
            arguments += ["--finish"] if finish else []
            arguments += ["--accept"] if accept else []
            others = workers(
                processes - 1,
                arguments,
                stop,
                drain=seconds,
                on_line=None if board is None else board.line,
            )
            topology = loaded.topology()
            needed = [topic for topic in topology.sources if topic not in topology.imported]
            try:
                # Where there is none the topics are not that others write, for which nobody waits
                # then: in a wrong folder, most likely, and no log is to be made there.
                opened = open_backend(url, create=not (until_end and needed))
            except LogNotFound as error:
                error.add_note(
                    f"app {topology.app!r} reads topics that others write: name their log by "
                    f"--log, or begin one: streamkit topics create {' '.join(needed)}"
                )
                raise
            with opened as log, others, drained(stop, seconds):
                # Only now: the others have begun, and load the same meanwhile.
                from streamkit.engine.live import run as run_live

                run_live(
                    topology,
                    log,
                    stop=stop,
                    settings=how,
                    until_end=until_end,
                    finish=finish,
                    accept=accept,
                    on_progress=on_progress,
                    companions=loaded.connectors(),
                )

        if reload:
            changed = until_changed(app, stop, work)
        else:
            work()
            changed = False
    if changed:
        begin_again()
    if stop.interrupted:
        raise typer.Exit(INTERRUPTED)
