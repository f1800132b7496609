"""How soon an aircraft leaves New York again: each departure with its next one.

streamkit run examples/flights/turns.py
"""

from datetime import datetime, timedelta

from leaving import OUT_OF_ORDER, Departure, left
from msgspec import Struct

from streamkit import App


class Flight(Departure, frozen=True):
    tailnum: str | None  # None only where it never left
    origin: str
    dest: str


class Turn(Struct, frozen=True):
    aircraft: str | None
    left: datetime
    origin: str
    dest: str
    again: datetime
    again_from: str
    minutes: int


app = App("flights-turns")

flights = app.stream("flights", Flight, time=left, out_of_order=OUT_OF_ORDER)


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
