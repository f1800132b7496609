"""How long it takes until anything can start: the import, and opening a large log."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec

from benchmarks.measure import Row, main, medians

LIMIT = 100.0
"""ms; for the import and for opening the log alike."""

PARTITIONS = 1_000
ROUNDS = 11

NOT_INSTALLED = "not installed: pip install -e '.[bench]'"


def interpreter(code: str) -> float:
    """Milliseconds that a fresh interpreter takes to run `code`."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.DEVNULL)
    return (time.perf_counter() - began) * 1e3


def imports(rounds: int) -> list[Row]:
    """The interpreter's own start is taken off, as it is nobody's."""
    runs: dict[str, Callable[[], float]] = {"": partial(interpreter, "pass")}
    peers = ["bytewax.operators", "quixstreams"]
    for module in ["streamkit", *(peer for peer in peers if _installed(peer))]:
        runs[module] = partial(interpreter, f"import {module}")
    took = medians(runs, rounds)
    bare = took.pop("")
    ours = took["streamkit"] - bare
    note = f"on top of `python -c pass`, {bare:.0f} ms"
    rows = [_row("import streamkit", ours, "limit", LIMIT, note, 1.0)]
    for peer in peers:
        theirs = took[peer] - bare if peer in took else None
        said = note if peer in took else NOT_INSTALLED
        rows.append(_row("import streamkit", ours, f"import {peer}", theirs, said, None))
    return rows


def _installed(module: str) -> bool:
    return find_spec(module.partition(".")[0]) is not None


def _row(
    path: str, ours: float, beside: str, theirs: float | None, note: str, goal: float | None
) -> Row:
    return Row(path=path, ours=ours, beside=beside, theirs=theirs, unit="ms", goal=goal, note=note)


def measure(scale: float) -> Sequence[Row]:
    rounds = max(1, round(ROUNDS * scale))
    return [*imports(rounds)]


if __name__ == "__main__":
    main(measure)
