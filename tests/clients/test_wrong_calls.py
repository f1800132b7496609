"""What a call can't mean is refused by an error of ours that says what is wrong with it."""

from math import inf, nan

import pytest

from streamkit.backends.locate import open_backend
from streamkit.clients.admin import Admin
from streamkit.clients.producer import Producer
from streamkit.errors import (
    ConfigError,
    InvalidPartitions,
    InvalidRecord,
    InvalidTimestamp,
    InvalidTopic,
    InvalidTxnTimeout,
    UnknownPartition,
    UnknownTopic,
    UsageError,
)
from streamkit.records import TopicPartition


@pytest.fixture
def log(tmp_path):
    with open_backend(tmp_path) as backend:
        backend.create_topic("orders", 2)
        yield backend


@pytest.mark.parametrize("partition", ["1", 1.0, b"1", -1, 2])
@pytest.mark.parametrize("method", ["send", "send_and_wait", "send_many"])
def test_a_partition_that_there_is_not(log, method, partition):
    with Producer(log) as producer, pytest.raises(UnknownPartition, match="no partition"):
        getattr(producer, method)(
            "orders", [b"x"] if "many" in method else b"x", partition=partition
        )


@pytest.mark.parametrize("timestamp", ["now", 1.5, -5, 2**63])
@pytest.mark.parametrize("method", ["send", "send_and_wait"])
def test_a_timestamp_that_is_none(log, method, timestamp):
    with Producer(log) as producer, pytest.raises(InvalidRecord, match="the timestamp of record 0"):
        getattr(producer, method)("orders", b"x", timestamp=timestamp)


@pytest.mark.parametrize("name", [None, 5, b"orders", "ordres"])
def test_a_topic_that_there_is_not(log, name):
    with Producer(log) as producer, pytest.raises(UnknownTopic, match="orders"):
        producer.send(name, b"x")


@pytest.mark.parametrize("values", ["abc", b"abc"])
def test_one_value_where_a_list_is_due_is_not_taken_apart(log, values):
    with Producer(log) as producer, pytest.raises(UsageError, match="takes a list"):
        producer.send_many("orders", values)
    assert log.offsets(TopicPartition("orders", 0)).end == 0


@pytest.mark.parametrize("timeout", [nan, inf])
def test_a_time_out_that_is_no_number_of_seconds(log, timeout):
    with pytest.raises(InvalidTxnTimeout, match="seconds"):
        Producer(log, transactional_id="t", transaction_timeout=timeout)


def test_a_transactional_id_that_is_no_text(log):
    with pytest.raises(UsageError, match="it is text"):
        Producer(log, transactional_id=5)


def test_offsets_of_a_group_without_a_name(log):
    with (
        Producer(log, transactional_id="t") as producer,
        pytest.raises(UsageError, match="needs a name"),
        producer.transaction() as transaction,
    ):
        transaction.commit_offsets("", {TopicPartition("orders", 0): 5})


@pytest.mark.parametrize("name", [None, 5, b"x"])
def test_a_new_topic_with_a_name_that_is_no_text(log, name):
    with pytest.raises(InvalidTopic, match="must be text"):
        Admin(log).create_topic(name)


@pytest.mark.parametrize("partitions", ["3", 1.5, 0])
def test_a_number_of_partitions_that_is_none(log, partitions):
    with pytest.raises(InvalidPartitions, match="1-100000 work"):
        Admin(log).create_topic("new", partitions)
    with pytest.raises(InvalidPartitions):
        Admin(log).add_partitions("orders", partitions)


def test_configs_that_are_no_text(log):
    with pytest.raises(ConfigError, match="write '5'"):
        Admin(log).alter_log({"max.disk.bytes": 5})
    with pytest.raises(ConfigError, match="write '5'"):
        Admin(log).alter_topic("orders", {"retention.ms": 5})
    with pytest.raises(ConfigError, match="unknown"):
        Admin(log).alter_topic("orders", {5: "5"})


def test_what_was_given_up_is_not_lost_once_more(log):
    log.create_topic("timed", 1, {"message.timestamp.before.max.ms": "1000"})
    producer = Producer(log)
    producer.send("timed", b"x", timestamp=0)
    with pytest.raises(InvalidTimestamp) as caught:
        producer.close()
    assert caught.value.__notes__ == ["given up: 1 record sent to timed-0"]
