"""What we write, the Python clients of Kafka read, and the other way round."""

from functools import partial

import pytest
from aiokafka.record import default_records as aiokafka
from kafka.record import default_records as kafka_python

from streamkit.codec import check
from streamkit.codec.compression import CODECS

NOW = 1_700_000_000_123

# kafka-python takes three further packages for the other compressions; aiokafka has them all.
PEERS = [(aiokafka, name) for name in CODECS] + [(kafka_python, name) for name in ("none", "gzip")]

over_all_peers = pytest.mark.parametrize(
    ("peer", "compression"), PEERS, ids=lambda part: getattr(part, "__name__", part).split(".")[0]
)

# Enough for several blocks of every compression, and for numbers of one, two and three bytes.
ROWS = [
    (
        (b"value %d " % i) * (i % 9) if i % 7 else None,
        b"key %d" % (i % 13) if i % 5 else None,
        NOW + i * 997 % 100_000,
        (("source", b"test"), ("ünicode", None), ("empty", b"")) if i % 3 == 0 else (),
    )
    for i in range(9000)
]


def test_aiokafka_is_here_with_its_compiled_codec():
    assert aiokafka.DefaultRecordBatch.__module__ == "aiokafka.record._crecords.default_records"


@over_all_peers
def test_peers_read_what_we_write(codec, peer, compression):
    values, keys, times, headers = zip(*ROWS, strict=True)
    batch = codec.encode(
        values, keys=keys, timestamps=times, headers=headers, compression=compression
    )
    found = peer.DefaultRecordBatch(batch)
    assert found.validate_crc()
    assert found.last_offset_delta == len(ROWS) - 1
    assert found.max_timestamp == max(times)
    assert [
        (record.offset, record.value, record.key, record.timestamp, tuple(record.headers))
        for record in found
    ] == [(offset, *row) for offset, row in enumerate(ROWS)]


@over_all_peers
def test_we_read_what_peers_write(codec, peer, compression):
    builder = peer.DefaultRecordBatchBuilder(
        magic=2,
        compression_type=CODECS.index(compression),
        is_transactional=True,
        producer_id=123456,
        producer_epoch=7,
        base_sequence=99,
        batch_size=1 << 24,
    )
    for offset, (value, key, time, headers) in enumerate(ROWS):
        append = partial(builder.append, offset, time, key, value)
        assert append(list(headers)) is not None
    batch = bytes(builder.build())

    header = check(batch)
    assert (header.count, header.last_offset, header.compression) == (
        len(ROWS),
        len(ROWS) - 1,
        compression,
    )
    assert header.transactional and not header.control
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (123456, 7, 99)
    assert header.base_timestamp == NOW and header.max_timestamp == max(row[2] for row in ROWS)
    assert [
        (record.value, record.key, record.timestamp, record.headers)
        for record in codec.records(batch, "t", 0)
    ] == ROWS


@pytest.mark.parametrize("peer", [aiokafka, kafka_python], ids=["aiokafka", "kafka-python"])
def test_uncompressed_batches_are_the_same_to_the_byte(codec, peer):
    rows = ROWS[:500]
    builder = peer.DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 1 << 20)
    for offset, (value, key, time, headers) in enumerate(rows):
        builder.append(offset, time, key, value, list(headers))
    theirs = bytes(builder.build())
    values, keys, times, headers = zip(*rows, strict=True)
    ours = codec.encode(values, keys=keys, timestamps=times, headers=headers, leader_epoch=-1)
    assert check(theirs).leader_epoch in (-1, 0)
    assert ours[16:] == theirs[16:]
