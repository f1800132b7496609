"""Source offsets in Kafka Connect's own format.

Topic `connect-offsets`, compacted. Key: the JSON array `["<connector>", {source partition}]`.
Value: the JSON object of the source offset; null forgets the source partition.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from streamkit.backends.base import Backend
from streamkit.connect.api import Place
from streamkit.errors import CorruptLog
from streamkit.records import TopicPartition

LOOK_SECONDS = 0.2

_encode = msgspec.json.Encoder(order="deterministic").encode


def encode_key(connector: str, partition: Place) -> bytes:
    """The same bytes for the same partition, whatever the order of its fields."""
    return _encode([connector, partition])


def encode_value(offset: Place) -> bytes:
    return _encode(offset)


class SourceOffsets:
    """The latest offset of every source partition of one connector."""

    def __init__(self, connector: str) -> None:
        self._connector = connector
        self._offsets: dict[bytes, tuple[Place, Place]] = {}

    def feed(
        self, keys: Sequence[bytes | None], values: Sequence[bytes | None], topic: str
    ) -> None:
        """Take records of the offsets topic, in order. Raises CorruptLog for a foreign one."""
        for key, value in zip(keys, values, strict=True):
            name, partition = _decode_key(key, topic)
            if name != self._connector:
                continue
            canonical = encode_key(name, partition)
            if value is None:
                self._offsets.pop(canonical, None)
            else:
                self._offsets[canonical] = partition, _decode_object(value, topic)

    def load(
        self,
        backend: Backend,
        partition: TopicPartition,
        stopping: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Take everything that the partition of the offsets topic holds by now.

        Waits for transactions of other connectors that are open in it: what is behind the
        beginning of one can be ours. False when it did not come to the end, because of `stopping`.
        """
        bounds = backend.offsets(partition)
        position = bounds.start
        while position < bounds.log_end:
            batches = backend.fetch({partition: position})
            for batch in batches:
                columns = batch.columns()
                self.feed(columns.keys, columns.values, partition.topic)
                position = batch.next_offset
            if not batches:
                if backend.offsets(partition).end >= bounds.log_end:
                    break  # what is left there is nothing to read
                if stopping():
                    return False
                backend.wait({partition: position}, LOOK_SECONDS)
        return True

    def store(self, partition: Place, offset: Place) -> None:
        """Remember what has just been appended to the offsets topic."""
        self._offsets[encode_key(self._connector, partition)] = partition, offset

    def get(self, partition: Place) -> Place | None:
        found = self._offsets.get(encode_key(self._connector, partition))
        return found[1] if found else None

    def all(self) -> list[tuple[Place, Place]]:
        return list(self._offsets.values())


def name_of(place: Place) -> str:
    """A source partition in a few words: its first field, as `file a.csv` or `table items`."""
    return " ".join(map(str, next(iter(place.items()), ())))


def names_of(places: Sequence[Place], most: int = 3) -> str:
    """Source partitions as a list for a message; of many, the first ones and how many more."""
    texts = sorted(map(name_of, places))[:most]
    if len(places) > most:
        texts.append(f"{len(places) - most} more")
    return ", ".join(texts)


def _decode_key(key: bytes | None, topic: str) -> tuple[str, dict[str, Any]]:
    try:
        return msgspec.json.decode(key or b"", type=tuple[str, dict[str, Any]])
    except msgspec.MsgspecError as error:
        raise CorruptLog(
            f"topic {topic}: a record's key is not [connector, {{partition}}]: {key!r}; "
            "set offset.storage.topic to a topic that nothing else writes to"
        ) from error


def _decode_object(value: bytes, topic: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(value, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise CorruptLog(f"topic {topic}: a source offset is not an object: {value!r}") from error
