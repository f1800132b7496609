"""Apache Kafka reads the files of transactions as we do, and makes the same ones from our log."""

import asyncio
import json
import re
import time

import aiokafka
import pytest

from streamkit.clock import SystemClock
from streamkit.codec import columns, encode, read_header, stamp
from streamkit.log.directory import Log
from streamkit.log.partition import Partition
from streamkit.records import TopicPartition
from streamkit.transactions.isolation import committed
from streamkit.transactions.markers import Marker, encode_marker, read_marker
from streamkit.transactions.producer import MAX_SEQUENCE
from streamkit.transactions.producers import Producers
from streamkit.transactions.records import encode_key, encode_value
from streamkit.transactions.snapshot import decode_snapshot, encode_snapshot
from streamkit.transactions.transaction import Transaction
from streamkit.transactions.txnindex import aborted_in, encode_entries

ORDERS = TopicPartition("orders", 0)
# Now: a broker forgets a producer a day after the time of its last record.
NOW = int(time.time() * 1000)
ENTRY = r"version: 0 producerId: (\d+) firstOffset: (\d+) lastOffset: (\d+) lastStableOffset: (\d+)"


class Then(SystemClock):
    """A clock that stands: the markers get its time."""

    def now(self) -> int:
        return NOW + 1


def data(producer_id: int, epoch: int, sequence: int, count: int, *, transactional: bool = True):
    return encode(
        [b"x"] * count,
        timestamps=NOW,
        producer_id=producer_id,
        producer_epoch=epoch,
        base_sequence=sequence,
        transactional=transactional,
    )


def end(producer_id: int, epoch: int, *, commit: bool):
    return encode_marker(
        Marker(commit, 4), producer_id=producer_id, producer_epoch=epoch, timestamp=NOW + 1
    )


@pytest.fixture
def batches():
    """Aborted, committed and open transactions, one inside the other, and a plain producer."""
    return [
        data(7, 0, 0, 3),
        data(8, 2, 0, 2),
        data(5, 0, MAX_SEQUENCE, 2, transactional=False),
        data(7, 0, 3, 1),
        end(7, 1, commit=False),
        encode([b"plain"], timestamps=NOW),
        end(8, 2, commit=True),
        data(8, 2, 2, 2),
        data(7, 1, 0, 1),
        end(7, 2, commit=True),
        end(8, 3, commit=False),
        end(6, 1, commit=False),
        data(5, 0, 1, 1, transactional=False),
        data(8, 3, 0, 2),
        encode([b"after"], timestamps=NOW),
    ]


@pytest.fixture
def followed(batches):
    """What the core makes of them: the log, the producers, the index."""
    producers, raw, index = Producers("orders-0"), b"", []
    for batch in batches:
        offset = producers.end_offset
        raw += stamp(batch, offset, 0) + batch[16:]
        aborted = producers.follow(read_header(batch), offset, read_marker(batch))
        if aborted is not None:
            index.append(aborted)
    return raw, producers, index


def write(partition: Partition, batches) -> None:
    """As producers and a coordinator do."""
    for batch in batches:
        header, marker = read_header(batch), read_marker(batch)
        if marker is None:
            partition.append([batch], acks=1)
            continue
        known = {one.producer_id: one.epoch for one in partition.producers()}
        bumped = known.get(header.producer_id, -1) < header.producer_epoch
        assert partition.append_marker(
            header.producer_id, header.producer_epoch, marker.commit, 4, bumped
        )


def visible(partition: Partition) -> list[int]:
    offsets: list[int] = []
    offset = partition.start_offset
    while (found := partition.read_committed(offset)).next_offset > offset:
        offsets += [one for piece in found.pieces for one in columns(piece).offsets]
        offset = found.next_offset
    return offsets


def dump(kafka, *options: object) -> str:
    return kafka.run("org.apache.kafka.tools.DumpLogSegments", *options)


def test_the_dump_tool_reads_markers_index_and_snapshot(kafka, followed, tmp_path):
    raw, producers, index = followed
    files = {
        "0" * 20 + ".log": raw,
        "0" * 20 + ".txnindex": encode_entries(index),
        f"{producers.end_offset:020d}.snapshot": encode_snapshot(producers),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    paths = ",".join(str(tmp_path / name) for name in files)
    text = dump(kafka, "--deep-iteration", "--files", paths)
    assert "isvalid: false" not in text and "Exception" not in text
    assert re.findall(r"endTxnMarker: (\w+) coordinatorEpoch: (\d+)", text) == [
        (how, "4") for how in ("ABORT", "COMMIT", "COMMIT", "ABORT", "ABORT")
    ]
    assert [tuple(map(int, found)) for found in re.findall(ENTRY, text)] == [
        (a.producer_id, a.first_offset, a.last_offset, a.last_stable_offset) for a in index
    ]
    assert re.findall(
        r"producerId: (\d+) producerEpoch: (\d+) coordinatorEpoch: (-?\d+)"
        r" currentTxnFirstOffset: OptionalLong(\S+)",
        text,
    ) == [
        ("5", "0", "-1", ".empty"),
        ("6", "1", "4", ".empty"),
        ("7", "2", "4", ".empty"),
        ("8", "3", "4", f"[{producers.stable_offset}]"),
    ]


def test_the_dump_tool_reads_the_states_of_a_transactional_id(kafka, tmp_path):
    begun = Transaction("app", 7, 32766, 60_000, updated_at=NOW)
    opened = begun.add(7, 32766, [ORDERS, TopicPartition("a", 3)], now=NOW + 1)
    ended = opened.end(7, 32766, commit=True, now=NOW + 2, spare_id=9)
    values = [encode_value(one) for one in (begun, opened, ended, ended.complete(NOW + 3))]
    values.append(encode_value(opened, version=0))
    keys = [encode_key("app")] * len(values)
    file = tmp_path / ("0" * 20 + ".log")
    file.write_bytes(encode(values, keys=keys, timestamps=NOW))
    text = dump(kafka, "--transaction-log-decoder", "--files", file)
    found = [json.loads(payload) for payload in re.findall(r" payload: (\{.*\})", text)]
    assert re.findall(r'"transactionalId":"(\w+)"', text) == ["app"] * 5
    assert [one["version"] for one in found] == ["1", "1", "1", "1", "0"]
    states = [one["data"] for one in found]
    assert [one["transactionStatus"] for one in states] == [0, 1, 2, 4, 1]
    assert [one["producerEpoch"] for one in states] == [32766, 32766, 32767, 0, 32766]
    assert [one["producerId"] for one in states] == [7, 7, 7, 9, 7]
    assert [one.get("previousProducerId") for one in states] == [None, 7, 7, 7, None]
    assert [one.get("nextProducerId") for one in states] == [None, None, 9, None, None]
    assert [one.get("clientTransactionVersion") for one in states] == [None, 2, 2, 2, None]
    both = [{"topic": "a", "partitionIds": [3]}, {"topic": "orders", "partitionIds": [0]}]
    assert [one["transactionPartitions"] for one in states] == [None, both, both, [], both]


def test_a_broker_makes_the_same_state_of_our_log_and_shows_the_same_records(
    kafka, broker, followed, batches, tmp_path
):
    raw, producers, index = followed
    root = tmp_path / "log"
    folder = root / str(ORDERS)
    with Log.open(root, fsync="never", clock=Then()) as log:
        log.create_topic("orders", 1)
        write(log.partition(ORDERS), batches)
        assert log.partition(ORDERS).end_offset == producers.end_offset
    assert (folder / f"{0:020d}.log").read_bytes() == raw
    assert (folder / f"{0:020d}.txnindex").read_bytes() == encode_entries(index)
    served = broker(root)
    served.start()

    async def read() -> list[int]:
        tp = aiokafka.TopicPartition(*ORDERS)
        client = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=served.url, isolation_level="read_committed"
        )
        async with client:
            client.assign([tp])
            await client.seek_to_beginning(tp)
            assert (await client.end_offsets([tp]))[tp] == producers.stable_offset
            offsets: list[int] = []
            while await client.position(tp) < producers.stable_offset:
                found = await client.getmany(timeout_ms=1000)
                offsets += [record.offset for record in found.get(tp, [])]
            return offsets

    theirs = asyncio.run(asyncio.wait_for(read(), 60))
    stable = producers.stable_offset
    seen = committed(raw, aborted_in(index, 0, stable).aborted, stable)
    assert theirs == [o for a, b in seen.spans for o in columns(raw[a:b]).offsets]
    served.stop()
    assert (folder / f"{0:020d}.txnindex").read_bytes() == encode_entries(index)
    snapshot = folder / f"{producers.end_offset:020d}.snapshot"
    entries = decode_snapshot(snapshot.read_bytes(), snapshot.name)
    again = Producers("orders-0", entries, producers.end_offset)
    # Kafka writes its producers in the order of a hash table.
    assert encode_snapshot(again) == encode_snapshot(producers)
    with Log.open(root, fsync="never") as log:
        partition = log.partition(ORDERS)
        assert (partition.stable_offset, partition.end_offset) == (stable, producers.end_offset)
        assert visible(partition) == theirs
        assert partition.aborted(0, stable) == index
        assert partition.open_transactions() == {8: 3}


def test_the_dump_tool_reads_the_files_of_transactions_over_many_segments(kafka, tmp_path):
    with Log.open(tmp_path / "log", fsync="never") as log:
        log.create_topic("orders", 1, {"segment.bytes": "1024"})
        partition = log.partition(ORDERS)
        for epoch in range(12):
            for sequence in range(3):
                partition.append([data(7, epoch, sequence * 20, 20)])
            partition.append([data(8, 0, epoch, 1, transactional=False)])
            partition.append_marker(7, epoch + 1, epoch % 3 == 0, 4, True)
        aborted = partition.aborted(0, partition.end_offset)
        assert len(aborted) == 8
        folder = tmp_path / "log" / str(ORDERS)
        files = [
            path
            for suffix in ("log", "txnindex", "snapshot")
            for path in folder.glob(f"*.{suffix}")
        ]
        assert len(files) > 9
    text = dump(kafka, "--deep-iteration", "--files", ",".join(map(str, sorted(files))))
    assert "isvalid: false" not in text and "Exception" not in text
    assert re.findall(r"endTxnMarker: (\w+)", text) == ["COMMIT", "ABORT", "ABORT"] * 4
    assert [tuple(map(int, found)) for found in re.findall(ENTRY, text)] == [
        (a.producer_id, a.first_offset, a.last_offset, a.last_stable_offset) for a in aborted
    ]
    snapshots = re.findall(r"producerId: 7 producerEpoch: (\d+) coordinatorEpoch: 4", text)
    assert len(snapshots) >= len(list(folder.glob("*.snapshot"))) - 1
