"""Topic names and configs as Kafka has them."""

import pytest

from streamkit.errors import ConfigError, InvalidTopic
from streamkit.log.config import TopicConfig, check_topic_name


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
        ("compression.type", "rar", "not one of producer"),
        ("message.timestamp.type", "Now", "not one of CreateTime"),
        ("retention.ms", "1000", "only -1"),
        ("min.insync.replicas", "2", "not in this version"),
    ],
)
def test_a_wrong_config_is_named_with_what_is_wrong(key, value, said):
    with pytest.raises(ConfigError) as error:
        TopicConfig.parse({key: value})
    assert key in str(error.value)
    assert said in str(error.value)


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
