"""When a source reads next: every so often, or by a cron expression in UTC."""

from dataclasses import dataclass

from streamkit.dsl.schedules import Cron as Cron


@dataclass(frozen=True, slots=True)
class Every:
    """`milliseconds` after the last time."""

    milliseconds: int

    def next_after(self, last: int) -> int:
        """When the next time is, in ms; `last` is when it was."""
        return last + self.milliseconds
