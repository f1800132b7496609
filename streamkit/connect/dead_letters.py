"""The dead letter queue: a topic of the records that a connector could not take.

The headers are Kafka Connect's, `__connect.errors.*`; values that do not apply are left out.
"""

import traceback
from dataclasses import dataclass, replace
from typing import Literal

from streamkit.backends.base import Backend
from streamkit.connect.appending import Append, Refused, Rows, append_all, stop_at
from streamkit.connect.config import ConnectorConfig
from streamkit.connect.topics import ensure_topic
from streamkit.errors import RecordTooLarge
from streamkit.records import Header, Headers, Record, TopicPartition

LEFT_OUT = "__connect.errors.left.out"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record to set aside: as it was found, and why it could not be taken."""

    value: bytes | None
    error: BaseException
    key: bytes | None = None
    headers: Headers = ()
    topic: str = ""
    origin: Record[bytes | None] | None = None


def context_headers(
    letter: DeadLetter, config: ConnectorConfig, stage: Literal["TASK_POLL", "TASK_PUT"]
) -> Headers:
    """Kafka Connect's error headers for a letter; secrets are masked in its texts."""
    error = letter.error
    trace = "".join(traceback.format_exception(error))
    values: dict[str, str] = {"topic": letter.topic}
    if letter.origin is not None:
        values |= {
            "topic": letter.origin.topic,
            "partition": str(letter.origin.partition),
            "offset": str(letter.origin.offset),
        }
    values |= {
        "connector.name": config.name,
        "task.id": "0",
        "stage": stage,
        "class.name": config.shared.connector_class,
        "exception.class.name": f"{type(error).__module__}.{type(error).__qualname__}",
        "exception.message": config.masked(str(error)),
        "exception.stacktrace": config.masked(trace),
    }
    added: tuple[Header, ...] = tuple(
        (f"__connect.errors.{name}", value.encode()) for name, value in values.items()
    )
    return letter.headers + added


def send(
    backend: Backend,
    append: Append,
    letters: list[DeadLetter],
    config: ConnectorConfig,
    stage: Literal["TASK_POLL", "TASK_PUT"],
    now: int,
) -> None:
    """Append letters to the connector's dead letter queue, by `append`.

    A letter that is too large for it goes without its value, and if need be without its key and
    its own headers; the header LEFT_OUT says so.
    """
    topic = config.shared.errors_deadletterqueue_topic_name
    ensure_topic(backend, topic, 1, {})
    target = TopicPartition(topic, 0)

    def add(some: list[DeadLetter], refused: Refused) -> None:
        rows = Rows()
        for letter in some:
            rows.add(letter.key, letter.value, now, context_headers(letter, config, stage))
        append_all(append, target, rows, refused)

    def shorten(index: int, error: RecordTooLarge) -> None:
        small, smallest = _shortened(letters[index])
        add([small], lambda index, error: add([smallest], stop_at))

    add(letters, shorten)


def _shortened(letter: DeadLetter) -> tuple[DeadLetter, DeadLetter]:
    """The letter without its value, and with nothing but its reason."""
    value = f"the value ({len(letter.value or b'')} bytes)"
    small = replace(
        letter, value=None, headers=(*letter.headers, (LEFT_OUT, f"{value}: too large".encode()))
    )
    note = f"{value}, the key ({len(letter.key or b'')} bytes) and its headers: too large"
    return small, replace(letter, value=None, key=None, headers=((LEFT_OUT, note.encode()),))
