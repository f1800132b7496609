"""What all benchmarks share: interleaved rounds, medians, rows with a ratio, a table or JSON."""

import sys
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Literal, TypeAlias, TypeVar

import msgspec

T = TypeVar("T")

Unit: TypeAlias = Literal["/s", "MB/s", "ms", "us", "%", "MB"]
"""`/s`: things per second, more is better, as is `MB/s`. Of the others less is better."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One path's figure beside a peer's or a limit's, both measured in the same run.

    `ours` or `theirs` is None when it could not be measured; `note` then says why. `goal` is the
    least ratio to reach (1.0: as good as the other), or None when the row is only shown.
    """

    path: str
    ours: float | None
    beside: str
    theirs: float | None
    unit: Unit = "/s"
    goal: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times better we are: above 1 is better than the other, whatever the unit."""
        if not self.ours or not self.theirs:
            return None
        return self.ours / self.theirs if self.unit.endswith("/s") else self.theirs / self.ours

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None when there is none or nothing to compare."""
        if self.goal is None or self.ratio is None:
            return None
        return self.ratio >= self.goal


def interleaved(candidates: Mapping[str, Callable[[], T]], rounds: int = 3) -> dict[str, list[T]]:
    """Run every candidate once a round, so that a busy minute of the machine hits all alike."""
    results: dict[str, list[T]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            results[name].append(run())
    return results


def medians(candidates: Mapping[str, Callable[[], float]], rounds: int = 3) -> dict[str, float]:
    """The median figure of each candidate over interleaved rounds."""
    return {name: median(figures) for name, figures in interleaved(candidates, rounds).items()}


def figure(value: float | None, unit: Unit) -> str:
    """A figure as people read it: `1.24 M/s`, `31 k/s`, `0.8 ms`."""
    if value is None:
        return "–"
    if unit != "/s":
        return f"{value:.3g} {unit}" if value < 1000 else f"{value:,.0f} {unit}"
    for size, letter in ((1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{letter}/s"
    return f"{value:.3g} /s"


def show(rows: Sequence[Row]) -> None:
    """A table on standard output."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name, justify in (
        ("path", "left"),
        ("ours", "right"),
        ("beside", "left"),
        ("theirs", "right"),
        ("ratio", "right"),
        ("goal", "right"),
        ("note", "left"),
    ):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f} x"
        style = {True: "green", False: "red", None: ""}[row.met]
        table.add_row(
            row.path,
            figure(row.ours, row.unit),
            row.beside,
            figure(row.theirs, row.unit),
            f"[{style}]{ratio}[/]" if style else ratio,
            "" if row.goal is None else f">= {row.goal:g} x",
            row.note,
        )
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)


def dump(rows: Sequence[Row]) -> None:
    """One JSON list on standard output; `ratio` and `met` are in it."""
    objects = [{**msgspec.to_builtins(row), "ratio": row.ratio, "met": row.met} for row in rows]
    print(msgspec.json.encode(objects).decode())


def main(measure: Callable[[float], Sequence[Row]]) -> None:
    """A benchmark's command line: `[--scale 0.01] [--json]`.

    `measure` gets the scale, by which it multiplies its sizes: 1 to measure, less to see it run.
    """
    options = ArgumentParser()
    options.add_argument("--scale", type=float, default=1.0)
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    rows = measure(chosen.scale)
    (dump if chosen.json else show)(rows)
