"""What is told of events that were skipped or set aside."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Failed:
    """Events of a step that were, since it was asked last; `what` became of them.

    `first` and `last` say which event that was and what was wrong, `trace` how it came to that with
    the first.
    """

    step: str
    count: int
    what: str
    first: str
    last: str
    trace: str
