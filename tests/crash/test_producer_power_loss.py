"""Power cuts under producers of one partition: what is left is a beginning of what was written.

And the open transactions, the last stable offset and what was aborted are those of that beginning.
"""

import random
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from power_cuts import Disk
from producer_rows import IDS, Row, Rows, read_all

from streamkit.errors import OutOfOrderSequence
from streamkit.log import opening, recovery
from streamkit.log.directory import Log
from streamkit.log.files import RealFiles
from streamkit.log.partition import Partition
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)


class Story:
    """Two processes and three producers; what is synced is noted."""

    def __init__(self, root: Path, chance: random.Random) -> None:
        root.mkdir()
        self.synced = 0
        self.disk = Disk(root, lambda: self.synced)
        self.logs = [Log.open(root / "log", files=self.disk, maintenance=False) for _ in range(2)]
        self.logs[0].create_topic("events", 1, {"segment.bytes": "1024"})
        self.disk.cuts.clear()  # what making a topic takes is tested elsewhere
        self.rows = Rows()
        self._chance = chance

    def go_on(self) -> None:
        partition = self._chance.choice(self.logs).partition(TP)
        if self.rows.opened and self._chance.random() < 0.3:
            producer = self._chance.choice(sorted(self.rows.opened))
            row = self.rows.ending(producer, commit=self._chance.random() < 0.4)
            partition.append_marker(producer, row.epoch, bool(row.outcome), 0, True)
            self.rows.append(row)
        else:
            self._append(partition)
        if self._chance.random() < 0.2:
            partition.sync()
            self.synced = self.rows.end

    def _append(self, partition: Partition) -> None:
        counts = [self._chance.randint(1, 4) for _ in range(self._chance.randint(1, 3))]
        if self._chance.random() < 0.3:
            rows = self.rows.plain(counts)
        else:
            rows = self.rows.following(self._chance.choice(IDS), counts, transactional=True)
        partition.append([row.encoded for row in rows], acks=1)
        self.rows += rows

    def close(self) -> None:
        for log in self.logs:
            log.close()


def hold(root: Path, rows: list[Row], synced: int, *, files: RealFiles | None = None) -> None:
    path = root / "log"
    options = {"maintenance": False, "files": files, "fsync": "always" if files else "never"}
    with Log.open(path, read_only=True) as log:
        seen = observed(log.partition(TP))
    with Log.open(path, **options) as log:
        partition = log.partition(TP)
        left = Rows(row for row in rows if row.end <= partition.end_offset)
        assert left.end == partition.end_offset >= synced
        assert observed(partition) == (left.end, left.stable, left.opened, left.committed)
        assert seen == observed(partition)
        for producer in IDS:  # each goes on where the log says that it is
            gap = left.following(producer, [1], transactional=True)[0]
            with pytest.raises(OutOfOrderSequence):
                partition.append([gap._replace(sequence=gap.sequence + 1).encoded])
            more = left.following(producer, [1, 1], transactional=True)
            partition.append([row.encoded for row in more], acks=1)
            left += more
            assert partition.append([more[1].encoded], acks=1) == more[1].offset
            ended = left.ending(producer, commit=producer == 1)
            partition.append_marker(producer, ended.epoch, bool(ended.outcome), 0, True)
            left.append(ended)
        partition.sync()
        assert observed(partition) == (left.end, left.end, {}, left.committed)
    with Log.open(path, **options) as log:
        assert observed(log.partition(TP)) == (left.end, left.end, {}, left.committed)


def observed(partition: Partition) -> tuple[object, ...]:
    return (
        partition.end_offset,
        partition.stable_offset,
        partition.open_transactions(),
        read_all(partition),
    )


@pytest.fixture
def reboot(monkeypatch) -> Iterator[Callable[[], None]]:
    numbers = count()

    def reboot() -> None:
        boot = (b"boot %d" % next(numbers)).ljust(16)
        for module in (opening, recovery):
            monkeypatch.setattr(module, "boot_id", lambda: boot)

    reboot()
    yield reboot


@pytest.fixture
def chance() -> random.Random:
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    return random.Random(seed)


def test_what_a_power_cut_leaves_is_a_beginning_of_what_was_written(tmp_path, reboot, chance):
    story = Story(tmp_path / "disk", chance)
    for _ in range(60):
        story.go_on()
    story.close()
    for number, cut in enumerate(chance.sample(story.disk.cuts, min(40, len(story.disk.cuts)))):
        left = tmp_path / f"{number}"
        story.disk.leave(cut.nodes, left, chance)
        reboot()
        hold(left, story.rows, cut.promised)


def test_so_does_one_while_the_last_one_is_recovered_from(tmp_path, reboot, chance):
    story = Story(tmp_path / "disk", chance)
    for _ in range(40):
        story.go_on()
    story.close()
    for number, cut in enumerate(chance.sample(story.disk.cuts, min(10, len(story.disk.cuts)))):
        left = tmp_path / f"{number}"
        story.disk.leave(cut.nodes, left, chance)
        reboot()
        second = Disk(left, lambda: cut.promised)  # noqa: B023
        rows = Rows(story.rows)
        with Log.open(left / "log", files=second, maintenance=False) as log:
            partition = log.partition(TP)
            rows = Rows(row for row in rows if row.end <= partition.end_offset)
            for producer in IDS:
                for _ in range(3):
                    more = rows.following(producer, [2], transactional=True)
                    partition.append([row.encoded for row in more], acks=1)
                    rows += more
                ended = rows.ending(producer, commit=producer == 0)
                partition.append_marker(producer, ended.epoch, producer == 0, 0, True)
                rows.append(ended)
            partition.sync()
        for again, other in enumerate(chance.sample(second.cuts, min(4, len(second.cuts)))):
            left = tmp_path / f"{number}-{again}"
            second.leave(other.nodes, left, chance)
            reboot()
            hold(left, rows, cut.promised)
