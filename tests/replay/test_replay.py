"""History again: the same results as live, its own topics, and sessions that go on."""

import json
import random
import threading
from collections import Counter

import pytest
from msgspec import Struct

from streamkit.app import App
from streamkit.backends.locate import open_backend
from streamkit.codec import partition_for
from streamkit.dsl.context import Context
from streamkit.dsl.windows import tumbling
from streamkit.engine.headers import WINDOW
from streamkit.engine.live import run as run_live
from streamkit.engine.transaction import WorkTransaction
from streamkit.errors import ConfigError, GroupActive, TopicExists, UnknownTopic
from streamkit.records import TopicPartition
from streamkit.replay.begin import begin
from streamkit.replay.claim import claimed
from streamkit.replay.compare import difference
from streamkit.replay.run import run
from streamkit.replay.session import forget, sessions

PARTITIONS = 3
SECOND = 1000
DAY = 86_400 * SECOND


class Event(Struct):
    number: int
    kind: str


def shop(threshold=0, fail_at=None, size="10s"):
    app = App("shop")
    events = app.stream("events", Event, out_of_order="5s")

    @events.process(to="big", key="kind")
    def big(event: Event) -> Event | None:
        if event.number == fail_at:
            raise ValueError("this one")
        return event if event.number >= threshold else None

    @events.by("kind").window(tumbling(size, grace="1s")).aggregate(to="totals")
    def totals(total: int | None, event: Event) -> int:
        return (total or 0) + event.number

    return app.topology()


@pytest.fixture
def log(tmp_path):
    with open_backend(tmp_path / "log") as log:
        log.create_topic("events", PARTITIONS)
        yield log


def publish(log, numbers, seed=1):
    """One event a second from 1970-01-02 on, a few seconds out of order."""
    chance = random.Random(seed)
    for number in sorted(numbers, key=lambda n: n + chance.uniform(0, 4)):
        key = b"%d" % (number % 20)
        value = json.dumps({"number": number, "kind": "abc"[number % 3]}).encode()
        at = TopicPartition("events", partition_for(key, PARTITIONS))
        log.append(at, [value], keys=[key], timestamps=DAY + number * SECOND)


def read(log, topic):
    found = []
    for number in range(log.topic(topic).partitions):
        partition = TopicPartition(topic, number)
        position, end = log.offsets(partition).start, log.offsets(partition).end
        while position < end:
            for batch in log.fetch({partition: position}):
                found += batch.records()
                position = batch.next_offset
    return found


def contents(records):
    """Everything of records but where they stand."""
    return Counter((r.partition, r.timestamp, r.key, r.value, r.headers) for r in records)


def session(log, topology, name="again", from_="1970-01-02", to="latest", **options):
    return begin(topology, log, name=name, from_text=from_, to_text=to, now=5 * DAY, **options)


def replay(log, topology, **options):
    return run(topology, log, session(log, topology, **options), stop=threading.Event())


def test_the_same_code_over_the_same_records_gives_the_same_bytes(log):
    publish(log, range(300))
    # The last event stands far behind, so that live closes all windows before it.
    for number in range(PARTITIONS):
        value = b'{"number": 0, "kind": "end"}'
        log.append(TopicPartition("events", number), [value], keys=[b"e"], timestamps=2 * DAY)
    run_live(shop(), log, until_end=True, stop=threading.Event())
    finished = replay(log, shop())
    assert finished.finished
    for topic in ("big", "totals"):
        live, again = read(log, topic), read(log, f"{topic}.replay.again")
        assert len(live) >= 90
        assert contents(live) == contents(again)
        assert not difference(log, finished, topic)


def test_exactly_the_records_of_the_span_are_replayed_whatever_their_order(log):
    publish(log, range(300))
    start, end = DAY + 50 * SECOND, DAY + 200 * SECOND
    replay(log, shop(), from_=str(start), to=str(end))
    found = sorted(json.loads(r.value)["number"] for r in read(log, "big.replay.again"))
    assert found == list(range(50, 200))


def test_windows_that_end_by_the_end_of_the_span_are_closed_and_no_others(log):
    publish(log, range(300))
    replay(log, shop(), to=str(DAY + 105 * SECOND))
    totals = Counter()
    for record in read(log, "totals.replay.again"):
        totals[record.key.decode(), (record.timestamp - DAY) // (10 * SECOND)] += int(record.value)
    expected = Counter()
    for number in range(100):
        expected["abc"[number % 3], number // 10] += number
    assert totals == expected


def test_the_live_app_is_not_touched(log):
    publish(log, range(100))
    run_live(shop(), log, until_end=True, stop=threading.Event())
    before = {name: contents(read(log, name)) for name in log.topics() if name[:2] != "__"}
    committed = log.committed("shop")
    replay(log, shop(threshold=50))
    assert log.committed("shop") == committed
    for name, records in before.items():
        assert contents(read(log, name)) == records


def test_other_code_is_compared_with_what_was_published(log):
    publish(log, range(100))
    run_live(shop(threshold=60), log, until_end=True, stop=threading.Event())
    finished = replay(log, shop(threshold=50))
    found = difference(log, finished, "big")
    assert (found.same, found.changed) == (40, 0)
    assert (found.only_in_replay, found.only_in_published) == (10, 0)


class StopAfter(threading.Event):
    """Says stop when it has been asked so many times."""

    def __init__(self, times):
        super().__init__()
        self.times = times

    def is_set(self):
        self.times -= 1
        return self.times < 0


@pytest.mark.parametrize("times", [0, 1, 2, 3, 4])
def test_a_session_that_was_stopped_goes_on_to_the_same_end(log, times):
    publish(log, range(200))
    end = str(DAY + 200 * SECOND)
    whole = replay(log, shop(), name="whole", to=end)
    stopped = run(shop(), log, session(log, shop(), to=end), stop=StopAfter(times))
    publish(log, range(1000, 1010))  # after the bounds were frozen
    known = session(log, shop(), to=end)
    assert (known.streams, known.finished) == (stopped.streams, stopped.finished)
    finished = run(shop(), log, known, stop=threading.Event())
    assert finished.finished
    for topic in ("big", "totals"):
        expected = contents(read(log, whole.shadow(topic)))
        assert contents(read(log, finished.shadow(topic))) == expected


def test_what_a_killed_process_wrote_and_did_not_commit_is_not_written_twice(log, monkeypatch):
    publish(log, range(200))
    end = str(DAY + 200 * SECOND)
    commit, commits = WorkTransaction.commit, []

    def killed(transaction, *arguments, **options):
        commits.append(1)
        if len(commits) > 1:
            raise SystemExit("killed")
        commit(transaction, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(WorkTransaction, "commit", killed)
        with pytest.raises(SystemExit):
            run(shop(), log, session(log, shop(), to=end), stop=threading.Event())
    assert commits
    log_ends = [log.offsets(TopicPartition("big.replay.again", n)).end for n in range(PARTITIONS)]
    assert sum(log_ends) > len(read(log, "big.replay.again")), "written, and not committed"
    replay(log, shop(), to=end)
    replay(log, shop(), name="whole", to=end)
    for topic in ("big", "totals"):
        assert contents(read(log, f"{topic}.replay.again")) == contents(
            read(log, f"{topic}.replay.whole")
        )


def test_an_error_names_the_record_and_other_code_goes_on_from_there(log):
    publish(log, range(100))
    with pytest.raises(Exception, match=r"big.*ValueError: this one.*events-\d@\d+"):
        replay(log, shop(fail_at=40))
    replay(log, shop())
    found = sorted(json.loads(r.value)["number"] for r in read(log, "big.replay.again"))
    assert found == list(range(100))


def test_a_session_does_not_go_on_in_another_topic_of_the_same_name(log):
    publish(log, range(100))
    stopped = run(shop(), log, session(log, shop()), stop=StopAfter(1))
    assert not stopped.finished
    log.delete_topic("events")
    log.create_topic("events", PARTITIONS)
    publish(log, range(200))
    with pytest.raises(ConfigError, match="events was deleted and made anew since it began"):
        session(log, shop())
    finished = run(shop(), log, session(log, shop(), restart=True), stop=threading.Event())
    assert len(read(log, finished.shadow("big"))) == 200


def test_a_finished_session_does_nothing_until_it_is_restarted(log):
    publish(log, range(10))
    assert replay(log, shop()).finished
    before = contents(read(log, "big.replay.again"))
    assert replay(log, shop(threshold=5)).finished
    assert contents(read(log, "big.replay.again")) == before
    assert replay(log, shop(threshold=5), restart=True).finished
    assert len(read(log, "big.replay.again")) == 5


def test_a_session_keeps_its_bounds(log):
    publish(log, range(10))
    session(log, shop(), to="latest")
    with pytest.raises(ConfigError, match="exists, from 1970-01-02 to latest"):
        session(log, shop(), to="now")


@pytest.mark.parametrize(
    ("from_", "to", "message"),
    [
        ("latest", "latest", "--from latest"),
        ("earliest", "earliest", "--to earliest"),
        ("1970-01-03", "1970-01-02", "not before"),
        ("soon", "latest", "--from: 'soon'"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(log, from_, to, message):
    with pytest.raises(ConfigError, match=message):
        session(log, shop(), from_=from_, to=to)
    assert sessions(log) == {}


def test_a_name_that_is_no_name_is_refused(log):
    with pytest.raises(ConfigError, match="a/b"):
        session(log, shop(), name="a/b")


def test_a_shadow_topic_of_somebody_else_is_not_taken(log):
    log.create_topic("big.replay.again")
    with pytest.raises(TopicExists, match=r"big\.replay\.again"):
        session(log, shop())


def test_two_processes_do_not_run_one_session(log, tmp_path):
    publish(log, range(10))
    with open_backend(tmp_path / "log") as other:
        member = other.join("shop.replay.again", {"replay": 1})
        with pytest.raises(GroupActive, match="another process"):
            replay(log, shop())
        member.leave()
    assert replay(log, shop()).finished


def test_a_session_is_claimed_by_one_process_at_a_time(log, tmp_path):
    with open_backend(tmp_path / "log") as other:
        with claimed(log, "shop", "again"):
            refused = pytest.raises(GroupActive, match="'again' of app 'shop' runs in another")
            with refused, claimed(other, "shop", "again"):
                raise AssertionError("both have it")
            with claimed(other, "shop", "another"):
                pass
        with claimed(other, "shop", "again"):
            pass
    assert log.groups() == []


def test_a_session_of_other_code_is_neither_shown_nor_gone_on_with(log):
    publish(log, range(100))
    stopped = run(shop(), log, session(log, shop()), stop=StopAfter(1))
    assert not stopped.finished
    with pytest.raises(ConfigError, match=r"'again' .* stopped halfway; --restart"):
        session(log, shop(size="20s"))
    finished = replay(log, shop())
    assert finished.finished and finished.ended is not None
    with pytest.raises(ConfigError, match=r"'again' .* finished with other code.*--restart"):
        session(log, shop(size="20s"))
    assert not session(log, shop(size="20s"), restart=True).finished


def test_a_deleted_session_leaves_nothing_behind(log):
    publish(log, range(10))
    before = set(log.topics())
    forget(log, replay(log, shop()))
    own = {"__streamkit_replays", "__consumer_offsets", "__transaction_state"}
    assert set(log.topics()) - before == own - before
    assert sessions(log) == {}
    assert "shop.replay.again" not in log.groups()


def test_results_of_windows_carry_the_identity_a_comparison_goes_by(log):
    publish(log, range(50))
    replay(log, shop(), to=str(DAY + 50 * SECOND))
    for record in read(log, "totals.replay.again"):
        assert WINDOW in dict(record.headers)


def priced():
    app = App("prices")
    prices = app.table("prices", int)
    orders = app.stream("orders", int)

    @orders.join(prices, to="paid")
    def paid(count: int, price: int) -> int:
        return count * price

    # What the app writes and reads again is its own in a replay, too.
    again = app.stream("paid", int)

    @again.process(to="doubled")
    def doubled(amount: int) -> int:
        return 2 * amount

    return app.topology()


def test_tables_are_whole_and_frozen_and_results_that_are_read_again_are_shadows(log):
    log.create_topic("orders")
    log.create_topic("prices", 1, {"cleanup.policy": "compact"})
    prices = TopicPartition("prices", 0)
    log.append(prices, [b"1", b"5"], keys=[b"tea", b"tea"], timestamps=[1, 2])
    log.append(TopicPartition("orders", 0), [b"3"], keys=[b"tea"], timestamps=[DAY])
    log.create_topic("paid")
    log.append(TopicPartition("paid", 0), [b"100"], keys=[b"tea"], timestamps=[DAY])
    begun = session(log, priced(), from_=str(DAY))
    log.append(prices, [b"9"], keys=[b"tea"], timestamps=[DAY])
    assert run(priced(), log, begun, stop=threading.Event()).finished
    assert [r.value for r in read(log, "paid.replay.again")] == [b"15"]
    assert [r.value for r in read(log, "doubled.replay.again")] == [b"30"]
    assert [r.value for r in read(log, "paid")] == [b"100"]


def test_old_results_are_kept_until_the_session_is_deleted(log):
    publish(log, range(10))
    replay(log, shop())
    assert log.topic("big.replay.again").config["retention.ms"] == "-1"


def test_what_a_function_sends_anywhere_goes_to_a_shadow_too(log):
    def sending():
        app = App("shop")
        events = app.stream("events", Event)

        @events.process(to="big")
        def big(event: Event, context: Context) -> None:
            context.send("elsewhere", event.number)

        return app.topology()

    publish(log, range(10))
    with pytest.raises(UnknownTopic, match="elsewhere"):
        replay(log, sending())
    log.create_topic("elsewhere", 2)
    finished = replay(log, sending())
    assert read(log, "elsewhere") == []
    assert len(read(log, "elsewhere.replay.again")) == 10
    forget(log, finished)
    assert "elsewhere.replay.again" not in log.topics()
