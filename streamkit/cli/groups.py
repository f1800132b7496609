"""`streamkit groups`: list, describe, reset, delete."""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamkit.cli.output import note, print_json, print_table
from streamkit.cli.settings import open_log
from streamkit.cli.standing import positions, print_positions
from streamkit.errors import (
    ConfigError,
    SerdeError,
    UnknownGroup,
    UnknownPartition,
    UsageError,
    nearest,
)
from streamkit.records import TopicPartition

if TYPE_CHECKING:
    from streamkit.backends.base import Backend
    from streamkit.backends.values import MemberInfo
    from streamkit.clients.reset import MovedOffset

app = typer.Typer(no_args_is_help=True, help="List, describe, reset and delete consumer groups.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


@app.command("list")
def list_(context: typer.Context, json: Json = False) -> None:
    """List the groups with their members and how far they are behind."""
    from streamkit.clients.admin import Admin

    with open_log(context, read_only=True) as log:
        rows = []
        for name in sorted(log.groups()):
            info = log.group(name)
            living = sum(not member.away for member in info.members)
            lags = Admin(log).lag(name)
            rows.append((name, info.state, living, len(lags), sum(lags.values())))
    columns = ["group", "state", "members", "partitions", "lag"]
    if json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_table(None, columns, rows)


@app.command()
def describe(context: typer.Context, group: str, json: Json = False) -> None:
    """Show a group's members, and where it stands in each partition.

    "lag" is how many records are still to be read, "behind" how old the oldest of them is. Of an
    app: "event time" is how far time has come in what was read, "waiting" how many events wait
    there for the answers of functions.
    The changelogs of an app are listed as its state: their offset is how far they are valid, and
    they have no lag.
    """
    with open_log(context, read_only=True) as log:
        _known(group, log.groups(), log.url)
        info = log.group(group)
        rows = positions(log, info)
        if not json:
            from streamkit.cli.reading import Extent, Withheld

            read = [
                TopicPartition(row["topic"], row["partition"]) for row in rows if not row["state"]
            ]
            Withheld(log, Extent(follow=False, count=None)).say(read)
    if json:
        print_json(
            {
                "group": info.group,
                "state": info.state,
                "generation": info.generation,
                "members": [
                    {
                        "member": member.member_id,
                        "client": member.client_id,
                        "host": member.host,
                        "units": [[unit.topic, unit.partition] for unit in member.units],
                        "instance": member.instance_id,
                        "away": member.away,
                    }
                    for member in info.members
                ],
                "partitions": rows,
            }
        )
        return
    typer.echo(f"{info.group}: {info.state}, generation {info.generation}")
    _print_members(info.members)
    print_positions(rows)


@app.command()
def reset(
    context: typer.Context,
    group: str,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="WHERE",
            help="earliest, latest, a time (2026-01-31, -1h), offset:N, or shift:N (shift:-10).",
        ),
    ],
    topic: Annotated[
        list[str] | None,
        typer.Option(
            "--topic",
            "-t",
            metavar="TOPIC[:N,N…]",
            help="Only this topic, or these partitions of it. Repeatable.",
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also while it has members: they are fenced first."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask on a terminal.")] = False,
    json: Json = False,
) -> None:
    """Move a group's committed offsets. Refused while the group has live members.

    Back: an app's state stays what it is, so that it may count events twice, which is said, and
    asked on a terminal; to begin without any, give the app a new name, or use `streamkit replay`.
    Forward: what is between is skipped.
    """
    from streamkit.cli.positions import Offset, check_inside, parse_position
    from streamkit.clients.admin import Admin
    from streamkit.clients.reset import is_app_topic
    from streamkit.clock import SystemClock

    with open_log(context) as log:
        known = list(log.groups())
        if topic:
            wanted = [at for text in topic for at in _partitions_of(log, text)]
        else:
            _known(group, known, log.url)
            wanted = [
                at for at in sorted(log.committed(group)) if not is_app_topic(group, at.topic)
            ]
            if not wanted:
                raise UsageError(
                    f"group {group!r} has committed nothing; name the topics to reset with --topic"
                )
        choice: dict[str, Any]
        if to.startswith("shift:"):
            choice = {"shift": _shift(to)}
        else:
            where = parse_position(
                to, SystemClock().now(), key="--to", others="offset:10 or shift:-10"
            )
            for at in wanted:
                check_inside(log, at, where)
            choice = {"offset": where.number} if isinstance(where, Offset) else {"to": where}

        def move(dry_run: bool) -> "dict[TopicPartition, MovedOffset]":
            return Admin(log).reset_offsets(
                group, **choice, partitions=wanted, force=force, dry_run=dry_run
            )

        moved = move(dry_run=True)
        stays = any(to.before is not None and to.after < to.before for to in moved.values())
        if stays and (stores := _stores(log, group)):
            note(
                f"app {group!r} keeps state ({', '.join(stores)}), and that is not reset with it: "
                "what it reads again counts twice there. To begin without state give the app a new "
                "name, or use `streamkit replay`, which has state of its own"
            )
            if not dry_run and not yes and sys.stdin.isatty():
                typer.confirm("Reset the offsets all the same?", abort=True)
        if not dry_run:
            moved = move(dry_run=False)
    _print_moved(moved, json=json)
    if group not in known:
        note(f"group {group!r} is new{nearest(group, known)}")
    if dry_run:
        note("nothing was changed: this was a dry run")


@app.command()
def delete(context: typer.Context, groups: list[str]) -> None:
    """Forget groups and their offsets. Refused while a group has live members."""
    with open_log(context) as log:
        for group in groups:
            _known(group, log.groups(), log.url)
        for group in groups:
            log.delete_group(group)


def _stores(log: "Backend", group: str) -> list[str]:
    """What the app of this name keeps; nothing when the group is no app's."""
    from streamkit.engine.plan import stored

    try:
        manifest = stored(group, log)
    except SerdeError as error:
        note(str(error))
        return []
    return [] if manifest is None else sorted(manifest.stores)


def _known(group: str, groups: Iterable[str], log: str) -> None:
    known = list(groups)
    if group not in known:
        there = nearest(group, known) if known else f"; the log in {log} has none yet"
        raise UnknownGroup(f"no group {group!r}{there}")


def _partitions_of(log: "Backend", text: str) -> list[TopicPartition]:
    """`orders`: all of them; `orders:0,2`: these."""
    topic, colon, chosen = text.partition(":")
    count = log.topic(topic).partitions
    if not colon:
        return [TopicPartition(topic, number) for number in range(count)]
    found = []
    for part in chosen.split(","):
        if not part.strip().isdecimal():
            raise ConfigError(f"--topic {text!r}: partitions are written like {topic}:0,2")
        if int(part) >= count:
            raise UnknownPartition(
                f"topic {topic!r} has no partition {int(part)}: it has 0 to {count - 1}"
            )
        found.append(TopicPartition(topic, int(part)))
    return found


def _shift(to: str) -> int:
    try:
        return int(to.removeprefix("shift:"))
    except ValueError:
        raise ConfigError(f"--to {to!r}: write shift:10 or shift:-10") from None


def _print_moved(moved: "dict[TopicPartition, MovedOffset]", *, json: bool) -> None:
    rows = [(at.topic, at.partition, to.before, to.after) for at, to in moved.items()]
    columns = ["topic", "partition", "before", "after"]
    if json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_table(None, columns, rows)


def _print_members(members: "tuple[MemberInfo, ...]") -> None:
    if not members:
        return
    columns = ["member", "client", "host", "owns"]
    rows: list[tuple[str | None, ...]] = [
        (
            member.member_id,
            member.client_id or None,
            member.host,
            ", ".join(str(unit) for unit in member.units) or None,
        )
        for member in members
    ]
    if any(member.instance_id is not None for member in members):
        columns += ["instance", "is"]
        rows = [
            (*row, member.instance_id, "away" if member.away else "there")
            for row, member in zip(rows, members, strict=True)
        ]
    print_table("members", columns, rows)
