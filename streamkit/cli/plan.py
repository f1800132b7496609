"""`streamkit plan`: what running an app would change."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from streamkit.cli.loading import load_app
from streamkit.cli.output import note, print_json, print_table
from streamkit.cli.settings import settings_of
from streamkit.errors import LogNotFound

if TYPE_CHECKING:
    from streamkit.engine.plan import Plan


def plan(
    context: typer.Context,
    app: Annotated[str, typer.Argument(metavar="APP.PY[:NAME]", help="A file or a module.")],
    forget: Annotated[
        list[str] | None,
        typer.Option(
            "--forget",
            metavar="STORE",
            help="Delete what was kept under this name, for good, if the code does not use it, or "
            "would misread it. Repeatable.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
) -> None:
    """Say what a change of an app's code does to what it keeps, without running it.

    The exit code is 0 when nothing changes, 1 when all changes are safe, 2 when state would be
    orphaned or misread: `streamkit run` refuses that, unless told to --accept it. It is 2 as well
    when that cannot be told, because of an error.
    """
    # In here, as it costs more than all of `streamkit --help`.
    from streamkit.backends.locate import open_backend
    from streamkit.engine import plan as planning

    settings = settings_of(context)
    loaded = load_app(app)
    url = (settings.log if settings.log_asked else None) or loaded.log
    topology = loaded.topology()
    try:
        opened = open_backend(url, read_only=not forget, create=False)
    except LogNotFound as error:
        if forget:
            raise
        note(f"{error}. As planned here, everything is new")
        opened = open_backend("memory:")
    with opened as log:
        if forget:
            for topic in planning.forget(topology, log, forget):
                note(f"deleted {topic}")
        found = planning.plan(topology, log)
    _print(found, json=json)
    raise typer.Exit(int(found.risk))


def _print(found: "Plan", *, json: bool) -> None:
    if json:
        print_json(
            {
                "app": found.app,
                "risk": found.risk.name.lower(),
                "changes": [
                    {**asdict(change), "risk": change.risk.name.lower()} for change in found.changes
                ],
                "create": {topic: spec.partitions for topic, spec in found.create.items()},
            }
        )
        return
    if found.before is None:
        typer.echo(f"app {found.app} has not run on this log yet")
    marks = ("", "", "UNSAFE")
    rows = [(one.subject, one.what, marks[one.risk], one.text) for one in found.changes]
    if rows:
        print_table(None, ["store or topic", "is", "", "what that means"], rows)
    if found.create:
        rows_created = [(topic, spec.partitions) for topic, spec in found.create.items()]
        print_table("topics to be created", ["topic", "partitions"], rows_created)
    for change in found.unsafe:
        if change.advice:
            typer.echo(f"{change.subject}: {change.advice}")
    if any(change.what == "misfit" for change in found.unsafe):
        typer.echo("`streamkit run` refuses this, with --accept too.")
    elif found.unsafe:
        typer.echo(
            "`streamkit run` refuses this. --accept there goes on and leaves what is not used, but "
            "not with what is unreadable; --forget here deletes it."
        )
    elif not rows and not found.create:
        typer.echo("nothing changes")
