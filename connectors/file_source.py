"""FileSource: the files of a directory, CSV and JSON lines, as they come and grow.

Source partition: `{"file": name, "id": "<device>-<inode>-<hash of the head>"}`.
Source offset: `{"position": bytes, "lines": lines, "head": hash, "head_bytes": bytes hashed}`:
everything before `position` is in the log.
"""

import os
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Literal

from streamkit.connect import (
    Bad,
    Duration,
    Pause,
    Position,
    SourceContext,
    SourceItem,
    SourceRecord,
    source,
)
from streamkit.connectors.files import Bookmarks, Seen, listing, shown
from streamkit.connectors.rows import (
    CSV_TYPES,
    CsvFormat,
    JsonLinesFormat,
    Lines,
    Row,
    RowOptions,
    csv_header,
)
from streamkit.connectors.watching import watching
from streamkit.errors import ConfigError, TransientError, nearest

_FORMATS: dict[str, Literal["csv", "jsonl"]] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
_ONE_SECOND = Duration(1000)
_WARN_AFTER = 5.0  # seconds that a last line may stay unfinished before it is mentioned


@dataclass(frozen=True, slots=True)
class FileSourceConfig:
    """Options of FileSource.

    `path`: the directory. `pattern`: which files in it (`**/` looks below it); names that begin
    with a dot are never read. `topic`: where rows go, as JSON objects.
    `format`: by default from the extension: .csv; .jsonl, .ndjson, .json.
    `key.fields`: one field's value is the key as text, several are a JSON object.
    `timestamp.field`: the record's timestamp: ISO 8601 (UTC without an offset) or milliseconds.
    `null.values`: CSV texts that mean null, as NA. CSV values are strings, unless
    `csv.types.<column>` says int, float (JSON has no nan) or bool. `csv.fields` names the columns
    of files without a header row.
    `poll.interval`: how often to look when no change event comes.
    `last.line.wait`: take a last line without its line end when the file has not changed for so
    long; without it such a line is waited for.
    """

    path: str
    topic: str
    pattern: str = "*"
    format: Literal["auto", "csv", "jsonl"] = "auto"
    key_fields: tuple[str, ...] = ()
    timestamp_field: str = ""
    null_values: tuple[str, ...] = ()
    csv_types: Mapping[str, str] = field(default_factory=dict)
    csv_fields: tuple[str, ...] = ()
    csv_delimiter: str = ","
    poll_interval: Duration = _ONE_SECOND
    last_line_wait: Duration | None = None

    def __post_init__(self) -> None:
        for column, kind in self.csv_types.items():
            if kind not in CSV_TYPES:
                raise ConfigError(f"csv.types.{column} = {kind!r}{nearest(kind, CSV_TYPES)}")
        if len(self.csv_delimiter) != 1:
            raise ConfigError(f"csv.delimiter = {self.csv_delimiter!r}: expected one character")

    @property
    def rows(self) -> RowOptions:
        return RowOptions(
            self.key_fields,
            self.timestamp_field,
            frozenset(self.null_values),
            self.csv_types,
            self.csv_delimiter,
        )


@dataclass(slots=True)
class _Look:
    """What was seen of a file when it was last read to its end."""

    name: str
    size: int
    modified: int
    left: int
    """Bytes after the last full row: its rest is still to come."""
    mentioned: bool = False


@source(config=FileSourceConfig)
def file_source(config: FileSourceConfig, ctx: SourceContext) -> Iterator[SourceItem]:
    directory = Path(config.path)
    if not directory.is_dir():
        # In full, as a relative one is of the folder where the command is run.
        raise TransientError(
            f"path = {config.path!r}: there is no such directory: {directory.absolute()}"
        )
    reader = _Reader(config, ctx)
    with watching(directory, ctx.wake, ctx.log, recursive="/" in config.pattern):
        try:
            while not ctx.stopping:
                try:
                    files = listing(directory, config.pattern)
                except FileNotFoundError as error:
                    text = f"path = {config.path!r}: the directory is gone"
                    raise TransientError(text) from error
                for seen in files:
                    if ctx.stopping:
                        return
                    yield from reader.read(seen)
                yield Pause(config.poll_interval / 1000, idle=not reader.expects_more)
        finally:
            if ctx.stopping:
                reader.mention_rests()


class _Reader:
    """Reads what is new in each file."""

    def __init__(self, config: FileSourceConfig, ctx: SourceContext) -> None:
        self._config = config
        self._ctx = ctx
        self._bookmarks = Bookmarks(ctx.offsets())
        self._looks: dict[tuple[int, int], _Look] = {}
        self._unknown: set[str] = set()

    @property
    def expects_more(self) -> bool:
        """Whether a last line will be taken as soon as its file has been still for long enough."""
        return self._config.last_line_wait is not None and any(
            look.left for look in self._looks.values()
        )

    def mention_rests(self) -> None:
        """Say what is left behind by a worker that ends: nobody may come to wait for it."""
        for look in self._looks.values():
            if look.left and self._config.last_line_wait is None:
                self._mention(look)

    def read(self, seen: Seen) -> Iterator[SourceItem]:
        look = self._looks.get((seen.device, seen.inode))
        complete = self._is_complete(seen)
        if look and (look.size, look.modified) == (seen.size, seen.modified):
            if not look.left:
                return
            if not complete:
                if time.time_ns() - seen.modified >= _WARN_AFTER * 1e9:
                    self._mention(look)
                return
        if seen.size == 0:
            for bookmark in self._bookmarks.emptied(seen):
                self._ctx.log.warning("%s was emptied: reading it from its beginning", seen.name)
                yield Position(bookmark.partition, bookmark.offset(0, 0))
            return
        kind = self._format(seen)
        if kind is None:
            return
        try:
            file = seen.path.open("rb", buffering=1 << 18)
        except FileNotFoundError:
            return  # moved since the listing; it is found under its new name
        with file:
            opened = os.fstat(file.fileno())
            if (opened.st_dev, opened.st_ino) != (seen.device, seen.inode):
                return  # replaced since the listing; the next one finds what is there now
            left = yield from self._read_open(seen, file, kind, complete)
        self._looks[seen.device, seen.inode] = _Look(seen.name, seen.size, seen.modified, left)

    def _read_open(
        self, seen: Seen, file: BinaryIO, kind: Literal["csv", "jsonl"], complete: bool
    ) -> Generator[SourceItem, None, int]:
        """Yields what is new; returns how many bytes of a row without its end remain."""
        ctx, config = self._ctx, self._config
        bookmark, oddity = self._bookmarks.recognise(seen, file)
        if oddity:
            ctx.log.warning("%s %s: reading it from its beginning", seen.name, oddity)
        partition, topic = bookmark.partition, config.topic
        position, count = bookmark.position, bookmark.lines
        options = config.rows
        where = shown(str(seen.path))
        form: CsvFormat | JsonLinesFormat
        if kind == "jsonl":
            form = JsonLinesFormat(options, where)
        else:
            columns = list(config.csv_fields)
            if not columns:
                head = Lines(file, 0, 0, seen.size, complete=complete)
                found = csv_header(head, options, where)
                if found is None:
                    return seen.size
                columns = found
                if position == 0:
                    position, count = head.position, head.lines
            form = CsvFormat(columns, options, where)
        lines = Lines(file, position, count, seen.size, complete=complete)
        for row in form.rows(lines):
            position, count = lines.position, lines.lines
            offset = bookmark.offset(position, count)
            if isinstance(row, Row):
                yield SourceRecord(topic, row.value, row.key, partition, offset, row.timestamp)
            else:
                yield Bad(row.error, row.raw, topic, partition, offset)
        self._bookmarks.keep(replace(bookmark, position=position, lines=count))
        return seen.size - lines.position + sum(map(len, lines.taken)) if lines.unterminated else 0

    def _is_complete(self, seen: Seen) -> bool:
        wait = self._config.last_line_wait
        return wait is not None and time.time_ns() - seen.modified >= wait * 1_000_000

    def _mention(self, look: _Look) -> None:
        if not look.mentioned:
            look.mentioned = True
            self._ctx.log.warning(
                "%s: %d bytes after the last full row are waited for (no line end yet, or an open "
                "quote); last.line.wait takes them",
                look.name,
                look.left,
            )

    def _format(self, seen: Seen) -> Literal["csv", "jsonl"] | None:
        if self._config.format != "auto":
            return self._config.format
        kind = _FORMATS.get(seen.path.suffix.lower())
        if kind is None and seen.name not in self._unknown:
            self._unknown.add(seen.name)
            self._ctx.log.warning(
                "%s: not read: neither .csv nor .jsonl; set format or pattern", seen.name
            )
        return kind
