"""FileSink: topics as JSON lines, one file per partition, each record exactly once.

The length that a file has after a write is committed together with the offset it belongs to. A
worker that starts cuts the file back to that length: what a killed one wrote past it is written
again.
"""

import os
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import msgspec

from streamkit.connect import CommittedOffset, Notes, SinkContext, sink
from streamkit.connectors.json_values import compact
from streamkit.errors import FatalError, TransientError
from streamkit.records import Record, TopicPartition

# What the operating system refuses for good; its other refusals may pass.
_IMPOSSIBLE = (FileNotFoundError, FileExistsError, NotADirectoryError, PermissionError)


@dataclass(frozen=True, slots=True)
class FileSinkConfig:
    """Options of FileSink.

    `path`: the directory of the files `<topic>-<partition>.jsonl`; made when it is missing. A file
    that is moved away is begun anew.
    """

    path: str


class _Note(msgspec.Struct, frozen=True):
    """What is committed beside the offset: how long the file is with everything before it."""

    length: int
    topic_id: str


@sink(config=FileSinkConfig)
class FileSink:
    """The files of the partitions that this worker has."""

    def __init__(self, config: FileSinkConfig, ctx: SinkContext) -> None:
        self._directory = Path(config.path)
        self._ctx = ctx
        self._files: dict[TopicPartition, _Output] = {}
        self._topic_ids: dict[TopicPartition, str] = {}
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except _IMPOSSIBLE as error:
            text = f"path = {config.path!r}: no directory can be made there: {error.strerror}"
            raise FatalError(text) from error

    def resume(self, partition: TopicPartition, start: CommittedOffset) -> CommittedOffset | None:
        topic_id = self._topic_ids[partition] = self._ctx.topic_id(partition.topic)
        path = self._directory / f"{partition}.jsonl"
        note = msgspec.json.decode(start.metadata, type=_Note) if start.metadata else None
        offset = start.offset
        if note is not None and note.topic_id != topic_id:
            note, offset = None, 0  # of a topic that is gone
        if note is None and path.exists() and path.stat().st_size > 0:
            raise FatalError(
                f"{path} exists, but no length of it is committed for {partition}: the group was "
                "reset, the topic made anew, or something else wrote it; move it away, and it is "
                "written again"
            )
        held = self._files.pop(partition, None)
        if held is not None:
            held.close()
        self._files[partition] = _Output(path, note.length if note else 0, self._ctx)
        # Committed before the first write: from then on no file of ours is without its note.
        return CommittedOffset(offset, self._note(partition))

    def write(self, records: list[Record[bytes | None]]) -> Notes | None:
        lines: dict[TopicPartition, list[bytes]] = {}
        for record in records:
            partition = TopicPartition(record.topic, record.partition)
            lines.setdefault(partition, []).append(compact(record) + b"\n")
        for partition, parts in lines.items():
            self._files[partition].append(b"".join(parts))
        for partition in lines:
            self._files[partition].sync()
        return {partition: self._note(partition) for partition in lines}

    def close(self) -> None:
        for output in self._files.values():
            output.close()

    def _note(self, partition: TopicPartition) -> str:
        note = _Note(self._files[partition].length, self._topic_ids[partition])
        return msgspec.json.encode(note).decode()


class _Output:
    """One file, opened at the length that is committed for it."""

    def __init__(self, path: Path, length: int, ctx: SinkContext) -> None:
        self.length = length
        self._path = path
        self._ctx = ctx
        # Empty: begun anew by a worker that was killed before it could commit that.
        if length and not (path.exists() and path.stat().st_size):
            ctx.log.warning("%s was moved away: beginning it anew", path)
            self.length = 0
        self._file = self._open()

    def _open(self) -> FileIO:
        is_new = not self._path.exists()
        file = FileIO(self._path, "r+" if not is_new else "x+")
        if is_new:
            _sync_directory(self._path.parent)
        size = os.fstat(file.fileno()).st_size
        if size < self.length:
            file.close()
            raise FatalError(
                f"{self._path} has {size} bytes, {self.length} were committed: something else "
                "shortened it; move it away, and it is begun anew"
            )
        if size > self.length:
            self._ctx.log.info(
                "%s: cut back %d bytes that were not committed", self._path, size - self.length
            )
            file.truncate(self.length)
        file.seek(self.length)
        return file

    def append(self, data: bytes) -> None:
        """Append; not safe before `sync`. Raises TransientError when the file was moved away.

        The next try begins it anew, and has that committed before it writes: else, after a crash,
        the old file's length would be taken for the new one's.
        """
        try:
            found = os.stat(self._path)
            mine = os.fstat(self._file.fileno())
            moved = (found.st_dev, found.st_ino) != (mine.st_dev, mine.st_ino)
        except FileNotFoundError:
            moved = True
        if moved:
            raise TransientError(f"{self._path} was moved away")
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self.length += len(data)

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
