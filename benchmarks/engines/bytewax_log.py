"""Bytewax's engine from streamkit's log to streamkit's log, through a source and a sink for it.

What is left of the difference is the engine. It still keeps no state on disk and commits nothing:
recovery is off.
"""

from collections import defaultdict
from pathlib import Path

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main

from benchmarks.engines.bytewax import FLOWS, Flow, Out, Raw
from benchmarks.engines.orders_log import ORDERS, OUT, PARTITIONS, fill, outputs
from benchmarks.engines.process import Job, main
from benchmarks.events import Event
from streamkit.backends.base import Backend
from streamkit.codec import partition_for
from streamkit.records import TopicPartition

FETCH_BYTES = 1 << 17
"""About 1,000 records: what Bytewax's own Kafka source takes at a time."""


class _LogPartition(StatefulSourcePartition[Raw, int]):
    def __init__(self, backend: Backend, partition: TopicPartition, offset: int) -> None:
        self._backend = backend
        self._partition = partition
        self._offset = offset

    def next_batch(self) -> list[Raw]:
        items: list[Raw] = []
        batches = self._backend.fetch({self._partition: self._offset}, max_bytes=FETCH_BYTES)
        if not batches:
            raise StopIteration
        for batch in batches:
            columns = batch.columns()
            items += zip(columns.keys, columns.values, strict=True)  # type: ignore[arg-type]
            self._offset = batch.next_offset
        return items

    def snapshot(self) -> int:
        return self._offset


class _LogSource(FixedPartitionedSource[Raw, int]):
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def list_parts(self) -> list[str]:
        return [str(number) for number in range(PARTITIONS)]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> _LogPartition:
        return _LogPartition(
            self._backend, TopicPartition(ORDERS, int(for_part)), resume_state or 0
        )


class _LogSinkPartition(StatelessSinkPartition[Out]):
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def write_batch(self, items: list[Out]) -> None:
        keys: defaultdict[int, list[bytes | None]] = defaultdict(list)
        values: defaultdict[int, list[bytes | None]] = defaultdict(list)
        for user, value in items:
            key = user.encode()
            number = partition_for(key, PARTITIONS)
            keys[number].append(key)
            values[number].append(value)
        for number, batch in values.items():
            self._backend.append(TopicPartition(OUT, number), batch, keys=keys[number])


class _LogSink(DynamicSink[Out]):
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _LogSinkPartition:
        return _LogSinkPartition(self._backend)


def log_to_log(flow: Flow, events: list[Event], directory: Path) -> Job:
    backend = fill(directory, events)
    ready = flow(_LogSource(backend), _LogSink(backend))

    def work() -> None:
        run_main(ready)
        backend.sync(TopicPartition(OUT, number) for number in range(PARTITIONS))

    return Job(work, lambda: outputs(backend))


if __name__ == "__main__":
    main(log_to_log, FLOWS)
