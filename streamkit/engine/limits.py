"""What a topic takes, asked where a record is made: later nobody knows what it was made of."""

from collections.abc import Mapping
from dataclasses import dataclass

from streamkit import codec
from streamkit.clients.topic_config import compression_of, is_compacted, max_batch_bytes
from streamkit.codec.compression import Compression
from streamkit.errors import InvalidRecord, RecordTooLarge
from streamkit.records import Headers


@dataclass(frozen=True, slots=True)
class Limits:
    """A topic's limits: `max_bytes` of a batch, and whether each record needs a key."""

    max_bytes: int
    needs_key: bool
    compression: Compression = "none"

    def check(
        self, key: bytes | None, value: bytes | None, stamp: int, headers: Headers
    ) -> RecordTooLarge | InvalidRecord | None:
        """Why the topic would refuse a record; None when it would take it."""
        if self.needs_key and key is None:
            return InvalidRecord(
                "it has no key, and the topic is compacted: only the last record of each key is "
                "kept, so each needs one"
            )
        batch = codec.encode(
            [value], keys=[key], timestamps=stamp, headers=[headers], compression=self.compression
        )
        if len(batch) > self.max_bytes:
            return RecordTooLarge(
                f"it takes {len(batch)} bytes, and the topic's max.message.bytes is "
                f"{self.max_bytes}; give less, or raise it"
            )
        return None


def limits_of(config: Mapping[str, str]) -> Limits:
    """The limits of a topic of this config."""
    return Limits(max_batch_bytes(config), is_compacted(config), compression_of(config))
