"""What a store leaves on disk: an LMDB file beside its changelog. Never the truth.

    <folder>/mark        who uses the file, and whether it can be believed after a power cut
    <folder>/rows.mdb    rows by key, and the changelog's offset that they lead to

The file is written in transactions of LMDB and not synced: a killed process leaves it whole, since
what it wrote is in the page cache; a power cut may leave anything. So the mark says in which boot
of the machine it is written, and is on stable storage before the file is. The file is thrown away,
and made anew from the changelog, when the mark is of another boot (unless the file was closed, and
synced, before), of another changelog, or of another format; when the changelog does not reach as
far as the file; when the file is damaged.

The mark is held by flock as long as the file is used. Somebody else who holds it was given up for
dead, and is stopped or about to be told: then both files are unlinked and made anew. It goes on
with files that nobody will ever open again, so there are never two who write one.

A change of many rows is cut into several transactions. The offset is written with the last one:
if a process dies in between, some rows are newer than the offset says. They are committed values
all the same, and the changelog from that offset on has them again. (Only a group that is reset to
before them would find them wrong: so how far they may be ahead is written down as well.)
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import lmdb

from streamkit.backends.lockfile import LockFile
from streamkit.clock import Clock
from streamkit.errors import LogError, StorageFailed
from streamkit.log.boot import UNKNOWN, boot_id
from streamkit.log.files import RealFiles

FORMAT = 1
FLUSH_AFTER = 5.0
"""Seconds between two times that changes are written behind, while there is room in memory."""
RETRY_AFTER = 30.0
"""Seconds until a file that could not be written is tried again."""
SHELF_LIFE = 12 * 3600 * 1000
"""A file that misses changes and is older than this, in ms, is made anew: compaction removes the
tombstones of a changelog after delete.retention.ms, a day unless the topic says less, and it would
never hear of them."""
_SMALLEST = 1 << 20
_TOGETHER = 8192
"""Rows in one transaction at most: each may touch a page, which LMDB keeps in memory until then."""
_POSITION, _AHEAD, _WRITTEN, _NOTE = b"position", b"ahead", b"written", b"note"


def open_disk(
    folder: Path,
    identity: str,
    start: int,
    end: int,
    clock: Clock,
    on_note: Callable[[str], None],
    *,
    log_end: int | None = None,
    shelf_life: int = SHELF_LIFE,
    torn: bool = True,
    fits: Callable[[bytes], bool] = lambda note: True,
    shared: bool = False,
) -> "Disk | None":
    """The rows in a folder, which is made if there is none; empty when they cannot be believed.

    `identity`: of which changelog (its topic id), partition and kind of store they have to be.
    `start`, `end`: from where to where there is a changelog, as far as it is committed; `log_end`,
    where it goes on behind that: what is read later. `shelf_life`: for how many ms they can be
    believed that miss some of it. `torn`: whether they can be where some are newer than their
    position, as a process died while it wrote them. `fits` is asked about the note that was written
    with the rows. With `shared` several processes may have rows in the folder: each in a numbered
    one of its own, the first that nobody has. None, and a note, when the folder cannot be used; the
    store then has to do with memory.
    """
    bounds = Bounds(start, end, end if log_end is None else log_end, shelf_life, torn)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mark = _find(folder) if shared else _own(folder)
        folder = mark.path.parent
        try:
            return _opened(folder, mark, identity, bounds, fits, clock, on_note)
        except BaseException:
            mark.close()
            raise
    except (OSError, LogError, lmdb.Error) as error:
        on_note(
            f"{folder}: cannot be used ({error}); the state that would be kept there stays in "
            "memory, and is read from its changelog at every start"
        )
        return None


def _own(folder: Path) -> LockFile:
    """Hold the mark; take the files away from who holds it."""
    while True:
        mark = LockFile(folder / "mark")
        if mark.try_lock():
            if mark.intact():
                return mark
        else:
            mark.path.unlink(missing_ok=True)  # a mark made anew praises no rows
        mark.close()


def _find(folder: Path) -> LockFile:
    """Hold the mark of the first folder in this one that nobody holds."""
    for number in count():
        (folder / str(number)).mkdir(exist_ok=True)
        mark = LockFile(folder / str(number) / "mark")
        if mark.try_lock():
            return mark
        mark.close()
    raise AssertionError("numbers do not end")


def _opened(
    folder: Path,
    mark: LockFile,
    identity: str,
    bounds: "Bounds",
    fits: Callable[[bytes], bool],
    clock: Clock,
    on_note: Callable[[str], None],
) -> "Disk":
    head = f"{FORMAT} {identity}\n".encode()
    synced, here = head + b"synced\n", head + boot_id().hex().encode() + b"\n"
    known = mark.read()
    why = _distrusted(known, identity) if (folder / "rows.mdb").exists() else None
    if known == synced or (known == here and boot_id() != UNKNOWN):
        disk = None
        try:
            disk = Disk(folder, mark, (synced, here), known == here, clock, on_note)
            why = disk.unfit(bounds)
            if why is None and fits(disk.note):
                return disk
            why = why or "it does not lead to where its task goes on"
        except lmdb.Error as error:
            why = f"it is damaged ({error})"
        if disk is not None:
            disk.close_file()
    if why is not None:
        on_note(f"{folder}: thrown away, to be made anew from the changelog: {why}")
    _throw_away(folder)
    _write(mark, here)  # a power cut while the new file is made finds no mark that praises it
    return Disk(folder, mark, (synced, here), True, clock, on_note)


def _distrusted(known: bytes, identity: str) -> str:
    """Why rows are not believed whose mark is not one of ours."""
    head = known.decode(errors="replace").partition("\n")[0]
    number, _, other = head.partition(" ")
    if not other:
        return "its mark is damaged, or missing"
    if number != str(FORMAT):
        return f"it is of format {number}, which another version of streamkit wrote"
    if other != identity:
        return "it is of another topic, or of a store of another kind"
    return "the machine was started anew while it was in use, and may have lost some of it"


def _throw_away(folder: Path) -> None:
    (folder / "rows.mdb").unlink(missing_ok=True)


def _write(mark: LockFile, text: bytes) -> None:
    """Return when the text is on stable storage."""
    mark.write(text)
    fd = os.open(mark.path, os.O_RDWR)
    try:
        RealFiles.fdatasync(fd)
    finally:
        os.close(fd)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of a changelog, as for `open_disk`."""

    start: int
    end: int
    log_end: int
    shelf_life: int
    torn: bool


class Disk:
    """See the module; made by `open_disk`. Used by one thread. A `Backing`."""

    def __init__(
        self,
        folder: Path,
        mark: LockFile,
        texts: tuple[bytes, bytes],
        marked: bool,
        clock: Clock,
        on_note: Callable[[str], None],
    ) -> None:
        """`texts` are what the mark says of a synced file, and of one that is written in this boot;
        the second is there already if `marked`."""
        self.folder = folder
        self.position = 0
        self.note = b""
        self._mark = mark
        self._synced, self._here = texts
        self._marked = marked
        self._clock = clock
        self._note = on_note
        self._written = self._tried = clock.monotonic()
        self._failing = False
        self._reading: Any = None
        path = folder / "rows.mdb"
        # Locks are not LMDB's affair: the mark excludes others, and who reads here does not while
        # it writes. The map begins small, since on some systems the file is as large as the map.
        self._env = lmdb.open(
            str(path),
            subdir=False,
            lock=False,
            sync=False,
            metasync=False,
            readahead=False,
            map_size=_SMALLEST + (path.stat().st_size if path.exists() else 0),
            max_dbs=3,
        )
        try:
            self._check(path)
            self._rows = self._env.open_db(b"rows")
            self._long = self._env.open_db(b"long")
            self._meta = self._env.open_db(b"meta")
            with self._env.begin(write=True) as txn:
                self.position = int(txn.get(_POSITION, b"0", db=self._meta))
                self.note = bytes(txn.get(_NOTE, b"", db=self._meta))
                self._ahead = int(txn.get(_AHEAD, b"0", db=self._meta))
                self._saved_at = int(txn.get(_WRITTEN, b"-1", db=self._meta))
                if self._saved_at < 0:
                    self._saved_at = clock.now()
                    txn.put(_WRITTEN, b"%d" % self._saved_at, db=self._meta)
                # Keys that LMDB does not take, in memory too: whoever has such keys has few.
                self._odd = dict(_unpacked(data) for _, data in txn.cursor(db=self._long))
        except BaseException:
            self._env.close()
            raise

    def _check(self, path: Path) -> None:
        """Raises InvalidError for a file that is too short: what is missing would be a SIGBUS."""
        needed = (self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"]
        size = path.stat().st_size
        if size and size < needed and self._env.info()["last_txnid"]:
            raise lmdb.InvalidError(f"rows.mdb has {size} of {needed} bytes")

    def unfit(self, bounds: Bounds) -> str | None:
        """Why such a changelog cannot have led here, or cannot lead on; None: it can."""
        leads = f"it leads to {self.position}, the changelog is {bounds.start} to {bounds.log_end}"
        if self._ahead > bounds.end:
            return f"{leads}: it has changes that are not there"
        if 0 < self.position < bounds.start:
            return f"{leads}: changes are gone that it misses"
        if self._ahead != self.position and not bounds.torn:
            return "it is torn: a process was killed while it wrote some changes"
        if self.position == bounds.log_end:
            return None
        # How old it is nobody knows either when it was written in what is the future by now.
        age = self._clock.now() - self._saved_at
        if abs(age) < bounds.shelf_life:
            return None
        old = "of a time that is still to come" if age < 0 else f"{age / 3_600_000:.1f} h old"
        return (
            f"{leads}, and it is {old}: what was deleted since may not be in the changelog any more"
        )

    # Reading.

    def __len__(self) -> int:
        return int(self._txn().stat(self._rows)["entries"]) + len(self._odd)

    def get(self, key: bytes) -> bytes | None:
        if not 0 < len(key) <= _LONGEST_KEY:
            return self._odd.get(key)
        try:
            found: bytes | None = (self._reading or self._txn()).get(key, db=self._rows)
        except lmdb.Error as error:
            raise self.damaged(error) from error
        return found

    def some(self, low: bytes, high: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        try:
            with self._txn().cursor(db=self._rows) as cursor:
                rows = _rows(cursor, low, high, limit)
        except lmdb.Error as error:
            raise self.damaged(error) from error
        if self._odd:
            odd = [row for row in self._odd.items() if low <= row[0] and _below(row[0], high)]
            rows = sorted([*rows, *odd])[:limit]
        return rows

    def last(self, low: bytes, high: bytes) -> bytes | None:
        found = max((key for key in self._odd if low <= key < high), default=None)
        try:
            with self._txn().cursor(db=self._rows) as cursor:
                # What is longer than any key can be, comes after what it begins with.
                there = cursor.set_range(high[:_LONGEST_KEY])
                while there and cursor.key() < high and cursor.next():
                    pass
                if cursor.prev() if there and cursor.key() >= high else cursor.last():
                    key = bytes(cursor.key())
                    if low <= key and (found is None or key > found):
                        found = key
        except lmdb.Error as error:
            raise self.damaged(error) from error
        return found

    def _txn(self) -> Any:
        if self._reading is None:
            self._reading = self._env.begin()
        return self._reading

    # Writing.

    def due(self, rows: int) -> bool:
        now = self._clock.monotonic()
        if self._failing:
            return now - self._tried >= RETRY_AFTER
        return now - self._written >= FLUSH_AFTER

    def write(
        self, changes: Mapping[bytes, bytes | None], position: int, note: bytes = b""
    ) -> bool:
        """False, and a note, when the disk does not take them, for example because it is full."""
        self._stop_reading()
        self._tried = self._clock.monotonic()
        try:
            if not self._marked and self._mark.intact():
                _write(self._mark, self._here)
            self._marked = True
            rows = sorted(changes.items(), key=itemgetter(0))
            for at in range(0, len(rows) or 1, _TOGETHER):
                last = at + _TOGETHER >= len(rows)
                self._put(rows[at : at + _TOGETHER], position, note if last else None)
        except (OSError, LogError, lmdb.DiskError, lmdb.MemoryError) as error:
            self._failed(error)
            return False
        except lmdb.Error as error:
            if _is_of_the_system(error):
                self._failed(error)
                return False
            raise self.damaged(error) from error
        if self._failing:
            self._note(f"{self.folder}: can be written again")
        self._failing = False
        self._written = self._clock.monotonic()
        self.position, self.note = position, note
        return True

    def _failed(self, error: Exception) -> None:
        if not self._failing:
            self._note(
                f"{self.folder}: cannot be written ({error}); what changes stays in memory until "
                "it can, and is in the changelog"
            )
        self._failing = True

    def _put(
        self, rows: list[tuple[bytes, bytes | None]], position: int, note: bytes | None
    ) -> None:
        """With the last rows comes the note, and they lead to the position."""
        while True:
            try:
                with self._env.begin(write=True) as txn:
                    self._put_in(txn, rows, position, note)
                break
            except lmdb.MapFullError:
                self._env.set_mapsize(self._env.info()["map_size"] * 2)
        for key, data in rows:
            if not 0 < len(key) <= _LONGEST_KEY:
                if data is None:
                    self._odd.pop(key, None)
                else:
                    self._odd[key] = data

    def _put_in(
        self, txn: Any, rows: list[tuple[bytes, bytes | None]], position: int, note: bytes | None
    ) -> None:
        put, delete, of_rows = txn.put, txn.delete, self._rows
        for key, data in rows:
            if not 0 < len(key) <= _LONGEST_KEY:
                name = blake2b(key, digest_size=32).digest()
                if data is None:
                    delete(name, db=self._long)
                else:
                    put(name, _packed(key, data), db=self._long)
            elif data is None:
                delete(key, db=of_rows)
            else:
                put(key, data, db=of_rows)
        put(_AHEAD, b"%d" % position, db=self._meta)
        if note is not None:
            put(_NOTE, note, db=self._meta)
            put(_POSITION, b"%d" % position, db=self._meta)
            put(_WRITTEN, b"%d" % self._clock.now(), db=self._meta)

    # The end.

    def close(self) -> None:
        """Bring what was written to stable storage, so that it is believed after a reboot too."""
        self._stop_reading()
        try:
            if self._marked and self._mark.intact():
                self._env.sync(True)
                _write(self._mark, self._synced)
        except (OSError, LogError, lmdb.Error) as error:
            self._note(f"{self.folder}: could not be brought to stable storage: {error}")
        self.let_go()

    def let_go(self) -> None:
        """Let go as it is. Twice is fine."""
        self.close_file()
        self._mark.close()

    def close_file(self) -> None:
        """Keep the mark, and let the file go as it is."""
        self._stop_reading()
        self._env.close()

    def damaged(self, error: Exception) -> StorageFailed:
        """Throw the file away; give the error to raise."""
        if self._mark.intact():
            _throw_away(self.folder)
        return StorageFailed(
            f"{self.folder / 'rows.mdb'} is damaged ({error}); it was removed, and is made anew "
            "from the changelog at the next start: start again"
        )

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.abort()
            self._reading = None


_LONGEST_KEY = 511
"""What LMDB takes, as it is built everywhere."""


def _rows(cursor: Any, low: bytes, high: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
    # What is longer than any key can be, its beginning stands for.
    if not (cursor.set_range(low[:_LONGEST_KEY]) if low else cursor.first()):
        return []
    if cursor.key() < low and not cursor.next():
        return []
    rows: list[tuple[bytes, bytes]] = []
    for row in islice(cursor.iternext(), limit):
        if not _below(row[0], high):
            break
        rows.append(row)
    return rows


def _below(key: bytes, high: bytes | None) -> bool:
    return high is None or key < high


def _packed(key: bytes, data: bytes) -> bytes:
    return len(key).to_bytes(4, "big") + key + data


def _unpacked(packed: bytes) -> tuple[bytes, bytes]:
    end = 4 + int.from_bytes(packed[:4], "big")
    return packed[4:end], packed[end:]


def _is_of_the_system(error: lmdb.Error) -> bool:
    """Whether the operating system refused, and the file is as whole as it was."""
    return type(error) is lmdb.Error
