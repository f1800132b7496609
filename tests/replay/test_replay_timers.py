"""What timers and ticks gave live, a replay gives again: the same bytes, in their order."""

import random
from threading import Event as Flag

import pytest
from msgspec import Struct

from streamkit.app import App
from streamkit.backends.locate import open_backend
from streamkit.clock import ManualClock
from streamkit.codec import partition_for
from streamkit.dsl.context import Context
from streamkit.dsl.state import State
from streamkit.dsl.ticks import Tick
from streamkit.dsl.timers import Timer
from streamkit.dsl.windows import tumbling
from streamkit.engine.live import run as run_live
from streamkit.engine.topics import create_topics
from streamkit.errors import TopologyError
from streamkit.records import TopicPartition
from streamkit.replay.begin import begin
from streamkit.replay.run import run

PARTITIONS = 3
DAY = 86_400_000
START = 1_767_225_600_000
"""Where a manual clock begins."""


class Event(Struct):
    number: int
    kind: str


class Hasty(ManualClock):
    """By which a minute goes by whenever somebody looks."""

    def now(self):
        self.advance(60_000)
        return super().now()


def shop():
    app = App("shop")
    events = app.stream("events", Event, out_of_order="2s")

    @events.process
    def visit(event: Event, seen: State[int], context: Context) -> None:
        seen.set(seen.get(0) + event.number)
        context.timer(after="20s")
        context.timer(f"each {event.number}", after="3s")

    @visit.on_timer(to="fired")
    def fired(timer: Timer, seen: State[int], context: Context) -> str:
        if timer.name is None:
            total = seen.get(0)
            seen.delete()
            return f"{total} {context.uuid()}"
        return f"{timer.name} {context.random()}"

    fired.window(tumbling("10s")).count(to="counts", name="counts")

    by_kind = events.by("kind")

    @by_kind.process
    def kind(event: Event, context: Context) -> None:
        context.timer(after="15s", extend=True)

    @kind.on_timer(to="kinds")
    def quiet(timer: Timer) -> str:
        return str(timer.key)

    ordered = events.by("kind", name="ordered", in_order=True)

    @ordered.process(to="mixed")
    def mix(event: Event, sofar: State[int]) -> int:
        sofar.set((sofar.get(0) * 31 + event.number) % 999_983)
        return sofar.get(0)

    ordered.window(tumbling("10s")).collect(9, "number", emit="update", to="grown", name="grown")

    @app.every("1m", missed="all", to="beats")
    def beat(tick: Tick, count: State[int], context: Context) -> str:
        count.set(count.get(0) + 1)
        return f"{count.get()} {tick.time:%H:%M} {context.uuid()}"

    return app.topology()


@pytest.fixture
def log(tmp_path):
    with open_backend(tmp_path / "log") as log:
        log.create_topic("events", PARTITIONS)
        yield log


def publish(log, numbers):
    chance = random.Random(1)
    for number in sorted(numbers, key=lambda n: n + chance.uniform(0, 4)):
        key = b"%d" % (number % 7)
        at = TopicPartition("events", partition_for(key, PARTITIONS))
        value = b'{"number":%d,"kind":"%s"}' % (number, b"abc"[number % 3 : number % 3 + 1])
        log.append(at, [value], keys=[key], timestamps=START + number * 1000)


def read(log, topic):
    found = []
    for number in range(log.topic(topic).partitions):
        at = TopicPartition(topic, number)
        position = log.offsets(at).start
        while position < log.offsets(at).end:
            for batch in log.fetch({at: position}):
                found += [(number, r.key, r.value, r.timestamp) for r in batch.records()]
                position = batch.next_offset
    return found


def lived(log, clock):
    run_live(shop(), log, until_end=True, stop=Flag(), clock=clock)


def again(log, **options):
    session = begin(
        shop(),
        log,
        name="again",
        **({"from_text": "earliest", "to_text": "latest", "now": 5 * DAY} | options),
    )
    return run(shop(), log, session, stop=Flag(), clock=Hasty())


def test_timers_fire_again_as_they_did(log):
    clock = ManualClock()
    for some in (range(100), range(100, 150), range(150, 260)):
        publish(log, some)
        lived(log, clock)
        clock.advance(90_000)
    lived(log, clock)
    again(log)
    for topic, least in (("fired", 250), ("counts", 20), ("beats", 4)):
        live = read(log, topic)
        assert len(live) >= least, topic
        assert read(log, f"{topic}.replay.again") == live, topic
    for topic in ("mixed", "grown"):  # a replay ends, and so nothing waits for its turn there
        for number in range(PARTITIONS):
            live, all_ = (
                [r for r in read(log, f"{topic}{tail}") if r[0] == number]
                for tail in ("", ".replay.again")
            )
            assert all_[: len(live)] == live, topic
            assert len(live) <= len(all_) <= len(live) + 6
    # Handed over, events of several partitions may come in another order: how far, that is all.
    assert {key for _, key, _, _ in read(log, "kinds.replay.again")} <= {b"a", b"b", b"c"}


def test_a_replay_writes_no_ticks_of_its_own(log):
    clock = ManualClock()
    publish(log, range(3))
    lived(log, clock)
    for _ in range(3):
        clock.advance(60_000)
        lived(log, clock)
    ticks = read(log, "shop-beat-ticks")
    assert [stamp for *_, stamp in ticks] == [START + n * 60_000 for n in (1, 2, 3)]
    again(log)
    assert read(log, "shop-beat-ticks") == ticks
    assert read(log, "beats.replay.again") == read(log, "beats")
    assert not [topic for topic in log.topics() if topic.startswith("shop-beat-ticks.")]


def test_a_replay_of_an_hour_has_the_ticks_of_that_hour(log):
    clock = ManualClock()
    publish(log, range(3))
    lived(log, clock)
    clock.advance(600_000)
    lived(log, clock)
    again(log, from_text="2026-01-01T00:02", to_text="2026-01-01T00:05")
    replayed = read(log, "beats.replay.again")
    assert [stamp for *_, stamp in replayed] == [START + n * 60_000 for n in (2, 3, 4)]


def test_without_ticks_there_is_no_history(log):
    with pytest.raises(TopologyError, match="shop-beat-ticks, which does not exist"):
        again(log)
    create_topics(shop(), log)
