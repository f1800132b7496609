"""Damage in the log's own topics is named by file and byte, as it is in any other."""

from pathlib import Path

import pytest

from streamkit.backends.locate import open_backend
from streamkit.backends.values import CommittedOffset
from streamkit.clients.producer import Producer
from streamkit.errors import CorruptLog
from streamkit.records import TopicPartition

T0 = TopicPartition("t", 0)


def flip(folder: Path) -> None:
    """A byte in the last of the first batch's records."""
    (path,) = folder.glob("*.log")
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)


def test_in_the_committed_offsets(tmp_path):
    with open_backend(tmp_path) as log:
        log.create_topic("t")
        for offset in range(3):
            log.commit("g", {T0: CommittedOffset(offset)})
    flip(tmp_path / "__consumer_offsets-0")
    with open_backend(tmp_path) as log:
        for _ in range(2):
            with pytest.raises(
                CorruptLog, match=r"__consumer_offsets-0/0+\.log is corrupt at byte 0"
            ):
                log.committed("g")


def test_in_the_transactions(tmp_path):
    with open_backend(tmp_path) as log:
        log.create_topic("t")
        with Producer(log, transactional_id="x") as producer, producer.transaction() as transaction:
            transaction.send("t", b"x")
    flip(tmp_path / "__transaction_state-0")
    with (
        open_backend(tmp_path) as log,
        pytest.raises(CorruptLog, match=r"__transaction_state-0/0+\.log is corrupt at byte 0"),
    ):
        Producer(log, transactional_id="x")
