"""What a task has done, in numbers."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Stats:
    """What a task has done since it was made."""

    processed: int = 0
    """Records of inputs, markers included."""
    late: dict[str, int] = field(default_factory=dict)
    """Late events per window store. They are in its late topic."""
    ahead: dict[str, int] = field(default_factory=dict)
    """Events per input that were too far ahead of the clock. They are in its ahead topic."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Events per step that it failed for and went on without, with on_error="skip"."""
    dead: dict[str, int] = field(default_factory=dict)
    """Events per step that were set aside. They are in its dead letter topic."""

    @property
    def failed(self) -> int:
        """Events that steps have failed for and gone on, those included that followed them."""
        return sum(self.skipped.values()) + sum(self.dead.values())

    def add(self, other: "Stats") -> None:
        """Count what another has as well."""
        self.processed += other.processed
        for mine, others in (
            (self.late, other.late),
            (self.ahead, other.ahead),
            (self.skipped, other.skipped),
            (self.dead, other.dead),
        ):
            for name, count in others.items():
                mine[name] = mine.get(name, 0) + count
