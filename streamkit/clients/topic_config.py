"""What a topic's config says to whoever appends to it; absent configs have Kafka's defaults."""

from collections.abc import Mapping

from streamkit.codec.compression import CODECS, Compression

_MAX_MESSAGE_BYTES = 1_048_588
_SEGMENT_BYTES = 1 << 30
_DELETE_RETENTION = 24 * 3600 * 1000


def compression_of(config: Mapping[str, str]) -> Compression:
    """How new batches are compressed. `producer`, the default, leaves it to us: not at all."""
    name = config.get("compression.type", "producer")
    return name if name in CODECS else "none"


def is_compacted(config: Mapping[str, str]) -> bool:
    return "compact" in config.get("cleanup.policy", "delete")


def max_batch_bytes(config: Mapping[str, str]) -> int:
    return int(config.get("max.message.bytes", _MAX_MESSAGE_BYTES))


def segment_bytes(config: Mapping[str, str]) -> int:
    return int(config.get("segment.bytes", _SEGMENT_BYTES))


def delete_retention(config: Mapping[str, str]) -> int:
    """For how many ms compaction leaves a tombstone there."""
    return int(config.get("delete.retention.ms", _DELETE_RETENTION))
