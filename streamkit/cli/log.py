"""`streamkit log`: the bytes of the log's files, readable."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamkit.cli import upkeep
from streamkit.cli.output import iso, json_line, text_of
from streamkit.cli.settings import settings_of
from streamkit.errors import LogNotFound, UnknownPartition, UnknownTopic, nearest

if TYPE_CHECKING:
    from streamkit.fsck.dump import Line

app = typer.Typer(
    no_args_is_help=True,
    help="The log as a whole: its configs, its upkeep, and what stands in its files.",
)
app.command("config")(upkeep.config)
app.command("maintain")(upkeep.maintain)

SHORT = 60
"""Characters of a key or value that are shown without --json."""

_TOPIC = re.compile(r"([a-zA-Z0-9._-]+)(?::(\d+))?(?:@(\d+))?$")
_FOLDER = re.compile(r"(.+)-(\d+)$")


@app.command()
def dump(
    context: typer.Context,
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE|TOPIC[:P][@OFFSET]",
            help="Files or directories of a log, or topics: their segments, from an offset on.",
        ),
    ],
    records: Annotated[
        bool, typer.Option("--records", "-r", help="The records in the batches, too.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object per line, with whole keys and values.")
    ] = False,
) -> None:
    """Show what stands in the log's files, byte for byte, good or damaged.

    Nothing is changed, and nothing has to be whole: a file is read as it is. Needs no open log, and
    works beside running processes.
    """
    from streamkit.backends.locate import directory_of
    from streamkit.fsck.dump import dump as dump_file

    root = directory_of(settings_of(context).url)
    for source in [found for name in what for found in _sources(name, root)]:
        lines = dump_file(source.path, records=records, from_offset=source.offset)
        if not json:
            typer.echo(source.path)
        for line in lines:
            if json:
                typer.echo(_json(source.path, line), nl=False)
            else:
                typer.echo(_text(line))


@dataclass(frozen=True, slots=True)
class _Source:
    path: str
    offset: int = 0


def _sources(name: str, root: Path) -> Iterator[_Source]:
    """The files that an argument means: itself, a directory's, or a topic's segments."""
    from streamkit.fsck.dump import all_files, segment_files

    if os.path.isdir(name):
        yield from map(_Source, all_files(name))
        return
    if os.path.exists(name):
        yield _Source(name)
        return
    match = _TOPIC.match(name)
    if match is None or os.sep in name:
        raise FileNotFoundError(2, "No such file, and not TOPIC, TOPIC:P or TOPIC:P@OFFSET", name)
    if not root.is_dir():
        raise LogNotFound(f"{root}: no log here, and {name!r} is no file; check --log")
    # By the directories' names: a log whose topics cannot be read can still be dumped.
    folders: dict[str, dict[int, str]] = {}
    for folder in os.listdir(root):
        if (parts := _FOLDER.match(folder)) and (root / folder).is_dir():
            folders.setdefault(parts[1], {})[int(parts[2])] = str(root / folder)
    topic, partition, offset = match.groups()
    if topic not in folders:
        raise UnknownTopic(f"{root}: no topic and no file {topic!r}{nearest(topic, folders)}")
    if partition is not None and int(partition) not in folders[topic]:
        raise UnknownPartition(f"{topic}:{partition}: there is no {root / f'{topic}-{partition}'}")
    for number, folder in sorted(folders[topic].items()):
        if partition is None or number == int(partition):
            first = int(offset or 0)
            yield from (_Source(path, first) for path in segment_files(folder, first))


def _json(path: str, line: "Line") -> str:
    fields = {key: _whole(value) for key, value in line.fields.items()}
    shown = {"hex": line.data.hex()} if line.data else {}
    return json_line({"file": path, "kind": line.kind, **fields, **shown})


def _whole(value: Any) -> Any:
    if isinstance(value, bytes):
        return text_of(value)
    if isinstance(value, list):
        return [_whole(part) for part in value]
    return value


def _text(line: "Line") -> str:
    """`kind  name value  name value`, and damaged bytes below as a hexdump."""
    parts = "  ".join(f"{name} {_short(name, value)}" for name, value in _shortened(line.fields))
    return "\n".join([f"  {line.kind:<8} {parts}", *_hexdump(line)])


def _shortened(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Without what is the same in nearly every line: two times that are one, and epoch 0."""
    for name, value in fields.items():
        if name == "base_timestamp" and value == fields.get("max_timestamp"):
            continue
        if name == "leader_epoch" and value == 0:
            continue
        yield name, value


def _short(name: str, value: Any) -> str:
    if isinstance(value, bytes):
        value = text_of(value)
    if isinstance(value, str):
        if name in ("key", "value", "metadata", "bytes"):
            more = f"… ({len(value)} characters)" if len(value) > SHORT else ""
            return repr(value[:SHORT]) + more
        return value
    if value is None:
        return "null"
    if isinstance(value, list):
        return ",".join(_short(name, part) for part in value) or "none"
    if isinstance(value, int) and (name == "at" or name.endswith(("timestamp", "_at"))):
        return iso(value)
    return str(value)


def _hexdump(line: "Line") -> Iterator[str]:
    start = line.fields.get("position", 0)
    for at in range(0, len(line.data), 16):
        row = line.data[at : at + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"    {start + at:>10}  {row.hex(' '):<47}  {text}"
