"""What a Kafka broker sums up of `__cluster_metadata` before it removes the records.

    __cluster_metadata-0/<offset, 20 digits>-<epoch, 10 digits>.checkpoint

The file holds record batches as a segment does, with the records that all before that offset amount
to; the first and the last batch are control batches. We sum up nothing: for us the log begins at 0.
"""

import logging
import os
import re
from dataclasses import replace

from streamkit.codec import columns, headers
from streamkit.errors import CorruptBatch, CorruptLog
from streamkit.log.checkpoints import decode_offsets
from streamkit.log.files import Files, read_whole
from streamkit.log.metadata import Topics, decode_record

logger = logging.getLogger(__name__)

CLEANED = "cleaner-offset-checkpoint"
"""In the root: up to where partitions have been compacted, and so which ever were."""

_NAME = re.compile(r"(\d{20})-(\d{10})\.checkpoint")


def newest_snapshot(files: Files, directory: str) -> tuple[int, str] | None:
    """The offset and the path of the newest one; None: there is none."""
    found = [match for name in files.listdir(directory) if (match := _NAME.fullmatch(name))]
    if not found:
        return None
    newest = max(found, key=lambda match: (int(match[1]), int(match[2])))
    return int(newest[1]), os.path.join(directory, newest[0])


def read_snapshot(files: Files, path: str) -> Topics:
    """Raises CorruptLog."""
    data = read_whole(files, path)
    topics = Topics()
    try:
        batches = [header for _, header in headers(data)]
        values = columns(data).values
    except CorruptBatch as error:
        raise CorruptLog(
            f"{path} is corrupt at byte {error.position}: {error}. It tells of the log's topics,"
            " and what it was made of is gone: restore the file from a backup"
        ) from error
    if len(batches) < 2 or not batches[-1].control:
        raise CorruptLog(f"{path}: its end is missing; restore the file from a backup")
    for value in values:
        record = decode_record(value) if value is not None else None
        if record is not None:
            topics.apply(record)
    _recall_compaction(files, path, topics)
    return topics


def _recall_compaction(files: Files, path: str, topics: Topics) -> None:
    """A snapshot has a topic's configs of that time only; that it was compacted once, the root."""
    cleaned = os.path.join(os.path.dirname(os.path.dirname(path)), CLEANED)
    try:
        names = {tp.topic for tp in decode_offsets(read_whole(files, cleaned))}
    except FileNotFoundError:
        return
    except ValueError as error:
        logger.warning("%s: not read, topics may be taken for damaged: %s", cleaned, error)
        return
    for name in names & topics.by_name.keys():
        topics.by_name[name] = replace(topics.by_name[name], once_compacted=True)
