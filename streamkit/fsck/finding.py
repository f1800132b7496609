"""What a check has to say: how bad, where, what, and what a repair would do about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from streamkit.records import TopicPartition

Severity: TypeAlias = Literal["error", "warning", "note"]
"""error: records are damaged, missing, or shown wrongly, or appends are refused. warning: a file
says what is not so, and can be made anew from the others. note: what is found after a kill or a
repair and does no harm; it is no reason to repair."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Offsets that cannot be read, first and last. Not each of them need have had a record."""

    first: int
    last: int

    @property
    def count(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be.

    `kind` is a word for programs. `file` is relative to the log, `position` a byte in it. `repair`
    says what `--repair` would do, "" when it would do nothing.
    """

    severity: Severity
    kind: str
    file: str
    problem: str
    tp: TopicPartition | None = None
    position: int | None = None
    offset: int | None = None
    repair: str = ""
    lost: Lost | None = None

    @property
    def where(self) -> str:
        """`file:byte`, and the offset if there is one."""
        place = self.file if self.position is None else f"{self.file}:{self.position}"
        at = f"{self.tp}@{self.offset}" if self.tp is not None and self.offset is not None else ""
        return f"{place} ({at})" if at else place

    def as_json(self) -> Mapping[str, Any]:
        return {
            "severity": self.severity,
            "kind": self.kind,
            "file": self.file,
            "position": self.position,
            "topic": self.tp.topic if self.tp is not None else None,
            "partition": self.tp.partition if self.tp is not None else None,
            "offset": self.offset,
            "problem": self.problem,
            "repair": self.repair or None,
            "lost": None
            if self.lost is None
            else {"first": self.lost.first, "last": self.lost.last, "offsets": self.lost.count},
        }
