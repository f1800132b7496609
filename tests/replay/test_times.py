import pytest

from streamkit.errors import ConfigError
from streamkit.replay.times import parse_time

NOW = 1_700_000_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("earliest", "earliest"),
        ("Latest", "latest"),
        ("now", NOW),
        ("1700000000123", 1_700_000_000_123),
        ("-7d", NOW - 7 * 86_400_000),
        ("-1h30m", NOW - 5_400_000),
        ("-1.5s", NOW - 1500),
        ("-250ms", NOW - 250),
        ("2013-01-01", 1_356_998_400_000),
        ("2013-01-01T12:00", 1_357_041_600_000),
        ("2013-01-01T12:00:00.5Z", 1_357_041_600_500),
        ("2013-01-01T12:00+02:00", 1_357_034_400_000),
    ],
)
def test_a_point_in_time_is_read(text, expected):
    assert parse_time(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "-7", "-d", "2013-13-01"])
def test_what_is_no_time_is_an_error_that_names_the_option_and_the_ways_to_write_one(text):
    with pytest.raises(ConfigError, match=r"--from: .*2026-01-31.*earliest"):
        parse_time(text, NOW, key="--from")


def test_a_forgotten_minus_is_named():
    with pytest.raises(ConfigError, match=r"--from: '7d': for so long ago write -7d"):
        parse_time("7d", NOW, key="--from")
