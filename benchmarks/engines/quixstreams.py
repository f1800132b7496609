"""Quix Streams' engine without a broker: its StreamingDataFrame, checkpoints and RocksDB stores.

Messages come from a list and results go to a list, through stand-ins for its consumer and producer
that do nothing else. That flatters it: no network, no changelog, no partition assignment. What is
done per message is what `Application.run` does: deserialize, run the composed dataframe in a
context of its own, store the offset, ask the checkpoint whether it is time.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, cast

from quixstreams.context import copy_context, set_message_context
from quixstreams.dataframe import DataFrameRegistry, StreamingDataFrame
from quixstreams.models import Topic, TopicConfig, TopicManager
from quixstreams.processing import ProcessingContext
from quixstreams.sinks import SinkManager
from quixstreams.state import StateStoreManager

from benchmarks.engines.process import Job, main
from benchmarks.events import LARGE, NET, WINDOW, Event

COMMIT_INTERVAL = 5.0
"""Seconds; Quix Streams' own default."""

Define: TypeAlias = Callable[[StreamingDataFrame], StreamingDataFrame]


class _Message:
    """What `Topic.row_deserialize` asks of a message of confluent-kafka."""

    __slots__ = ("_event", "_offset")

    def __init__(self, event: Event, offset: int) -> None:
        self._event = event
        self._offset = offset

    def headers(self) -> None:
        return None

    def key(self) -> bytes:
        return self._event.key

    def value(self) -> bytes:
        return self._event.value

    def offset(self) -> int:
        return self._offset

    def partition(self) -> int:
        return 0

    def timestamp(self) -> tuple[int, int]:
        return 1, self._event.timestamp

    def topic(self) -> str:
        return "orders"

    def leader_epoch(self) -> None:
        return None

    def __len__(self) -> int:
        return len(self._event.value)


class _ListProducer:
    def __init__(self) -> None:
        self.values: list[bytes] = []
        self.offsets: dict[tuple[str, int], int] = {}

    def produce_row(self, row: Any, topic: Any, key: Any, timestamp: int) -> None:
        self.values.append(topic.row_serialize(row=row, key=key).value)

    def flush(self, timeout: float | None = None) -> int:
        return 0


class _NoConsumer:
    def commit(self, offsets: Any, asynchronous: bool) -> None:
        return None


def _topic(name: str) -> Topic:
    topic = Topic(name)
    topic.broker_config = TopicConfig(1, 1, {"retention.ms": "-1", "retention.bytes": "-1"})
    return topic


def in_memory(define: Define, events: list[Event], directory: Path) -> Job:
    logging.disable(logging.WARNING)
    registry = DataFrameRegistry()
    state = StateStoreManager(group_id="bench", state_dir=directory)
    producer = _ListProducer()
    processing = ProcessingContext(
        commit_interval=COMMIT_INTERVAL,
        producer=cast(Any, producer),
        consumer=cast(Any, _NoConsumer()),
        state_manager=state,
        sink_manager=SinkManager(),
        dataframe_registry=registry,
    )
    source, target = _topic("orders"), _topic("out")
    frame = StreamingDataFrame(
        source,
        topic_manager=TopicManager(cast(Any, None), "bench"),
        registry=registry,
        processing_context=processing,
    )
    registry.register_root(frame)
    define(frame).to_topic(target)

    def work() -> None:
        execute = registry.compose_all()[source.name]
        state.init()
        for stream_id in registry.get_stream_ids(source.name):
            state.on_partition_assign(stream_id, 0, {source.name: 0})
        processing.init_checkpoint()
        for offset, event in enumerate(events):
            row: Any = source.row_deserialize(cast(Any, _Message(event, offset)))
            context = copy_context()
            context.run(set_message_context, row.context)
            context.run(execute, row.value, row.key, row.timestamp, row.headers)
            processing.store_offset(source.name, 0, offset)
            processing.commit_checkpoint()
        processing.commit_checkpoint(force=True)
        state.close()

    return Job(work, lambda: producer.values)


def filter_map(orders: StreamingDataFrame) -> StreamingDataFrame:
    def invoice(order: dict[str, Any]) -> dict[str, Any]:
        net = order["amount"] * NET
        tax = order["amount"] - net
        return {"id": order["id"], "user": order["user"], "net": net, "tax": tax}

    return orders.filter(lambda order: order["amount"] >= LARGE).apply(invoice)


def windowed_count(orders: StreamingDataFrame) -> StreamingDataFrame:
    def count(window: dict[str, Any], key: bytes, timestamp: int, headers: Any) -> dict[str, Any]:
        return {"user": key.decode(), "start": window["start"], "count": window["value"]}

    return orders.tumbling_window(WINDOW).count().final().apply(count, metadata=True)


if __name__ == "__main__":
    main(in_memory, {"filter-map": filter_map, "windowed-count": windowed_count})
