"""Connectors: import from and export to other systems, and write your own.

What the author of a connector needs is here; `streamkit.connect.worker` runs them.
"""

from streamkit.backends.values import CommittedOffset
from streamkit.connect.api import (
    Bad,
    ConnectorLog,
    Notes,
    Pause,
    Place,
    Position,
    SinkConnector,
    SinkContext,
    SinkWriter,
    SourceConnector,
    SourceContext,
    SourceItem,
    SourceRecord,
    sink,
    source,
)
from streamkit.connect.config import Duration, mask_url
from streamkit.connect.schedule import Cron, Every

__all__ = [
    "Bad",
    "CommittedOffset",
    "ConnectorLog",
    "Cron",
    "Duration",
    "Every",
    "Notes",
    "Pause",
    "Place",
    "Position",
    "SinkConnector",
    "SinkContext",
    "SinkWriter",
    "SourceConnector",
    "SourceContext",
    "SourceItem",
    "SourceRecord",
    "mask_url",
    "sink",
    "source",
]
