"""What readers of a log may find, by what was done to it: a list of records, and some outcomes.

Whoever does something says so before (it may happen from now on) and after (it has happened); one
who is killed in between leaves both possible, until a reader has seen which.
"""

from dataclasses import dataclass, field
from math import inf


@dataclass(eq=False)
class Fate:
    """Whether something is there: an append, or a transaction with all that is in it."""

    name: str
    possible: set[bool] = field(default_factory=set)
    """What a reader may find; nothing while a transaction is open: readers stop before it."""
    seen: bool | None = None
    ended: bool = False
    """No reader is held up by it any more."""

    def begin(self) -> None:
        self.possible = {True, False} if self.seen is None else {self.seen}

    def settle(self, there: bool) -> None:
        assert self.seen in (None, there), f"{self.name}: said {there}, but was read as {self.seen}"
        self.possible = {there}

    def see(self, there: bool) -> None:
        what = "read" if there else "left out by a reader"
        assert there in self.possible, f"{self.name}: {what}, and must not be"
        self.seen = there
        self.possible = {there}

    @property
    def sure(self) -> bool:
        return self.possible == {True}


@dataclass(eq=False)
class Row:
    """One record. `at`: when it was appended, ms."""

    number: int
    key: int
    tombstone: bool
    at: int
    append: Fate
    transaction: Fate | None
    floor: int
    """It stands here or later."""
    limit: float = inf
    """Here or earlier, if at all."""
    offset: int | None = None

    @property
    def fate(self) -> Fate:
        return self.transaction or self.append

    def __repr__(self) -> str:
        return f"<{self.number}: key {self.key} at {self.offset}, {self.fate}>"


@dataclass(eq=False)
class Book:
    """One partition."""

    name: str
    rows: dict[int, Row] = field(default_factory=dict)
    start: int = 0
    """Nothing below it can be read."""
    removable: float = 0
    """Everything below may have been removed."""
    compacted: bool = False
    tombstones_kept: int = 0
    """For so many ms."""

    @property
    def placed(self) -> list[Row]:
        """Records of which it is known where they stand, in that order."""
        rows = [row for row in self.rows.values() if row.offset is not None]
        return sorted(rows, key=lambda row: row.offset or 0)

    @property
    def end(self) -> int:
        """Behind the last record that is known to be anywhere."""
        return max((row.offset + 1 for row in self.placed if row.offset is not None), default=0)

    @property
    def reach(self) -> float:
        """Up to here readers must get: before the first open transaction."""
        return min(
            (
                row.floor if row.offset is None else row.offset
                for row in self.rows.values()
                if row.transaction is not None and not row.transaction.ended
            ),
            default=inf,
        )

    def put(self, row: Row, offset: int) -> None:
        """The record stands there."""
        if row.offset is None:
            assert row.floor <= offset <= row.limit, f"{self.name}@{offset}: too late for {row}"
            for other in self.rows.values():
                if other.offset == offset and other is not row:
                    other.append.see(False)  # of one that was killed, and nobody has read
                    other.offset = None
            row.offset = offset
        assert row.offset == offset, f"{self.name}: {row} is at {offset}, too"

    def read(
        self, start: int, stop: int, found: list[tuple[int, int, int, bool]], now: int
    ) -> None:
        """A reader of committed records has found this (offset, number, key, tombstone) there."""
        for offset, number, key, tombstone in found:
            row = self.rows.get(number)
            assert row is not None, f"{self.name}@{offset}: nobody sent {number}"
            assert (row.key, row.tombstone) == (key, tombstone), f"{self.name}@{offset}: not {row}"
            self.put(row, offset)
            row.append.see(True)
            row.fate.see(True)
        offsets = [one[0] for one in found]
        assert offsets == sorted(set(offsets)), f"{self.name}: out of order: {offsets}"
        assert all(start <= offset < stop for offset in offsets), (start, stop, offsets)
        there = {one[1] for one in found}
        for row in self.placed:
            assert row.offset is not None
            if (
                max(start, self.start) <= row.offset < stop
                and row.number not in there
                and not self.is_compacted_away(row, now)
            ):
                row.fate.see(False)

    def is_compacted_away(self, row: Row, now: int) -> bool:
        """Whether it may be missing, because its key has a later record or it is a tombstone."""
        assert row.offset is not None
        if not self.compacted:
            return False
        if row.tombstone and now >= row.at + self.tombstones_kept:
            return True
        return any(
            other.key == row.key
            and other.offset is not None
            and other.offset > row.offset
            and True in other.fate.possible
            for other in self.rows.values()
        )

    def latest(self, stop: int) -> dict[int, set[int]]:
        """By key: the numbers of which one must be the last found below `stop`; 0: none."""
        found: dict[int, set[int]] = {}
        for row in self.placed:
            assert row.offset is not None
            if not self.start <= row.offset < stop:
                continue
            if row.fate.possible == {True}:
                found[row.key] = {0 if row.tombstone else row.number}
            elif True in row.fate.possible:
                found.setdefault(row.key, {0}).add(0 if row.tombstone else row.number)
        return found

    def starts(self, offset: int) -> None:
        """Somebody is told that the partition starts there."""
        assert self.start <= offset, f"{self.name} starts at {offset}, and began at {self.start}"
        assert offset <= self.removable, f"{self.name} starts at {offset}, not {self.removable}"
        for row in self.placed:
            is_open = row.transaction is not None and not row.transaction.possible
            assert not is_open or self.start <= offset <= (row.offset or 0), f"{row} is removed"
        self.start = offset


@dataclass(eq=False)
class Commit:
    """An offset that a group committed; None: it was forgotten. Between two moments."""

    offset: int | None
    fate: Fate
    begun: int
    done: float = inf


@dataclass
class Offsets:
    """What one group committed for one partition."""

    name: str
    commits: list[Commit] = field(default_factory=list)

    def read(self, offset: int | None) -> None:
        """A reader has found it committed."""
        last = max((one.begun for one in self.commits if one.fate.sure), default=-1)
        fits = [
            one
            for one in self.commits
            if one.offset == offset and True in one.fate.possible and one.done >= last
        ]
        if offset is None and last < 0:
            return
        assert fits, f"{self.name} is committed as {offset}, not as one of {self.commits}"
        if len(fits) == 1:
            fits[0].fate.see(True)
