"""A committed position survives a power cut only with the records before it."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from threading import Event

import pytest
from power_cuts import Disk, Without

from streamkit import App
from streamkit.backends import transactions_topic
from streamkit.backends.base import Backend
from streamkit.backends.embedded import EmbeddedBackend
from streamkit.backends.offsets_topic import OffsetsTopic
from streamkit.backends.values import CommittedOffset
from streamkit.clients.consumer import Consumer
from streamkit.clients.producer import Producer
from streamkit.clock import SystemClock
from streamkit.engine.live import run
from streamkit.log import opening, recovery
from streamkit.log.directory import Log
from streamkit.log.files import Files
from streamkit.records import TopicPartition

READ = TopicPartition("read", 0)


def opened(path: Path, files: Files | None = None) -> Backend:
    log = Log.open(path, files=files, fsync="always" if files else "never", maintenance=False)
    return EmbeddedBackend(log, OffsetsTopic(log, SystemClock()))


def commit_by_itself(log: Backend) -> None:
    with Consumer(log, "read", group="g", auto_commit=False) as consumer:
        assert len(consumer.poll()) == 3
        consumer.commit()


def commit_when_closed(log: Backend) -> None:
    with Consumer(log, "read", group="g") as consumer:
        assert len(consumer.poll()) == 3


def commit_in_a_transaction(log: Backend) -> None:
    with (
        Consumer(log, "read", group="g", auto_commit=False) as consumer,
        Producer(log, transactional_id="x") as producer,
        producer.transaction() as transaction,
    ):
        assert len(consumer.poll()) == 3
        transaction.commit_offsets(consumer)


def commit_by_name(log: Backend) -> None:
    with Producer(log, transactional_id="x") as producer, producer.transaction() as transaction:
        transaction.commit_offsets("g", {READ: 3})


def commit_by_an_app(log: Backend) -> None:
    app = App("g")
    app.stream("read", str).to("written")
    run(app.topology(), log, stop=Event(), until_end=True)


def reset(log: Backend) -> None:
    log.reset("g", lambda known: {READ: CommittedOffset(log.offsets(READ).end)}, force=False)


@pytest.fixture
def reboot(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    boots = count()

    def reboot() -> None:
        boot = (b"boot %d" % next(boots)).ljust(16)
        for module in (opening, recovery, transactions_topic):
            monkeypatch.setattr(module, "boot_id", lambda: boot)

    reboot()
    yield reboot


@pytest.mark.parametrize(
    "commit",
    [
        commit_by_itself,
        commit_when_closed,
        commit_in_a_transaction,
        commit_by_name,
        commit_by_an_app,
        reset,
    ],
)
def test_a_position_is_not_beyond_what_a_power_cut_has_left(
    tmp_path: Path, reboot: Callable[[], None], commit: Callable[[Backend], None]
) -> None:
    # Else what is sent next gets the offsets of what is lost, and the group passes over it.
    (tmp_path / "disk").mkdir()
    disk = Disk(tmp_path / "disk", lambda: None)
    committed = False
    with opened(tmp_path / "disk" / "log", disk) as log:
        log.create_topic("read")
        with Producer(log, acks=1) as producer:
            producer.send_many("read", ["one", "two", "three"])
        commit(log)
        disk.cut()
    cut = disk.cuts[-1]
    for number, lost in enumerate(cut.unsynced()):
        left = tmp_path / f"{number}"
        disk.leave(cut.nodes, left, Without(lost))
        reboot()
        with opened(left / "log") as log:
            known = log.committed("g").get(READ)
            assert known is None or known.offset <= log.offsets(READ).end
            committed = committed or known is not None
    assert committed
