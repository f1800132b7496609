"""Quantiles of many numbers in little memory: counts of logarithmic bins (DDSketch).

The bins and their bounds are the `ddsketch` package's; the counts are kept here, as plain
dictionaries, because they are state: they have to be written and read as JSON, and most keys see
few values. What a sketch holds depends only on which values it was given. In whatever order they
came, however sketches were merged and whenever they were saved, the answer is the same, which
sketches that draw samples or compress their buffers do not give.
"""

from math import isfinite
from typing import TypeAlias

from ddsketch.mapping import LogarithmicMapping

Sketch: TypeAlias = tuple[int, dict[int, int], dict[int, int]]
"""How many values are zero (or too small to tell from it); per bin, how many are more than zero,
and how many less: those by the bin of their absolute value."""


class Bins:
    """The bins of one relative accuracy: 0.01 answers 198 to 202 where 200 is right."""

    def __init__(self, accuracy: float) -> None:
        """Raises ValueError when `accuracy` is not between 0 and 1."""
        mapping = LogarithmicMapping(accuracy)
        self._bin, self._value = mapping.key, mapping.value
        self._least = mapping.min_possible

    def add(self, sketch: Sketch | None, value: float) -> Sketch:
        """Count a value, in place. Raises ValueError for infinities and NaN."""
        if not isfinite(value):
            raise ValueError(f"{value} has no place among other numbers")
        zeros, above, below = sketch or (0, {}, {})
        if -self._least <= value <= self._least:
            return zeros + 1, above, below
        counts, number = (above, self._bin(value)) if value > 0 else (below, self._bin(-value))
        counts[number] = counts.get(number, 0) + 1
        return zeros, above, below

    def merge(self, one: Sketch, other: Sketch) -> Sketch:
        """What both hold together."""
        return one[0] + other[0], _added(one[1], other[1]), _added(one[2], other[2])

    def quantile(self, sketch: Sketch, part: float) -> float:
        """The value below which `part` (0 to 1) of the values are."""
        zeros, above, below = sketch
        count = zeros + sum(above.values()) + sum(below.values())
        rank = part * (count - 1)
        for number in sorted(below, reverse=True):
            rank -= below[number]
            if rank < 0:
                return -float(self._value(number))
        rank -= zeros
        if rank < 0:
            return 0.0
        for number in sorted(above):
            rank -= above[number]
            if rank < 0:
                return float(self._value(number))
        raise ValueError("a sketch of no values has no quantile")


def _added(one: dict[int, int], other: dict[int, int]) -> dict[int, int]:
    return one | {number: one.get(number, 0) + count for number, count in other.items()}
