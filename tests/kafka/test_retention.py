"""Deleted records, files of maintenance and configs of retention, between a real broker and us."""

import aiokafka
import pytest

from streamkit.codec import encode
from streamkit.log.directory import Log
from streamkit.log.space import BALLAST
from streamkit.records import TopicPartition

ORDERS = TopicPartition("orders", 0)
MIB = 1 << 20


@pytest.fixture
def ours(tmp_path):
    """A log with ten records of which four were deleted, in one segment, and all our files."""
    root = tmp_path / "log"
    with Log.open(root, fsync="never") as log:
        log.create_topic(
            "orders",
            1,
            {
                "retention.ms": "-1",
                "retention.bytes": "1000000000",
                "segment.jitter.ms": "5",
                "message.timestamp.before.max.ms": "9223372036854775807",
                "min.insync.replicas": "1",
            },
        )
        for number in range(10):
            log.partition(ORDERS).append([encode([b"%d" % number], timestamps=number)])
        log.alter_config({"max.disk.bytes": "5000000000"})
        log.delete_records(ORDERS, 4)
        log.maintain()
    assert (root / BALLAST).exists()
    return root


def values(rows) -> list[bytes]:
    return [row.value for row in rows]


def test_a_broker_does_not_give_what_was_deleted_and_minds_none_of_our_files(ours, broker):
    server = broker(ours)
    server.start()
    assert values(server.read("orders")) == [b"%d" % number for number in range(4, 10)]
    server.stop()
    with Log.open(ours, fsync="never") as log:
        assert log.partition(ORDERS).start_offset == 4
        assert log.config.max_disk_bytes == 5_000_000_000


def test_what_a_broker_deletes_is_deleted_for_us(ours, broker, read):
    server = broker(ours)
    server.start()
    before = aiokafka.admin.RecordsToDelete(before_offset=7)
    place = aiokafka.TopicPartition("orders", 0)
    server.ask(lambda admin: admin.delete_records({place: before}))
    server.stop()
    with Log.open(ours, fsync="never", maintenance=False) as log:
        assert values(read(log.partition(ORDERS))) == [b"7", b"8", b"9"]
