"""Histories made by hand: every call is an operation after the ones before."""

from collections import Counter
from math import inf

import pytest

from streamkit.history.check import Report, check
from streamkit.history.operations import Operation, Step


class History:
    """`history("w", Send("p", "a", 0))` adds an operation; times are counted on from there."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.now = 0

    def __call__(
        self,
        process: str,
        *steps: Step,
        outcome: str = "ok",
        txn: bool = False,
        begun: int | None = None,
        asked: int | None = None,
        ended: int | None = None,
    ) -> Operation:
        self.now += 10
        begun = self.now if begun is None else begun
        if asked is None:
            asked = begun + 3
        if ended is None:
            ended = inf if outcome == "info" else begun + 5
        line = len(self.operations) + 1
        operation = Operation(process, line, outcome, list(steps), begun, asked, ended, txn)
        self.operations.append(operation)
        return operation

    def report(self) -> Report:
        return check(self.operations)

    def kinds(self) -> dict[str, int]:
        return dict(Counter(anomaly.kind for anomaly in self.report().anomalies))


@pytest.fixture
def history() -> History:
    return History()
