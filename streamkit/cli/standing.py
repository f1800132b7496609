"""Where a group stands in each partition, as `streamkit groups describe` shows it."""

from typing import TYPE_CHECKING, Any, TypeAlias

from streamkit.cli.output import iso, print_table
from streamkit.errors import DataError

if TYPE_CHECKING:
    from streamkit.backends.base import Backend
    from streamkit.backends.values import GroupInfo
    from streamkit.engine.notes import Note

Row: TypeAlias = dict[str, Any]

_NOTE_WIDTH = 40


def positions(log: "Backend", info: "GroupInfo") -> list[Row]:
    """The committed offsets with ends and lags; `state` marks changelogs of an app's state."""
    from streamkit.clients.admin import Admin
    from streamkit.clients.reset import is_app_topic

    return [
        {
            "topic": at.topic,
            "partition": at.partition,
            "committed": position.committed.offset,
            "end": position.end,
            "lag": position.lag,
            "behind_seconds": position.behind,
            "note": position.committed.metadata,
            "state": is_app_topic(info.group, at.topic, ("-changelog",)),
            **_of_an_app(position.committed.metadata),
        }
        for at, position in Admin(log).positions(info.group).items()
    ]


def _of_an_app(text: str) -> Row:
    """What the note of an app says that its users want to know; nothing of any other note."""
    from streamkit.engine.notes import read_note

    try:
        note = read_note(text, "a group")
    except DataError:
        return {}
    if note is None or note.text() != text:
        return {}
    return {"event_time": _reached(note), "waiting": note.waiting}


def _reached(note: "Note") -> int | None:
    """How far event time has come in what was read of an input; None: not known yet."""
    from streamkit.engine.hot.moment import NEVER
    from streamkit.engine.watermarks import UpstreamFrontier

    if not note.tasks:
        return note.latest
    frontier = UpstreamFrontier()
    for marker in note.markers():
        frontier.take(marker)
    return None if frontier.watermark == NEVER else frontier.watermark


def print_positions(rows: list[Row]) -> None:
    """As tables for people: of an app's notes what they say, of others their beginning."""
    streams = [row for row in rows if not row["state"]]
    notes = ("event_time", "waiting") if any("event_time" in row for row in streams) else ("note",)
    columns = ("topic", "partition", "committed", "end", "lag", "behind", *notes)
    if streams:
        shown = [{**row, **_words(row)} for row in streams]
        print_table(
            "positions",
            [column.replace("_", " ") for column in columns],
            [tuple(row.get(column) for column in columns) for row in shown],
        )
    state = [row for row in rows if row["state"]]
    if state:
        print_table(
            "state",
            ["changelog", "partition", "valid to"],
            [(row["topic"], row["partition"], row["committed"]) for row in state],
        )


def _words(row: Row) -> Row:
    reached = row.get("event_time")
    return {
        "behind": _age(row["behind_seconds"]),
        "note": _short(row["note"]),
        "event_time": None if reached is None else iso(reached),
        "waiting": row.get("waiting") or None,
    }


def _short(text: str) -> str | None:
    """A note so that it fits beside the rest; it is whole in the JSON."""
    return (text if len(text) <= _NOTE_WIDTH else text[: _NOTE_WIDTH - 1] + "…") or None


def _age(seconds: float | None) -> str | None:
    """Seconds as people say them, in two units at most."""
    if seconds is None or seconds < 1:
        return None if seconds is None else f"{round(seconds * 1000)}ms" if seconds else "0"
    left = int(seconds)
    parts: list[str] = []
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count or parts:
            parts.append(f"{count}{unit}")
    return "".join(part for part in parts[:2] if not part.startswith("0"))
