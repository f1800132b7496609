"""The flights example gives exactly what DuckDB says of the same CSV files."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "examples" / "flights" / "demo.py"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]


QUESTIONS = {
    "hourly": "SELECT origin, strftime(time_hour, '%Y-%m-%dT%H'), count(*), avg(dep_delay),"
    " max(dep_delay) FROM flights WHERE dep_time IS NOT NULL GROUP BY ALL ORDER BY 1, 2",
    "alerts": "SELECT strftime(time_hour, '%Y-%m-%dT%H') || '/' || origin || '/' || carrier"
    " || flight, name, manufacturer || ' ' || model, dep_delay"
    " FROM flights LEFT JOIN airlines USING (carrier) LEFT JOIN planes USING (tailnum)"
    " WHERE dep_delay > 120 ORDER BY 1",
    "more": "SELECT count(*) FROM flights WHERE dep_delay > 60 AND dep_delay <= 120"
    " AND time_hour >= '2013-01-01' AND time_hour < '2013-02-01'",
}

Rows = list[tuple[object, ...]]
Ask = Callable[[dict[str, str]], dict[str, Rows]]


@pytest.fixture(scope="module")
def answers(duckdb_says: Ask) -> dict[str, Rows]:
    return duckdb_says(QUESTIONS)


def demo(home: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(DEMO)],
        env=os.environ | {"FLIGHTS_DATA": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def hourly_rows(home: Path) -> Rows:
    with sqlite3.connect(home / "results.db") as db:
        return db.execute(
            "SELECT origin, substr(hour, 1, 13), departures, mean_delay, max_delay FROM hourly"
            " ORDER BY 1, 2"
        ).fetchall()


def alert_rows(home: Path) -> Rows:
    rows = []
    for file in (home / "alerts").glob("*.jsonl"):
        for line in file.read_text().splitlines():
            alert = json.loads(line)
            rows.append((alert["id"], alert["airline"], alert["plane"], alert["delay"]))
    return sorted(rows)


def check(home: Path, answers: dict[str, Rows]) -> None:
    assert len(answers["hourly"]) == 19_434
    assert hourly_rows(home) == answers["hourly"]
    assert len(answers["alerts"]) == 9_723
    assert alert_rows(home) == answers["alerts"]


def test_every_hour_and_every_alert_equal_duckdbs(tmp_path: Path, answers: dict[str, Rows]) -> None:
    process = demo(tmp_path)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    check(tmp_path, answers)

    ((more,),) = answers["more"]
    assert f"{more:,} more alerts, 0 fewer, 0 changed" in output
    assert "Try next" in output


def test_stopped_at_any_moment_it_goes_on_and_gives_the_same(
    tmp_path: Path, answers: dict[str, Rows]
) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    dice = random.Random(seed)
    for _ in range(2):
        process = demo(tmp_path)
        time.sleep(dice.uniform(0.5, 6))
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate()
        # By the signal itself: on a busy machine Python may still have been starting.
        assert process.returncode in (130, 0, -signal.SIGINT), output
    process = demo(tmp_path)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    check(tmp_path, answers)
