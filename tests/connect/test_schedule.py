from datetime import UTC, datetime

import pytest

from streamkit.connect.schedule import Cron, Every
from streamkit.errors import ConfigError


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def test_every_counts_from_the_last_time() -> None:
    assert Every(500).next_after(1000) == 1500


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("*/15 * * * *", "2026-01-01T10:01:00", "2026-01-01T10:15:00"),
        ("0 3 * * *", "2026-01-01T03:00:00", "2026-01-02T03:00:00"),
        ("30 2 * * *", "2026-03-28T12:00:00", "2026-03-29T02:30:00"),  # a gap in European time
    ],
)
def test_cron_times_are_utc(expression: str, after: str, expected: str) -> None:
    assert Cron(expression).next_after(ms(after)) == ms(expected)


def test_a_wrong_expression_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="expected a cron expression"):
        Cron("every day")
