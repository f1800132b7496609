"""Once per boot, transactions that a power cut has left are looked for."""

import errno
import os
from pathlib import Path

import pytest

from streamkit.backends import transactions_topic
from streamkit.backends.embedded import EmbeddedBackend
from streamkit.backends.offsets_topic import OffsetsTopic
from streamkit.clients.producer import Producer
from streamkit.clock import SystemClock
from streamkit.codec import encode
from streamkit.log import opening, recovery
from streamkit.log.boot import UNKNOWN
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

A = TopicPartition("a", 0)


def opened(root):
    log = Log.open(root, fsync="never", maintenance=False)
    return EmbeddedBackend(log, OffsetsTopic(log, SystemClock()))


@pytest.fixture
def root(tmp_path):
    with opened(tmp_path / "log") as log:
        log.create_topic("a")
        with Producer(log, transactional_id="x") as producer, producer.transaction() as transaction:
            transaction.send("a", "one")
    return tmp_path / "log"


def test_where_the_system_tells_of_no_boot_every_process_looks(root, monkeypatch):
    for module in (opening, recovery, transactions_topic):
        monkeypatch.setattr(module, "boot_id", lambda: UNKNOWN)
    for number in range(2):
        with opened(root) as log:
            begun = encode(
                [b"left"],
                timestamps=1,
                producer_id=4711 + number,
                producer_epoch=0,
                base_sequence=0,
                transactional=True,
            )
            log.append_encoded(A, begun, acks=1)
            assert log.offsets(A).end < log.offsets(A).log_end
        with opened(root) as log:
            log._coordinator.settle()
            assert log.offsets(A).end == log.offsets(A).log_end


def test_a_disk_that_has_no_room_for_the_note_keeps_nobody_from_beginning(root, monkeypatch):
    write_bytes = Path.write_bytes
    full = []

    def write(path, data):
        if path.name == "cured":
            full.append(path)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return write_bytes(path, data)

    monkeypatch.setattr(transactions_topic, "boot_id", lambda: b"another boot")
    monkeypatch.setattr(Path, "write_bytes", write)
    for _ in range(2):
        with opened(root) as log, Producer(log, transactional_id="y") as producer:
            with producer.transaction() as transaction:
                transaction.send("a", "two")
            with Producer(log, transactional_id="z"):
                assert len(full) == 1, "once is enough for a process"
        full.clear()
