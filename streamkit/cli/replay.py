"""`streamkit replay`: run an app over history, beside the live one."""

from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamkit.cli.loading import load_app
from streamkit.cli.output import is_terminal, iso, note, print_json, print_table, text_of
from streamkit.cli.settings import settings_of
from streamkit.engine.signals import stop_on_signals

if TYPE_CHECKING:
    from streamkit.backends.base import Backend
    from streamkit.records import Record
    from streamkit.replay.diff import Difference
    from streamkit.replay.session import Session

DIFFERENT = 1
UNFINISHED = 130


def replay(
    context: typer.Context,
    app: Annotated[str, typer.Argument(metavar="APP.PY[:NAME]", help="A file or a module.")],
    from_: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="TIME",
            help="The first time of records to replay: 2026-01-31, 2026-01-31T12:00 (UTC), -7d, "
            "earliest.",
        ),
    ] = "earliest",
    to: Annotated[
        str,
        typer.Option("--to", metavar="TIME", help="The time before which to stop; latest: no end."),
    ] = "latest",
    name: Annotated[
        str | None,
        typer.Option("--name", help="The session's name.  [default: made of --from and --to]"),
    ] = None,
    diff: Annotated[
        list[str] | None,
        typer.Option(
            "--diff",
            metavar="TOPIC",
            help="Compare with what was published there; exit code 1 when they differ, or when no "
            "result is of that time. Repeatable.",
        ),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Forget what the session of this name has done.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object and nothing else.")
    ] = False,
) -> None:
    """Run an app over records of the past: its own group, its own state, shadow topics.

    The records are those whose timestamp is in [--from, --to), however they are ordered. Results
    go to TOPIC.replay.NAME; nothing that the live app writes is touched. The bounds are frozen
    when a session begins. Stop it with Ctrl-C, and the same command goes on where it stopped.
    """
    from streamkit.backends.locate import open_backend
    from streamkit.clock import SystemClock
    from streamkit.replay.begin import begin
    from streamkit.replay.claim import claimed
    from streamkit.replay.compare import check_diff, difference
    from streamkit.replay.run import run
    from streamkit.replay.session import session_name

    settings = settings_of(context)
    loaded = load_app(app)
    topology = loaded.topology()
    for topic in diff or ():
        check_diff(topology, topic)
    url = (settings.log if settings.log_asked else None) or loaded.log
    name = name or session_name(from_, to)
    with open_backend(url, create=False) as log, claimed(log, topology.app, name):
        session = begin(
            topology,
            log,
            name=name,
            from_text=from_,
            to_text=to,
            now=SystemClock().now(),
            restart=restart,
        )
        if session.finished:
            ended = "" if session.ended is None else f", on {iso(session.ended)}"
            note(
                f"replay {session.name!r} has finished before{ended}; its results are shown again, "
                "and --restart begins anew"
            )
        with stop_on_signals() as stop, _progress(quiet=json or session.finished) as bar:
            session = run(topology, log, session, stop=stop, on_progress=bar)
        if not session.finished:
            note(f"stopped; the same command goes on with replay {session.name!r}")
            raise typer.Exit(UNFINISHED)
        differences = {topic: difference(log, session, topic) for topic in diff or ()}
        _show(log, session, differences, json)
    for topic, found in differences.items():
        if found.outside:
            note(
                f"{found.outside:,} results for {topic} are not compared: they bear times outside "
                "of --from and --to, as event times may be other than those of records; choose "
                "these so that both are inside, or leave them out"
            )
        if found.renamed is not None:
            mine, other = found.renamed
            note(f"the windows of {mine} were compared with those that {other} has published")
    if any(found or found.is_of_nothing for found in differences.values()):
        raise typer.Exit(DIFFERENT)


def _progress(quiet: bool) -> Any:
    """A bar with rate and time left on a terminal; elsewhere, and with --json, nothing."""
    if quiet or not is_terminal():
        return nullcontext(lambda done, total: None)
    from streamkit.cli.progress import bar

    return bar("replay")


def _show(
    log: "Backend", session: "Session", differences: "dict[str, Difference]", json: bool
) -> None:
    from streamkit.replay.compare import sizes

    written = sizes(log, session)
    if json:
        document: dict[str, Any] = {
            "app": session.app,
            "name": session.name,
            "from": session.start,
            "to": session.end,
            "topics": written,
        }
        if differences:
            document["diff"] = {
                topic: {
                    "same": found.same,
                    "changed": found.changed,
                    "only_in_replay": found.only_in_replay,
                    "only_in_published": found.only_in_published,
                    "outside": found.outside,
                }
                for topic, found in differences.items()
            }
        print_json(document)
        return
    print_table(f"replay {session.app}/{session.name}", ["topic", "records"], written.items())
    for topic, found in differences.items():
        _show_difference(f"{session.shadow(topic)} against {topic}", found)


def _show_difference(title: str, found: "Difference") -> None:
    print_table(
        title,
        ["same", "changed", "only in replay", "only in published"],
        [(found.same, found.changed, found.only_in_replay, found.only_in_published)],
    )
    rows = []
    for sample in found.samples:
        some = sample.replayed or sample.published
        rows.append(
            (
                text_of(sample.thing.key),
                "-" if some is None else iso(some.timestamp),
                _side(sample.published),
                _side(sample.replayed),
            )
        )
    if rows:
        title = "what differs" if len(rows) == found.different else f"{len(rows)} that differ"
        print_table(title, ["key", "time", "published", "replay"], rows)


def _side(record: "Record[bytes | None] | None") -> str:
    """A record in one cell: where it stands, and its value."""
    if record is None:
        return ""
    return f"{record.coordinates}\n{text_of(record.value)}"
