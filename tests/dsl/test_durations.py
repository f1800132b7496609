"""Durations and windows of time."""

from datetime import timedelta
from typing import Any

import pytest

from streamkit.dsl.durations import milliseconds
from streamkit.dsl.windows import Window, hopping, tumbling
from streamkit.errors import ConfigError


@pytest.mark.parametrize(
    ("written", "ms"),
    [
        ("500ms", 500),
        ("30s", 30_000),
        ("5m", 300_000),
        ("1h", 3_600_000),
        ("2d", 172_800_000),
        ("1h30m", 5_400_000),
        ("1.5s", 1500),
        ("0s", 0),
        (timedelta(minutes=2), 120_000),
    ],
)
def test_durations_are_read_as_people_write_them(written: Any, ms: int) -> None:
    assert milliseconds(written) == ms


@pytest.mark.parametrize(
    "written", ["", "5", "5 min", "-1s", "m", 30, None, "0.5ms", timedelta(-1)]
)
def test_what_is_no_duration_is_named_with_the_setting(written: Any) -> None:
    with pytest.raises(ConfigError, match="grace: "):
        milliseconds(written, "grace")


def test_a_window_holds_its_start_and_not_its_end() -> None:
    five = tumbling("5m", grace="0s")
    assert list(five.starts(299_999)) == [0]
    assert list(five.starts(300_000)) == [300_000]
    assert Window(0, 300_000).end_time.isoformat() == "1970-01-01T00:05:00+00:00"


def test_a_window_without_length_is_refused() -> None:
    with pytest.raises(ConfigError, match="size"):
        tumbling("0s", grace="1s")


def test_a_hopping_window_begins_every_so_often_and_before_1970_too() -> None:
    assert list(hopping("10ms", "5ms").starts(0)) == [-5, 0]
    assert list(hopping("10ms", "3ms").starts(10)) == [3, 6, 9]
    for size in range(1, 12):
        for every in range(1, size + 1):
            window = hopping(f"{size}ms", f"{every}ms")
            for time in range(40):
                starts = [s for s in range(-20, 60) if s % every == 0 and s <= time < s + size]
                assert list(window.starts(time)) == starts
    with pytest.raises(ConfigError, match="between two windows"):
        hopping("5m", "6m")
