"""Compare what a replay wrote with what was published: which records are the same.

Two records are *about the same thing* when their keys are equal, and so are their window
identities (results of windows carry one in a header) or else their timestamps. Of the records
about one thing equal values are paired first, then the rest in order as changed; what is left
over is only on one side. A window's identity ends with how many events it has: one that has
others now is paired, as changed, with what is left over of the same window. It begins with the
name of the step: where one name is only on one side and one only on the other, the step was renamed
and its windows are the same.

A window's result that is there again with the same value, because its writer was killed before it
could commit, counts once. Other records have nothing that tells a repetition from two alike.
"""

from collections import defaultdict
from collections.abc import Iterable
from itertools import chain, islice, zip_longest
from typing import NamedTuple, TypeAlias

from msgspec import Struct

from streamkit.records import Record

SAMPLES = 10

_Thing: TypeAlias = tuple[bytes | None, bytes | int]
_Sides: TypeAlias = dict[_Thing, list[Record[bytes | None]]]


class Thing(NamedTuple):
    """What a record is about."""

    key: bytes | None
    identity: bytes | int


class Sample(Struct, frozen=True):
    """One record that differs: None is on the side that does not have it."""

    thing: Thing
    replayed: Record[bytes | None] | None
    published: Record[bytes | None] | None


class Difference(Struct, frozen=True):
    """How many records agree, and the first few that do not."""

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
    same = changed = 0
    rest_left: _Sides = {}
    rest_right: _Sides = {}
    samples = _Samples()
    for thing in dict.fromkeys(chain(left, right)):
        ours, theirs = left.get(thing, []), right.get(thing, [])
        ours, theirs, equal = _without_equal(ours, theirs)
        same += equal
        if not ours and not theirs:
            continue
        pairs = min(len(ours), len(theirs))
        changed += pairs
        samples.take(thing, ours[:pairs], theirs[:pairs])
        of_it = _window(thing)
        rest_left.setdefault(of_it, []).extend(ours[pairs:])
        rest_right.setdefault(of_it, []).extend(theirs[pairs:])
    only_left = only_right = 0
    for thing, ours in rest_left.items():
        theirs = rest_right[thing]
        pairs = min(len(ours), len(theirs))
        changed += pairs
        only_left += len(ours) - pairs
        only_right += len(theirs) - pairs
        samples.take(thing, ours, theirs)
    return Difference(
        same,
        changed,
        only_left,
        only_right,
        samples.some(),
        renamed=None if renamed is None else (_text(renamed[0]), _text(renamed[1])),
    )


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


def _renamed(left: _Sides, right: _Sides) -> tuple[bytes, bytes] | None:
    """How identities of windows begin that are only on the left, and only on the right."""
    ours, theirs = ({_name(thing) for thing in side} for side in (left, right))
    match sorted(ours - theirs), sorted(theirs - ours):
        case [mine], [other] if mine and other:
            return mine, other
    return None


def _name(thing: _Thing) -> bytes:
    """The part of a window's identity that names its step, as it is written; b"": it has none."""
    identity = thing[1]
    return b"" if isinstance(identity, int) else identity.partition(b",")[0]


def _with_name(thing: _Thing, name: bytes, other: bytes) -> _Thing:
    key, identity = thing
    if isinstance(identity, int) or _name(thing) != name:
        return thing
    return key, other + identity.removeprefix(name)


def _text(name: bytes) -> str:
    return name.decode().strip('["')


def _window(thing: _Thing) -> _Thing:
    """The thing without the number of events that a window's identity ends with."""
    key, identity = thing
    if isinstance(identity, int):
        return thing
    return key, identity.rpartition(b",")[0] or identity


def _by_thing(records: Iterable[Record[bytes | None]], identity_header: str) -> _Sides:
    """Records by what they are about. Plain tuples, as there may be millions of them."""
    found: _Sides = {}
    for record in records:
        identity: bytes | int = record.timestamp
        for name, value in record.headers:
            if name == identity_header and value is not None:
                identity = value
        thing = (record.key, identity)
        known = found.get(thing)
        if known is None:
            found[thing] = [record]
        elif isinstance(identity, int) or all(record.value != other.value for other in known):
            known.append(record)
    return found


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
