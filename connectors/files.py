"""Which file is which: identity that survives renaming, rotation, truncation and reuse of inodes.

A file is the one that was read before when its inode is the same, its head (the first bytes, up
to HEAD_BYTES) still has the hash it had, and it is not shorter than what was read. Neither half
is enough alone: exports share their first lines, and file systems reuse inodes. The device number
only breaks ties, since it changes with a reboot or another mount.
"""

import errno
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from streamkit.connect import Place

HEAD_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as a listing found it."""

    path: Path
    name: str
    device: int
    inode: int
    size: int
    modified: int
    """Nanoseconds; changes with every write."""


@dataclass(frozen=True, slots=True)
class Bookmark:
    """Where reading goes on: the source partition, and the position after the last full record."""

    partition: Place
    position: int = 0
    lines: int = 0
    head: str = ""
    head_bytes: int = 0

    @classmethod
    def stored(cls, partition: Place, offset: Place) -> "Bookmark":
        return cls(
            partition,
            int(offset["position"]),
            int(offset["lines"]),
            str(offset["head"]),
            int(offset["head_bytes"]),
        )

    def offset(self, position: int, lines: int) -> Place:
        return {
            "position": position,
            "lines": lines,
            "head": self.head,
            "head_bytes": self.head_bytes,
        }


def listing(directory: Path, pattern: str) -> list[Seen]:
    """The files that match, by name; each once, however many names (links) it has.

    Raises OSError when the directory is missing or cannot be read.
    """
    os.scandir(directory).close()  # glob finds nothing in one that is missing or unreadable
    found: dict[tuple[int, int], Seen] = {}
    for path in sorted(directory.glob(pattern)):
        name = shown(path.relative_to(directory).as_posix())
        if any(part.startswith(".") for part in name.split("/")):
            continue  # hidden: how writers name what is not finished
        try:
            stat = path.stat()
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP):
                continue  # moved away since the directory was read, or a link to nothing
            raise
        if path.is_file():
            seen = Seen(path, name, stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
            found.setdefault((stat.st_dev, stat.st_ino), seen)
    return list(found.values())


def shown(name: str) -> str:
    """A file's name as text: bytes that are no UTF-8 are written as `\\xff`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def head_of(file: BinaryIO, length: int) -> str:
    """A hash of the first `length` bytes; the file's position is moved."""
    file.seek(0)
    return hashlib.sha256(file.read(length)).hexdigest()[:16]


class Bookmarks:
    """The bookmarks of all files ever read, found again by inode or name."""

    def __init__(self, stored: Iterable[tuple[Place, Place]]) -> None:
        self._by_inode: dict[str, dict[str, Bookmark]] = {}
        self._names: set[str] = set()
        for partition, offset in stored:
            self.keep(Bookmark.stored(partition, offset))

    def keep(self, bookmark: Bookmark) -> None:
        """Remember a bookmark in place of the file's earlier one."""
        partition = bookmark.partition
        identity = str(partition["id"])
        self._by_inode.setdefault(identity.split("-")[1], {})[f"{partition['file']}/{identity}"] = (
            bookmark
        )
        self._names.add(str(partition["file"]))

    def emptied(self, seen: Seen) -> list[Bookmark]:
        """The bookmarks, set to the beginning, of what was read in a file that is empty now.

        Forgotten at once: when it has grown past the old position, nothing may tell it apart.
        """
        device = f"{seen.device:x}-"
        reset = [
            replace(bookmark, position=0, lines=0)
            for bookmark in self._by_inode.get(f"{seen.inode:x}", {}).values()
            if bookmark.position and str(bookmark.partition["id"]).startswith(device)
        ]
        for bookmark in reset:
            self.keep(bookmark)
        return reset

    def recognise(self, seen: Seen, file: BinaryIO) -> tuple[Bookmark, str]:
        """Where to go on in this file, and what is odd about it ("" when nothing is)."""
        device = f"{seen.device:x}-"
        candidates = list(self._by_inode.get(f"{seen.inode:x}", {}).values())
        # The same device first, then the same name: an inode number alone repeats.
        candidates.sort(
            key=lambda one: (
                str(one.partition["id"]).startswith(device),
                one.partition["file"] == seen.name,
            ),
            reverse=True,
        )
        oddity = "is another file than before" if seen.name in self._names else ""
        for bookmark in candidates:
            if head_of(file, bookmark.head_bytes) != bookmark.head:
                oddity = "has another beginning than before"
            elif seen.size < bookmark.position:
                oddity = f"is shorter ({seen.size} bytes) than what was read ({bookmark.position})"
            else:
                return _with_head(seen, file, bookmark), ""
        fresh = _with_head(seen, file, Bookmark({}))
        identity = f"{device}{seen.inode:x}-{fresh.head}"
        return replace(fresh, partition={"file": seen.name, "id": identity}), oddity


def _with_head(seen: Seen, file: BinaryIO, bookmark: Bookmark) -> Bookmark:
    """The bookmark with as much head as the file has by now: a longer one tells more apart."""
    length = min(HEAD_BYTES, seen.size)
    if length <= bookmark.head_bytes:
        return bookmark
    return replace(bookmark, head=head_of(file, length), head_bytes=length)
