"""What is told of functions that fail, and of events that were skipped or set aside."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Failed:
    """Events of a step, or records of a stream, that were, since it was asked last; they are set
    aside in a topic, or, without one, skipped, or `waits` for a later attempt. `step` is what it is
    called in messages.

    `first` and `last` say which event that was and what was wrong, `trace` how it came to that with
    the first.
    """

    step: str
    count: int
    topic: str | None
    first: str
    last: str
    trace: str
    waits: bool = False

    @property
    def done(self) -> str:
        """What became of them."""
        if self.waits:
            return "put off, to be tried again"
        return "skipped" if self.topic is None else f"set aside in {self.topic}"


def text_of(error: BaseException) -> str:
    """What an error says, also of one that cannot be printed."""
    try:
        return str(error)
    except Exception as also:
        return f"(its text cannot be had: {type(also).__name__})"


def told(error: BaseException) -> str:
    """Its class, and what it says."""
    return f"{type(error).__name__}: {text_of(error)}"


def as_exception(error: BaseException) -> Exception:
    """As what a call fails with: asyncio's CancelledError, say, is none by itself."""
    if isinstance(error, Exception):
        return error
    exception = RuntimeError(told(error))
    exception.__cause__ = error
    return exception
