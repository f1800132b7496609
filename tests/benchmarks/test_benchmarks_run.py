"""The benchmarks run, and what they compare is the same work. No time is asserted."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

ROOT = Path(__file__).parents[2]
NAMES = [
    "codec",
    "produce",
    "consume",
    "durable",
    "processes",
    "large",
    "compaction",
    "state",
    "memory",
    "engine",
    "workers",
    "paced",
    "startup",
]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    import benchmarks.measure

    return benchmarks.measure


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.chdir(ROOT)
    import benchmarks.engine

    return benchmarks.engine


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_of_tiny_size_gives_rows_with_figures(name: str) -> None:
    done = run(f"benchmarks.{name}", "--json", "--scale", "0.002")
    assert done.returncode == 0, done.stderr
    rows = msgspec.json.decode(done.stdout)
    assert rows
    for row in rows:
        assert row["path"] and row["beside"]
        assert row["theirs"] is not None or row["note"], f"{row['path']}: nothing beside it, no why"
    assert any(row["ours"] and row["theirs"] for row in rows)


def test_all_in_one_gathers_the_rows_of_the_benchmarks_asked_for() -> None:
    done = run("benchmarks", "codec", "large", "--scale", "0.002")
    assert done.returncode == 0, done.stderr
    assert "encode lists" in done.stdout
    assert "open a log" in done.stdout


def test_all_in_one_names_what_there_is_when_asked_for_something_else() -> None:
    done = run("benchmarks", "egnine")
    assert done.returncode == 2
    assert ", ".join(NAMES) in done.stderr


def test_an_engine_that_is_not_installed_gets_a_row_that_says_how(engine: ModuleType) -> None:
    missing = engine.Engine("nowhere", "Nowhere", "no_such_module")
    rows = engine.compare(engine.PATHS[0], scale=0.002, beside=[missing])
    assert [(row.beside, row.theirs) for row in rows] == [("Nowhere", None)]
    assert "pip install -e '.[bench]'" in rows[0].note


def test_an_engine_that_puts_out_something_else_is_refused(
    engine: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    due = engine.expected("filter-map", 1_000)
    monkeypatch.setattr(engine, "expected", lambda *_: engine.Summary(due.outputs, due.total + 1))
    with pytest.raises(SystemExit, match="worth nothing"):
        engine.one_round(engine.OURS, engine.PATHS[0], scale=0.002)


def test_the_ratio_says_how_many_times_better_whatever_the_unit(measure: ModuleType) -> None:
    faster = measure.Row(path="p", ours=30.0, beside="b", theirs=10.0, goal=2.5)
    sooner = measure.Row(path="p", ours=10.0, beside="b", theirs=30.0, unit="ms", goal=3.5)
    alone = measure.Row(path="p", ours=10.0, beside="b", theirs=None, goal=1.0)
    assert (faster.ratio, faster.met) == (3.0, True)
    assert (sooner.ratio, sooner.met) == (3.0, False)
    assert (alone.ratio, alone.met) == (None, None)


def test_rounds_are_interleaved_and_their_median_counts(measure: ModuleType) -> None:
    order: list[str] = []

    def candidate(name: str, figures: Sequence[float]) -> object:
        left = iter(figures)

        def run_once() -> float:
            order.append(name)
            return next(left)

        return run_once

    runs = {"a": candidate("a", [5.0, 1.0, 2.0]), "b": candidate("b", [9.0, 9.0, 7.0])}
    assert measure.medians(runs, 3) == {"a": 2.0, "b": 9.0}
    assert order == ["a", "b"] * 3
