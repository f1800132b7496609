"""Topic names and configs as Kafka has them."""

from dataclasses import replace

import pytest

from streamkit.errors import ConfigError, InvalidTopic
from streamkit.groups import offsets as groups
from streamkit.log.config import (
    METADATA_TOPIC,
    OWN_TOPICS,
    LogConfig,
    TopicConfig,
    check_topic_name,
)
from streamkit.records import TopicPartition
from streamkit.transactions import records as transactions

TP = TopicPartition("events", 0)


def test_the_topics_of_the_log_itself_are_those_that_others_keep_in_it():
    assert {METADATA_TOPIC, groups.TOPIC, transactions.TOPIC} == OWN_TOPICS


def test_configs_are_parsed():
    config = TopicConfig.parse(
        {"segment.bytes": "2048", "cleanup.policy": "compact, delete", "retention.ms": "-1"}
    )
    assert (config.segment_bytes, config.cleanup_policy, config.compacted) == (
        2048,
        "compact,delete",
        True,
    )
    assert TopicConfig.parse({}) == TopicConfig()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("segment.byte", "1", "did you mean 'segment.bytes'"),
        ("segment.bytes", "many", "segment.bytes='many': not a whole number"),
        ("segment.bytes", "12", "not between 1024"),
        ("cleanup.policy", "shrink", "not delete, compact"),
        ("segment.bytes", "1_000_000", "not a whole number"),
        ("compression.type", "rar", "not one of producer"),
        ("compression.type", "none", "not one of producer, uncompressed"),
        ("message.timestamp.type", "Now", "not one of CreateTime"),
        ("retention.ms", "-2", "not between -1"),
        ("retention.ms", "1h", "it is in milliseconds, without a unit: 3600000"),
        ("min.cleanable.dirty.ratio", "1.5", "not between 0 and 1"),
        ("min.cleanable.dirty.ratio", "half", "not a number"),
        ("min.cleanable.dirty.ratio", "0.2_5", "not a number"),
        ("min.cleanable.dirty.ratio", "nan", "not between 0 and 1"),
        ("min.insync.replicas", "2", "on one machine, without replicas"),
        ("compression.zstd.level", "19", "at the codec's own level"),
        ("file.delete.delay.ms", "1000", "removed at once"),
    ],
)
def test_a_wrong_config_is_named_with_what_is_wrong(key, value, said):
    with pytest.raises(ConfigError) as error:
        TopicConfig.parse({key: value})
    assert key in str(error.value)
    assert said in str(error.value)


def test_what_means_nothing_on_one_machine_is_taken_as_a_broker_has_it():
    given = {"min.insync.replicas": "1", "flush.ms": str(2**63 - 1), "preallocate": "false"}
    assert TopicConfig.parse(given) == replace(TopicConfig(), given=given)


def test_records_are_kept_for_a_week_unless_configured_otherwise():
    assert TopicConfig().retention_ms == 7 * 24 * 3_600_000
    assert TopicConfig().deletes
    assert not TopicConfig.parse({"cleanup.policy": "compact"}).deletes
    assert TopicConfig.parse({"cleanup.policy": "compact,delete"}).deletes


def test_a_compaction_lag_that_contradicts_itself_is_refused():
    with pytest.raises(ConfigError, match=r"min.compaction.lag.ms=5: over max.compaction.lag.ms"):
        TopicConfig.parse({"min.compaction.lag.ms": "5", "max.compaction.lag.ms": "4"})


def test_segments_end_at_ages_that_differ_by_the_jitter():
    config = TopicConfig.parse({"segment.ms": "1000", "segment.jitter.ms": "400"})
    ages = [config.roll_ms(TP, base) for base in range(100)]
    assert ages == [config.roll_ms(TP, base) for base in range(100)]
    assert min(ages) >= 600
    assert max(ages) <= 1000
    assert len(set(ages)) > 50


def test_no_segment_is_older_than_a_compacted_topic_may_wait_for_compaction():
    lag = {"max.compaction.lag.ms": "500", "segment.ms": "1000"}
    assert TopicConfig.parse({**lag, "cleanup.policy": "compact"}).roll_ms(TP, 0) == 500
    assert TopicConfig.parse(lag).roll_ms(TP, 0) == 1000


def test_only_bounds_of_times_that_producers_set_count():
    late = {"message.timestamp.before.max.ms": "1000"}
    assert TopicConfig.parse(late).bounds_timestamps
    assert not TopicConfig.parse({}).bounds_timestamps
    assert not TopicConfig.parse(
        {**late, "message.timestamp.type": "LogAppendTime"}
    ).bounds_timestamps


def test_the_configs_of_a_log_are_parsed():
    assert LogConfig.parse({}) == LogConfig(max_disk_bytes=-1, given={})
    assert LogConfig.parse({"max.disk.bytes": "5000000"}).max_disk_bytes == 5_000_000
    with pytest.raises(ConfigError, match=r"did you mean 'max.disk.bytes'"):
        LogConfig.parse({"max.disk.byte": "1"})
    with pytest.raises(ConfigError, match=r"max.disk.bytes='5 GB': not a whole number"):
        LogConfig.parse({"max.disk.bytes": "5 GB"})


def test_a_value_that_is_not_text_is_refused():
    with pytest.raises(ConfigError, match="write '5'"):
        TopicConfig.parse({"segment.ms": 5})  # type: ignore[dict-item]


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "__consumer_offsets", "x" * 249])
def test_names_that_kafka_takes_are_taken(name):
    check_topic_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a b", "ä", "a/b", "x" * 250, "__cluster_metadata"]
)
def test_names_that_kafka_refuses_are_refused(name):
    with pytest.raises(InvalidTopic):
        check_topic_name(name)
