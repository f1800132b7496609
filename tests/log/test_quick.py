"""The append in one function, of Python or compiled: to the byte what the others write."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.codec import encode
from streamkit.log.config import TopicConfig
from streamkit.log.direct import COMPILED
from streamkit.log.directory import Log
from streamkit.log.quick import Quick
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)
CONFIG = {"segment.bytes": "1024", "index.interval.bytes": "150", "segment.ms": "100"}


class Still:
    """A clock that stands where it is put."""

    ms = 1_000_000

    def now(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000


def test_configs_that_come_in_the_middle_of_an_append_count_from_the_next_one_on(
    tmp_path, monkeypatch
):
    clock = Still()
    with Log.open(tmp_path, fsync="never", clock=clock, maintenance=False) as log:
        log.create_topic("events")
        partition = log.partition(TP)
        for _ in range(2):
            partition.append([encode([b"x"], timestamps=0)])
        partition.configure(TopicConfig.parse({"segment.ms": "1000"}))

        roll_ms = TopicConfig.roll_ms

        def meanwhile(*args):  # as another thread does that looks at the topics
            monkeypatch.undo()
            partition.configure(TopicConfig.parse({"segment.ms": "100"}))
            return roll_ms(*args)

        clock.ms += 10
        batch = encode([b"x"], timestamps=0)
        monkeypatch.setattr(TopicConfig, "roll_ms", meanwhile)
        partition.append([batch])
        assert partition.published().active_base == 0
        clock.ms += 200
        partition.append([batch])
        assert partition.published().active_base == 3


class Long(Quick):
    """Leaves every append to the others."""

    def append(self, batch, header):
        return None


appends = st.lists(
    st.tuples(
        st.lists(st.binary(max_size=60), min_size=1, max_size=5),
        st.integers(1_000_000, 1_000_300),
        st.sampled_from([None, None, None, 7]),
        st.integers(0, 60),
    ),
    max_size=25,
)


@settings(max_examples=30, deadline=None)
@given(appends=appends)
def test_it_leaves_the_files_and_the_control_block_that_the_long_way_leaves(
    appends, tmp_path_factory
):
    ways = ("long", "quick", "direct") if COMPILED else ("long", "quick")
    roots = [tmp_path_factory.mktemp("log") for _ in ways]
    taken = [fill(root, way, appends) for root, way in zip(roots, ways, strict=True)]
    long, *others = (bytes_below(root) for root in roots)
    assert all(other == long for other in others)
    if sum(producer is None for _, _, producer, _ in appends) > 10:
        assert taken[1], "the quick way was never taken"


class Counted:
    """Another, and how often it has appended."""

    def __init__(self, other) -> None:
        self._other = other
        self.appended = 0

    def append(self, *args):
        done = self._other.append(*args)
        self.appended += done is not None
        return done


def fill(root: Path, way: str, appends) -> int:
    """How many of the appends went that way."""
    clock = Still()
    with Log.open(root, fsync="never", clock=clock) as log:
        log.create_topic("events", config=CONFIG)
        partition = log.partition(TP)
        parts = partition._access, partition._appender, partition._segments
        counted = Counted(partition._direct if way == "direct" else Quick(*parts))
        partition._direct = counted if way == "direct" else None
        partition._quick = counted if way == "quick" else Long(*parts)
        sequence = 0
        for values, time, producer, pause in appends:
            clock.ms += pause
            kwargs = {}
            if producer is not None:
                kwargs = {"producer_id": 7, "producer_epoch": 0, "base_sequence": sequence}
                kwargs["transactional"] = True
                sequence += len(values)
            partition.append([encode(values, timestamps=time, **kwargs)], acks=1)
    return counted.appended


def bytes_below(root: Path) -> dict[str, bytes]:
    folder = root / "events-0"
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != "partition.metadata"
    }
