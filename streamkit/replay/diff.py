"""Compare what a replay wrote with what was published: which results are the same.

Two records are *about the same thing* when their keys are equal, and so are their windows (results
of windows say in a header of which) or else their timestamps. Of the records about one thing equal
values are paired first, then the rest in order as changed; what is left over is only on one side.

A window has one result: of several the latest, which has the most events. Those before it depend
on the order in which events of different partitions came, which is another in a replay behind a
change of key; and how often it was written, on who was killed. A window that became part of another
one has none.

Where one step is only on one side and one only on the other, the step was renamed, and its windows
are the same.
"""

from collections import defaultdict
from collections.abc import Iterable
from itertools import chain, islice, zip_longest
from typing import NamedTuple, TypeAlias

import msgspec
from msgspec import Struct

from streamkit.records import Record

SAMPLES = 10

_Identity: TypeAlias = int | tuple[str, int]
"""A timestamp; or a window's step and start."""
_Thing: TypeAlias = tuple[bytes | None, _Identity]
_Sides: TypeAlias = dict[_Thing, list[Record[bytes | None]]]

_window = msgspec.json.Decoder(tuple[str, int, int, int]).decode


class Thing(NamedTuple):
    """What a record is about."""

    key: bytes | None
    identity: _Identity


class Sample(Struct, frozen=True):
    """One record that differs: None is on the side that does not have it."""

    thing: Thing
    replayed: Record[bytes | None] | None
    published: Record[bytes | None] | None


class Difference(Struct, frozen=True):
    """How many results agree, and the first few that do not."""

    same: int
    changed: int
    only_in_replay: int
    only_in_published: int
    samples: tuple[Sample, ...] = ()
    outside: int = 0
    """Records of the replay that bear times outside of the span, and were not compared."""
    renamed: tuple[str, str] | None = None
    """The windows of this step of the replay were held against those of that published one."""

    @property
    def is_of_nothing(self) -> bool:
        """Whether there were results, and none of them could be compared."""
        return self.outside > 0 and not (self or self.same)

    @property
    def different(self) -> int:
        """How many are not the same."""
        return self.changed + self.only_in_replay + self.only_in_published

    def __bool__(self) -> bool:
        return self.different > 0


def compare(
    replayed: Iterable[Record[bytes | None]],
    published: Iterable[Record[bytes | None]],
    identity_header: str,
) -> Difference:
    """Compare two sets of records; their order plays no role beyond pairing."""
    left = _by_thing(replayed, identity_header)
    right = _by_thing(published, identity_header)
    renamed = _renamed(left, right)
    if renamed is not None:
        left = {_with_name(thing, *renamed): records for thing, records in left.items()}
    same = changed = only_left = only_right = 0
    samples = _Samples()
    for thing in dict.fromkeys(chain(left, right)):
        ours, theirs, equal = _without_equal(left.get(thing, []), right.get(thing, []))
        pairs = min(len(ours), len(theirs))
        same += equal
        changed += pairs
        only_left += len(ours) - pairs
        only_right += len(theirs) - pairs
        samples.take(thing, ours, theirs)
    return Difference(same, changed, only_left, only_right, samples.some(), renamed=renamed)


class _Samples:
    """The first few that differ in each way: changed, only in replay, only in published."""

    def __init__(self) -> None:
        self._kinds: tuple[list[Sample], list[Sample], list[Sample]] = ([], [], [])

    def take(
        self, thing: _Thing, ours: list[Record[bytes | None]], theirs: list[Record[bytes | None]]
    ) -> None:
        for mine, other in zip_longest(ours, theirs):
            kind = self._kinds[0 if mine and other else 1 if mine else 2]
            if len(kind) < SAMPLES:
                kind.append(Sample(Thing(*thing), mine, other))

    def some(self) -> tuple[Sample, ...]:
        """As many of each way as there is room for."""
        turns = chain.from_iterable(zip_longest(*self._kinds))
        return tuple(islice((sample for sample in turns if sample is not None), SAMPLES))


def _by_thing(records: Iterable[Record[bytes | None]], identity_header: str) -> _Sides:
    """Records by what they are about. Plain tuples, as there may be millions of them."""
    found: _Sides = {}
    latest: dict[_Thing, tuple[int, int]] = {}
    for record in records:
        window = next((value for name, value in record.headers if name == identity_header), None)
        if window is None:
            found.setdefault((record.key, record.timestamp), []).append(record)
            continue
        step, start, end, events = _window(window)
        thing: _Thing = (record.key, (step, start))
        before = latest.get(thing)
        if before is None or (end, events) > before:
            latest[thing] = (end, events)
            found[thing] = [record]
        elif (end, events) == before and all(record.value != it.value for it in found[thing]):
            found[thing].append(record)
    for thing in latest:
        if any(record.value is None for record in found[thing]):  # part of another one by now
            del found[thing]
    return found


def _renamed(left: _Sides, right: _Sides) -> tuple[str, str] | None:
    """The steps that have windows only on the left, and only on the right, if each is one."""
    ours, theirs = (
        {identity[0] for _, identity in side if not isinstance(identity, int)}
        for side in (left, right)
    )
    match [*ours - theirs], [*theirs - ours]:
        case [mine], [other]:
            return mine, other
    return None


def _with_name(thing: _Thing, name: str, other: str) -> _Thing:
    key, identity = thing
    if isinstance(identity, int) or identity[0] != name:
        return thing
    return key, (other, identity[1])


def _without_equal(
    ours: list[Record[bytes | None]], theirs: list[Record[bytes | None]]
) -> tuple[list[Record[bytes | None]], list[Record[bytes | None]], int]:
    """Take out the pairs of equal values; the number of pairs comes last."""
    if len(ours) == len(theirs) == 1:  # nearly always
        return ([], [], 1) if ours[0].value == theirs[0].value else (ours, theirs, 0)
    waiting: dict[bytes | None, int] = defaultdict(int)
    for record in theirs:
        waiting[record.value] += 1
    rest = []
    equal = 0
    for record in ours:
        if waiting[record.value]:
            waiting[record.value] -= 1
            equal += 1
        else:
            rest.append(record)
    left_over = []
    for record in reversed(theirs):  # the later ones are those that found no partner
        if waiting[record.value]:
            waiting[record.value] -= 1
            left_over.append(record)
    return rest, left_over[::-1], equal
