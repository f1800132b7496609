"""Each page about the flights gives exactly what DuckDB says of the same CSV files."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from shutil import copytree
from types import ModuleType

import msgspec
import pytest

from streamkit import Admin, Consumer, Producer, UnknownTopic

FLIGHTS = Path(__file__).parents[2] / "examples" / "flights"
STREAMKIT = [sys.executable, "-m", "streamkit"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

Rows = list[tuple[object, ...]]
Ask = Callable[[dict[str, str]], dict[str, Rows]]

# Page → the topic it writes to.
PAGES = {"weather": "arrivals", "days": "flying-days", "turns": "turns"}

DEPARTED = (
    "WITH departed AS (SELECT *, time_hour + to_minutes((minute + dep_delay)::INTEGER) AS left_at"
    " FROM flights WHERE dep_delay IS NOT NULL AND {chosen}) "
)
TIME = "strftime({}, '%Y-%m-%dT%H:%M:%SZ')".format
QUESTIONS = {
    "weather": DEPARTED + ", met AS ("
    " SELECT departed.*, weather.time_hour AS reported, wind_speed, visib,"
    " left_at <= weather.time_hour + INTERVAL 1 HOUR AS near"
    " FROM departed ASOF LEFT JOIN weather"
    " ON departed.origin = weather.origin AND left_at >= weather.time_hour)"
    f"SELECT carrier || flight, origin, dest, {TIME('left_at')}, arr_delay,"
    f" CASE WHEN near THEN {TIME('reported')} END, CASE WHEN near THEN wind_speed END,"
    " CASE WHEN near THEN visib END FROM met WHERE arr_delay IS NOT NULL",
    "days": DEPARTED + ", marked AS ("
    " SELECT *, coalesce(left_at >= lag(left_at) OVER before + INTERVAL 8 HOUR, false) AS begins"
    " FROM departed WINDOW before AS (PARTITION BY tailnum ORDER BY left_at)),"
    " numbered AS ("
    " SELECT *, count_if(begins) OVER (PARTITION BY tailnum ORDER BY left_at) AS number"
    " FROM marked)"
    f"SELECT tailnum, {TIME('min(left_at)')}, count(*),"
    " coalesce(sum(air_time), 0)::BIGINT, sum(distance)::BIGINT,"
    " arg_min(origin, left_at), arg_max(dest, left_at) FROM numbered GROUP BY tailnum, number",
    "turns": DEPARTED
    + f"SELECT one.tailnum, {TIME('one.left_at')}, one.origin, one.dest, {TIME('next.left_at')},"
    " next.origin, date_diff('minute', one.left_at, next.left_at)"
    " FROM departed one ASOF JOIN departed next"
    " ON one.tailnum = next.tailnum AND one.left_at < next.left_at"
    " WHERE next.left_at <= one.left_at + INTERVAL 24 HOUR",
}
JANUARY = "month = 1"


def answers(duckdb_says: Ask, chosen: str) -> dict[str, Counter[tuple[object, ...]]]:
    asked = {name: question.format(chosen=chosen) for name, question in QUESTIONS.items()}
    return {name: Counter(rows) for name, rows in duckdb_says(asked).items()}


def load(page: str) -> ModuleType:
    spec = spec_from_file_location(f"flights_{page}", FLIGHTS / f"{page}.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The log as the demo's connectors fill it, and one more flight and report of each partition, some
# days later: what is open at the end of the data closes.

LATER = {
    "flights": {
        "carrier": "XX",
        "flight": 1,
        "tailnum": "none",
        "origin": "EWR",
        "dest": "XXX",
        "time_hour": "2014-02-01T00:00:00Z",
        "minute": 0,
        "dep_delay": 0,
        "arr_delay": 0,
        "air_time": 0,
        "distance": 0,
    },
    "weather": {
        "origin": "XXX",
        "time_hour": "2014-02-01T00:00:00Z",
        "wind_speed": None,
        "visib": None,
    },
}


def import_flights(home: Path, months: int) -> Path:
    """A log with the flights of that many months, and all the weather."""
    data = load("data")
    data.make_database(home / "flights.db")
    dropped = data.drop_flights(home / "drop")
    expected = {"weather": 26_115, "flights": sum(next(dropped)[1] for _ in range(months))}
    log = home / "log"
    worker = subprocess.Popen(
        [*STREAMKIT, "connect", str(FLIGHTS / "worker.toml")],
        env=os.environ | {"FLIGHTS_DATA": str(home), "STREAMKIT_LOG": str(log)},
    )
    try:
        with Admin(str(log)) as admin:
            while any(records(admin, topic) < count for topic, count in expected.items()):
                assert worker.poll() is None
                time.sleep(0.05)
    finally:
        worker.terminate()
        worker.wait()
    with Producer(str(log)) as producer:
        for topic, value in LATER.items():
            for partition in range(4):
                producer.send(topic, value, key="later", partition=partition)
    return log


def records(admin: Admin, topic: str) -> int:
    try:
        return sum(found.end - found.start for found in admin.offsets(topic).values())
    except UnknownTopic:
        return 0


def results(page: str, log: Path) -> Counter[tuple[object, ...]]:
    with Consumer(str(log), PAGES[page], value_type=dict) as consumer:
        return Counter(tuple(record.value.values()) for record in consumer.until_end())


def start(page: str, log: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*STREAMKIT, "--log", str(log), "run", str(FLIGHTS / f"{page}.py"), "--until-end"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_what_the_pages_say_of_the_year_is_what_duckdb_says(
    tmp_path: Path, duckdb_says: Ask
) -> None:
    expected = answers(duckdb_says, "true")
    assert {page: sum(rows.values()) for page, rows in expected.items()} == {
        "weather": 327_346,
        "days": 270_471,
        "turns": 156_663,
    }
    log = import_flights(tmp_path, 12)
    running = {page: start(page, log) for page in PAGES}
    for page, process in running.items():
        output, _ = process.communicate()
        assert process.returncode == 0, output
        assert " 0 events late" in output
        assert results(page, log) == expected[page]


@pytest.fixture(scope="module")
def january(
    tmp_path_factory: pytest.TempPathFactory, duckdb_says: Ask
) -> tuple[Path, dict[str, Counter[tuple[object, ...]]]]:
    """The log of a month, and what DuckDB says of it."""
    home = tmp_path_factory.mktemp("january")
    return import_flights(home, 1), answers(duckdb_says, JANUARY)


@pytest.mark.parametrize("page", PAGES)
def test_killed_and_stopped_at_any_moment_a_page_goes_on_and_says_the_same(
    page: str, tmp_path: Path, january: tuple[Path, dict[str, Counter[tuple[object, ...]]]]
) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    dice = random.Random(seed)
    log = copytree(january[0], tmp_path / "log")
    for _ in range(5):
        process = start(page, log)
        time.sleep(dice.uniform(0.3, 2))
        process.send_signal(dice.choice((signal.SIGINT, signal.SIGKILL, signal.SIGKILL)))
        output, _ = process.communicate()
        # By the signal itself: it was killed, or Python was still starting.
        assert process.returncode in (130, 0, -signal.SIGINT, -signal.SIGKILL), output
    process = start(page, log)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert results(page, log) == january[1][page]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_that_crashes_in_a_test_says_the_same(
    page: str, csv_files: dict[str, Path], duckdb_says: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = answers(duckdb_says, "month = 1 AND day <= 7")[page]
    monkeypatch.syspath_prepend(FLIGHTS)
    module = load(page)
    seed = random.randrange(1 << 32)
    print("seed", seed)
    dice = random.Random(seed)
    with module.app.test(partitions=3, members=2) as t:
        t.shuffle(seed)
        for row in january_until(7, csv_files["flights"]):
            flight = msgspec.convert(row, module.Flight, strict=False)
            t.send("flights", flight, key=f"{row['carrier']}{row['flight']}")
        if page == "weather":
            # As it came: hour by hour, not airport by airport.
            reports = january_until(8, csv_files["weather"])
            for row in sorted(reports, key=lambda row: str(row["time_hour"])):
                report = msgspec.convert(row, module.Report, strict=False)
                t.send("weather", report, key=report.origin)
        while t.step():
            if dice.random() < 0.3:
                t.commit()
            if dice.random() < 0.2:
                t.crash(dice.randrange(2))
        t.run()
        t.finish(1_360_000_000_000)
        found = [tuple(msgspec.to_builtins(value).values()) for value in t.values(PAGES[page])]
    assert Counter(found) == expected


def january_until(day: int, file: Path) -> list[dict[str, str | None]]:
    """The rows of its first days."""
    with open(file, newline="") as lines:
        return [
            {name: None if value == "NA" else value for name, value in row.items()}
            for row in csv.DictReader(lines)
            if row["month"] == "1" and int(row["day"]) <= day
        ]
