"""The events in a log in a directory, for those engines that work from log to log."""

from collections import defaultdict
from pathlib import Path

import msgspec

from benchmarks.events import START, Event, users
from streamkit.backends.base import Backend
from streamkit.backends.locate import open_backend
from streamkit.codec import partition_for
from streamkit.records import TopicPartition

PARTITIONS = 4
BATCH = 500
"""Records a batch, as a busy producer writes them."""

ORDERS = "orders"
OUT = "out"
USERS = "users"


def fill(directory: Path, events: list[Event]) -> Backend:
    """A log with the events in topic `orders` and an empty topic `out`."""
    backend = open_backend(directory)
    backend.create_topic(ORDERS, PARTITIONS)
    backend.create_topic(OUT, PARTITIONS)
    waiting: defaultdict[int, list[Event]] = defaultdict(list)
    for event in events:
        partition = partition_for(event.key, PARTITIONS)
        batch = waiting[partition]
        batch.append(event)
        if len(batch) == BATCH:
            _append(backend, partition, waiting.pop(partition))
    for partition, batch in waiting.items():
        _append(backend, partition, batch)
    backend.sync(TopicPartition(ORDERS, number) for number in range(PARTITIONS))
    return backend


def fill_users(backend: Backend) -> None:
    """A topic `users` with the table, partitioned as the orders are."""
    backend.create_topic(USERS, PARTITIONS, {"cleanup.policy": "compact"})
    encode = msgspec.json.Encoder().encode
    for name, user in users().items():
        at = TopicPartition(USERS, partition_for(name.encode(), PARTITIONS))
        backend.append(at, [encode(user)], keys=[name.encode()], timestamps=[START])


def _append(backend: Backend, partition: int, batch: list[Event]) -> None:
    backend.append(
        TopicPartition(ORDERS, partition),
        [event.value for event in batch],
        keys=[event.key for event in batch],
        timestamps=[event.timestamp for event in batch],
    )


def outputs(backend: Backend) -> list[bytes]:
    """All values of topic `out`; closes the log."""
    values: list[bytes] = []
    positions = {TopicPartition(OUT, number): 0 for number in range(PARTITIONS)}
    while batches := backend.fetch(positions):
        for batch in batches:
            values += [value for value in batch.columns().values if value is not None]
            positions[batch.partition] = batch.next_offset
    backend.close()
    return values
