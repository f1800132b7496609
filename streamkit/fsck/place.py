"""The partition that is looked at, and what there is to say about it so far."""

from dataclasses import dataclass, field

from streamkit.fsck.finding import Finding, Lost, Severity
from streamkit.log.config import TopicConfig
from streamkit.log.segment import file_name
from streamkit.records import TopicPartition

REBUILD = "make it anew from the batches"


@dataclass(frozen=True, slots=True)
class Place:
    """Which partition is where, and what is known of it. `topic_id` "": nothing is."""

    tp: TopicPartition
    directory: str
    topic_id: str
    config: TopicConfig


@dataclass(frozen=True, slots=True)
class Hole:
    """Offsets that have no batch and should, and the bytes that stand where it was, if any.

    `base` is the segment's. A hole at the end of a segment reaches to where the next one begins.
    """

    base: int
    position: int
    size: int
    first: int
    last: int
    problem: str

    @property
    def lost(self) -> Lost | None:
        return Lost(self.first, self.last) if self.last >= self.first else None


@dataclass(slots=True)
class Findings:
    """What was found in one partition, in order."""

    place: Place
    items: list[Finding] = field(default_factory=list)

    def add(
        self,
        severity: Severity,
        kind: str,
        name: str,
        problem: str,
        repair: str = "",
        *,
        position: int | None = None,
        offset: int | None = None,
        lost: Lost | None = None,
    ) -> None:
        """`name` is that of a file in the partition's directory."""
        file = f"{self.place.tp}/{name}"
        self.items.append(
            Finding(severity, kind, file, problem, self.place.tp, position, offset, repair, lost)
        )

    def hole(self, hole: Hole, suffix: str, *, below_start: bool) -> None:
        """Damage that nobody can read any more, because it was deleted, is worth a note only."""
        self.add(
            "note" if below_start else "error",
            "damage" if hole.size else "gap",
            file_name(hole.base, suffix),
            hole.problem,
            "put the bytes aside, so that readers pass over them"
            if hole.size
            else "close the gap, so that readers pass over it",
            position=hole.position,
            offset=hole.first,
            lost=None if below_start else hole.lost,
        )
