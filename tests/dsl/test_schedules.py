"""When schedules come: on the clock, and in zones where clocks are put forward and back."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.dsl.schedules import Cron, Schedule, Steady, zone_of
from streamkit.errors import ConfigError

BERLIN = ZoneInfo("Europe/Berlin")


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def some(schedule: Schedule, after: str, count: int) -> list[str]:
    last, found = ms(after), []
    for _ in range(count):
        last = schedule.next_after(last)
        found.append(datetime.fromtimestamp(last / 1000, UTC).strftime("%d %H:%M:%S"))
    return found


def test_a_steady_one_is_at_multiples_of_its_interval() -> None:
    quarter = Steady(15 * 60_000)
    assert some(quarter, "2026-01-01T10:01:00+00:00", 2) == ["01 10:15:00", "01 10:30:00"]
    assert quarter.next_after(ms("2026-01-01T10:15:00+00:00")) == ms("2026-01-01T10:30:00+00:00")
    assert quarter.latest(ms("2026-01-01T10:15:00+00:00")) == ms("2026-01-01T10:15:00+00:00")


def test_a_time_that_does_not_exist_is_when_clocks_are_put_forward() -> None:
    at_half_past_two = Cron("30 2 * * *", BERLIN)
    assert some(at_half_past_two, "2026-03-28T00:00:00+01:00", 3) == [
        "28 01:30:00",
        "29 01:00:00",  # three in Berlin
        "30 00:30:00",
    ]


def test_a_time_that_there_is_twice_comes_twice() -> None:
    assert some(Cron("30 2 * * *", BERLIN), "2026-10-24T12:00:00+02:00", 3) == [
        "25 00:30:00",
        "25 01:30:00",
        "26 01:30:00",
    ]
    assert some(Cron("0 * * * *", BERLIN), "2026-10-25T01:00:00+02:00", 3) == [
        "25 00:00:00",
        "25 01:00:00",
        "25 02:00:00",
    ]


schedules = st.one_of(
    st.builds(Steady, st.sampled_from([1, 7, 1000, 90_000, 86_400_000])),
    st.builds(
        Cron,
        st.sampled_from(["* * * * *", "*/7 1-3 * * *", "30 2 * * *", "@monthly", "0 0 29 2 *"]),
        st.sampled_from([UTC, BERLIN, zone_of("America/New_York"), timezone(timedelta(hours=5))]),
    ),
)


@given(schedules, st.integers(ms("2026-01-01T00:00:00+00:00"), ms("2027-01-01T00:00:00+00:00")))
def test_the_next_and_the_latest_agree(schedule: Schedule, now: int) -> None:
    latest, after = schedule.latest(now), schedule.next_after(now)
    assert latest <= now < after
    assert schedule.next_after(latest - 1) == latest
    assert schedule.next_after(latest) == after
    assert schedule.latest(after - 1) == latest


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Cron("every day"), "expected a cron expression"),
        (lambda: Cron("R * * * *"), "expected a cron expression"),
        (lambda: Cron("0 0 8 * * 1-5"), "expected a cron expression of five fields"),
        (lambda: Cron("0 8 * * 1-5 0 2026"), "expected a cron expression of five fields"),
        (lambda: Cron("0 0 31 2 *"), "there is no such day"),
        (lambda: Steady(0), "every 0s"),
        (lambda: zone_of("Europe/Berln"), "no such time zone"),
        (lambda: zone_of("../etc"), "no such time zone"),
    ],
)
def test_what_is_no_schedule_is_a_config_error(make: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()  # type: ignore[operator]
