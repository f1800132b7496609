"""State comes back as it was committed, a slice at a time, whatever became of its changelog."""

import threading
from collections import Counter

import pytest

from streamkit.app import App
from streamkit.backends.locate import open_backend
from streamkit.clock import ManualClock
from streamkit.codec import encode
from streamkit.dsl.state import State
from streamkit.engine import restore as restoring
from streamkit.engine.live import run
from streamkit.engine.restore import Load, Restoring
from streamkit.engine.settings import Settings
from streamkit.engine.transaction import WorkTransaction
from streamkit.errors import FunctionError
from streamkit.records import Record, TopicPartition

CHANGELOG = TopicPartition("changes", 0)
EVENTS = TopicPartition("events", 0)
COUNTS = TopicPartition("counts", 0)


@pytest.fixture
def log():
    with open_backend("memory:") as log:
        log.create_topic("changes", 1, {"cleanup.policy": "compact"})
        yield log


def write(log, *pairs):
    keys, values = zip(*pairs, strict=True)
    return log.append(CHANGELOG, values, keys=keys) + len(pairs)


def loading(log, start, end):
    """What is read, and by what."""
    taken = []
    load = Load(CHANGELOG, start, end, lambda columns: taken.extend(columns.values))
    return taken, Restoring(log, [load])


def test_it_is_read_from_one_offset_to_another(log):
    write(log, (b"a", b"1"), (b"a", b"2"))
    write(log, (b"a", b"3"), (b"a", b"4"))
    taken, one = loading(log, 1, 3)
    assert one.some(ManualClock(), 1.0)
    assert taken == [b"2", b"3"]


def test_a_slice_ends_with_its_time_and_says_what_is_left(log, monkeypatch):
    monkeypatch.setattr(restoring, "FETCH_BYTES", 1)
    for number in range(5):
        write(log, (b"a", b"%d" % number))
    taken, one = loading(log, 0, 5)
    assert (one.total, one.left, one.what) == (5, 5, "changes-0")
    assert not one.some(ManualClock(), 0.0)
    assert (one.left, len(taken)) == (4, 1)
    assert one.some(ManualClock(), 1.0)
    assert (one.left, len(taken)) == (0, 5)


def test_what_was_aborted_is_not_there_and_does_not_stand_in_the_way(log):
    member = log.join("shop", {"changes": 1})
    write(log, (b"a", b"1"))
    transaction = WorkTransaction(log, "shop", "one")
    batch = restoring_batch(b"aborted")
    transaction.append(log.topic("changes").topic_id, CHANGELOG, batch)
    transaction.abort()
    transaction.append(log.topic("changes").topic_id, CHANGELOG, restoring_batch(b"2"))
    transaction.commit({}, member, [])
    taken, one = loading(log, 0, log.offsets(CHANGELOG).end)
    assert one.some(ManualClock(), 1.0)
    assert taken == [b"1", b"2"]


def test_it_waits_for_what_is_decided_and_cannot_be_read_yet(log):
    member = log.join("shop", {"changes": 1})
    transaction = WorkTransaction(log, "shop", "one")
    transaction.append(log.topic("changes").topic_id, CHANGELOG, restoring_batch(b"1"))
    taken, one = loading(log, 0, 1)
    assert not one.some(ManualClock(), 1.0)
    transaction.commit({}, member, [])
    assert one.some(ManualClock(), 1.0)
    assert taken == [b"1"]


@pytest.mark.parametrize("end", [0, 2])
def test_a_changelog_that_was_emptied_gives_what_it_has(log, end):
    log.create_topic("trimmed")
    at = TopicPartition("trimmed", 0)
    log.append(at, [b"1", b"2", b"3"], keys=[b"a"] * 3)
    log.delete_records(at, -1)
    taken = []
    assert Restoring(log, [Load(at, 0, end, taken.append)]).some(ManualClock(), 1.0)
    assert taken == []


def restoring_batch(value):
    return encode([value], keys=[b"a"], timestamps=0)


def counting(refused=None):
    app = App("shop")
    events = app.stream("events", str)

    @events.filter
    def fine(event: Record[str]) -> bool:
        if event.key == refused:
            raise ValueError("not this one")
        return True

    @fine.process(to="counts")
    def count(event: str, seen: State[int]) -> int:
        seen.set(seen.get(0) + 1)
        return seen.get(0)

    return app.topology()


class Killed(BaseException):
    """The process is gone: nothing after this runs that would not run after SIGKILL."""


def to_the_end(log, refused=None, **settings):
    settings = Settings(commit_interval=0.0, **settings)
    run(counting(refused), log, until_end=True, stop=threading.Event(), settings=settings)


def counts(log):
    """Of each key, the counts that were given."""
    found = {}
    position = log.offsets(COUNTS).start
    while batches := log.fetch({COUNTS: position}):
        for batch in batches:
            for record in batch.records():
                found.setdefault(record.key, []).append(int(record.value))
            position = batch.next_offset
    return found


def publish(log, *keys):
    log.append(EVENTS, [b"x"] * len(keys), keys=keys)


@pytest.mark.parametrize("refused", [None, b"c"])
def test_changes_that_were_written_and_not_committed_do_not_count_ever(log, monkeypatch, refused):
    log.create_topic("events")
    publish(log, b"a", b"b", b"a")
    to_the_end(log)
    publish(log, b"a", b"c")

    def dies(*arguments, **options):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(WorkTransaction, "commit", dies)
        to_the_end(log)
    if refused is not None:
        # This one comes less far, and commits: behind its end now stands what did not count.
        with pytest.raises(FunctionError, match="not this one"):
            to_the_end(log, refused="c")
    for _ in range(2):
        publish(log, b"b", b"d")
        to_the_end(log)
    assert counts(log) == {b"a": [1, 2, 3], b"b": [1, 2, 3], b"c": [1], b"d": [1, 2]}


def test_a_group_that_was_deleted_begins_with_no_state_and_says_so_to_later_restores(log):
    log.create_topic("events")
    publish(log, b"a", b"b", b"a")
    to_the_end(log)
    log.delete_group("shop")
    log.delete_records(EVENTS, 2)
    log.delete_records(COUNTS, -1)
    to_the_end(log)
    publish(log, b"b")
    to_the_end(log)
    assert counts(log) == {b"a": [1], b"b": [1]}


@pytest.mark.parametrize(
    ("on_missing", "expected"),
    [("earliest", {b"a": [3, 4], b"b": [2]}), ("rebuild", {b"a": [1, 2], b"b": [1]})],
)
def test_an_app_goes_on_without_what_was_removed_if_it_is_told_to(
    log, caplog, on_missing, expected
):
    log.create_topic("events")
    publish(log, b"a", b"b", b"a")
    to_the_end(log)
    log.delete_records(COUNTS, -1)
    publish(log, b"a", b"a", b"a", b"b")
    log.delete_records(EVENTS, 4)
    to_the_end(log, on_missing=on_missing)
    assert counts(log) == expected
    (told,) = [text for text in caplog.messages if "removed" in text]
    assert "events-0@3 to 3: removed before they were read" in told
    publish(log, b"a")
    to_the_end(log)
    assert counts(log)[b"a"][-1] == expected[b"a"][-1] + 1


def test_a_changelog_may_be_compacted_wherever_it_is_committed(log):
    log.create_topic("events")
    to_the_end(log)
    log.alter_topic(
        "shop-count-seen-changelog",
        {"min.cleanable.dirty.ratio": "0", "segment.bytes": "1024", "segment.ms": "1"},
    )
    expected = Counter()
    for _ in range(30):
        keys = [b"%d" % number for number in range(20)]
        publish(log, *keys)
        expected.update(keys)
        to_the_end(log)
        log.maintain()
    changelog = TopicPartition("shop-count-seen-changelog", 0)
    left = sum(len(batch) for batch in log.fetch({changelog: 0}, max_bytes=1 << 24))
    assert left < 30 * 20, "it was compacted"
    assert {key: max(each) for key, each in counts(log).items()} == expected
