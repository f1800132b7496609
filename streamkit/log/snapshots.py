"""The `.snapshot` files of a partition: its producers at the beginning of each segment."""

import logging
import os
from collections.abc import Iterable
from contextlib import suppress

from streamkit.errors import CorruptLog, UnsupportedFormat
from streamkit.log.files import Files, OpenFile, read_whole
from streamkit.log.segment import SNAPSHOT, file_name
from streamkit.transactions.producer import Producer
from streamkit.transactions.snapshot import decode_snapshot, encode_snapshot

logger = logging.getLogger(__name__)


class Snapshots:
    """What is written is written under the append lock, and never has to be there."""

    def __init__(self, files: Files, directory: str) -> None:
        self._files = files
        self._directory = directory

    def offsets(self) -> list[int]:
        """At which offsets there is one, ascending."""
        stems = [
            name.removesuffix(SNAPSHOT)
            for name in self._files.listdir(self._directory)
            if name.endswith(SNAPSHOT)
        ]
        return sorted(int(stem) for stem in stems if len(stem) == 20 and stem.isdecimal())

    def read(self, offset: int) -> list[Producer] | None:
        """The producers at that offset; None when the file is gone, torn or damaged."""
        path = self._path(offset)
        try:
            return decode_snapshot(read_whole(self._files, path), path)
        except FileNotFoundError:
            return None
        except (CorruptLog, UnsupportedFormat) as error:
            logger.warning("%s; the log is walked from an older one", error)
            return None

    def write(self, offset: int, producers: Iterable[Producer]) -> None:
        """A file cut short, by a kill or by a power cut, is known by its checksum."""
        path = self._path(offset)
        OpenFile(self._files, path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC).write(
            [encode_snapshot(producers)], 0
        )

    def remove_above(self, offset: int) -> bool:
        """The log ends there now: what is appended next makes them untrue. Says if it had any."""
        untrue = [other for other in self.offsets() if other > offset]
        for other in untrue:
            with suppress(FileNotFoundError):
                self._files.unlink(self._path(other))
        return bool(untrue)

    def _path(self, offset: int) -> str:
        return os.path.join(self._directory, file_name(offset, SNAPSHOT))
