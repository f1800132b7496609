"""When a source reads next: every so often, or by a cron expression in UTC."""

from dataclasses import dataclass
from datetime import UTC, datetime

from streamkit.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Every:
    """`milliseconds` after the last time."""

    milliseconds: int

    def next_after(self, last: int) -> int:
        return last + self.milliseconds


@dataclass(frozen=True, slots=True)
class Cron:
    """At the times of a cron expression (five fields, UTC: no hour is missing or comes twice)."""

    expression: str

    def __post_init__(self) -> None:
        # croniter is imported here: it is slow to import, and most workers have no schedule.
        from croniter import croniter

        if not croniter.is_valid(self.expression):
            raise ConfigError(
                f"schedule = {self.expression!r}: expected a cron expression, as '*/5 * * * *'"
            )

    def next_after(self, last: int) -> int:
        """The first time after `last`; both in milliseconds since 1970-01-01 UTC."""
        from croniter import croniter

        start = datetime.fromtimestamp(last / 1000, UTC)
        return int(croniter(self.expression, start).get_next(datetime).timestamp() * 1000)
