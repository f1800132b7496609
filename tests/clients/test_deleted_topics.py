"""Topics that are deleted under transactions and under the members of groups."""

import threading

import pytest

from streamkit.backends.locate import open_backend
from streamkit.backends.values import CommittedOffset
from streamkit.clients.admin import Admin
from streamkit.clients.consumer import Consumer
from streamkit.clients.producer import Producer
from streamkit.errors import InvalidTopic, UnknownTopic
from streamkit.records import TopicPartition

U0 = TopicPartition("u", 0)
T0 = TopicPartition("t", 0)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "log")


@pytest.fixture
def log(path):
    with open_backend(path) as backend:
        backend.create_topic("t", 2)
        backend.create_topic("u", 1)
        yield backend


def values(log, topic):
    with Consumer(log, topic) as consumer:
        return sorted(record.value for record in consumer.until_end())


def test_what_was_waited_for_is_not_missed_when_its_topic_is_deleted(log):
    with Producer(log) as producer:
        producer.send_and_wait("t", b"there")
        log.delete_topic("t")


@pytest.mark.parametrize("made_anew", [False, True])
def test_a_transaction_commits_what_is_left_when_a_topic_of_it_is_deleted(log, path, made_anew):
    with Producer(log, transactional_id="x") as producer, Admin(path) as other:
        with producer.transaction() as transaction:
            transaction.send("t", b"1", partition=0)
            transaction.send("u", b"2")
            producer.flush()
            other.delete_topic("t")
            if made_anew:
                other.create_topic("t", 1)
        assert values(log, "u") == [b"2"]
        if made_anew:  # it may have other partitions: the first to meet it is told, once
            with pytest.raises(UnknownTopic, match="anew"), producer.transaction() as transaction:
                transaction.send("t", b"not sent")
        with producer.transaction() as transaction:
            transaction.send("u", b"3")
            if made_anew:
                transaction.send("t", b"4")
        assert values(log, "u") == [b"2", b"3"]
    if made_anew:
        assert values(log, "t") == [b"4"]
    for tp in [U0, T0] if made_anew else [U0]:
        there = log.offsets(tp)
        assert there.end == there.log_end, "a transaction hangs"


def test_a_transaction_that_sends_to_a_deleted_topic_is_aborted_whole(log, path):
    with Producer(log, transactional_id="x") as producer, Admin(path) as other:
        with pytest.raises(UnknownTopic, match="'t'"), producer.transaction() as transaction:
            transaction.send("u", b"1")
            transaction.send("t", b"2")
            producer.flush()
            other.delete_topic("t")
            transaction.send("t", b"3")
        assert values(log, "u") == []
        with producer.transaction() as transaction:
            transaction.send("u", b"4")
    assert values(log, "u") == [b"4"]


def test_members_are_told_which_topic_is_gone_and_the_group_goes_on_with_the_others(log, path):
    for number in range(10):
        log.append(T0, [b"t%d" % number])
        log.append(U0, [b"u%d" % number])
    with Consumer(path, ["t", "u"], group="g") as one:
        seen = [one.poll(20.0) for _ in range(2)]
        assert sorted(len(records) for records in seen) == [10, 10]
        deleting = threading.Timer(0.05, log.delete_topic, ["t"])
        deleting.start()
        with pytest.raises(UnknownTopic, match=r"t-\d: deleted|'t'"):
            while True:
                one.poll(20.0)
        deleting.join()
    assert log.committed("g") == {U0: CommittedOffset(10)}
    log.append(U0, [b"next"])
    with Consumer(path, "u", group="g") as one:
        assert [record.value for record in one.until_end()] == [b"next"]


def test_a_topic_made_anew_with_fewer_partitions_is_read_beside_members_that_knew_more(log, path):
    log.create_topic("v", 4)
    with (
        Consumer(path, "v", group="g", instance_id="a", session_timeout=1) as away,
        Consumer(path, "v", group="g") as old,
        Admin(path) as other,
    ):
        away.close()
        other.delete_topic("v")
        other.create_topic("v", 1)
        log.append(TopicPartition("v", 0), [b"new"])
        with pytest.raises(UnknownTopic, match="anew"):
            while True:
                old.poll()
        old.close()
        with Consumer(log, "v", group="g") as new:
            found = []
            while not found:  # the away one's are kept for it for a second
                found = new.poll(0.1)
            assert [record.value for record in found] == [b"new"]
            assert new.assignment == {TopicPartition("v", 0)}


def test_a_commit_of_offsets_in_a_deleted_topic_is_refused(log):
    log.append(T0, [b"1"])
    log.commit("g", {T0: CommittedOffset(1)})
    log.delete_topic("t")
    with pytest.raises(UnknownTopic):
        log.commit("g", {T0: CommittedOffset(1), U0: CommittedOffset(0)})
    assert log.committed("g") == {}


def test_what_transactions_and_groups_live_on_is_not_deleted_under_them(log, path):
    with Producer(log, transactional_id="x") as producer, Admin(path) as other:
        with producer.transaction() as transaction:
            transaction.send("u", b"1")
            transaction.commit_offsets("g", {T0: 0})
            for name in ("__transaction_state", "__consumer_offsets", "__cluster_metadata"):
                with pytest.raises(InvalidTopic, match="internal"):
                    other.delete_topic(name)
        assert values(log, "u") == [b"1"]
    assert log.committed("g") == {T0: CommittedOffset(0)}
