"""`python -m streamkit.history FILE…`: check the histories in these files as one."""

import sys
from collections.abc import Sequence

from streamkit.errors import DataError
from streamkit.history.check import check
from streamkit.history.operations import Event, operations, read_events


def main(paths: Sequence[str]) -> int:
    """0: no anomaly; 1: there are; 2: not a history."""
    if not paths:
        print("usage: python -m streamkit.history FILE…", file=sys.stderr)
        return 2
    events: list[Event] = []
    try:
        for path in paths:
            with open(path, "rb") as file:
                events += read_events(file, path)
        report = check(operations(events))
    except (OSError, DataError) as error:
        print(error, file=sys.stderr)
        return 2
    print(report)
    return 1 if report.anomalies else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
