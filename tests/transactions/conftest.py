"""A partition in memory: batches as bytes, and what the core says of them."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from streamkit import codec
from streamkit.codec import read_header, stamp
from streamkit.transactions.markers import Marker, encode_marker, read_marker
from streamkit.transactions.producer import Batch
from streamkit.transactions.producers import Producers
from streamkit.transactions.txnindex import Aborted


@dataclass
class Partition:
    """Appends as an appender does: check, write, follow."""

    producers: Producers = field(default_factory=lambda: Producers("orders-3"))
    batches: list[bytes] = field(default_factory=list)
    index: list[Aborted] = field(default_factory=list)

    @property
    def raw(self) -> bytes:
        return b"".join(self.batches)

    def send(
        self,
        producer_id: int,
        epoch: int,
        sequence: int,
        count: int = 1,
        *,
        transactional: bool = False,
        timestamp: int = 1000,
        sequenced: bool = True,
        from_zero: bool = False,
    ) -> int | Batch:
        """The offset of a batch that was appended, or where it stands already."""
        batch = codec.encode(
            [b"v%d" % n for n in range(count)],
            timestamps=timestamp,
            producer_id=producer_id,
            producer_epoch=epoch,
            base_sequence=sequence,
            transactional=transactional,
        )
        draft = self.producers.draft()
        known = draft.check(read_header(batch), sequenced=sequenced, from_zero=from_zero)
        return self._write(batch) if known is None else known

    def plain(self, count: int = 1) -> int | Batch:
        return self.send(-1, -1, -1, count)

    def mark(
        self,
        producer_id: int,
        epoch: int,
        *,
        commit: bool,
        bumped: bool = False,
        coordinator_epoch: int = 0,
        timestamp: int = 2000,
    ) -> int | None:
        """The marker's offset; None when there is no need of it."""
        marker = Marker(commit, coordinator_epoch)
        batch = encode_marker(
            marker, producer_id=producer_id, producer_epoch=epoch, timestamp=timestamp
        )
        draft = self.producers.draft()
        if not draft.check_marker(read_header(batch), marker, bumped=bumped):
            return None
        return self._write(batch)

    def _write(self, batch: bytes) -> int:
        offset = self.producers.end_offset
        stamped = stamp(batch, offset, 0) + batch[16:]
        self.batches.append(stamped)
        aborted = self.producers.follow(read_header(stamped), offset, read_marker(stamped))
        if aborted is not None:
            self.index.append(aborted)
        return offset


def _replay(batches: list[bytes], producers: Producers) -> list[Aborted]:
    found = []
    for batch in batches:
        header = read_header(batch)
        if header.base_offset >= producers.end_offset:
            found.append(producers.follow(header, header.base_offset, read_marker(batch)))
    return [aborted for aborted in found if aborted is not None]


@pytest.fixture
def partition() -> Partition:
    return Partition()


@pytest.fixture(scope="session")
def new_partition() -> type[Partition]:
    """For tests that need many of them."""
    return Partition


@pytest.fixture(scope="session")
def replay() -> Callable[[list[bytes], Producers], list[Aborted]]:
    """What a recovery does with the batches from `producers.end_offset` on."""
    return _replay
