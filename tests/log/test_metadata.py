"""KRaft's metadata records, to the byte."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import CorruptLog
from streamkit.log.metadata import (
    ConfigRecord,
    FeatureLevelRecord,
    PartitionRecord,
    ProducerIdsRecord,
    RemoveTopicRecord,
    Topic,
    TopicRecord,
    Topics,
    decode_record,
    encode_record,
)

ID = "0123456789abcdef0123456789abcdef"
RAW = bytes.fromhex(ID)


def test_a_topic_record_is_kafkas():
    assert encode_record(TopicRecord("ab", ID)) == b"\x01\x02\x00" + b"\x03ab" + RAW + b"\x00"


def test_a_partition_record_is_kafkas():
    one = b"\x02\x00\x00\x00\x01"
    assert encode_record(PartitionRecord(ID, 7)) == (
        b"\x01\x03\x00"
        + b"\x00\x00\x00\x07"
        + RAW  # partition, topic
        + one
        + one
        + b"\x01\x01"  # replicas, in sync, none removed, none added
        + b"\x00\x00\x00\x01"
        + bytes(8)
        + b"\x00"  # leader, its epoch, partition epoch
    )


def test_a_config_record_is_kafkas():
    assert encode_record(ConfigRecord("ab", "k", "v")) == b"\x01\x04\x00\x02\x03ab\x02k\x02v\x00"
    assert encode_record(ConfigRecord("ab", "k", None)) == b"\x01\x04\x00\x02\x03ab\x02k\x00\x00"


def test_a_feature_level_is_kafkas():
    record = FeatureLevelRecord("ab", 7)
    assert encode_record(record) == b"\x01\x0c\x00" + b"\x03ab" + b"\x00\x07" + b"\x00"
    assert decode_record(encode_record(record)) == record


def test_a_removal_is_kafkas():
    assert encode_record(RemoveTopicRecord(ID)) == b"\x01\x09\x00" + RAW + b"\x00"


def test_a_block_of_producer_ids_is_kafkas():
    record = ProducerIdsRecord(3000)
    no_epoch = b"\xff" * 8
    assert encode_record(record) == (
        b"\x01\x0f\x00" + b"\x00\x00\x00\x01" + no_epoch + (3000).to_bytes(8, "big") + b"\x00"
    )
    assert decode_record(encode_record(record)) == record


IDS = st.binary(min_size=16, max_size=16).map(bytes.hex)
TEXT = st.text(max_size=300)
RECORDS = st.one_of(
    st.builds(TopicRecord, TEXT, IDS),
    st.builds(PartitionRecord, IDS, st.integers(0, 2**31 - 1)),
    st.builds(ConfigRecord, TEXT, TEXT, st.none() | TEXT),
    st.builds(RemoveTopicRecord, IDS),
    st.builds(FeatureLevelRecord, TEXT, st.integers(0, 2**15 - 1)),
)


@given(RECORDS)
def test_records_come_back_as_they_went(record):
    assert decode_record(encode_record(record)) == record


@given(RECORDS, st.data())
def test_a_cut_record_is_corrupt_or_says_the_same(record, data):
    encoded = encode_record(record)
    cut = encoded[: data.draw(st.integers(0, len(encoded) - 2))]
    if isinstance(record, PartitionRecord) and len(cut) >= 3 + 4 + 16:
        assert decode_record(cut) == record  # replicas and leaders are not looked at
        return
    with pytest.raises(CorruptLog):
        decode_record(cut)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_record_or_none_or_corrupt(data):
    with suppress(CorruptLog):
        decode_record(data)


def test_records_of_other_kinds_are_passed_over():
    assert decode_record(b"\x01\x1b\x00anything") is None  # a broker that registers
    assert decode_record(b"\x01\x04\x00\x04\x021\x02k\x02v\x00") is None  # a broker's config


def test_topics_are_what_the_records_amount_to():
    topics = Topics()
    other = "f" * 32
    for record in [
        TopicRecord("a", ID),
        PartitionRecord(ID, 0),
        PartitionRecord(ID, 1),
        ConfigRecord("a", "segment.ms", "5"),
        ConfigRecord("a", "segment.bytes", "6"),
        ConfigRecord("a", "segment.ms", None),
        TopicRecord("b", other),
        PartitionRecord(other, 0),
    ]:
        topics.apply(record)
    assert topics.by_name == {
        "a": Topic("a", 2, ID, {"segment.bytes": "6"}),
        "b": Topic("b", 1, other),
    }
    topics.apply(RemoveTopicRecord(ID))
    topics.apply(PartitionRecord(ID, 3))
    assert list(topics.by_name) == ["b"]
    assert topics.removed == {ID}
