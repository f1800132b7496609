"""Where a transactional id stands, and what may follow: Kafka's states with Kafka's numbers."""

from collections.abc import Mapping
from enum import IntEnum


class State(IntEnum):
    """The number is what `__transaction_state` holds; `title` is Kafka's name."""

    resting: bool
    """No transaction is open or waits to be finished."""
    decided: bool
    """The outcome is fixed; the markers are not all known to be written."""

    EMPTY = 0
    ONGOING = 1
    PREPARE_COMMIT = 2
    PREPARE_ABORT = 3
    COMPLETE_COMMIT = 4
    COMPLETE_ABORT = 5
    DEAD = 6
    PREPARE_EPOCH_FENCE = 7

    @property
    def title(self) -> str:
        return self.name.title().replace("_", "")


# Asked for several times in every transaction.
for _state in State:
    _state.resting = _state in (State.EMPTY, State.COMPLETE_COMMIT, State.COMPLETE_ABORT)
    _state.decided = _state in (State.PREPARE_COMMIT, State.PREPARE_ABORT)

_FROM_REST = {
    State.EMPTY: "a producer begins",
    State.ONGOING: "the first partition",
    State.PREPARE_ABORT: "abort of nothing (version 2)",
    State.DEAD: "not used for long",
}

TRANSITIONS: Mapping[State, Mapping[State, str]] = {
    State.EMPTY: _FROM_REST,
    State.ONGOING: {
        State.ONGOING: "another partition",
        State.PREPARE_COMMIT: "commit",
        State.PREPARE_ABORT: "abort, timed out, or a newer producer",
        State.PREPARE_EPOCH_FENCE: "a newer producer (in Kafka's memory only)",
    },
    State.PREPARE_EPOCH_FENCE: {State.PREPARE_ABORT: "epoch raised"},
    State.PREPARE_COMMIT: {State.COMPLETE_COMMIT: "all markers written"},
    State.PREPARE_ABORT: {State.COMPLETE_ABORT: "all markers written"},
    State.COMPLETE_COMMIT: _FROM_REST,
    State.COMPLETE_ABORT: _FROM_REST,
    State.DEAD: {},
}
"""What follows what, and why. A step that is not here is never taken."""


def diagram() -> str:
    """The table as the drawing in docs/transactions.md."""
    lines = ["stateDiagram-v2", "    [*] --> Empty: a new transactional id"]
    for state, following in TRANSITIONS.items():
        lines += [f"    {state.title} --> {to.title}: {why}" for to, why in following.items()]
    lines.append("    Dead --> [*]: tombstone")
    return "\n".join(lines)
