"""Files, and what a power cut could leave of them: any part of what was not synced is lost."""

import mmap
import os
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from math import inf
from pathlib import Path
from typing import Any, Protocol, TypeVar

from streamkit.log.control import PAGE_BYTES
from streamkit.log.files import Buffer, RealFiles

T = TypeVar("T")

SECTOR = 512
"""What a disk writes whole or not at all."""

ALWAYS = inf
"""In place of when something was done: it may be lost or not, whenever it was."""


class Fate(Protocol):
    """What decides which of the unsynced operations a power cut lets through."""

    sectors: bool
    """Whether a write may be there in part."""

    def first_of(self, operations: list[T]) -> list[T]:
        """Those of which any may be there: all, or the first few, as a journal would keep them."""
        ...

    def keeps(self, when: float) -> bool:
        """Whether an operation is there that was done as the `when`-th of all."""
        ...

    def page(self, stable: bytes, later: list[tuple[int, bytes]], start: int) -> bytes:
        """One of the contents that a mapped page has had, for the sector that begins at `start`."""
        ...


class Chance:
    """By chance; how much gets lost is one for all."""

    sectors = True

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._lost = chance.choice([0.0, 0.2, 0.5, 0.8, 1.0])

    def first_of(self, operations: list[T]) -> list[T]:
        if self.keeps(ALWAYS):
            return operations
        return operations[: self._chance.randint(0, len(operations))]

    def keeps(self, when: float) -> bool:
        return self._chance.random() >= self._lost

    def page(self, stable: bytes, later: list[tuple[int, bytes]], start: int) -> bytes:
        return self._chance.choice(later)[1] if self.keeps(ALWAYS) else stable


class Everything:
    """Nothing is lost."""

    sectors = False

    def first_of(self, operations: list[T]) -> list[T]:
        return operations

    def keeps(self, when: float) -> bool:
        return True

    def page(self, stable: bytes, later: list[tuple[int, bytes]], start: int) -> bytes:
        return later[-1][1]


class Without(Everything):
    """One operation is lost, and nothing else."""

    def __init__(self, lost: float) -> None:
        self._lost = lost

    def keeps(self, when: float) -> bool:
        return when != self._lost


class Each:
    """Every combination of the last operations, done or not, those before `since` all done.

    It answers as it did the last time, up to the last answer that can still be another one.
    """

    sectors = False

    def __init__(self, since: float) -> None:
        self._since = since
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

    def keeps(self, when: float) -> bool:
        return when < self._since or self._answer(2) == 0

    def page(self, stable: bytes, later: list[tuple[int, bytes]], start: int) -> bytes:
        when, page = later[-1]
        if start == 0:
            self._page = page if page == stable or self.keeps(when) else stable
        return self._page


@dataclass
class Inode:
    """A file: what of it is on stable storage, and what has been written since."""

    stable: bytes = b""
    writes: list[tuple[int, int, bytes | None]] = field(default_factory=list)
    """(when, position, bytes), or (when, new size, None)."""

    pages: list[tuple[int, bytes]] = field(default_factory=list)
    """What a mapped file has held since when: the kernel writes it back whenever it likes."""

    def copy(self) -> "Inode":
        return Inode(self.stable, list(self.writes), list(self.pages))

    @property
    def unsynced(self) -> list[float]:
        """When those things were done that may be lost or not."""
        if self.pages:
            when, page = self.pages[-1]
            return [] if page == self.stable else [when]
        return [when for when, _, _ in self.writes]

    def after_power_cut(self, fate: Fate) -> bytes:
        if self.pages:
            stable = self.stable.ljust(PAGE_BYTES, b"\0")
            made = b""
            for start in range(0, PAGE_BYTES, SECTOR):
                made += fate.page(stable, self.pages, start)[start : start + SECTOR]
            return b"" if not self.stable and not any(made) else made
        data = bytearray(self.stable)
        for when, position, some in fate.first_of(self.writes):
            if some is None:
                if fate.keeps(when):
                    del data[position:]
                    data += bytes(position - len(data))
                continue
            step = SECTOR if fate.sectors else max(1, len(some))
            for start in range(0, len(some), step):
                if fate.keeps(when):
                    piece = some[start : start + step]
                    data += bytes(max(0, position + start - len(data)))
                    data[position + start : position + start + len(piece)] = piece
        return bytes(data)


@dataclass
class Folder:
    """A directory: the names that are on stable storage, and what was done to them since."""

    stable: dict[str, int] = field(default_factory=dict)
    changes: list[tuple[int, dict[str, int | None]]] = field(default_factory=list)
    """When, and names with the node each stands for now (None: removed); whole or not at all."""

    def copy(self) -> "Folder":
        return Folder(dict(self.stable), list(self.changes))

    @property
    def unsynced(self) -> list[float]:
        return [when for when, _ in self.changes]

    def after_power_cut(self, fate: Fate) -> dict[str, int]:
        names = dict(self.stable)
        for when, change in fate.first_of(self.changes):
            if fate.keeps(when):
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

    def unsynced(self) -> list[float]:
        """When those things were done that may be lost or not."""
        return sorted(when for node in self.nodes.values() for when in node.unsynced)

    def last(self, most: int) -> float:
        """Since when so many things were done, or fewer, that may be lost or not."""
        done = self.unsynced()
        return done[-most] if len(done) >= most else 0.0


class Disk(RealFiles):
    """The real files below `root`, and a record of what a power cut could leave of them.

    A `Cut` is taken at every fsync, before and after it.
    """

    def __init__(self, root: Path, promised: Callable[[], Any]) -> None:
        self._root = str(root)
        self._said = promised
        self._lock = threading.RLock()
        self._numbers = count(1)
        self._whens = count(1)
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

    def _changed(self, path: str, change: dict[str, int | None]) -> None:
        self._parent(path).changes.append((next(self._whens), change))

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

    def cut(self) -> None:
        """Take a cut: now the power goes."""
        for path, number in self._paths.items():
            node = self.nodes[number]
            if isinstance(node, Inode) and node.pages:
                page = Path(path).read_bytes()
                if page != node.pages[-1][1]:
                    node.pages = [*node.pages[-3:], (next(self._whens), page)]
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

    def leave_each(self, cut: Cut, folder: Path, *, most: int) -> Iterator[Path]:
        """All that may be left of the last so many operations, if each is whole or not at all."""
        each = Each(cut.last(most))
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
                self._changed(path, {os.path.basename(path): number})
            self._fds[fd] = self._paths[path]
            node = self.nodes[self._paths[path]]
            if flags & os.O_TRUNC and isinstance(node, Inode):
                node.writes.append((next(self._whens), 0, None))
            return fd

    def close(self, fd: int) -> None:  # type: ignore[override]
        with self._lock:
            self._fds.pop(fd, None)
            os.close(fd)

    def pwritev(self, fd: int, buffers: Sequence[Buffer], position: int) -> int:  # type: ignore[override]
        with self._lock:
            self._count()
            self._file(fd).writes.append((next(self._whens), position, b"".join(buffers)))
            return os.pwritev(fd, buffers, position)

    def truncate(self, fd: int, size: int) -> None:  # type: ignore[override]
        with self._lock:
            self._count()
            self._file(fd).writes.append((next(self._whens), size, None))
            os.ftruncate(fd, size)

    def allocate(self, fd: int, size: int) -> None:  # type: ignore[override]
        with self._lock:
            missing = size - os.fstat(fd).st_size
            self.pwritev(fd, [bytes(max(0, missing))], size - max(0, missing))

    def map(self, fd: int, size: int, *, writable: bool) -> mmap.mmap:  # type: ignore[override]
        page = MappedPage(fd, size, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ)
        inode = self._file(fd)
        inode.pages.append((next(self._whens), page[:]))

        def flushed() -> None:
            with self._lock:
                self.cut()
                inode.stable, inode.pages = page[:], [(next(self._whens), page[:])]

        page.flushed = flushed
        return page

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        with self._lock:
            self._count()
            self.cut()
            inode = self._file(fd)
            inode.stable, inode.writes = inode.after_power_cut(Everything()), []
            self.cut()

    def fsync_dir(self, path: str) -> None:  # type: ignore[override]
        with self._lock:
            self._count()
            self.cut()
            folder = self.nodes[self._paths[path]]
            assert isinstance(folder, Folder)
            folder.stable, folder.changes = folder.after_power_cut(Everything()), []
            self.cut()

    def mkdir(self, path: str) -> None:  # type: ignore[override]
        with self._lock:
            self._count()
            os.mkdir(path)
            self._paths[path] = number = next(self._numbers)
            self.nodes[number] = Folder()
            self._changed(path, {os.path.basename(path): number})

    def rename(self, source: str, target: str) -> None:  # type: ignore[override]
        with self._lock:
            self._count()
            os.rename(source, target)
            number = self._paths[source]
            assert os.path.dirname(source) == os.path.dirname(target)
            change = {os.path.basename(source): None, os.path.basename(target): number}
            self._changed(source, change)
            for path in [p for p in self._paths if p == source or p.startswith(source + "/")]:
                self._paths[target + path[len(source) :]] = self._paths.pop(path)

    def link(self, source: str, target: str) -> None:  # type: ignore[override]
        with self._lock:
            self._count()
            os.link(source, target)
            self._paths[target] = number = self._paths[source]
            self._changed(target, {os.path.basename(target): number})

    def unlink(self, path: str) -> None:  # type: ignore[override]
        with self._lock:
            self._count()
            os.unlink(path)
            self._changed(path, {os.path.basename(path): None})
            del self._paths[path]

    def rmdir(self, path: str) -> None:  # type: ignore[override]
        with self._lock:
            self._count()
            os.rmdir(path)
            self._changed(path, {os.path.basename(path): None})
            del self._paths[path]
