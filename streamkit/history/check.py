"""All checks of a history, and what they found as text."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from streamkit.errors import counted
from streamkit.history.cycles import cycles
from streamkit.history.evidence import Anomaly, evidence
from streamkit.history.operations import Operation, Send
from streamkit.history.order import by_the_clock, commits, polls_and_sends
from streamkit.history.presence import losses, torn, unprocessed, wrong_reads

ALLOWED = frozenset({"G0", "G1c-ww"})
"""Transactions of Kafka do not keep each other's records apart: they may stand in any order."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a history holds. `str` says it to a reader, the first few of each kind in full."""

    operations: int
    records: int
    anomalies: tuple[Anomaly, ...]
    allowed: tuple[Anomaly, ...]

    def __str__(self) -> str:
        kinds = Counter(anomaly.kind for anomaly in self.anomalies)
        lines = [f"{counted(self.operations, 'operation')}, {counted(self.records, 'record')} sent"]
        lines += [f"{count} × {kind}" for kind, count in sorted(kinds.items())]
        lines += [f"{len(self.allowed)} × G0 or G1c-ww, which is allowed"] if self.allowed else []
        lines += ["no anomaly"] if not kinds else []
        shown: Counter[str] = Counter()
        for anomaly in self.anomalies:
            shown[anomaly.kind] += 1
            if shown[anomaly.kind] <= 5:
                lines.append(str(anomaly))
        return "\n".join(lines)


def check(history: Sequence[Operation]) -> Report:
    """Look for every anomaly. A million operations take well under a minute."""
    found = evidence(history)
    anomalies = [
        *found.conflicts,
        *wrong_reads(found, history),
        *losses(found),
        *torn(found, history),
        *unprocessed(found, history),
        *polls_and_sends(found, history),
        *by_the_clock(found),
        *commits(history),
        *cycles(found, history),
    ]
    sent = sum(isinstance(step, Send) for operation in history for step in operation.steps)
    return Report(
        len(history),
        sent,
        tuple(a for a in anomalies if a.kind not in ALLOWED),
        tuple(a for a in anomalies if a.kind in ALLOWED),
    )
