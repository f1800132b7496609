"""The small text files that Kafka keeps beside the data.

    leader-epoch-checkpoint   0 ⏎ <count> ⏎ { <epoch> <start offset> ⏎ }*
    partition.metadata        version: 0 ⏎ topic_id: <id> ⏎
    meta.properties           Java properties; see `Properties`
    log-start-offset-checkpoint, cleaner-offset-checkpoint (in the root)
                              0 ⏎ <count> ⏎ { <topic> <partition> <offset> ⏎ }*

Ids are UUIDs, written as 22 characters of URL-safe base64 without padding.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass

from streamkit.errors import CorruptLog, UnsupportedFormat
from streamkit.records import TopicPartition

EPOCHS = "leader-epoch-checkpoint"
PARTITION_METADATA = "partition.metadata"
META_PROPERTIES = "meta.properties"
STARTS = "log-start-offset-checkpoint"
"""Where partitions start within a segment, because records were deleted by request."""

CLEANER = "cleaner-offset-checkpoint"
"""Where the part of a partition begins that was not compacted yet."""

FORMAT = 1
"""The version of what we add to Kafka's directory; a newer one is refused."""

KAFKA_VERSION = 1
"""The version of Kafka's meta.properties that KRaft writes."""


def encode_id(uuid: bytes) -> str:
    return urlsafe_b64encode(uuid).decode().rstrip("=")


def decode_id(text: str) -> bytes:
    return urlsafe_b64decode(text + "==")


def encode_epochs(epochs: list[tuple[int, int]]) -> bytes:
    """Leader epochs with the offset each began at, ascending."""
    lines = [f"{epoch} {start}" for epoch, start in epochs]
    return "\n".join(["0", str(len(epochs)), *lines, ""]).encode()


def decode_epochs(data: bytes) -> list[tuple[int, int]]:
    """Raises ValueError when it is no such file; it can be made anew."""
    version, count, *lines = data.decode().split("\n")
    if version != "0":
        raise ValueError(f"version {version}")
    pairs = [line.split(" ") for line in lines[: int(count)]]
    return [(int(epoch), int(start)) for epoch, start in pairs]


def encode_offsets(offsets: Mapping[TopicPartition, int]) -> bytes:
    """An offset of each of some partitions."""
    lines = [f"{tp.topic} {tp.partition} {offset}" for tp, offset in sorted(offsets.items())]
    return "\n".join(["0", str(len(lines)), *lines, ""]).encode()


def decode_offsets(data: bytes) -> dict[TopicPartition, int]:
    """Raises ValueError when it is no such file. A broker makes it empty at first."""
    if not data:
        return {}
    version, count, *lines = data.decode().split("\n")
    if version != "0":
        raise ValueError(f"version {version}")
    rows = [line.split(" ") for line in lines[: int(count)]]
    if len(rows) != int(count):
        raise ValueError(f"{len(rows)} lines of {count}")
    return {TopicPartition(topic, int(number)): int(offset) for topic, number, offset in rows}


def encode_partition_metadata(topic_id: bytes) -> bytes:
    return f"version: 0\ntopic_id: {encode_id(topic_id)}\n".encode()


def decode_partition_metadata(data: bytes) -> bytes:
    """The topic's id. Raises ValueError when it is no such file."""
    for line in data.decode().splitlines():
        key, _, value = line.partition(": ")
        if key == "topic_id" and len(decode_id(value)) == 16:
            return decode_id(value)
    raise ValueError("no topic_id")


@dataclass(frozen=True, slots=True)
class Properties:
    """What meta.properties says of the whole directory: Kafka's keys, and `streamkit.format`."""

    cluster_id: str
    directory_id: str
    node_id: int = 1

    def encode(self) -> bytes:
        return (
            f"#\nversion={KAFKA_VERSION}\ncluster.id={self.cluster_id}\n"
            f"node.id={self.node_id}\ndirectory.id={self.directory_id}\n"
            f"streamkit.format={FORMAT}\n"
        ).encode()

    @classmethod
    def decode(cls, data: bytes, path: str) -> "Properties":
        """Raises UnsupportedFormat, and CorruptLog when it is no such file."""
        lines = (line.partition("=") for line in data.decode(errors="replace").splitlines())
        found = {key.strip(): value.strip() for key, _, value in lines if not key.startswith("#")}
        try:
            ours = int(found.get("streamkit.format", FORMAT))
            kafka = int(found["version"])
            properties = cls(
                cluster_id=found["cluster.id"],
                directory_id=found.get("directory.id", ""),
                node_id=int(found["node.id"]),
            )
        except (KeyError, ValueError) as error:
            raise CorruptLog(
                f"{path}: not the meta.properties of a log: {error!r} is missing or no number;"
                " restore the file from a backup or open another directory"
            ) from error
        if ours > FORMAT or kafka > KAFKA_VERSION:
            newer = f"streamkit.format={ours}" if ours > FORMAT else f"version={kafka}"
            raise UnsupportedFormat(
                f"{path}: {newer}, but this version of streamkit reads streamkit.format={FORMAT}"
                f" and version={KAFKA_VERSION}; install the version that wrote it, or a newer one"
            )
        return properties
