"""The flying days of each aircraft: its flights out of New York with less than 8 h between two.

streamkit run examples/flights/days.py
"""

from datetime import datetime

from leaving import OUT_OF_ORDER, Departure, left
from msgspec import Struct

from streamkit import App, count, first, last, session, sum_


class Flight(Departure, frozen=True):
    tailnum: str | None  # None only where it never left
    origin: str
    dest: str
    air_time: int | None  # minutes; None: it was diverted, or nobody knows
    distance: int  # miles


class Day(Struct, frozen=True):
    aircraft: str | None
    begins: datetime
    flights: int
    minutes: int
    miles: int
    first: str
    last: str


app = App("flights-days")

flights = app.stream("flights", Flight, time=left, out_of_order=OUT_OF_ORDER)


@flights.filter
def departed(flight: Flight) -> bool:
    return flight.dep_delay is not None


departed.by("tailnum").window(session("8h")).aggregates(
    Day,
    aircraft=first("tailnum"),
    begins=first(left),
    flights=count(),
    minutes=sum_("air_time"),
    miles=sum_("distance"),
    first=first("origin"),
    last=last("dest"),
    to="flying-days",
    name="flying-days",
)


if __name__ == "__main__":
    app.run()
