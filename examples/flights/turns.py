"""How soon an aircraft leaves New York again: each departure with its next one.

streamkit run examples/flights/turns.py
"""

from datetime import datetime, timedelta

from msgspec import Struct

from streamkit import App


class Flight(Struct, frozen=True):
    tailnum: str | None  # None only where it never left
    origin: str
    dest: str
    time_hour: datetime  # the hour it was scheduled to leave, UTC
    minute: int  # of that hour
    dep_delay: int | None  # minutes; None: it never left


class Turn(Struct, frozen=True):
    aircraft: str | None
    left: datetime
    origin: str
    dest: str
    again: datetime
    again_from: str
    minutes: int


def left(flight: Flight) -> datetime:
    return flight.time_hour + timedelta(minutes=flight.minute + (flight.dep_delay or 0))


app = App("flights-turns")

# Rows stand under the day a flight was scheduled for, by the hour at which it left: one that left
# after midnight comes a day too early.
flights = app.stream("flights", Flight, time=left, out_of_order="25h")


@flights.filter
def departed(flight: Flight) -> bool:
    return flight.dep_delay is not None


# The next one is the first that is later: joined with itself, not counting the flight itself.
@departed.join_as_of(
    departed,
    on="tailnum",
    tolerance="24h",
    direction="forward",
    allow_exact_matches=False,
    to="turns",
)
def turns(flight: Flight, following: Flight) -> Turn:
    return Turn(
        aircraft=flight.tailnum,
        left=left(flight),
        origin=flight.origin,
        dest=flight.dest,
        again=left(following),
        again_from=following.origin,
        minutes=(left(following) - left(flight)) // timedelta(minutes=1),
    )


if __name__ == "__main__":
    app.run()
