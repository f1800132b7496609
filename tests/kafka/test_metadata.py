"""Topics that a real broker and we make and change in turn; and never both at once."""

import time

import pytest
from aiokafka.admin import NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streamkit.codec import encode, headers
from streamkit.errors import LogInUse
from streamkit.log.broker import CLEAN_SHUTDOWN
from streamkit.log.directory import Log
from streamkit.log.files import RealFiles
from streamkit.log.metadata_snapshot import newest_snapshot
from streamkit.records import TopicPartition

ORDERS = TopicPartition("orders", 0)
SUMS_UP_OFTEN = "metadata.log.max.record.bytes.between.snapshots=1"


def configs(kafka, topic):
    """The non-default ones, as the broker says."""
    asked = [ConfigResource(ConfigResourceType.TOPIC, topic)]
    (answer,) = kafka.ask(lambda admin: admin.describe_configs(asked))
    ((_, _, _, _, entries),) = answer.resources
    set_for_the_topic = 1
    return {name: value for name, value, _, source, *_ in entries if source == set_for_the_topic}


def partitions(kafka):
    described = kafka.ask(lambda admin: admin.describe_topics())
    return {topic["topic"]: len(topic["partitions"]) for topic in described}


def remove_what_is_summed_up(folder):
    """Leave of the metadata log what its own retention would: see `SUMS_UP_OFTEN`."""
    cut, _ = newest_snapshot(RealFiles(), str(folder))
    (segment,) = folder.glob("*.log")
    data = segment.read_bytes()
    rest = [at for at, header in headers(data) if header.base_offset >= cut]
    for path in folder.iterdir():
        if path.suffix in (".log", ".index", ".timeindex", ".snapshot"):
            path.unlink()
    (folder / f"{cut:020d}.log").write_bytes(data[rest[0] :] if rest else b"")
    return cut


def test_a_broker_that_has_summed_up_its_topics_and_we_change_them_in_turn(
    tmp_path, broker, read, written, caplog
):
    kafka = broker(tmp_path / "kafka", SUMS_UP_OFTEN)
    kafka.format()
    kafka.start()
    kafka.create("orders", 2, {"segment.bytes": str(1 << 20)})
    kafka.create("kept", 1, {"cleanup.policy": "compact"})
    kafka.send("orders", written[8], "none")
    folder = kafka.data / "__cluster_metadata-0"
    deadline = time.monotonic() + 60
    while (newest_snapshot(RealFiles(), str(folder)) or (0, ""))[0] < 10:
        assert time.monotonic() < deadline, f"no snapshot: {sorted(folder.iterdir())}"
        time.sleep(0.1)
    kafka.ask(lambda admin: admin.create_partitions({"orders": NewPartitions(3)}))
    altered = ConfigResource(ConfigResourceType.TOPIC, "kept", {"max.message.bytes": "5000"})
    kafka.ask(lambda admin: admin.alter_configs([altered]))
    kafka.stop()
    assert remove_what_is_summed_up(folder) > 0
    kafka.start()  # it goes on from there, as we are going to
    assert partitions(kafka) == {"orders": 3, "kept": 1}
    expected = kafka.read("orders")
    kafka.stop()

    for read_only in (True, False):
        with Log.open(kafka.data, read_only=read_only) as log:
            told = {name: (topic.partitions, topic.config) for name, topic in log.topics().items()}
            assert told == {
                "orders": (3, {"segment.bytes": str(1 << 20)}),
                "kept": (1, {"max.message.bytes": "5000"}),
            }
            assert read(log.partition(ORDERS)) == expected
    assert not caplog.messages
    with Log.open(kafka.data) as log:
        log.add_partitions("orders", 5)
        log.alter_topic("orders", {"segment.bytes": None, "max.message.bytes": "3000"})
        log.create_topic("ours", 2, {"cleanup.policy": "compact"})
        log.alter_topic("ours", {"cleanup.policy": None})
        log.delete_topic("kept")
        log.alter_config({"max.disk.bytes": str(1 << 40)})
        log.producer_id()
        log.partition(TopicPartition("orders", 4)).append([encode([b"a"], timestamps=5)])
    kafka.start()
    assert partitions(kafka) == {"orders": 5, "ours": 2}
    assert configs(kafka, "orders") == {"max.message.bytes": "3000"}
    assert configs(kafka, "ours") == {}
    assert kafka.read("orders") == expected
    assert [row.value for row in kafka.read("orders", 4)] == [b"a"]


def test_a_broker_and_we_are_never_on_a_directory_at_once(tmp_path, broker, written):
    kafka = broker(tmp_path / "log")
    with Log.open(kafka.data) as log:
        log.create_topic("orders")
        with Log.open(kafka.data):
            pass  # that one is closed does not let go of the other's share
        with pytest.raises(AssertionError, match="the broker ended"):
            kafka.start()
        assert "Failed to acquire lock on file .lock" in kafka.output
        # Its controller was up before, and has written to the metadata log behind our back.
        assert log.partition(ORDERS).append([encode([b"a"], timestamps=5)]) == 0
        for number in range(9):
            log.create_topic(f"after-{number}")
        names = sorted(log.topics())
    with Log.open(kafka.data) as log:
        assert sorted(log.topics()) == names
        assert log.partition(ORDERS).end_offset == 1
    kafka.stop()
    kafka.start()
    assert sorted(partitions(kafka)) == names
    with pytest.raises(LogInUse, match="a Kafka broker runs on this directory"):
        Log.open(kafka.data)
    kafka.send("orders", written[0], "none")
    with Log.open(kafka.data, read_only=True) as log:
        assert log.topic("orders").partitions == 1
    kafka.stop()
    assert (kafka.data / CLEAN_SHUTDOWN).exists()
    with Log.open(kafka.data) as log:
        assert log.partition(ORDERS).end_offset == 2
        log.partition(ORDERS).append([encode([b"b"], timestamps=5)])
    # As after a power cut: the broker must not take this for records.
    with (kafka.data / str(ORDERS) / f"{0:020d}.log").open("ab") as newest:
        newest.write(encode([b"torn" * 99], timestamps=5)[:-7])
    kafka.start()
    assert [row.value for row in kafka.read("orders")] == [b"a", written[0][0].value, b"b"]
    kafka.send("orders", written[1], "none")
    assert len(kafka.read("orders")) == 3 + len(written[1])
