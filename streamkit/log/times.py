"""The bounds that a topic sets to the times that producers give their records."""

from streamkit.codec import columns
from streamkit.errors import InvalidTimestamp
from streamkit.log.config import MAX_LONG, TopicConfig
from streamkit.log.files import Buffer
from streamkit.records import TopicPartition


def check_times(tp: TopicPartition, config: TopicConfig, batch: Buffer, now: int) -> None:
    """Raises InvalidTimestamp, and then nothing of the batch is taken; `now` in wall-clock ms."""
    before, after = config.timestamp_before_max_ms, config.timestamp_after_max_ms
    times = columns(bytes(batch)).timestamps
    if not len(times):
        return
    earliest, latest = min(times), max(times)
    if before != MAX_LONG and earliest < now - before:
        raise InvalidTimestamp(
            f"{tp}: a record's time, {earliest}, is {now - earliest} ms before now, and the topic's"
            f" message.timestamp.before.max.ms is {before}"
        )
    if after != MAX_LONG and latest > now + after:
        raise InvalidTimestamp(
            f"{tp}: a record's time, {latest}, is {latest - now} ms after now, and the topic's"
            f" message.timestamp.after.max.ms is {after}"
        )
