"""The records of __consumer_offsets: exact bytes, older and newer versions, damaged ones."""

import contextlib
import struct
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import DataError
from streamkit.groups import offsets
from streamkit.records import TopicPartition

with warnings.catch_warnings():
    # kafka-python reads its schemas with a function that Python has deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka.protocol.old.consumer_protocol import (
        ConsumerProtocolMemberAssignment_v0,
        ConsumerProtocolMemberMetadata_v0,
    )


def test_an_offset_commit_is_kafkas_to_the_byte():
    key = offsets.OffsetKey("g", TopicPartition("orders", 3))
    assert offsets.encode_key(key) == b"\0\1\0\1g\0\6orders\0\0\0\3"
    commit = offsets.OffsetCommit(42, "note", 1_700_000_000_000, 7)
    assert offsets.encode_commit(commit) == (
        b"\0\3" + struct.pack(">qi", 42, 7) + b"\0\4note" + struct.pack(">q", 1_700_000_000_000)
    )


def test_a_groups_metadata_is_kafkas_to_the_byte():
    assert offsets.encode_key(offsets.GroupKey("g")) == b"\0\2\0\1g"
    member = offsets.Member("m-1", "client", "host", b"sub", b"assigned")
    group = offsets.GroupMetadata(5, (member,), "consumer", "sticky", "m-1", 1000)
    assert offsets.encode_group(group) == (
        b"\0\3"
        b"\0\x08consumer"
        b"\0\0\0\5"
        b"\0\6sticky"
        b"\0\3m-1" + struct.pack(">q", 1000) + b"\0\0\0\1"
        b"\0\3m-1"
        b"\xff\xff"
        b"\0\6client"
        b"\0\4host" + struct.pack(">ii", 0, 0) + b"\0\0\0\3sub"
        b"\0\0\0\x08assigned"
    )


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"\0\0" + struct.pack(">q", 9) + b"\0\1n" + struct.pack(">q", 5), (9, "n", 5, -1)),
        (b"\0\1" + struct.pack(">q", 9) + b"\0\1n" + struct.pack(">qq", 5, 6), (9, "n", 5, -1)),
        (b"\0\2" + struct.pack(">q", 9) + b"\0\1n" + struct.pack(">q", 5), (9, "n", 5, -1)),
        (b"\0\3" + struct.pack(">qi", 9, 2) + b"\0\1n" + struct.pack(">q", 5), (9, "n", 5, 2)),
        (
            b"\0\4" + struct.pack(">qi", 9, 2) + b"\2n" + struct.pack(">q", 5) + b"\0",
            (9, "n", 5, 2),
        ),
    ],
)
def test_commits_of_every_kafka_version_are_read(raw, expected):
    assert offsets.decode_commit(raw) == offsets.OffsetCommit(*expected)


def test_group_metadata_of_older_and_newer_versions_is_read():
    v0 = (
        b"\0\0"
        b"\0\x08consumer"
        b"\0\0\0\1"
        b"\xff\xff"
        b"\xff\xff"
        b"\0\0\0\1"
        b"\0\1m"
        b"\0\1c"
        b"\0\1h" + struct.pack(">i", 10) + b"\0\0\0\1s"
        b"\0\0\0\1a"
    )
    assert offsets.decode_group(v0) == offsets.GroupMetadata(
        1, (offsets.Member("m", "c", "h", b"s", b"a", session_timeout=10),)
    )
    v4 = (
        b"\0\4"
        b"\x09consumer"
        b"\0\0\0\1"
        b"\0"
        b"\0" + struct.pack(">q", 3) + b"\2"
        b"\2m"
        b"\0"
        b"\2c"
        b"\2h" + struct.pack(">ii", 8, 10) + b"\2s"
        b"\2a"
        b"\1\5\2xy"
        b"\0"  # one tagged field of the member; none of the group
    )
    assert offsets.decode_group(v4) == offsets.GroupMetadata(
        1, (offsets.Member("m", "c", "h", b"s", b"a", None, 8, 10),), timestamp=3
    )


def test_keys_of_newer_record_types_are_skipped():
    assert offsets.decode_key(b"\0\3\0\1g") is None


def test_a_value_of_a_version_to_come_is_refused():
    with pytest.raises(DataError, match="version 9"):
        offsets.decode_commit(b"\0\x09" + bytes(30))


text = st.text(max_size=20)
partitions = st.frozensets(st.builds(TopicPartition, text, st.integers(0, 1000)), max_size=8)


@given(text, text, st.integers(0, 2**31 - 1))
def test_keys_round_trip(group, topic, partition):
    for key in (
        offsets.OffsetKey(group, TopicPartition(topic, partition)),
        offsets.GroupKey(group),
    ):
        assert offsets.decode_key(offsets.encode_key(key)) == key


@given(st.lists(st.tuples(text, text, st.binary(max_size=9)), max_size=4), st.integers(0, 9999))
def test_groups_round_trip(members, generation):
    group = offsets.GroupMetadata(
        generation, tuple(offsets.Member(a, b, "h", c, c) for a, b, c in members)
    )
    assert offsets.decode_group(offsets.encode_group(group)) == group


@given(st.binary(max_size=80))
def test_damaged_records_are_data_errors_and_nothing_else(raw):
    for decode in (
        offsets.decode_key,
        offsets.decode_commit,
        offsets.decode_group,
        offsets.decode_assignment,
        offsets.decode_subscription,
    ):
        with contextlib.suppress(DataError):
            decode(raw)


@given(partitions)
def test_assignments_round_trip_and_kafka_python_reads_them(units):
    raw = offsets.encode_assignment(units)
    assert offsets.decode_assignment(raw) == units
    theirs = ConsumerProtocolMemberAssignment_v0.decode(raw)
    assert {tuple(p) for p in theirs.partitions()} == set(units)


@given(st.sets(text, max_size=5))
def test_subscriptions_round_trip_and_kafka_python_reads_them(topics):
    raw = offsets.encode_subscription(topics)
    assert set(offsets.decode_subscription(raw)) == topics
    theirs = ConsumerProtocolMemberMetadata_v0.decode(raw)
    assert set(theirs.topics) == topics


def test_no_assignment_yet_is_an_empty_one():
    assert offsets.decode_assignment(b"") == frozenset()


# The hash codes are Java's: String.hashCode is fixed by its specification.
@pytest.mark.parametrize(
    ("group", "code"),
    [
        ("a", 97),
        ("group", 98629247),
        ("", 0),
        ("polygenelubricants", -(2**31)),
        ("Hello World", -862545276),
    ],
)
def test_a_group_lives_in_the_partition_that_kafka_chooses(group, code):
    expected = 0 if code == -(2**31) else abs(code) % 50
    assert offsets.partition_of(group, 50) == expected
