"""Where records of tasks go."""

from collections import Counter

import pytest

from streamkit.backends.locate import open_backend
from streamkit.codec import partition_for
from streamkit.engine.outputs import BATCH_BYTES, Outputs
from streamkit.engine.rows import Drained, Rows
from streamkit.errors import RecordTooLarge, UnknownTopic
from streamkit.records import TopicPartition


@pytest.fixture
def log():
    with open_backend("memory:") as log:
        log.create_topic("out", 3)
        yield log


def records(log, topic="out"):
    found = []
    for number in range(log.topic(topic).partitions):
        position = 0
        while batches := log.fetch({TopicPartition(topic, number): position}):
            for batch in batches:
                found += batch.records()
                position = batch.next_offset
    return found


def rows(*pairs):
    return Rows([k for k, _ in pairs], [v for _, v in pairs], list(range(len(pairs))))


def test_a_key_decides_the_partition_and_keeps_its_order(log):
    keys = [b"key-%d" % (n % 7) for n in range(50)]
    given = rows(*[(key, b"%d" % n) for n, key in enumerate(keys)])
    Outputs(log, str).append(Drained({"out": given}), 0)
    found = records(log)
    assert all(r.partition == partition_for(r.key, 3) for r in found)
    for key in set(keys):
        assert [r.timestamp for r in found if r.key == key] == [
            n for n, other in enumerate(keys) if other == key
        ]


@pytest.mark.parametrize("task", range(5))
def test_records_without_a_key_go_where_their_task_says(log, task):
    Outputs(log, str).append(Drained({"out": rows((None, b"1"), (None, b"2"))}), task)
    assert {r.partition for r in records(log)} == {task % 3}


def test_markers_go_everywhere_after_the_rows(log):
    drained = Drained({"out": rows((b"a", b"1"))}, {"out": rows((None, None))})
    Outputs(log, str).append(drained, 0)
    found = records(log)
    assert sorted(r.partition for r in found if r.key is None) == [0, 1, 2]
    assert [r.value for r in found if r.partition == partition_for(b"a", 3)] == [b"1", None]


def test_many_records_are_cut_into_batches_that_a_topic_takes(log):
    given = rows(*[(b"k", b"x" * 1000) for _ in range(3000)])
    Outputs(log, str).append(Drained({"out": given}), 0)
    assert [r.timestamp for r in records(log)] == list(range(3000))


def test_one_record_over_the_topics_limit_is_refused(log):
    given = rows((b"k", b"x" * (5 * BATCH_BYTES)))
    with pytest.raises(RecordTooLarge, match="out-"):
        Outputs(log, str).append(Drained({"out": given}), 0)


def test_a_topic_that_does_not_exist_is_named_with_the_nearest(log):
    with pytest.raises(UnknownTopic, match=r"otu.*did you mean 'out'.*topics create otu"):
        Outputs(log, str).append(Drained({"otu": rows((b"a", b"1"))}), 0)


def test_what_is_there_already_is_not_appended_again(log):
    written = {"out": Counter({(b"a", b"1", 0, ()): 1})}
    given = Rows([b"a", b"a", b"b"], [b"1", b"1", b"1"], [0, 0, 0])
    Outputs(log, str, written).append(Drained({"out": given}), 0)
    assert Counter(r.key for r in records(log)) == {b"a": 1, b"b": 1}
