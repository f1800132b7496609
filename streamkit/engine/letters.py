"""What is known of a record that was set aside, in its headers.

    __streamkit.errors.app                    of which app and which step it is
    __streamkit.errors.step
    __streamkit.errors.task                   the number of the task that had it
    __streamkit.errors.topic                  the record the task read, of which the event was made;
    __streamkit.errors.partition              not there when it was made of none
    __streamkit.errors.offset
    __streamkit.errors.ordinal                its number among those that were made of the record
    __streamkit.errors.root                   what it goes back to, where that is not the record
    __streamkit.errors.attempts               how often the step was tried for it
    __streamkit.errors.exception.class.name   why it failed; not there of one that only followed
    __streamkit.errors.exception.message
    __streamkit.errors.exception.stacktrace
    __streamkit.errors.behind                 the first event of its key that failed, and how many
    __streamkit.errors.sequence               followed it before this one (mode="key")

and on the way back to the step (`streamkit dlq retry`)

    __streamkit.errors.letter                 which record of the dead letters it is, and of which
    __streamkit.errors.letter.topic.id        topic of that name
    __streamkit.errors.discarded              it is given up, and not to be processed

After the event's own headers. Connectors say the same with `__connect.errors.`, as Kafka Connect
does. The record's timestamp is the event's time; nothing here is of the wall clock, so that a
replay sets the same aside.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from streamkit.engine.failed import text_of
from streamkit.records import Headers

PREFIX = "__streamkit.errors."
CONNECT = "__connect.errors."

_TRACE = 8 << 10
"""Characters of a traceback, at most: the last ones."""
_MESSAGE = 2 << 10


@dataclass(frozen=True, slots=True)
class Behind:
    """An event in the row of those of its key: `first` failed, and `sequence` - 1 were between."""

    first: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Earlier:
    """What has been of an event that comes again: how often it was tried, and where it stands."""

    attempts: int
    behind: Behind | None


@dataclass(frozen=True, slots=True)
class Letter:
    """What the headers of a record say; `headers` are the event's own. What is not said is empty,
    or -1. Of a connector's `app` is the connector's name."""

    app: str
    step: str
    task: int
    topic: str
    partition: int
    offset: int
    ordinal: int
    attempts: int
    error: str
    message: str
    trace: str
    behind: Behind | None
    headers: Headers
    connector: bool = False
    letter: str = ""
    letter_topic_id: str = ""
    discarded: bool = False
    root: bytes = b""

    @property
    def earlier(self) -> Earlier:
        """Of the event, when it comes again."""
        return Earlier(max(self.attempts, 0), self.behind)

    @property
    def source(self) -> str:
        """Where the record is that it was made of, as messages print it."""
        return f"{self.topic}-{self.partition}@{self.offset}" if self.offset >= 0 else "no record"


def error_headers(
    app: str,
    step: str,
    task: int,
    source: tuple[str, int, int],
    ordinal: int,
    attempts: int,
    error: Exception | None,
    trace: str,
    behind: Behind | None,
    root: bytes = b"",
) -> Headers:
    """What to add to an event's headers. `error` None: it only followed another."""
    said: dict[str, str | int] = {"app": app, "step": step, "task": task}
    topic, partition, offset = source
    if offset >= 0:
        said |= {"topic": topic, "partition": partition, "offset": offset, "ordinal": ordinal}
    if root:
        said["root"] = root.decode()
    said["attempts"] = attempts
    if error is not None:
        kind = type(error)
        said["exception.class.name"] = f"{kind.__module__}.{kind.__qualname__}"
        said["exception.message"] = text_of(error)[:_MESSAGE]
        said["exception.stacktrace"] = trace[-_TRACE:]
    if behind is not None:
        said |= {"behind": behind.first, "sequence": behind.sequence}
    return _encoded(said)


def _encoded(said: Mapping[str, str | int]) -> Headers:
    return tuple(
        (PREFIX + name, str(value).encode("utf-8", "backslashreplace"))
        for name, value in said.items()
    )


def read(headers: Headers) -> Letter | None:
    """What the headers say; None: they are of no record that was set aside."""
    said: dict[str, str] = {}
    own = []
    connector = False
    for name, data in headers:
        for prefix in (PREFIX, CONNECT):
            if name.startswith(prefix):
                text = "" if data is None else data.decode("utf-8", "backslashreplace")
                said[name.removeprefix(prefix)] = text
                connector = prefix == CONNECT
                break
        else:
            own.append((name, data))
    if not said:
        return None
    behind = None
    if "behind" in said:
        behind = Behind(said["behind"], _number(said, "sequence"))
    return Letter(
        app=said.get("connector.name" if connector else "app", ""),
        step=said.get("stage" if connector else "step", ""),
        task=_number(said, "task.id" if connector else "task"),
        topic=said.get("topic", ""),
        partition=_number(said, "partition"),
        offset=_number(said, "offset"),
        ordinal=max(_number(said, "ordinal"), 0),
        attempts=_number(said, "attempts"),
        error=said.get("exception.class.name", ""),
        message=said.get("exception.message", ""),
        trace=said.get("exception.stacktrace", ""),
        behind=behind,
        headers=tuple(own),
        connector=connector,
        letter=said.get("letter", ""),
        letter_topic_id=said.get("letter.topic.id", ""),
        discarded="discarded" in said,
        root=said.get("root", "").encode(),
    )


def retry_headers(letter: Letter, which: str, topic_id: str, discard: bool) -> Headers:
    """The headers of a record that goes back to its step: `which` one it is of the dead letters."""
    said: dict[str, str | int] = {"letter": which, "letter.topic.id": topic_id}
    said["attempts"] = letter.attempts
    if letter.offset >= 0:
        said |= {"topic": letter.topic, "partition": letter.partition, "offset": letter.offset}
        said["ordinal"] = letter.ordinal
    if letter.root:
        said["root"] = letter.root.decode()
    if letter.behind is not None:
        said |= {"behind": letter.behind.first, "sequence": letter.behind.sequence}
    if discard:
        said["discarded"] = 1
    return (*letter.headers, *_encoded(said))


def _number(said: dict[str, str], name: str) -> int:
    text = said.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else -1
