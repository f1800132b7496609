"""When a flight left: what the pages here about departures have in common."""

from datetime import datetime, timedelta

from msgspec import Struct

OUT_OF_ORDER = "25h"
"""Rows stand under the day a flight was scheduled for, by the hour at which it left: one that left
after midnight comes a day too early."""


class Departure(Struct, frozen=True):
    time_hour: datetime  # the hour it was scheduled to leave, UTC
    minute: int  # of that hour
    dep_delay: int | None  # minutes; None: it never left


def left(flight: Departure) -> datetime:
    return flight.time_hour + timedelta(minutes=flight.minute + (flight.dep_delay or 0))
