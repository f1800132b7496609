"""Any order of appends, reads, rolls, damage and reopening, held against a list."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from streamkit.codec import columns, encode, headers
from streamkit.log.control import DIRTY_AT
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)


class LogAgainstList(RuleBasedStateMachine):
    """Two openings of one log stand for two processes: they share nothing but the files."""

    @initialize(interval=st.integers(0, 400))
    def make(self, interval: int) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.logs = [Log.open(self.root, fsync="never"), Log.open(self.root, fsync="never")]
        config = {"segment.bytes": "1024", "index.interval.bytes": str(interval)}
        self.logs[0].create_topic("events", 1, config)
        self.model: list[tuple[bytes, int]] = []

    def teardown(self) -> None:
        for log in self.logs:
            log.close()
        shutil.rmtree(self.root)

    @property
    def folder(self) -> Path:
        return self.root / "events-0"

    @rule(
        who=st.integers(0, 1),
        batches=st.lists(
            st.lists(st.tuples(st.binary(max_size=90), st.integers(0, 50)), min_size=1, max_size=4),
            max_size=4,
        ),
    )
    def append(self, who: int, batches: list[list[tuple[bytes, int]]]) -> None:
        encoded = [
            encode([value for value, _ in some], timestamps=[time for _, time in some])
            for some in batches
        ]
        assert self.logs[who].partition(TP).append(encoded, acks=1) == len(self.model)
        self.model += [record for some in batches for record in some]

    @rule(who=st.integers(0, 1), data=st.data(), size=st.integers(0, 2000))
    def read(self, who: int, data: st.DataObject, size: int) -> None:
        offset = data.draw(st.integers(0, len(self.model)))
        found = self.logs[who].partition(TP).read(offset, size)
        if offset == len(self.model):
            assert found == b""
            return
        some = columns(found, offset)
        assert list(some.offsets) == list(range(offset, offset + len(some)))
        expected = self.model[offset : offset + len(some)]
        assert list(zip(some.values, some.timestamps, strict=True)) == expected
        assert len(some) > 0
        assert len(found) <= size or len(list(headers(found))) == 1

    @rule(who=st.integers(0, 1), time=st.integers(0, 51))
    def seek(self, who: int, time: int) -> None:
        expected = next((n for n, (_, at) in enumerate(self.model) if at >= time), None)
        assert self.logs[who].partition(TP).offset_at(time) == expected

    @rule(who=st.integers(0, 1))
    def reopen(self, who: int) -> None:
        self.logs[who].close()
        self.logs[who] = Log.open(self.root, fsync="never")

    @rule(suffix=st.sampled_from(["index", "timeindex"]), data=st.data())
    def damage_an_index(self, suffix: str, data: st.DataObject) -> None:
        paths = sorted(self.folder.glob(f"*.{suffix}"))
        if not paths:
            return
        path = data.draw(st.sampled_from(paths))
        size = path.stat().st_size
        damaged = data.draw(st.none() | st.binary(max_size=size + 9))
        if damaged is None:
            path.unlink()
        else:
            path.write_bytes(damaged)

    @rule()
    def lose_the_control_block(self) -> None:
        (self.folder / "control").unlink(missing_ok=True)

    @precondition(lambda self: (self.folder / "control").exists())
    @rule(tail=st.binary(max_size=200))
    def kill_a_writer(self, tail: bytes) -> None:
        """As far as others can see: a dirty block, and bytes beyond the end."""
        with max(self.folder.glob("*.log")).open("ab") as file:
            file.write(tail)
        with (self.folder / "control").open("r+b") as file:
            file.seek(DIRTY_AT)
            file.write(b"\x01")

    @invariant()
    def both_see_the_same_end(self) -> None:
        for log in getattr(self, "logs", ()):
            assert log.partition(TP).end_offset == len(self.model)


TestLogAgainstList = LogAgainstList.TestCase
TestLogAgainstList.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
