"""Up to where partitions are compacted: Kafka's `cleaner-offset-checkpoint` in the root.

Lost, everything counts as dirty again. What is changed here needs the root's lock.
"""

import logging
import os

from streamkit.log.checkpoints import CLEANER, decode_offsets, encode_offsets
from streamkit.log.files import Files, read_whole, write_new
from streamkit.records import TopicPartition

logger = logging.getLogger(__name__)


def read_cleaned(files: Files, root: str) -> dict[TopicPartition, int]:
    """The first dirty offset of each partition that was ever compacted."""
    path = os.path.join(root, CLEANER)
    try:
        return decode_offsets(read_whole(files, path))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        logger.warning("%s: not read, partitions are compacted from their starts: %s", path, error)
        return {}


def note_cleaned(files: Files, root: str, tp: TopicPartition, offset: int) -> None:
    """Note that a partition is clean below `offset`, on stable storage when it returns."""
    cleaned = read_cleaned(files, root)
    if cleaned.get(tp) != offset:
        _write(files, root, {**cleaned, tp: offset})


def forget_cleaned(files: Files, root: str, topic: str) -> None:
    """Forget a topic's: a new one of that name has all its records to be compacted."""
    cleaned = read_cleaned(files, root)
    kept = {tp: offset for tp, offset in cleaned.items() if tp.topic != topic}
    if len(kept) < len(cleaned):
        _write(files, root, kept)


def _write(files: Files, root: str, cleaned: dict[TopicPartition, int]) -> None:
    write_new(files, os.path.join(root, CLEANER), encode_offsets(cleaned))
