"""Files, and what a power cut could leave of them: any part of what was not synced is lost."""

import mmap
import os
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Protocol, TypeVar

from streamkit.log.control import PAGE_BYTES
from streamkit.log.files import Buffer, RealFiles

T = TypeVar("T")

SECTOR = 512
"""What a disk writes whole or not at all."""


class Fate(Protocol):
    """What decides which of the unsynced operations a power cut lets through."""

    sectors: bool
    """Whether a write may be there in part."""

    def first_of(self, operations: list[T]) -> list[T]:
        """Those of which any may be there: all, or the first few, as a journal would keep them."""
        ...

    def keeps(self) -> bool: ...

    def page(self, pages: list[bytes], start: int) -> bytes:
        """One of the contents a mapped page has had, the stable one first, from `start` on."""
        ...


class Chance:
    """By chance; how much gets lost is one for all."""

    sectors = True

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._lost = chance.choice([0.0, 0.2, 0.5, 0.8, 1.0])

    def first_of(self, operations: list[T]) -> list[T]:
        if self.keeps():
            return operations
        return operations[: self._chance.randint(0, len(operations))]

    def keeps(self) -> bool:
        return self._chance.random() >= self._lost

    def page(self, pages: list[bytes], start: int) -> bytes:
        return self._chance.choice(pages[1:]) if self.keeps() else pages[0]


class Everything:
    """Nothing is lost."""

    sectors = False

    def first_of(self, operations: list[T]) -> list[T]:
        return operations

    def keeps(self) -> bool:
        return True

    def page(self, pages: list[bytes], start: int) -> bytes:
        return pages[-1]


class Each:
    """Every combination of whole operations that are there, one after the other.

    It answers as it did the last time, up to the last answer that can still be another one.
    """

    sectors = False

    def __init__(self) -> None:
        self._answers: list[tuple[int, int]] = []
        self._at = 0

    def more(self) -> bool:
        """Begin again with other answers; False: there are no others."""
        while self._answers and self._answers[-1][0] + 1 == self._answers[-1][1]:
            self._answers.pop()
        if not self._answers:
            return False
        answer, options = self._answers[-1]
        self._answers[-1] = answer + 1, options
        self._at = 0
        return True

    def _answer(self, options: int) -> int:
        if self._at == len(self._answers):
            self._answers.append((0, options))
        answer, of = self._answers[self._at]
        assert of == options
        self._at += 1
        return answer

    def first_of(self, operations: list[T]) -> list[T]:
        return operations

    def keeps(self) -> bool:
        return self._answer(2) == 0

    def page(self, pages: list[bytes], start: int) -> bytes:
        if start == 0:
            self._page = pages[0] if pages[-1] != pages[0] and not self.keeps() else pages[-1]
        return self._page


@dataclass
class Inode:
    """A file: what of it is on stable storage, and what has been written since."""

    stable: bytes = b""
    writes: list[tuple[int, bytes | None]] = field(default_factory=list)
    """(position, bytes), or (new size, None)."""

    pages: list[bytes] = field(default_factory=list)
    """What a mapped file has held since: the kernel writes it back whenever it likes."""

    def copy(self) -> "Inode":
        return Inode(self.stable, list(self.writes), list(self.pages))

    @property
    def unsynced(self) -> int:
        """How many things there are that may be lost or not."""
        if self.pages:
            return int(self.pages[-1] != self.stable)
        return len(self.writes)

    def after_power_cut(self, fate: Fate) -> bytes:
        if self.pages:
            if not self.stable and not fate.keeps():
                return b""
            stable = self.stable.ljust(PAGE_BYTES, b"\0")
            made = b""
            for start in range(0, PAGE_BYTES, SECTOR):
                made += fate.page([stable, *self.pages], start)[start : start + SECTOR]
            return made
        data = bytearray(self.stable)
        for position, some in fate.first_of(self.writes):
            if some is None:
                if fate.keeps():
                    del data[position:]
                    data += bytes(position - len(data))
                continue
            step = SECTOR if fate.sectors else max(1, len(some))
            for start in range(0, len(some), step):
                if fate.keeps():
                    piece = some[start : start + step]
                    data += bytes(max(0, position + start - len(data)))
                    data[position + start : position + start + len(piece)] = piece
        return bytes(data)


@dataclass
class Folder:
    """A directory: the names that are on stable storage, and what was done to them since."""

    stable: dict[str, int] = field(default_factory=dict)
    changes: list[dict[str, int | None]] = field(default_factory=list)
    """Each one whole or not at all: names, and the node each stands for now (None: removed)."""

    def copy(self) -> "Folder":
        return Folder(dict(self.stable), list(self.changes))

    @property
    def unsynced(self) -> int:
        return len(self.changes)

    def after_power_cut(self, fate: Fate) -> dict[str, int]:
        names = dict(self.stable)
        for change in fate.first_of(self.changes):
            if fate.keeps():
                for name, node in change.items():
                    if node is None:
                        names.pop(name, None)
                    else:
                        names[name] = node
        return names


class Killed(BaseException):
    """In place of a system call: the process is no more."""


class MappedPage(mmap.mmap):
    """A mapping that says when it is flushed."""

    flushed: Callable[[], None]

    def flush(self, *args: int) -> None:
        super().flush(*args)
        self.flushed()


@dataclass(frozen=True)
class Cut:
    """What was on a disk, or on its way there, at some moment, and what was promised by then."""

    nodes: dict[int, Inode | Folder]
    promised: Any

    @property
    def unsynced(self) -> int:
        """How many things may be lost or not, each by itself."""
        return sum(node.unsynced for node in self.nodes.values())


class Disk(RealFiles):
    """The real files below `root`, and a record of what a power cut could leave of them.

    A `Cut` is taken at every fsync, before and after it.
    """

    def __init__(self, root: Path, promised: Callable[[], Any]) -> None:
        self._root = str(root)
        self._said = promised
        self._lock = threading.RLock()
        self._numbers = count(1)
        self._paths: dict[str, int] = {}
        self._fds: dict[int, int] = {}
        self.calls = 0
        self.killed_at = 0
        """The number of the call, of those that change something, that is a kill instead."""
        self.nodes: dict[int, Inode | Folder] = {}
        self.cuts: list[Cut] = []
        self._adopt(self._root)

    def _adopt(self, path: str) -> int:
        """What is there at the start is stable."""
        number = next(self._numbers)
        self._paths[path] = number
        if os.path.isdir(path):
            names = {name: self._adopt(os.path.join(path, name)) for name in os.listdir(path)}
            self.nodes[number] = Folder(names)
        else:
            self.nodes[number] = Inode(Path(path).read_bytes())
        return number

    def _parent(self, path: str) -> Folder:
        folder = self.nodes[self._paths[os.path.dirname(path)]]
        assert isinstance(folder, Folder)
        return folder

    def _file(self, fd: int) -> Inode:
        inode = self.nodes[self._fds[fd]]
        assert isinstance(inode, Inode)
        return inode

    def _count(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        self.calls += 1
        if self.calls == self.killed_at:
            raise Killed

    def _cut(self) -> None:
        for path, number in self._paths.items():
            node = self.nodes[number]
            if isinstance(node, Inode) and node.pages:
                node.pages = [*node.pages[-3:], Path(path).read_bytes()]
        nodes = {number: node.copy() for number, node in self.nodes.items()}
        self.cuts.append(Cut(nodes, self._said()))

    def leave(
        self, nodes: dict[int, Inode | Folder], target: Path, fate: Fate | random.Random
    ) -> None:
        """Make in `target` what a power cut may leave."""
        decides = Chance(fate) if isinstance(fate, random.Random) else fate
        made: dict[int, bytes] = {}

        def make(number: int, path: Path) -> None:
            node = nodes[number]
            if isinstance(node, Inode):
                if number not in made:  # by another name already
                    made[number] = node.after_power_cut(decides)
                path.write_bytes(made[number])
                return
            path.mkdir()
            for name, child in node.after_power_cut(decides).items():
                make(child, path / name)

        make(self._paths[self._root], target)

    def leave_each(self, cut: Cut, folder: Path) -> Iterator[Path]:
        """All that a power cut may leave, if operations are done whole or not at all."""
        each = Each()
        for number in count():
            target = folder / f"{number}"
            self.leave(cut.nodes, target, each)
            yield target
            if not each.more():
                return

    # What the log calls.

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:  # type: ignore[override]
        with self._lock:
            if path not in self._paths:
                self._count()
            fd = os.open(path, flags, mode)
            if path not in self._paths:
                self._paths[path] = number = next(self._numbers)
                self.nodes[number] = Inode()
                self._parent(path).changes.append({os.path.basename(path): number})
            self._fds[fd] = self._paths[path]
            node = self.nodes[self._paths[path]]
            if flags & os.O_TRUNC and isinstance(node, Inode):
                node.writes.append((0, None))
            return fd

    def close(self, fd: int) -> None:  # type: ignore[override]
        with self._lock:
            self._fds.pop(fd, None)
            os.close(fd)

    def pwritev(self, fd: int, buffers: Sequence[Buffer], position: int) -> int:  # type: ignore[override]
        with self._lock:
            self._count()
            self._file(fd).writes.append((position, b"".join(buffers)))
            return os.pwritev(fd, buffers, position)

    def truncate(self, fd: int, size: int) -> None:  # type: ignore[override]
        with self._lock:
            self._count()
            self._file(fd).writes.append((size, None))
            os.ftruncate(fd, size)

    def allocate(self, fd: int, size: int) -> None:  # type: ignore[override]
        with self._lock:
            missing = size - os.fstat(fd).st_size
            self.pwritev(fd, [bytes(max(0, missing))], size - max(0, missing))

    def map(self, fd: int, size: int, *, writable: bool) -> mmap.mmap:  # type: ignore[override]
        page = MappedPage(fd, size, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ)
        inode = self._file(fd)
        inode.pages.append(page[:])

        def flushed() -> None:
            with self._lock:
                self._cut()
                inode.stable, inode.pages = page[:], [page[:]]

        page.flushed = flushed
        return page

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        with self._lock:
            self._count()
            self._cut()
            inode = self._file(fd)
            inode.stable, inode.writes = inode.after_power_cut(Everything()), []
            self._cut()

    def fsync_dir(self, path: str) -> None:  # type: ignore[override]
        with self._lock:
            self._count()
            self._cut()
            folder = self.nodes[self._paths[path]]
            assert isinstance(folder, Folder)
            folder.stable, folder.changes = folder.after_power_cut(Everything()), []
            self._cut()

    def mkdir(self, path: str) -> None:  # type: ignore[override]
        with self._lock:
            self._count()
            os.mkdir(path)
            self._paths[path] = number = next(self._numbers)
            self.nodes[number] = Folder()
            self._parent(path).changes.append({os.path.basename(path): number})

    def rename(self, source: str, target: str) -> None:  # type: ignore[override]
        with self._lock:
            self._count()
            os.rename(source, target)
            number = self._paths[source]
            assert os.path.dirname(source) == os.path.dirname(target)
            change = {os.path.basename(source): None, os.path.basename(target): number}
            self._parent(source).changes.append(change)
            for path in [p for p in self._paths if p == source or p.startswith(source + "/")]:
                self._paths[target + path[len(source) :]] = self._paths.pop(path)

    def link(self, source: str, target: str) -> None:  # type: ignore[override]
        with self._lock:
            self._count()
            os.link(source, target)
            self._paths[target] = number = self._paths[source]
            self._parent(target).changes.append({os.path.basename(target): number})

    def unlink(self, path: str) -> None:  # type: ignore[override]
        with self._lock:
            self._count()
            os.unlink(path)
            self._parent(path).changes.append({os.path.basename(path): None})
            del self._paths[path]

    def rmdir(self, path: str) -> None:  # type: ignore[override]
        with self._lock:
            self._count()
            os.rmdir(path)
            self._parent(path).changes.append({os.path.basename(path): None})
            del self._paths[path]
