"""Records on their way into batches: lists cut into batches, and the quick way of single ones."""

from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.codec import columns, lanes, partition_for, pure
from streamkit.errors import InvalidRecord

try:
    from streamkit.codec import _native as native
except ImportError:
    native = None

needs_native = pytest.mark.skipif(native is None, reason="the compiled codec is not built")

some = st.one_of(st.none(), st.binary(max_size=40))
records = st.lists(st.tuples(some, some, st.integers(-1, 2**60)), max_size=40)


@pytest.fixture(scope="module")
def filling(codec: ModuleType) -> ModuleType:
    return lanes if codec is pure else codec


def batches(module, builders, values, keys, timestamps, limit):
    """What comes out, in this order, as (builder, batch)."""
    at, made = 0, []
    while True:
        at, full = module.fill_batches(builders, values, keys, timestamps, at, limit)
        if full < 0:
            break
        made.append((full, builders[full].build()))
    return made + [(n, one.build()) for n, one in enumerate(builders) if len(one)]


@given(records, st.integers(1, 4), st.integers(62, 300), st.booleans(), st.booleans())
def test_lists_are_cut_where_a_batch_is_full(codec, filling, rows, count, limit, keyed, one_time):
    values, times = [row[0] for row in rows], [row[2] for row in rows]
    keys = [row[1] for row in rows] if keyed else None
    when = 7 if one_time else times
    builders = [codec.Builder() for _ in range(count)]
    made = batches(filling, builders, values, keys, when, limit)

    expected = [[] for _ in range(count)]
    for number, value in enumerate(values):
        key = keys[number] if keys else None
        place = partition_for(key, count) if key is not None and count > 1 else 0
        expected[place].append((value, key, 7 if one_time else times[number]))
    found = [[] for _ in range(count)]
    for place, batch in made:
        told = columns(batch)
        assert len(batch) >= limit or batch is [b for p, b in made if p == place][-1]
        found[place] += zip(told.values, told.keys, told.timestamps, strict=True)
    assert found == expected


@needs_native
@given(records, st.integers(1, 3), st.integers(62, 300), st.booleans())
def test_compiled_and_python_make_the_same_batches(rows, count, limit, keyed):
    values, keys = [row[0] for row in rows], [row[1] for row in rows] if keyed else None
    times = [row[2] for row in rows]
    assert batches(
        native, [native.Builder() for _ in range(count)], values, keys, times, limit
    ) == batches(lanes, [pure.Builder() for _ in range(count)], values, keys, times, limit)


@pytest.mark.parametrize("time", [-2, 2**63])
def test_a_time_that_is_none_is_refused(codec, filling, time):
    builder = codec.Builder()
    for when in (time, [time]):
        with pytest.raises(InvalidRecord):
            filling.fill_batches([builder], [b"v"], None, when, 0, 100)
        assert len(builder) == 0


def test_a_wrong_value_is_refused_and_what_came_before_it_stays(codec, filling):
    builder = codec.Builder()
    with pytest.raises(InvalidRecord):
        filling.fill_batches([builder], [b"before", "text"], None, 5, 0, 1000)
    assert columns(builder.build()).values == [b"before"]


def test_only_lists_of_bytes_and_none_are_taken_as_they_are(filling):
    assert filling.are_bytes([b"", None, b"x"])
    assert filling.are_bytes([])
    for other in ((b"x",), [b"x", "y"], [bytearray(b"x")], [1], iter([b"x"])):
        assert not filling.are_bytes(other)


class Calls:
    """A producer as the quick way sees it: what it was asked to do."""

    def __init__(self, partitions: int = 2, limit: int = 100) -> None:
        self.slow: list[tuple[tuple, dict]] = []
        self.full: list[object] = []
        self.quick = native.QuickSend(
            lambda *args, **kwargs: self.slow.append((args, kwargs)),
            self.full.append,
            system_time=True,
        )
        self.topic = native.Lanes()
        for number in range(partitions):
            lane = native.Lane(number)
            lane.builder, lane.limit, lane.open = native.Builder(), limit, True
            self.topic.lanes.append(lane)
        self.topic.sticky = self.topic.lanes[0]
        self.quick.topics["t"] = self.topic

    @property
    def counts(self) -> list[int]:
        return [len(lane.builder) for lane in self.topic.lanes]


@needs_native
def test_plain_records_go_into_open_lanes():
    calls = Calls(partitions=3, limit=10_000)
    keys = [b"a", b"b", b"c", b"d"]
    for key in keys:
        calls.quick.send("t", b"v", key=key, timestamp=5)
    calls.quick.send("t", b"w")
    expected = [0, 0, 0]
    for key in keys:
        expected[partition_for(key, 3)] += 1
    expected[0] += 1
    assert calls.counts == expected
    assert not calls.slow and not calls.full


@needs_native
def test_a_full_batch_is_handed_on():
    calls = Calls()
    while not calls.full:
        calls.quick.send("t", b"twenty bytes or more")
    assert calls.full == [0] and calls.topic.lanes[0].builder.size >= 100


@needs_native
@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("t", "text"), {}),
        (("t", None), {}),
        (("t", b"v"), {"key": "text"}),
        (("t", b"v"), {"partition": 1}),
        (("t", b"v"), {"headers": (("a", b"b"),)}),
        (("t", b"v"), {"timestamp": "now"}),
        (("t", b"v"), {"timestamp": -5}),
        (("t", b"v"), {"timestamp": 2**70}),
        (("other", b"v"), {}),
        ((7, b"v"), {}),
    ],
)
def test_what_is_unusual_is_left_to_the_slow_way(args, kwargs):
    calls = Calls()
    calls.quick.send(*args, **kwargs)
    whole = {"key": None, "partition": None, "timestamp": None, "headers": ()} | kwargs
    assert calls.slow == [(args, whole)]
    assert calls.counts == [0, 0]


@needs_native
def test_a_closed_lane_and_a_clock_of_ones_own_are_left_to_the_slow_way():
    calls = Calls()
    calls.topic.sticky.open = False
    calls.quick.send("t", b"v")
    assert len(calls.slow) == 1 and calls.counts == [0, 0]
    calls.topic.sticky.open = True
    other = native.QuickSend(lambda *a, **k: calls.slow.append((a, k)), print, system_time=False)
    other.topics["t"] = calls.topic
    other.send("t", b"v")
    assert len(calls.slow) == 2 and calls.counts == [0, 0]
    other.send("t", b"v", timestamp=3)
    assert calls.counts == [1, 0]


@needs_native
def test_what_is_no_topics_lanes_is_refused():
    calls = Calls()
    calls.quick.topics["t"] = object()
    with pytest.raises(TypeError):
        calls.quick.send("t", b"v")
    calls.quick.topics["t"] = native.Lanes()
    calls.quick.send("t", b"v", key=b"k")
    calls.quick.send("t", b"v")
    assert len(calls.slow) == 2
