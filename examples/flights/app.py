"""Flights out of New York: who is late, hour by hour, and which delays deserve an alert.

streamkit run examples/flights/app.py
"""

import os
from datetime import datetime

from msgspec import Struct

from streamkit import App, Window, tumbling

ALERT_MINUTES = int(os.environ.get("ALERT_MINUTES", "120"))


class Flight(Struct, frozen=True):
    carrier: str
    flight: int
    origin: str
    dest: str
    tailnum: str | None
    time_hour: datetime  # the hour it was scheduled to leave, UTC
    dep_delay: int | None  # minutes; None: it never left


class Airline(Struct, frozen=True):
    name: str


class Plane(Struct, frozen=True):
    manufacturer: str | None
    model: str | None
    year: int | None


class Departure(Struct, frozen=True):
    carrier: str
    flight: int
    origin: str
    dest: str
    tailnum: str | None
    scheduled: datetime
    delay: int
    airline: str | None
    plane: str | None = None


class Alert(Struct, frozen=True):
    id: str
    scheduled: datetime
    airline: str | None
    plane: str | None
    origin: str
    dest: str
    delay: int


class Hourly(Struct, frozen=True):
    origin: str
    hour: datetime
    departures: int
    total_delay: int
    mean_delay: float
    max_delay: int


app = App("flights")

# Rows of a day arrive in order of departure, not of schedule: almost a day out of order.
flights = app.stream("flights", Flight, time="time_hour", out_of_order="1d")
airlines = app.global_table("airlines", Airline)
planes = app.table("planes", Plane)


@flights.filter
def departed(flight: Flight) -> bool:
    return flight.dep_delay is not None


@departed.join(airlines, on="carrier", how="left")
def with_airline(flight: Flight, airline: Airline | None) -> Departure:
    return Departure(
        carrier=flight.carrier,
        flight=flight.flight,
        origin=flight.origin,
        dest=flight.dest,
        tailnum=flight.tailnum,
        scheduled=flight.time_hour,
        delay=flight.dep_delay or 0,
        airline=airline.name if airline else None,
    )


@with_airline.join(planes, on="tailnum", how="left")
def departures(departure: Departure, plane: Plane | None) -> Departure:
    if plane is None:
        return departure
    return Departure(
        **{name: getattr(departure, name) for name in departure.__struct_fields__[:-1]},
        plane=f"{plane.manufacturer} {plane.model}",
    )


@departures.process(to="alerts", key="id")
def alert(departure: Departure) -> Alert | None:
    if departure.delay <= ALERT_MINUTES:
        return None
    return Alert(
        id=f"{departure.scheduled:%Y-%m-%dT%H}/{departure.origin}"
        f"/{departure.carrier}{departure.flight}",
        scheduled=departure.scheduled,
        airline=departure.airline,
        plane=departure.plane,
        origin=departure.origin,
        dest=departure.dest,
        delay=departure.delay,
    )


by_hour = departures.by("origin").window(tumbling("1h", grace="0s"))


@by_hour.aggregate(to="hourly", emit="update")
def hourly(sofar: Hourly | None, departure: Departure, window: Window) -> Hourly:
    count = sofar.departures + 1 if sofar else 1
    total = (sofar.total_delay if sofar else 0) + departure.delay
    return Hourly(
        origin=departure.origin,
        hour=window.start_time,
        departures=count,
        total_delay=total,
        mean_delay=total / count,
        max_delay=max(sofar.max_delay, departure.delay) if sofar else departure.delay,
    )


if __name__ == "__main__":
    app.run()
