"""What is told of events that were skipped or set aside."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Failed:
    """Events of a step that were, since it was asked last.

    `text` says of the last of them which it was and what was wrong, `what` what became of it, and
    `trace` how it came to that with the first.
    """

    step: str
    count: int
    what: str
    text: str
    trace: str
