"""Transactions: their index, their producers' snapshots, and what coordinator and log say."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from streamkit.backends.embedded import EmbeddedBackend
from streamkit.backends.locate import open_backend
from streamkit.clients.producer import Producer
from streamkit.codec import columns, encode
from streamkit.fsck.check import Report, check
from streamkit.fsck.repair import repair
from streamkit.log.directory import Log
from streamkit.records import TopicPartition
from streamkit.transactions.producer import Producer as Known
from streamkit.transactions.snapshot import decode_snapshot, encode_snapshot
from streamkit.transactions.txnindex import Aborted, decode_entries, encode_entries

TP = TopicPartition("events", 0)
NOW = 4_000_000_000_000


class Regret(Exception):
    """Raised in a transaction to have it aborted."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Committed and aborted transactions over several segments."""
    path = tmp_path / "log"
    with open_backend(path) as backend:
        backend.create_topic("events", 2, {"segment.bytes": "1024"})
        with Producer(backend, transactional_id="t") as producer:
            for number in range(20):
                try:
                    with producer.transaction() as transaction:
                        for partition in (0, 1):
                            transaction.send("events", f"{number} " * 40, partition=partition)
                        producer.flush()
                        if number % 3 == 0:
                            raise Regret
                except Regret:
                    pass
    return path


@pytest.fixture
def report(root: Path):
    return lambda: check(root, now=NOW)


def found(report: Report) -> list[tuple[str, str, str]]:
    return [(one.severity, one.kind, one.file) for one in report.findings]


def committed(root: Path) -> list[bytes]:
    values: list[bytes] = []
    with Log.open(root) as log:
        partition = log.partition(TP)
        offset = 0
        while True:
            seen = partition.read_committed(offset)
            for piece in seen.pieces:
                values += columns(piece).values
            if seen.next_offset == offset:
                return values
            offset = seen.next_offset


def indexes(root: Path) -> Iterator[Path]:
    """The segments' indexes that have entries."""
    for path in sorted((root / "events-0").glob("*.txnindex")):
        if path.stat().st_size:
            yield path


def test_transactions_that_are_over_are_clean(report):
    assert found(report()) == []


def test_an_aborted_transaction_that_is_missing_in_the_index_is_found_and_put_back(root, report):
    before = committed(root)
    path = next(indexes(root))
    whole = path.read_bytes()
    path.write_bytes(b"")
    assert set(found(report())) == {("error", "txnindex", f"events-0/{path.name}")}
    repair(root, now=NOW)
    assert path.read_bytes() == whole
    assert found(report()) == []
    assert committed(root) == before


def test_an_entry_that_hides_committed_records_is_found_and_taken_out(root, report):
    path = next(indexes(root))
    (entry, *_) = decode_entries(path.read_bytes(), "")
    lies = [
        Aborted(entry.producer_id + 1, entry.first_offset, entry.last_offset, entry.last_offset),
        Aborted(entry.producer_id, entry.first_offset + 1, entry.last_offset, entry.last_offset),
    ]
    whole = path.read_bytes()
    for lie in lies:
        path.write_bytes(encode_entries([lie]) + whole[len(encode_entries([lie])) :])
        assert found(report()) == [("error", "txnindex", f"events-0/{path.name}")]
    after = entry.last_offset + 1
    extra = Aborted(entry.producer_id, after, after + 1, after + 2)  # which was committed
    for lie in (extra, entry):
        path.write_bytes(whole + encode_entries([lie]))
        assert found(report()) == [("error", "txnindex", f"events-0/{path.name}")]
    repair(root, now=NOW)
    assert path.read_bytes() == whole


def test_a_snapshot_that_cannot_be_read_is_a_note_and_one_that_lies_is_a_warning(root, report):
    one, other = sorted((root / "events-0").glob("*.snapshot"))[:2]
    one.write_bytes(b"")
    (producer, *_) = decode_snapshot(other.read_bytes(), "")
    other.write_bytes(encode_snapshot([Known(producer.producer_id, producer.epoch + 7)]))
    assert found(report()) == [
        ("note", "snapshot", f"events-0/{one.name}"),
        ("warning", "snapshot", f"events-0/{other.name}"),
    ]
    repair(root, now=NOW)
    assert found(report()) == []


@pytest.fixture
def compacted(tmp_path: Path) -> Path:
    """A table of three keys, whose early batches are gone; the snapshots tell of them."""
    path = tmp_path / "compacted"
    config = {"cleanup.policy": "compact", "segment.bytes": "1024"}
    with open_backend(path) as backend:
        backend.create_topic("events", 1, config)
        with Producer(backend, transactional_id="t") as producer:
            for number in range(24):
                with producer.transaction() as transaction:
                    transaction.send("events", f"{number} " * 50, key=f"{number % 3}")
    with Log.open(path) as log:
        for _ in range(3):
            while (
                step := log.partition(TP).trimmer.compact(force=True)
            ) is not None and not step.done:
                pass
    return path


def test_a_snapshot_may_know_of_more_than_compaction_has_left(compacted):
    newest = sorted((compacted / "events-0").glob("*.snapshot"))[-1]
    (known,) = decode_snapshot(newest.read_bytes(), "")
    assert found(check(compacted, now=NOW)) == []
    older = Known(known.producer_id, known.epoch - 3)
    newest.write_bytes(encode_snapshot([older]))
    assert found(check(compacted, now=NOW)) == [
        ("warning", "snapshot", f"events-0/{newest.name}"),
    ]


def test_a_transaction_that_its_coordinator_does_not_know_is_hanging_and_can_be_aborted(
    root, report
):
    before = committed(root)
    batch = encode(
        [b"hanging"],
        timestamps=0,
        producer_id=77_000,
        producer_epoch=0,
        base_sequence=0,
        transactional=True,
    )
    with Log.open(root) as log:
        at = log.partition(TP).append([batch])
        log.partition(TP).append([encode([b"waits"], timestamps=0)])
    assert committed(root) == before
    (finding,) = report().findings
    assert (finding.severity, finding.kind, finding.offset) == ("warning", "hanging", at)
    (done,) = repair(root, now=NOW)
    assert done == f"events-0@{at}: the transaction of producer 77000 is aborted"
    assert found(report()) == []
    assert committed(root) == [*before, b"waits"]


def test_a_transaction_that_is_under_way_is_no_finding(root, report):
    with open_backend(root) as backend, Producer(backend, transactional_id="u") as producer:
        assert isinstance(backend, EmbeddedBackend)
        with producer.transaction() as transaction:
            transaction.send("events", "x", partition=0)
            producer.flush()
            assert found(report()) == []


def test_damage_in_the_middle_of_transactions_costs_its_own_batch(
    root, report, segments, overwrite
):
    before = committed(root)
    path = segments()[1]
    overwrite(path, 70, b"\xff\xff\xff")
    assert {one.kind for one in report().findings} == {"damage"}
    repair(root, now=NOW)
    assert check(root, now=NOW).clean
    after = committed(root)
    assert len(before) - 3 <= len(after) < len(before)


def test_snapshots_of_segments_that_are_being_removed_are_passed_over(root, report):
    folder = root / "events-0"
    old = sorted(folder.glob("*.snapshot"))[0]
    kept = old.read_bytes()
    with Log.open(root) as log:
        log.delete_records(TP, log.partition(TP).end_offset - 1)
    assert not old.exists()
    old.write_bytes(kept)  # as for a moment, or for good when who removes them is killed
    assert found(report()) == []
