"""What becomes of an event that a step fails for, as data.

    @orders.process(on_error="skip")
    @orders.process(on_error=dlq("bad-orders", mode="key"))
    @orders.process(on_error=retry(5, backoff="1s", then="dlq"))

"stop", which is also what happens when nothing is said, is None here: nothing is to be done.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from streamkit.dsl.durations import Duration, milliseconds, shortest
from streamkit.errors import TopologyError

Mode: TypeAlias = Literal["record", "key"]
Pause: TypeAlias = Literal["partition", "key"]


@dataclass(frozen=True, slots=True)
class Skip:
    """The event is counted and gone on without."""

    def __str__(self) -> str:
        return "skip"


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """The event goes to a topic; None: `<app>-dlq`. Made by `dlq`."""

    topic: str | None = None
    mode: Mode = "record"

    @property
    def by_key(self) -> bool:
        """Whether later events of its key follow it there."""
        return self.mode == "key"

    def __str__(self) -> str:
        return " ".join(["dlq", *filter(None, [self.topic]), *(["by key"] if self.by_key else [])])


@dataclass(frozen=True, slots=True)
class Retry:
    """The event waits and is tried again. Made by `retry`.

    `backoff` is the first pause and `max` the longest, in ms; each is `factor` times the one
    before. `then`: what becomes of it after the last of `times` more attempts; None: stop.
    """

    times: int
    backoff: int
    factor: float
    max: int
    pause: Pause
    then: "Skip | DeadLetters | None"

    def wait(self, attempts: int) -> int:
        """How many ms after attempt number `attempts` (the first is 1) the next one is due."""
        # In steps: a factor to the power of a large number would overflow.
        pause = float(self.backoff)
        for _ in range(attempts - 1):
            if pause >= self.max:
                break
            pause *= self.factor
        return int(min(pause, self.max))

    def __str__(self) -> str:
        then = "stop" if self.then is None else str(self.then)
        return f"retry {self.times} from {shortest(self.backoff)}, then {then}"


Failure: TypeAlias = Skip | DeadLetters | Retry
"""What is done instead of stopping."""
OnError: TypeAlias = Literal["stop", "skip", "dlq"] | Failure
"""What users write."""


def dlq(topic: str | None = None, *, mode: Mode = "record") -> DeadLetters:
    """For `on_error=`: a record that fails goes to a topic, with what is to be known of it.

    `topic` is `<app>-dlq` unless given. mode="key": later events of its key go there too, in their
    order, until it has been retried (`streamkit dlq retry`) or given up.
    """
    if mode not in ("record", "key"):
        raise TopologyError(f'dlq(mode={mode!r}): it is "record" or "key"')
    return DeadLetters(topic, mode)


def retry(
    times: int,
    *,
    backoff: Duration = "1s",
    factor: float = 2,
    max: Duration = "1m",
    pause: Pause = "partition",
    then: Literal["stop", "skip", "dlq"] | DeadLetters = "stop",
) -> Retry:
    """For `on_error=`: an event that fails is tried `times` more, and `then` given up.

    The first time `backoff` later, then `factor` times as long as before, but no longer than
    `max`. Meanwhile what comes behind it at this step waits; with pause="key" only that of its key.
    """
    if not isinstance(times, int) or times < 1:
        raise TopologyError(f"retry({times!r}): it is tried once more, at least")
    if factor < 1:
        raise TopologyError(f"retry(factor={factor}): the next pause is not shorter; at least 1")
    if pause not in ("partition", "key"):
        raise TopologyError(f'retry(pause={pause!r}): it is "partition" or "key"')
    after = failure(then, "retry(then=...)")
    if isinstance(after, Retry):
        raise TopologyError("retry(then=retry(...)): say how often it is tried in one of them")
    first, most = milliseconds(backoff, "backoff"), milliseconds(max, "max")
    return Retry(times, first, factor, most, pause, after)


def failure(on_error: OnError, where: str) -> Failure | None:
    """What `on_error=` says. Raises TopologyError."""
    match on_error:
        case "stop":
            return None
        case "skip":
            return Skip()
        case "dlq":
            return DeadLetters()
        case Skip() | DeadLetters() | Retry():
            return on_error
    raise TopologyError(
        f'{where}: on_error={on_error!r}; it is "stop", "skip", "dlq", dlq(...) or retry(...)'
    )


def last_resort(failure: Failure | None) -> Skip | DeadLetters | None:
    """What is done with an event in the end; None: stop."""
    return failure.then if isinstance(failure, Retry) else failure
