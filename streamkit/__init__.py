"""Event streaming in one `pip install`: a log in a directory, connectors, processing, replay.

Everything a user imports is here; what begins with an underscore, and every module not named in
the documentation, may change. Connector authors import from `streamkit.connect`, tests may import
from `streamkit.testing`.

The names are loaded when they are first asked for: a producer need not wait for the processing.
"""

from typing import TYPE_CHECKING

from streamkit._version import __version__

if TYPE_CHECKING:
    from streamkit.app import App
    from streamkit.backends.locate import open_backend
    from streamkit.backends.values import (
        CommittedOffset,
        GroupInfo,
        MemberInfo,
        OffsetRange,
        PartitionInfo,
        TopicInfo,
    )
    from streamkit.clients.admin import Admin
    from streamkit.clients.consumer import Consumer
    from streamkit.clients.lag import GroupPosition
    from streamkit.clients.producer import Appended, Producer
    from streamkit.clients.reset import MovedOffset
    from streamkit.clients.transaction import Transaction
    from streamkit.dsl.aggregates import (
        collect,
        count,
        first,
        last,
        max_,
        mean,
        min_,
        quantile,
        sum_,
        top_k,
    )
    from streamkit.dsl.context import Context
    from streamkit.dsl.failures import dlq, retry
    from streamkit.dsl.resources import Resource
    from streamkit.dsl.state import ListState, MapState, State
    from streamkit.dsl.stream import Step, Stream
    from streamkit.dsl.table import GlobalTable, Table
    from streamkit.dsl.ticks import Tick
    from streamkit.dsl.timers import Timer
    from streamkit.dsl.windowed import WindowedStream
    from streamkit.dsl.windows import Window, every, hopping, session, sliding, tumbling
    from streamkit.errors import (
        ConcurrentTransactions,
        ConfigError,
        ConnectError,
        CoordinatorFenced,
        CorruptLog,
        DataError,
        Fenced,
        FencedInstanceId,
        FunctionError,
        GroupActive,
        GroupError,
        InvalidPartitions,
        InvalidProducerEpoch,
        InvalidProducerId,
        InvalidRecord,
        InvalidRequiredAcks,
        InvalidTimestamp,
        InvalidTopic,
        InvalidTxnState,
        InvalidTxnTimeout,
        LogError,
        LogInUse,
        LogNotFound,
        OffsetOutOfRange,
        OutcomeUnknown,
        OutOfOrderSequence,
        OutOfSpace,
        PolicyViolation,
        ProducerFenced,
        ReadOnlyLog,
        RecordTooLarge,
        SerdeError,
        StorageFailed,
        StreamkitError,
        TopicExists,
        TopologyError,
        TransactionError,
        UnknownGroup,
        UnknownPartition,
        UnknownTopic,
        UnsafeChange,
        UnsupportedFormat,
        UsageError,
    )
    from streamkit.records import Record, TopicPartition

_MODULES = {
    "streamkit.backends.values": (
        "CommittedOffset",
        "GroupInfo",
        "MemberInfo",
        "OffsetRange",
        "PartitionInfo",
        "TopicInfo",
    ),
    "streamkit.app": ("App",),
    "streamkit.clients.admin": ("Admin",),
    "streamkit.backends.locate": ("open_backend",),
    "streamkit.clients.consumer": ("Consumer",),
    "streamkit.clients.lag": ("GroupPosition",),
    "streamkit.clients.producer": (
        "Appended",
        "Producer",
    ),
    "streamkit.clients.transaction": ("Transaction",),
    "streamkit.clients.reset": ("MovedOffset",),
    "streamkit.dsl.context": ("Context",),
    "streamkit.dsl.failures": ("dlq", "retry"),
    "streamkit.dsl.resources": ("Resource",),
    "streamkit.dsl.state": (
        "ListState",
        "MapState",
        "State",
    ),
    "streamkit.dsl.stream": (
        "Step",
        "Stream",
    ),
    "streamkit.dsl.table": (
        "GlobalTable",
        "Table",
    ),
    "streamkit.dsl.aggregates": (
        "collect",
        "count",
        "first",
        "last",
        "max_",
        "mean",
        "min_",
        "quantile",
        "sum_",
        "top_k",
    ),
    "streamkit.dsl.ticks": ("Tick",),
    "streamkit.dsl.timers": ("Timer",),
    "streamkit.dsl.windowed": ("WindowedStream",),
    "streamkit.dsl.windows": (
        "Window",
        "every",
        "hopping",
        "session",
        "sliding",
        "tumbling",
    ),
    "streamkit.errors": (
        "ConcurrentTransactions",
        "ConfigError",
        "ConnectError",
        "CoordinatorFenced",
        "CorruptLog",
        "DataError",
        "Fenced",
        "FencedInstanceId",
        "FunctionError",
        "GroupActive",
        "GroupError",
        "InvalidPartitions",
        "InvalidProducerEpoch",
        "InvalidProducerId",
        "InvalidRecord",
        "InvalidRequiredAcks",
        "InvalidTimestamp",
        "InvalidTopic",
        "InvalidTxnState",
        "InvalidTxnTimeout",
        "LogError",
        "LogInUse",
        "LogNotFound",
        "OffsetOutOfRange",
        "OutOfOrderSequence",
        "OutOfSpace",
        "OutcomeUnknown",
        "PolicyViolation",
        "ProducerFenced",
        "ReadOnlyLog",
        "RecordTooLarge",
        "SerdeError",
        "StorageFailed",
        "StreamkitError",
        "TopicExists",
        "TopologyError",
        "TransactionError",
        "UnknownGroup",
        "UnknownPartition",
        "UnknownTopic",
        "UnsafeChange",
        "UnsupportedFormat",
        "UsageError",
    ),
    "streamkit.records": (
        "Record",
        "TopicPartition",
    ),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Admin",
    "App",
    "Appended",
    "CommittedOffset",
    "ConcurrentTransactions",
    "ConfigError",
    "ConnectError",
    "Consumer",
    "Context",
    "CoordinatorFenced",
    "CorruptLog",
    "DataError",
    "Fenced",
    "FencedInstanceId",
    "FunctionError",
    "GlobalTable",
    "GroupActive",
    "GroupError",
    "GroupInfo",
    "GroupPosition",
    "InvalidPartitions",
    "InvalidProducerEpoch",
    "InvalidProducerId",
    "InvalidRecord",
    "InvalidRequiredAcks",
    "InvalidTimestamp",
    "InvalidTopic",
    "InvalidTxnState",
    "InvalidTxnTimeout",
    "ListState",
    "LogError",
    "LogInUse",
    "LogNotFound",
    "MapState",
    "MemberInfo",
    "MovedOffset",
    "OffsetOutOfRange",
    "OffsetRange",
    "OutOfOrderSequence",
    "OutOfSpace",
    "OutcomeUnknown",
    "PartitionInfo",
    "PolicyViolation",
    "Producer",
    "ProducerFenced",
    "ReadOnlyLog",
    "Record",
    "RecordTooLarge",
    "Resource",
    "SerdeError",
    "State",
    "Step",
    "StorageFailed",
    "Stream",
    "StreamkitError",
    "Table",
    "Tick",
    "Timer",
    "TopicExists",
    "TopicInfo",
    "TopicPartition",
    "TopologyError",
    "Transaction",
    "TransactionError",
    "UnknownGroup",
    "UnknownPartition",
    "UnknownTopic",
    "UnsafeChange",
    "UnsupportedFormat",
    "UsageError",
    "Window",
    "WindowedStream",
    "__version__",
    "collect",
    "count",
    "dlq",
    "every",
    "first",
    "hopping",
    "last",
    "max_",
    "mean",
    "min_",
    "open_backend",
    "quantile",
    "retry",
    "session",
    "sliding",
    "sum_",
    "top_k",
    "tumbling",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'streamkit' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
