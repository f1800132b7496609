"""Kafka's DumpLogSegments reads every file we write, and finds in it what we put there."""

import json
import re
from pathlib import Path

import pytest
from kafka_dump import Dump

from streamkit.backends.embedded import EmbeddedBackend
from streamkit.backends.offsets_topic import OffsetsTopic
from streamkit.backends.values import CommittedOffset
from streamkit.clock import SystemClock
from streamkit.log.directory import Log
from streamkit.log.root import METADATA
from streamkit.records import TopicPartition

ORDERS = TopicPartition("orders", 0)
STAMPED = TopicPartition("stamped", 0)
OFFSETS = TopicPartition("__consumer_offsets", 0)


@pytest.fixture
def log(tmp_path, append, written):
    """Records in several segments, in one stamped by us, and a group's offsets."""
    small = {"segment.bytes": "4096", "index.interval.bytes": "500"}
    with Log.open(tmp_path, fsync="never") as log:
        log.create_topic("orders", 2, small)
        append(log.partition(ORDERS))
        log.create_topic("stamped", 1, {**small, "message.timestamp.type": "LogAppendTime"})
        append(log.partition(STAMPED))
        yield log


@pytest.fixture
def dump(kafka, log):
    """`dump(tp, option...)`: the tool's word on the files of a partition."""

    def dumped(tp: TopicPartition, *options: str, files: str = "0*") -> Dump:
        paths = sorted(map(str, (Path(log.path) / str(tp)).glob(files)))
        return Dump(
            kafka.run(
                "org.apache.kafka.tools.DumpLogSegments",
                *("--deep-iteration", "--print-data-log", *options),
                *("--files", ",".join(paths)),
            )
        )

    return dumped


def number_of(log: Log, tp: TopicPartition, suffix: str) -> int:
    return len(list((Path(log.path) / str(tp)).glob(f"*{suffix}")))


def as_dumped(found: re.Match[str], kind: str) -> tuple:
    def text(part: str) -> bytes | None:
        # What is empty is printed as it is; what is null is not printed.
        return None if found[f"{part}_size"] == "-1" else (found[part] or "").encode()

    assert found["kind"] == kind
    keys = found["headers"].split(",") if found["headers"] else []
    return int(found["offset"]), int(found["time"]), text("key"), text("value"), keys


def test_records_of_every_compression_in_many_segments(log, dump, written):
    found = dump(ORDERS)
    assert found.complaints == []
    assert [as_dumped(record, "CreateTime") for record in found.records] == [
        (row.offset, row.timestamp, row.key, row.value, [name for name, _ in row.headers])
        for batch in written
        for row in batch
    ]
    assert set(found.codecs) == {"none", "gzip", "snappy", "lz4", "zstd"}
    assert number_of(log, ORDERS, ".log") > 3
    assert found.entries > 3 * number_of(log, ORDERS, ".log")


def test_records_that_got_their_time_at_the_append(log, dump, read):
    found = dump(STAMPED)
    assert found.complaints == []
    assert [as_dumped(record, "LogAppendTime") for record in found.records] == [
        (row.offset, row.timestamp, row.key, row.value, [name for name, _ in row.headers])
        for row in read(log.partition(STAMPED))
    ]


def test_indexes_pass_the_sanity_check_on_an_empty_partition_too(log, dump):
    for tp in (ORDERS, STAMPED, TopicPartition("orders", 1), METADATA):
        assert dump(tp, "--index-sanity-check", files="*index").complaints == []


# Of the first segment: an entry's offset, an entry's time, a batch's time.
@pytest.mark.parametrize(("suffix", "byte"), [("index", 3), ("timeindex", 7), ("log", 34)])
def test_damage_is_complained_of(log, dump, suffix, byte):
    path = Path(log.path) / str(ORDERS) / f"{0:020d}.{suffix}"
    data = bytearray(path.read_bytes())
    data[byte] ^= 1
    path.write_bytes(data)
    assert dump(ORDERS).complaints != []


def test_topics_and_configs_in_the_cluster_metadata(log, dump):
    log.create_topic("gone")
    log.delete_topic("gone")
    found = dump(METADATA, "--cluster-metadata-decoder")
    assert found.complaints == []
    records = [json.loads(record["value"]) for record in found.records]
    kinds = [record["type"] for record in records]
    assert kinds.count("TOPIC_RECORD") == 3 and kinds.count("REMOVE_TOPIC_RECORD") == 1
    assert [
        (data["topicId"], data["partitionId"], data["replicas"], data["isr"], data["leader"])
        for data in (record["data"] for record in records if record["type"] == "PARTITION_RECORD")
    ][:2] == [(kafka_id(log, "orders"), number, [1], [1], 1) for number in (0, 1)]
    assert {
        (data["resourceName"], data["name"], data["value"])
        for data in (record["data"] for record in records if record["type"] == "CONFIG_RECORD")
        if data["resourceName"] == "stamped"
    } == {("stamped", key, value) for key, value in log.topic("stamped").config.items()}


def kafka_id(log: Log, topic: str) -> str:
    text = (Path(log.path) / f"{topic}-0" / "partition.metadata").read_text()
    return text.split("topic_id: ")[1].strip()


def test_a_groups_members_and_offsets(log, dump):
    clock = SystemClock()
    with EmbeddedBackend(log, OffsetsTopic(log, clock), closing=lambda: None) as backend:
        member = backend.join("billing", {"orders": 2}, client_id="one")
        backend.commit("billing", {ORDERS: CommittedOffset(17, "note")}, member=member)
        member.leave()
        backend.commit("other", {ORDERS: CommittedOffset(3)})
        backend.delete_group("other")
    found = dump(OFFSETS, "--offsets-decoder")
    assert found.complaints == []
    latest: dict[str, dict | None] = {}
    joined: list[dict] = []
    for record in found.records:
        value = record["value"]
        data = json.loads(value)["data"] if value and value != "<DELETE>" else None
        latest[record["key"]] = data
        joined += data.get("members", []) if data else []
    assert [member["clientId"] for member in joined] == ["one"]
    assert joined[0]["assignment"]["assignedPartitions"] == [
        {"topic": "orders", "partitions": [0, 1]}
    ]
    by_group = {json.loads(key)["data"]["group"]: json.loads(key) for key in latest}
    assert by_group.keys() == {"billing", "other"}
    commits = {key: data for key, data in latest.items() if "partition" in json.loads(key)["data"]}
    assert {
        json.loads(key)["data"]["group"]: data and (data["offset"], data["metadata"])
        for key, data in commits.items()
    } == {"billing": (17, "note"), "other": None}
