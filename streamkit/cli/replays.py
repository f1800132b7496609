"""`streamkit replays`: list, show and delete the sessions of `streamkit replay`."""

from typing import TYPE_CHECKING, Annotated

import typer

from streamkit.cli.output import iso, print_json, print_table
from streamkit.cli.settings import open_log
from streamkit.errors import UsageError, nearest

if TYPE_CHECKING:
    from streamkit.backends.base import Backend
    from streamkit.replay.session import Session

app = typer.Typer(no_args_is_help=True, help="List, show and delete replay sessions.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Which = Annotated[str, typer.Argument(metavar="APP/NAME")]


@app.command("list")
def list_(context: typer.Context, json: Json = False) -> None:
    """List the replay sessions of all apps."""
    from streamkit.replay.session import sessions

    with open_log(context, read_only=True) as log:
        found = [session for _, session in sorted(sessions(log).items())]
    if json:
        print_json([_summary(session) for session in found])
    else:
        print_table(
            None,
            ["session", "from", "to", "began", "state"],
            [
                (
                    f"{session.app}/{session.name}",
                    session.from_text,
                    session.to_text,
                    iso(session.created),
                    "finished" if session.finished else "unfinished",
                )
                for session in found
            ],
        )


@app.command()
def show(context: typer.Context, session: Which, json: Json = False) -> None:
    """Show a session's bounds and the topics it wrote."""
    from streamkit.replay.compare import sizes

    with open_log(context, read_only=True) as log:
        found = _find(log, session)
        written = sizes(log, found)
    if json:
        print_json({**_summary(found), "topics": written, "group": found.group})
        return
    typer.echo(
        f"{found.app}/{found.name}: {'finished' if found.finished else 'unfinished'}, "
        f"from {_moment(found.start, 'earliest')} to {_moment(found.end, 'latest')}"
    )
    print_table("input", ["topic", "partition", "start", "end"], _bounds(found))
    print_table("output", ["topic", "records"], sorted(written.items()))


@app.command()
def delete(context: typer.Context, session: Which) -> None:
    """Delete a session with the topics and the group that belong to it alone."""
    from streamkit.replay.claim import claimed
    from streamkit.replay.session import forget

    with open_log(context) as log:
        found = _find(log, session)
        with claimed(log, found.app, found.name):
            forget(log, found)


def _find(log: "Backend", text: str) -> "Session":
    from streamkit.replay.session import sessions

    known = {f"{app}/{name}": session for (app, name), session in sessions(log).items()}
    if text not in known:
        raise UsageError(f"no replay session {text!r}{nearest(text, known)}")
    return known[text]


def _summary(session: "Session") -> dict[str, object]:
    return {
        "app": session.app,
        "name": session.name,
        "from": session.from_text,
        "to": session.to_text,
        "start": session.start,
        "end": session.end,
        "created": session.created,
        "finished": session.finished,
    }


def _bounds(session: "Session") -> list[tuple[str, int, int, int]]:
    return [
        (topic, number, *bounds)
        for topic, all_bounds in sorted((session.streams | session.tables).items())
        for number, bounds in enumerate(all_bounds)
    ]


def _moment(timestamp: int | None, otherwise: str) -> str:
    return otherwise if timestamp is None else iso(timestamp)
