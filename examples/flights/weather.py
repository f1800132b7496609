"""What the weather was where an arriving flight had left: the last report as of its departure.

streamkit run examples/flights/weather.py
"""

from datetime import datetime

from leaving import OUT_OF_ORDER, Departure, left
from msgspec import Struct

from streamkit import App


class Flight(Departure, frozen=True):
    carrier: str
    flight: int
    origin: str
    dest: str
    arr_delay: int | None  # minutes; None: it did not arrive where it should have


class Report(Struct, frozen=True):
    origin: str
    time_hour: datetime
    wind_speed: float | None  # miles per hour
    visib: float | None  # miles


class Arrival(Struct, frozen=True):
    flight: str
    origin: str
    dest: str
    left: datetime
    delay: int
    reported: datetime | None  # None: there was no report in the hour before
    wind_speed: float | None
    visib: float | None


app = App("flights-weather")

flights = app.stream("flights", Flight, time=left, out_of_order=OUT_OF_ORDER)
reports = app.stream("weather", Report, time="time_hour")


@flights.filter
def arrived(flight: Flight) -> bool:
    return flight.arr_delay is not None


@arrived.join_as_of(reports, on="origin", tolerance="1h", how="left", to="arrivals")
def arrivals(flight: Flight, report: Report | None) -> Arrival:
    return Arrival(
        flight=f"{flight.carrier}{flight.flight}",
        origin=flight.origin,
        dest=flight.dest,
        left=left(flight),
        delay=flight.arr_delay or 0,
        reported=report.time_hour if report else None,
        wind_speed=report.wind_speed if report else None,
        visib=report.visib if report else None,
    )


if __name__ == "__main__":
    app.run()
