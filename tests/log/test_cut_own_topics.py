"""The log's own topics, cut below what was on stable storage: who is refused what, and who not."""

import os
from pathlib import Path

import pytest
from faulty_files import FaultyFiles

from streamkit.backends.base import Backend
from streamkit.backends.locate import open_backend
from streamkit.clients.consumer import Consumer
from streamkit.clients.producer import Producer
from streamkit.errors import CorruptLog, ProducerFenced
from streamkit.fsck.check import check
from streamkit.fsck.repair import repair
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

NOW = 1_700_000_000_000
OFFSETS = TopicPartition("__consumer_offsets", 0)
TRANSACTIONS = TopicPartition("__transaction_state", 0)
METADATA = TopicPartition("__cluster_metadata", 0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Plain records, some in transactions, and a group that has read them."""
    path = tmp_path / "log"
    with open_backend(path) as backend:
        backend.create_topic("events")
        for number in range(3):
            in_transaction(backend, b"%d" % number)
        assert in_group(backend) == [b"0", b"1", b"2"]
        backend.create_topic("young")
    return path


def plainly(backend: Backend, value: bytes) -> None:
    with Producer(backend) as producer:
        producer.send("events", value)


def in_transaction(backend: Backend, value: bytes) -> None:
    with (
        Producer(backend, transactional_id="t") as producer,
        producer.transaction() as transaction,
    ):
        transaction.send("events", value)


def in_group(backend: Backend) -> list[bytes]:
    with Consumer(backend, "events", group="g") as consumer:
        found = [record.value for record in consumer.poll(0.5)]
        consumer.commit()
        return found


def alone(backend: Backend) -> list[bytes]:
    with Consumer(backend, "events") as consumer:
        return [record.value for record in consumer.poll(0.5)]


def cut(root: Path, tp: TopicPartition) -> None:
    (path,) = (root / str(tp)).glob("*.log")
    os.truncate(path, path.stat().st_size * 2 // 5)


def stopped(root: Path, tp: TopicPartition) -> None:
    with Log.open(root, files=FaultyFiles(synced=False)) as log:
        end = log.partition(tp).end_offset
        with pytest.raises(CorruptLog, match=rf"{tp}@\d+: offsets \d+ to {end - 1} were on stable"):
            log.partition(tp).sync()


def test_without_a_part_of_the_offsets_groups_are_stopped_and_all_others_go_on(root):
    cut(root, OFFSETS)
    stopped(root, OFFSETS)
    with open_backend(root) as backend:
        plainly(backend, b"3")
        in_transaction(backend, b"4")
        assert alone(backend) == [b"0", b"1", b"2", b"3", b"4"]
        backend.create_topic("new")
        with pytest.raises(CorruptLog, match=r"__consumer_offsets-0@.*streamkit fsck --repair"):
            in_group(backend)
    repair(root, now=NOW)
    assert check(root, now=NOW).clean
    with open_backend(root) as backend:
        assert in_group(backend) == [b"0", b"1", b"2", b"3", b"4"]  # its position was lost
        plainly(backend, b"5")
        assert in_group(backend) == [b"5"]


def test_a_group_that_is_at_work_is_stopped_when_it_commits(root):
    with open_backend(root) as backend:
        plainly(backend, b"3")
        consumer = Consumer(backend, "events", group="g", auto_commit=False)
        assert [record.value for record in consumer.poll(0.5)] == [b"3"]
        cut(root, OFFSETS)
        stopped(root, OFFSETS)  # another process has found it
        for _ in range(2):
            with pytest.raises(CorruptLog, match=r"__consumer_offsets-0@.*streamkit fsck --repair"):
                consumer.commit()
        with pytest.raises(CorruptLog):  # it cannot say that it leaves
            consumer.close()


def test_without_a_part_of_the_transactions_these_are_stopped_and_all_others_go_on(root):
    cut(root, TRANSACTIONS)
    stopped(root, TRANSACTIONS)
    with open_backend(root) as backend:
        plainly(backend, b"3")
        assert in_group(backend) == [b"3"]
        assert alone(backend) == [b"0", b"1", b"2", b"3"]
        with pytest.raises(CorruptLog, match=r"__transaction_state-0@.*streamkit fsck --repair"):
            in_transaction(backend, b"4")
    repair(root, now=NOW)
    assert check(root, now=NOW).clean
    with open_backend(root) as backend:
        # Its epoch is from before what was lost: every beginning raises it by one.
        for _ in range(10):
            try:
                in_transaction(backend, b"4")
                break
            except ProducerFenced:
                continue
        assert alone(backend) == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("read_only", [False, True])
def test_without_a_part_of_the_metadata_nobody_knows_the_topics_and_nothing_is_done(
    root, read_only
):
    (path,) = (root / str(METADATA)).glob("*.log")
    os.truncate(path, path.stat().st_size - 5)
    with (
        open_backend(root, read_only=read_only) as backend,
        pytest.raises(CorruptLog, match=r"__cluster_metadata-0@.*streamkit fsck --repair"),
    ):
        alone(backend)
    before = {one.name: one.read_bytes() for one in (root / "events-0").glob("*.log")}
    repair(root, now=NOW)
    assert check(root, now=NOW).clean
    assert before == {one.name: one.read_bytes() for one in (root / "events-0").glob("*.log")}
    with open_backend(root) as backend:
        assert "young" not in backend.topics()
        in_transaction(backend, b"3")
        assert in_group(backend) == [b"3"]
        backend.create_topic("young")


def test_a_transaction_over_a_partition_that_is_stopped_is_refused_and_others_go_on(root):
    with open_backend(root) as backend:
        backend.create_topic("other")
    cut(root, TopicPartition("events", 0))
    with open_backend(root) as backend:
        with pytest.raises(CorruptLog, match=r"events-0@.*streamkit fsck --repair"):
            in_transaction(backend, b"3")
        with (
            Producer(backend, transactional_id="another") as producer,
            producer.transaction() as transaction,
        ):
            transaction.send("other", b"a")
