"""Where partitions begin within a segment, because records were deleted: for when a block is lost.

Kafka keeps it in a file of the root, `log-start-offset-checkpoint`. The control block says it as
well, and first; but that is a cache. A start that retention has raised needs no entry: it is where
the first segment begins. What is changed here needs the root's lock.
"""

import logging
import os

from streamkit.log.checkpoints import STARTS, decode_offsets, encode_offsets
from streamkit.log.files import Files, read_whole, write_new
from streamkit.records import TopicPartition

logger = logging.getLogger(__name__)


def read_starts(files: Files, root: str) -> dict[TopicPartition, int]:
    """All that were noted; none if the file is lost or damaged."""
    path = os.path.join(root, STARTS)
    try:
        return decode_offsets(read_whole(files, path))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        logger.warning("%s: not read, deleted records may be seen again: %s", path, error)
        return {}


def noted_start(files: Files, directory: str) -> int:
    """What was noted of the partition that is in `directory`; 0: nothing."""
    root, name = os.path.split(directory)
    topic, _, number = name.rpartition("-")
    starts = read_starts(files, root)
    return starts.get(TopicPartition(topic, int(number)), 0) if number.isdecimal() else 0


def note_start(files: Files, root: str, tp: TopicPartition, offset: int) -> None:
    """Note where a partition begins, on stable storage when it returns."""
    starts = read_starts(files, root)
    if starts.get(tp, -1) < offset:
        _write(files, root, {**starts, tp: offset})


def forget_starts(files: Files, root: str, topic: str) -> None:
    """Forget a topic's: a new one of that name begins at 0."""
    starts = read_starts(files, root)
    kept = {tp: offset for tp, offset in starts.items() if tp.topic != topic}
    if len(kept) < len(starts):
        _write(files, root, kept)


def _write(files: Files, root: str, starts: dict[TopicPartition, int]) -> None:
    write_new(files, os.path.join(root, STARTS), encode_offsets(starts))
