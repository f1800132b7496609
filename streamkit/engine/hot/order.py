"""A set of byte strings in order, that takes new ones cheaply."""

from bisect import bisect_left
from collections.abc import Iterable

_LONGEST = 1024
"""A run longer than this is cut in two: what inserting moves stays within the processor's cache."""


class Order:
    """Keys in runs of bounded length, so that adding one moves a thousand others and not all."""

    __slots__ = ("_firsts", "_runs")

    def __init__(self, keys: Iterable[bytes] = ()) -> None:
        every = sorted(set(keys))
        half = _LONGEST // 2
        self._runs = [every[at : at + half] for at in range(0, len(every), half)]
        self._firsts = [run[0] for run in self._runs]

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    def add(self, key: bytes) -> None:
        """Does nothing when it is there."""
        if not self._runs:
            self._runs.append([key])
            self._firsts.append(key)
            return
        last = self._runs[-1]
        if last[-1] < key and len(last) < _LONGEST:
            last.append(key)  # as times do that only grow
            return
        at = self._run_of(key)
        run = self._runs[at]
        place = bisect_left(run, key)
        if place < len(run) and run[place] == key:
            return
        run.insert(place, key)
        self._firsts[at] = run[0]
        if len(run) > _LONGEST:
            half = len(run) // 2
            self._runs[at : at + 1] = [run[:half], run[half:]]
            self._firsts[at : at + 1] = [run[0], run[half]]

    def discard(self, key: bytes) -> None:
        """Does nothing when it is not there."""
        if not self._runs:
            return
        at = self._run_of(key)
        run = self._runs[at]
        place = bisect_left(run, key)
        if place == len(run) or run[place] != key:
            return
        del run[place]
        if run:
            self._firsts[at] = run[0]
        else:
            del self._runs[at], self._firsts[at]

    def some(self, low: bytes, high: bytes | None, limit: int) -> list[bytes]:
        """The first keys of [low, high), at most `limit`."""
        found: list[bytes] = []
        for at in range(self._run_of(low), len(self._runs)):
            run = self._runs[at]
            start = bisect_left(run, low)
            stop = len(run) if high is None else bisect_left(run, high)
            found += run[start : min(stop, start + limit - len(found))]
            if len(found) == limit or stop < len(run):
                break
        return found

    def last(self, low: bytes, high: bytes) -> bytes | None:
        """The last key of [low, high); None: there is none."""
        for at in range(min(self._run_of(high), len(self._runs) - 1), -1, -1):
            place = bisect_left(self._runs[at], high)
            if place:
                found = self._runs[at][place - 1]
                return found if found >= low else None
        return None

    def _run_of(self, key: bytes) -> int:
        """The run that has the key, or would have it."""
        at = bisect_left(self._firsts, key)
        if at < len(self._firsts) and self._firsts[at] == key:
            return at
        return max(at - 1, 0)
