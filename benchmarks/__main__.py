"""`python -m benchmarks [name ...] [--scale 0.01] [--json]`: all benchmarks, in one table.

Each runs in a process of its own, so that none is measured with another's memory or threads.
"""

import subprocess
import sys
import time
from argparse import ArgumentParser

import msgspec

from benchmarks.measure import Row, dump, show

NAMES = (
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
)


def rows_of(name: str, scale: float) -> list[Row]:
    """Run one benchmark and read its rows; what it says on standard error is passed on."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json", "--scale", str(scale)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit(f"benchmarks.{name} failed with exit code {done.returncode}")
    return msgspec.json.decode(done.stdout, type=list[Row])


def main() -> None:
    options = ArgumentParser(prog="python -m benchmarks")
    options.add_argument("names", nargs="*", metavar="name", help=", ".join(NAMES))
    options.add_argument("--scale", type=float, default=1.0, help="sizes are multiplied by it")
    options.add_argument("--json", action="store_true", help="a JSON list instead of a table")
    chosen = options.parse_args()
    for name in chosen.names:
        if name not in NAMES:
            options.error(f"no benchmark is called {name!r}; there are {', '.join(NAMES)}")
    rows: list[Row] = []
    for name in chosen.names or NAMES:
        print(f"measuring {name} ...", end="", file=sys.stderr, flush=True)
        began = time.monotonic()
        rows += rows_of(name, chosen.scale)
        print(f" {time.monotonic() - began:.0f} s", file=sys.stderr)
    (dump if chosen.json else show)(rows)


if __name__ == "__main__":
    main()
