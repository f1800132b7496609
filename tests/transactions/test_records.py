"""The records of __transaction_state: exact bytes, both versions, damage."""

import contextlib
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import DataError, UsageError
from streamkit.records import TopicPartition
from streamkit.transactions.records import (
    decode_key,
    decode_value,
    encode_key,
    encode_value,
    partition_of,
)
from streamkit.transactions.state import State
from streamkit.transactions.transaction import RollForward, Transaction

ONGOING = Transaction(
    "app",
    7,
    3,
    60_000,
    State.ONGOING,
    frozenset({TopicPartition("b", 0), TopicPartition("a", 2), TopicPartition("a", 0)}),
    started_at=1000,
    updated_at=1001,
)
FIXED = struct.pack(">qhib", 7, 3, 60_000, 1)
TIMES = struct.pack(">qq", 1001, 1000)


def test_a_key_is_kafkas_to_the_byte():
    assert encode_key("app") == b"\0\0\0\3app"
    assert decode_key(b"\0\0\0\3app") == "app"
    assert decode_key(b"\0\1\0\3app") is None, "a type of record that a newer Kafka may have"


def test_a_value_of_version_0_is_kafkas_to_the_byte():
    raw = (
        b"\0\0"
        + FIXED
        + b"\0\0\0\2"
        + b"\0\1a"
        + struct.pack(">iii", 2, 0, 2)
        + b"\0\1b"
        + struct.pack(">ii", 1, 0)
        + TIMES
    )
    assert encode_value(ONGOING, version=0) == raw
    assert decode_value("app", raw) == ONGOING


def test_a_value_of_version_1_is_kafkas_to_the_byte():
    raw = (
        b"\0\1"
        + FIXED
        + b"\3"
        + b"\2a\3"
        + struct.pack(">ii", 0, 2)
        + b"\0"
        + b"\2b\2"
        + struct.pack(">i", 0)
        + b"\0"
        + TIMES
        + b"\0"
    )
    assert encode_value(ONGOING) == raw
    assert decode_value("app", raw) == ONGOING


def test_tagged_fields_are_written_in_order_and_only_when_they_say_something():
    rotating = Transaction(
        "app",
        7,
        32767,
        60_000,
        State.PREPARE_COMMIT,
        previous_producer_id=7,
        next_producer_id=9,
        version=2,
    )
    raw = encode_value(rotating)
    assert raw.endswith(
        b"\1" + struct.pack(">qq", -1, -1) + b"\3"
        b"\0\x08" + struct.pack(">q", 7) + b"\1\x08" + struct.pack(">q", 9) + b"\2\2\0\2"
    )
    assert decode_value("app", raw) == rotating
    # A fourth tag, of a Kafka to come.
    longer = raw.replace(b"\3\0\x08", b"\4\0\x08") + b"\x09\2xy"
    assert decode_value("app", longer) == rotating


def test_a_tag_of_our_own_tells_how_the_transaction_before_ended():
    before = RollForward(6, 32767, True, True, (TopicPartition("a", 2), TopicPartition("b", 0)))
    raw = encode_value(msgspec.structs.replace(ONGOING, unsynced=before))
    outcome = struct.pack(">qhbb", 6, 32767, 1, 1)
    outcome += b"\3\2a\2" + struct.pack(">i", 2) + b"\0\2b\2" + struct.pack(">i", 0) + b"\0"
    plain = encode_value(ONGOING)
    assert raw == plain[:-1] + b"\1" + bytes((100, len(outcome))) + outcome
    assert decode_value("app", raw).unsynced == before
    for size in range(len(plain), len(raw)):
        with pytest.raises(DataError):
            decode_value("app", raw[:size])


def test_an_empty_transactional_id_has_no_array_of_partitions():
    empty = Transaction("app", 7, 0, 60_000, updated_at=5)
    times = struct.pack(">qq", 5, -1)
    fixed = struct.pack(">qhib", 7, 0, 60_000, 0)
    assert encode_value(empty, version=0) == b"\0\0" + fixed + b"\xff\xff\xff\xff" + times
    assert encode_value(empty) == b"\0\1" + fixed + b"\0" + times + b"\0"
    for version in (0, 1):
        assert decode_value("app", encode_value(empty, version)) == empty


def test_an_unknown_state_or_version_is_refused():
    with pytest.raises(DataError, match="version 2"):
        decode_value("app", b"\0\2" + bytes(60))
    with pytest.raises(DataError, match="state 8"):
        decode_value("app", b"\0\0" + struct.pack(">qhib", 7, 0, 1, 8) + bytes(20))


def test_a_transactional_id_that_no_record_can_hold_is_a_wrong_call():
    with pytest.raises(UsageError, match="40000 bytes"):
        encode_key("x" * 40_000)


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)
i64 = st.integers(-(2**63), 2**63 - 1)
parts = st.frozensets(st.builds(TopicPartition, texts, st.integers(0, 2**31 - 1)), max_size=6)


@st.composite
def transactions(draw):
    state = draw(st.sampled_from(State))
    return Transaction(
        "app",
        draw(i64),
        draw(st.integers(-(2**15), 2**15 - 1)),
        draw(st.integers(0, 2**31 - 1)),
        state,
        frozenset() if state is State.EMPTY else draw(parts),
        draw(i64),
        draw(i64),
        draw(i64),
        draw(i64),
        draw(st.integers(0, 2**15 - 1)),
    )


@given(transactions(), texts)
def test_keys_and_values_round_trip(transaction, name):
    assert decode_key(encode_key(name)) == name
    assert decode_value("app", encode_value(transaction)) == transaction


@given(st.binary(max_size=80), st.sampled_from([b"", b"\0\0", b"\0\1"]))
def test_damaged_records_are_data_errors_and_nothing_else(raw, version):
    for decode in (decode_key, lambda raw: decode_value("app", raw)):
        with contextlib.suppress(DataError):
            decode(version + raw)


# The hash codes are Java's: String.hashCode is fixed by its specification.
@pytest.mark.parametrize(
    ("name", "partition"),
    [("", 0), ("a", 97 % 50), ("Hello World", 862545276 % 50), ("polygenelubricants", 0)],
)
def test_a_transactional_id_lives_in_the_partition_that_kafka_chooses(name, partition):
    assert partition_of(name, 50) == partition
