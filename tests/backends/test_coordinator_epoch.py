"""Markers name their coordinator's epoch; that of a Kafka broker may be lower than ours were."""

import pytest

from streamkit.backends.embedded import EmbeddedBackend
from streamkit.backends.offsets_topic import OffsetsTopic
from streamkit.clients.consumer import Consumer
from streamkit.clients.producer import Producer
from streamkit.clock import SystemClock
from streamkit.codec import encode
from streamkit.fsck.repair import repair
from streamkit.log.checkpoints import EPOCHS, encode_epochs
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

A = TopicPartition("a", 0)


@pytest.fixture
def root(tmp_path):
    with opened(tmp_path / "log") as log:
        log.create_topic("a")
        commit(log, "first")
    return tmp_path / "log"


def opened(root):
    log = Log.open(root, fsync="never", maintenance=False)
    return EmbeddedBackend(log, OffsetsTopic(log, SystemClock()))


def commit(log, value):
    with Producer(log, transactional_id="x") as producer, producer.transaction() as transaction:
        transaction.send("a", value)


def seen(log):
    with Consumer(log, partitions=[A]) as consumer:
        return [record.value for record in consumer.until_end()]


def mark_as_a_broker(log, coordinator_epoch):
    """Write a batch of the producer, and a marker with that epoch of the coordinator."""
    partition = log._log.partition(A)
    (known,) = partition.producers()
    batch = encode(
        [b"broker's"],
        timestamps=1,
        producer_id=known.producer_id,
        producer_epoch=known.epoch,
        base_sequence=0,
        transactional=True,
    )
    partition.append([batch], acks=1)
    assert partition.append_marker(
        known.producer_id, known.epoch + 1, True, coordinator_epoch, True
    )


def test_a_torn_tail_of_the_transactions_topic_fences_no_broker(root):
    # A broker begins its leader epochs at 0, whatever ours are by then.
    folder = root / "__transaction_state-0"
    (folder / EPOCHS).write_bytes(encode_epochs([(3, 0)]))
    (folder / "control").unlink()
    with opened(root) as log:
        assert log._log.partition(TopicPartition("__transaction_state", 0)).leader_epoch == 3
        commit(log, "second")
        mark_as_a_broker(log, 0)
        assert seen(log) == [b"first", b"second", b"broker's"]


def test_a_broker_that_was_here_fences_nobody(root):
    with opened(root) as log:
        mark_as_a_broker(log, 7)
        commit(log, "last")
        assert seen(log) == [b"first", b"broker's", b"last"]


def test_a_transaction_is_aborted_by_repair_whoever_wrote_the_last_marker(root):
    with opened(root) as log:
        mark_as_a_broker(log, 7)
        partition = log._log.partition(A)
        (known,) = partition.producers()
        left = encode(
            [b"left"],
            timestamps=1,
            producer_id=known.producer_id,
            producer_epoch=known.epoch,
            base_sequence=0,
            transactional=True,
        )
        partition.append([left], acks=1)
    assert any("aborted" in done for done in repair(root, now=0))
    with opened(root) as log:
        assert seen(log) == [b"first", b"broker's"]
        assert log.offsets(A).end == log.offsets(A).log_end
