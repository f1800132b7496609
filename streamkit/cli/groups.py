"""`streamkit groups`: list, describe, reset."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamkit.cli.output import print_json, print_table
from streamkit.cli.settings import open_log
from streamkit.errors import UnknownGroup, UnknownPartition, nearest
from streamkit.records import TopicPartition

if TYPE_CHECKING:
    from streamkit.backends.base import Backend, GroupInfo

app = typer.Typer(no_args_is_help=True, help="List, describe and reset consumer groups.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


@app.command("list")
def list_(context: typer.Context, json: Json = False) -> None:
    """List the groups with their members and how far they are behind."""
    with open_log(context, read_only=True) as log:
        rows = []
        for name in sorted(log.groups()):
            info = log.group(name)
            lags = [row["lag"] for row in _positions(log, info) if not row["state"]]
            rows.append((name, info.state, len(info.members), len(lags), sum(lags)))
    columns = ["group", "state", "members", "partitions", "lag"]
    if json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_table(None, columns, rows)


@app.command()
def describe(context: typer.Context, group: str, json: Json = False) -> None:
    """Show a group's members, and where it stands in each partition.

    The changelogs of an app are listed as its state: their offset is how far they are valid, and
    they have no lag.
    """
    with open_log(context, read_only=True) as log:
        _known(group, log.groups())
        info = log.group(group)
        rows = list(_positions(log, info))
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
                    }
                    for member in info.members
                ],
                "partitions": rows,
            }
        )
        return
    typer.echo(f"{info.group}: {info.state}, generation {info.generation}")
    if info.members:
        print_table(
            "members",
            ["member", "client", "host", "owns"],
            [
                (
                    member.member_id,
                    member.client_id or None,
                    member.host,
                    ", ".join(str(unit) for unit in member.units) or None,
                )
                for member in info.members
            ],
        )
    streams = [row for row in rows if not row["state"]]
    if streams:
        print_table(
            "positions",
            ["topic", "partition", "committed", "end", "lag"],
            [
                tuple(row[key] for key in ("topic", "partition", "committed", "end", "lag"))
                for row in streams
            ],
        )
    state = [row for row in rows if row["state"]]
    if state:
        print_table(
            "state",
            ["changelog", "partition", "valid to"],
            [(row["topic"], row["partition"], row["committed"]) for row in state],
        )


@app.command()
def reset(
    context: typer.Context,
    group: str,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="WHERE",
            help="earliest, latest, a time (2026-01-31, -1h) or offset:N.",
        ),
    ],
    topic: Annotated[
        list[str] | None,
        typer.Option("--topic", "-t", help="Only this topic's partitions. Repeatable."),
    ] = None,
    partition: Annotated[
        list[int] | None,
        typer.Option("--partition", "-p", help="Only this partition. Repeatable."),
    ] = None,
    json: Json = False,
) -> None:
    """Move a group's committed offsets. Refused while the group has live members.

    Back: an app's state stays what it is, so that it may count events twice; to begin without any,
    give the app a new name, or use `streamkit replay`. Forward: what is between is skipped.
    """
    from streamkit.backends.base import CommittedOffset
    from streamkit.cli.positions import check_inside, offset_at, parse_position
    from streamkit.clock import SystemClock

    where = parse_position(to, SystemClock().now(), key="--to")
    with open_log(context) as log:
        before = log.committed(group)
        if topic:
            wanted = [
                TopicPartition(name, number)
                for name in topic
                for number in range(log.topic(name).partitions)
            ]
        else:
            _known(group, log.groups())
            # What an app hands on to itself is read once: its inputs alone are read again.
            wanted = [at for at in sorted(before) if not _is_internal(group, at.topic)]
        if partition:
            wanted = [at for at in wanted if at.partition in partition]
            if missing := sorted(set(partition) - {at.partition for at in wanted}):
                where_not = ", ".join(topic) if topic else f"group {group!r}"
                raise UnknownPartition(f"--partition {missing[0]}: there is none in {where_not}")
        for at in wanted:
            check_inside(log, at, where)
        after = {at: offset_at(log, at, where) for at in wanted}
        commits = {}
        for at, offset in after.items():
            was = before.get(at)
            # What an app noted beside its position (how far time has come) stays true forwards.
            note = was.metadata if was is not None and offset >= was.offset else ""
            commits[at] = CommittedOffset(offset, note)
        log.commit(group, commits)
    rows = [
        (at.topic, at.partition, before[at].offset if at in before else None, offset)
        for at, offset in after.items()
    ]
    columns = ["topic", "partition", "before", "after"]
    if json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_table(None, columns, rows)


def _known(group: str, groups: Iterable[str]) -> None:
    known = list(groups)
    if group not in known:
        raise UnknownGroup(f"no group {group!r}{nearest(group, known)}")


def _is_internal(
    group: str, topic: str, kinds: tuple[str, ...] = ("-changelog", "-repartition")
) -> bool:
    """Whether a topic belongs to the app of this name alone, by how those are named."""
    return topic.startswith(f"{group}-") and topic.endswith(kinds)


def _positions(log: "Backend", info: "GroupInfo") -> list[dict[str, Any]]:
    """The committed offsets with ends and lags; `state` marks changelogs of an app's state."""
    topics = log.topics()
    rows: list[dict[str, Any]] = []
    for partition, committed in sorted(info.offsets.items()):
        if partition.topic not in topics:
            continue
        end = log.offsets(partition).end
        rows.append(
            {
                "topic": partition.topic,
                "partition": partition.partition,
                "committed": committed.offset,
                "end": end,
                "lag": max(0, end - committed.offset),
                "state": _is_internal(info.group, partition.topic, ("-changelog",)),
            }
        )
    return rows
