"""Where records of tasks go."""

import pytest

from streamkit.backends.locate import open_backend
from streamkit.codec import partition_for
from streamkit.engine import outputs
from streamkit.engine.outputs import BATCH_BYTES, Outputs
from streamkit.engine.rows import Drained, Rows
from streamkit.engine.transaction import WorkTransaction
from streamkit.errors import RecordTooLarge, UnknownTopic
from streamkit.records import TopicPartition


@pytest.fixture
def log():
    with open_backend("memory:") as log:
        log.create_topic("out", 3)
        yield log


@pytest.fixture
def member(log):
    return log.join("shop", {"out": 3})


@pytest.fixture
def transaction(log):
    return WorkTransaction(log, "shop", "shop-1")


@pytest.fixture
def given(log, transaction, member):
    """Gives rows to fresh outputs, and commits them."""

    def give(drained, task=0, *, at_once=False):
        made = Outputs(log, str, transaction, at_once=lambda _: at_once)
        made.give(drained, task)
        made.prepare()
        transaction.commit({}, member, [])

    return give


def records(log, topic="out", isolation="read_committed"):
    found = []
    for number in range(log.topic(topic).partitions):
        position = 0
        while batches := log.fetch({TopicPartition(topic, number): position}, isolation=isolation):
            for batch in batches:
                found += batch.records()
                position = batch.next_offset
    return found


def rows(*pairs):
    return Rows([k for k, _ in pairs], [v for _, v in pairs], list(range(len(pairs))))


@pytest.mark.parametrize("headers", [False, True])
def test_a_key_decides_the_partition_and_keeps_its_order(log, given, headers):
    keys = [b"key-%d" % (n % 7) for n in range(50)]
    some = rows(*[(key, b"%d" % n) for n, key in enumerate(keys)])
    if headers:
        noted = [(("n", b"%d" % n),) for n in range(50)]
        some = Rows(some.keys, some.values, some.timestamps, noted)
    given(Drained({"out": some}))
    found = records(log)
    assert len(found) == 50
    assert all(r.partition == partition_for(r.key, 3) for r in found)
    assert all(not headers or dict(r.headers) == {"n": r.value} for r in found)
    for key in set(keys):
        assert [r.timestamp for r in found if r.key == key] == [
            n for n, other in enumerate(keys) if other == key
        ]


@pytest.mark.parametrize("task", range(5))
def test_records_without_a_key_go_where_their_task_says(log, given, task):
    given(Drained({"out": rows((None, b"1"), (b"a", b"2"), (None, b"3"))}), task)
    found = records(log)
    assert {r.partition for r in found if r.key is None} == {task % 3}
    assert len(found) == 3


def test_markers_go_everywhere_after_the_rows(log, given):
    given(Drained({"out": rows((b"a", b"1"))}, {"out": rows((None, None))}))
    found = records(log)
    assert sorted(r.partition for r in found if r.key is None) == [0, 1, 2]
    assert [r.value for r in found if r.partition == partition_for(b"a", 3)] == [b"1", None]


@pytest.mark.parametrize("headers", [False, True])
def test_many_records_are_cut_into_batches_that_a_topic_takes(log, given, headers):
    some = rows(*[(b"k", b"x" * 1000) for _ in range(3000)])
    if headers:
        noted = [(("n", b"%d" % n),) for n in range(3000)]
        some = Rows(some.keys, some.values, some.timestamps, noted)
    given(Drained({"out": some}))
    found = records(log)
    assert [r.timestamp for r in found] == list(range(3000))
    assert not headers or [dict(r.headers)["n"] for r in found] == [b"%d" % n for n in range(3000)]


def test_a_topic_that_takes_less_than_before_gets_smaller_batches(log, transaction, member):
    made = Outputs(log, str, transaction)
    made.give(Drained({"out": rows(*[(b"k", b"x" * 1000) for _ in range(300)])}), 0)
    log.alter_topic("out", {"max.message.bytes": "5000"})
    made.prepare()
    transaction.commit({}, member, [])
    assert [r.timestamp for r in records(log)] == list(range(300))


def test_one_record_over_the_topics_limit_is_refused_and_the_rest_not_committed(
    log, transaction, member
):
    made = Outputs(log, str, transaction)
    made.give(Drained({"out": rows((b"k", b"1"), (b"k", b"x" * (5 * BATCH_BYTES)))}), 0)
    with pytest.raises(RecordTooLarge, match="out-"):
        made.prepare()
    assert made.broken
    made.drop()
    assert not made.broken
    made.give(Drained({"out": rows((b"k", b"2"))}), 0)
    made.prepare()
    transaction.commit({}, member, [])
    assert [r.value for r in records(log)] == [b"2"]


def test_a_topic_that_does_not_exist_is_named_with_the_nearest(given):
    with pytest.raises(UnknownTopic, match=r"otu.*did you mean 'out'.*topics create otu"):
        given(Drained({"otu": rows((b"a", b"1"))}))


def test_nothing_is_read_before_the_commit_and_nothing_of_what_is_dropped(log, transaction, member):
    made = Outputs(log, str, transaction)
    for number in range(3):
        made.give(Drained({"out": rows((b"a", b"%d" % number))}), 0)
        made.prepare()
        assert records(log) == [] or number == 2
        if number == 0:
            made.drop()
        else:
            transaction.commit({}, member, [])
            break
    assert [r.value for r in records(log)] == [b"1"]


def test_at_once_is_before_the_commit_but_for_state(log, transaction):
    log.create_topic("kept")
    made = Outputs(log, str, transaction, at_once=lambda topic: topic == "out")
    made.give(Drained({"out": rows((b"a", b"1"))}), 0)
    assert made.keep("kept", 0, rows((b"a", b"1"), (b"b", b"2"))) == 2
    assert len(records(log)) == 1
    assert records(log, "kept") == []


def test_what_one_topic_gets_at_once_another_gets_with_the_commit(log, transaction, member):
    log.create_topic("handed")
    made = Outputs(log, str, transaction, at_once=lambda topic: topic == "out")
    given = {"handed": rows((b"a", b"1")), "out": rows((b"a", b"1"))}
    made.give(Drained(given), 0)
    made.drop()
    made.give(Drained(given), 0)
    assert len(records(log)) == 2
    assert records(log, "handed") == []
    made.prepare()
    transaction.commit({}, member, [])
    assert len(records(log)) == 2
    assert len(records(log, "handed")) == 1


def test_memory_for_what_waits_is_bounded(log, transaction, monkeypatch):
    monkeypatch.setattr(outputs, "HELD_BYTES", 1 << 19)
    made = Outputs(log, str, transaction)
    for _ in range(20):
        made.give(Drained({"out": rows(*[(b"k", b"x" * 1000) for _ in range(100)])}), 0)
    appended = records(log, isolation="read_uncommitted")
    assert 2000 > len(appended) > 2000 - (1 << 20) // 1000
    assert records(log) == []


def test_records_go_to_the_partitions_that_a_topic_has_by_now(log, transaction, member):
    made = Outputs(log, str, transaction)
    keys = [b"%d" % n for n in range(60)]
    made.give(Drained({"out": rows(*[(key, b"1") for key in keys])}), 0)
    log.add_partitions("out", 5)
    made.give(Drained({"out": rows(*[(key, b"2") for key in keys])}), 0)
    made.prepare()
    transaction.commit({}, member, [])
    found = records(log)
    assert all(r.partition == partition_for(r.key, 3) for r in found if r.value == b"1")
    assert all(r.partition == partition_for(r.key, 5) for r in found if r.value == b"2")
    assert len(found) == 120
