"""Offsets missing at the end of a compacted topic: nobody waits for what will never be there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from streamkit.backends.embedded import EmbeddedBackend
from streamkit.backends.locate import open_backend
from streamkit.backends.values import CommittedOffset
from streamkit.clients.consumer import Consumer
from streamkit.clients.lag import position_of
from streamkit.codec import headers
from streamkit.records import TopicPartition

TP = TopicPartition("table", 0)


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[EmbeddedBackend]:
    """Seven records and an empty segment behind them; then the last three records are lost whole.

    As by a power cut before anything of it was synced.
    """
    with open_backend(tmp_path / "log") as log:
        log.create_topic("table", 1, {"cleanup.policy": "compact"})
        for number in range(7):
            log.append(TP, [b"value"], keys=[b"%d" % number])
        partition = log._log.partition(TP)
        assert partition.trimmer.roll(partition.published())
    folder = tmp_path / "log" / "table-0"
    first = folder / f"{0:020d}.log"
    fifth = [at for at, _ in headers(first.read_bytes())][4]
    first.write_bytes(first.read_bytes()[:fifth])
    (folder / "control").unlink()
    with open_backend(tmp_path / "log") as log:
        yield log


@pytest.mark.parametrize("isolation", ["read_committed", "read_uncommitted"])
def test_a_reader_comes_to_the_end_and_goes_on(backend, isolation):
    assert backend.offsets(TP).end == 7
    with Consumer(backend, partitions=[TP], isolation=isolation) as consumer:
        assert [record.offset for record in consumer.until_end()] == [0, 1, 2, 3]
        assert consumer.poll(0.0) == []
        assert not backend.wait({TP: 7}, 0.0, isolation=isolation)
        assert backend.append(TP, [b"more"], keys=[b"k"]) == 7
        assert [record.offset for record in consumer.poll(5.0)] == [7]


def test_lag_in_time_is_none_where_nothing_is_left_to_read(backend):
    assert position_of(backend, TP, CommittedOffset(4), 0).behind == 0.0
