"""What the author of a connector writes: a dataclass, and a generator or a batch function.

A source is a generator over its config and a context:

    @dataclass(frozen=True, slots=True)
    class CounterConfig:
        topic: str
        limit: int = 10

    @source(config=CounterConfig)
    def counter(config: CounterConfig, ctx: SourceContext) -> Iterator[SourceItem]:
        place = {"counter": config.topic}
        done = (ctx.offset(place) or {}).get("done", 0)
        for n in range(done + 1, config.limit + 1):
            yield SourceRecord(config.topic, n, partition=place, offset={"done": n})
        yield Pause(60)

A sink is a function over its config and a list of records, or, when it keeps something open, a
class (see `SinkWriter`):

    @sink(config=PrinterConfig)
    def printer(config: PrinterConfig, records: list[Record[bytes | None]]) -> None:
        for record in records:
            print(record.coordinates, record.value)
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field, is_dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, cast

import msgspec

from streamkit.backends.values import CommittedOffset
from streamkit.errors import UsageError
from streamkit.records import Headers, Record, TopicPartition

C = TypeVar("C")

Place: TypeAlias = Mapping[str, Any]
"""A source partition (which file, which table) or offset (how far): a small JSON object."""

Notes: TypeAlias = Mapping[TopicPartition, str]
"""What a sink wants to find again beside a committed offset: at most 4096 characters each."""


class SourceRecord(msgspec.Struct, frozen=True, gc=False):
    """One record that a source found.

    `value` and `key`: bytes are taken as they are, str as UTF-8, None as null, anything else
    becomes JSON. Records with a key go to the partition that Kafka's default partitioner chooses.
    `timestamp` in milliseconds since 1970-01-01 UTC; None is now.
    `partition` and `offset` say where the source goes on after this record; they are stored once
    the record is. Without an offset the record does not move the source's position.
    """

    topic: str
    value: Any
    key: Any = None
    partition: Place | None = None
    offset: Place | None = None
    timestamp: int | None = None
    headers: Headers = ()


class Position(msgspec.Struct, frozen=True, gc=False):
    """Where a source goes on, without a record: a whole table was read, blank lines were passed."""

    partition: Place
    offset: Place


class Bad(msgspec.Struct, frozen=True, gc=False):
    """Input that does not parse. The source goes on after it when the user tolerates errors.

    `error` says what and where (file:line, table and row); `raw` is the input as it was found;
    `topic` is where it would have gone.
    """

    error: Exception
    raw: bytes
    topic: str
    partition: Place | None = None
    offset: Place | None = None


class Pause(msgspec.Struct, frozen=True, gc=False):
    """Nothing to read now: the worker stores what it has and comes back in `seconds`.

    It comes back earlier when somebody calls `SourceContext.wake()`. A source never sleeps by
    itself: it would hold back the records that it has given out, and the stop of the worker.
    `idle=False` says that there is input that cannot be read yet.
    """

    seconds: float
    idle: bool = True


SourceItem: TypeAlias = SourceRecord | Position | Bad | Pause


class _NamedLog(logging.LoggerAdapter[logging.Logger]):
    """Puts the connector's name before every message: many share one screen."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> Any:
        name = str((self.extra or {}).get("connector", "")).replace("%", "%%")
        return f"{name}: {msg}", kwargs


ConnectorLog: TypeAlias = logging.LoggerAdapter[logging.Logger]


def log_of(connector: str) -> ConnectorLog:
    """The log of one connector: logger `streamkit.connect`, with the name before each message."""
    return _NamedLog(logging.getLogger("streamkit.connect"), {"connector": connector})


class SourceContext:
    """What the worker lends to a source while it runs."""

    def __init__(
        self,
        name: str,
        offsets: Callable[[], list[tuple[Place, Place]]],
        offset: Callable[[Place], Place | None],
        *,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.name = name
        self.log = log_of(name)
        self._offsets = offsets
        self._offset = offset
        self._stopping = stopping
        self._wake = threading.Event()

    def offset(self, partition: Place) -> Place | None:
        """Where to go on in this source partition; None: it was never read."""
        return self._offset(partition)

    def offsets(self) -> list[tuple[Place, Place]]:
        """Every source partition of this connector with its stored offset."""
        return self._offsets()

    @property
    def stopping(self) -> bool:
        """True once the worker wants to stop: a long step without a `yield` should end early."""
        return self._stopping()

    def wake(self) -> None:
        """End a Pause now. May be called from any thread."""
        self._wake.set()

    def wait(self, seconds: float) -> bool:
        """For the worker: sleep until `wake()` or the time is over; True when woken."""
        woken = self._wake.wait(seconds)
        self._wake.clear()
        return woken


@dataclass(frozen=True, slots=True)
class SinkContext:
    """What the worker lends to a sink while it runs.

    `topic_id` gives the id of a topic: a topic that was deleted and made anew has another one, and
    offsets that a sink has stored for the old one mean nothing for it.
    """

    name: str
    topic_id: Callable[[str], str] = field(repr=False)

    @property
    def log(self) -> ConnectorLog:
        """For lines that name the connector."""
        return log_of(self.name)


class SinkWriter(Protocol):
    """An open sink. Made as `SinkClass(config, ctx)`; all calls come from one thread."""

    def resume(self, partition: TopicPartition, start: CommittedOffset) -> CommittedOffset | None:
        """Called when the worker gets a partition; returns where to read on, None to agree.

        `start` is the committed offset with the note that `write` returned for it, or with no
        note: the beginning of the partition, or what somebody has reset the group to. A sink that
        stores offsets with its data answers from there: exactly once. What is returned is
        committed before the first write, so that a note is never missing afterwards.
        """
        ...

    def write(self, records: list[Record[bytes | None]]) -> Notes | None:
        """Write records, in order within their partitions, so that they are safe on return.

        The worker then commits their offsets, with the notes returned. On DataError nothing of
        the call may stay written: the worker tries again in smaller parts to find the bad one.
        """
        ...

    def close(self) -> None:
        """Called once at the end, also after an error."""
        ...


SourceFunction: TypeAlias = Callable[[C, SourceContext], Iterator[SourceItem]]
SinkFunction: TypeAlias = Callable[[C, list[Record[bytes | None]]], Notes | None]


@dataclass(frozen=True, slots=True)
class SourceConnector(Generic[C]):
    """A declared source; calling it is calling the function that it was declared on."""

    config: type[C]
    read: SourceFunction[C]

    def __call__(self, config: C, ctx: SourceContext) -> Iterator[SourceItem]:
        return self.read(config, ctx)


@dataclass(frozen=True, slots=True)
class SinkConnector(Generic[C]):
    """A declared sink; calling it opens it."""

    config: type[C]
    open: Callable[[C, SinkContext], SinkWriter]

    def __call__(self, config: C, ctx: SinkContext) -> SinkWriter:
        return self.open(config, ctx)


class _FunctionSink(Generic[C]):
    """A plain batch function as a SinkWriter."""

    def __init__(self, function: SinkFunction[C], config: C) -> None:
        self._function = function
        self._config = config

    def resume(self, partition: TopicPartition, start: CommittedOffset) -> CommittedOffset | None:
        return None

    def write(self, records: list[Record[bytes | None]]) -> Notes | None:
        return self._function(self._config, records)

    def close(self) -> None:
        pass


def source(*, config: type[C]) -> Callable[[SourceFunction[C]], SourceConnector[C]]:
    """Declare a generator to be a source whose options are the fields of the dataclass `config`."""
    _check_dataclass(config)
    return lambda function: SourceConnector(config, function)


def sink(*, config: type[C]) -> Callable[[Any], SinkConnector[C]]:
    """Declare a batch function, or a class like SinkWriter, to be a sink with these options."""
    _check_dataclass(config)

    def declare(target: Any) -> SinkConnector[C]:
        if isinstance(target, type):
            return SinkConnector(config, cast("Callable[[C, SinkContext], SinkWriter]", target))

        def opened(options: C, ctx: SinkContext) -> SinkWriter:
            return _FunctionSink(target, options)

        opened.__name__ = getattr(target, "__name__", config.__name__)
        return SinkConnector(config, opened)

    return declare


def _check_dataclass(config: type[Any]) -> None:
    if not is_dataclass(config):
        raise UsageError(
            f"config={config.__name__} is not a dataclass; write @dataclass(frozen=True, "
            "slots=True) above it: its fields are the connector's options"
        )
