"""What a batch is held against before it is appended."""

from typing import TypeAlias

import msgspec

from streamkit.clock import Clock
from streamkit.codec import check
from streamkit.codec.header import BatchHeader
from streamkit.errors import MalformedBatch, RecordTooLarge
from streamkit.log.config import TopicConfig
from streamkit.log.files import Buffer
from streamkit.log.stamping import with_append_time
from streamkit.log.times import check_times
from streamkit.records import TopicPartition

Checked: TypeAlias = tuple[Buffer, BatchHeader]


class Checks:
    """What a partition's topic asks of a batch. Needs no lock."""

    def __init__(self, tp: TopicPartition, config: TopicConfig, *, clock: Clock) -> None:
        self._tp = tp
        self._clock = clock
        self.configure(config)

    def configure(self, config: TopicConfig) -> None:
        """Obey other configs from the next batch on."""
        self._config = config
        # What every batch is held against is worked out once.
        self._most = min(config.max_message_bytes, config.segment_bytes)
        self._times_count = config.bounds_timestamps
        self._stamps_times = config.timestamp_type == "LogAppendTime"

    def check(self, batch: Buffer) -> Checked:
        """A batch with its header, and with the time that it is to have.

        Raises CorruptBatch, MalformedBatch, RecordTooLarge, InvalidTimestamp.
        """
        header = check(batch)
        if header.size != len(batch):
            raise MalformedBatch(
                f"{self._tp}: {len(batch)} bytes to append, but their batch has {header.size}",
                header.size,
            )
        if header.count != header.last_offset_delta + 1:
            raise MalformedBatch(
                f"{self._tp}: {header.count} records to append for the"
                f" {header.last_offset_delta + 1} offsets that their batch takes"
            )
        if header.size > self._most:
            limit = self._most
            name = "max.message.bytes" if limit < self._config.segment_bytes else "segment.bytes"
            raise RecordTooLarge(
                f"{self._tp}: a batch of {header.size} bytes, but the topic's {name} is {limit};"
                " send smaller batches or raise it"
            )
        if self._times_count:
            check_times(self._tp, self._config, batch, self._clock.now())
        if self._stamps_times:
            now = self._clock.now()
            batch = with_append_time(bytes(batch), header, now)
            header = msgspec.structs.replace(header, max_timestamp=now)
        return batch, header
