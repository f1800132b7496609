"""Markers are synced with the next transaction's records; until then its record tells of them."""

import random
from contextlib import suppress

import pytest

from streamkit.backends import transactions_topic
from streamkit.backends.coordinator import marked_in
from streamkit.backends.embedded import EmbeddedBackend
from streamkit.backends.offsets_topic import OffsetsTopic
from streamkit.clients.consumer import Consumer
from streamkit.clients.producer import Producer
from streamkit.clock import SystemClock
from streamkit.errors import OutOfSpace
from streamkit.fsck.check import check
from streamkit.log.directory import Log
from streamkit.log.files import UnsyncedFiles
from streamkit.log.partition import Partition
from streamkit.records import TopicPartition
from streamkit.transactions.state import State

PARTITIONS = [TopicPartition("a", number) for number in range(3)]


@pytest.fixture
def root(tmp_path):
    return tmp_path / "log"


@pytest.fixture
def log(root):
    # Synced as far as the log knows, and quick.
    opened = Log.open(root, files=UnsyncedFiles(), maintenance=False)
    with EmbeddedBackend(opened, OffsetsTopic(opened, SystemClock())) as log:
        log.create_topic("a", len(PARTITIONS))
        yield log


def known(log, name="app"):
    return {one.transactional_id: one for one in log._coordinator._topic.known()}[name]


def read(log, tp):
    """What is there for whoever only looks: to read until the end ends what dead owners left."""
    with Consumer(log, partitions=[tp]) as consumer:
        return [record.value.decode() for record in consumer.poll()]


def assert_told(log):
    """Whatever is not on stable storage of a partition's markers, its id's record tells of."""
    one = known(log)
    for tp in PARTITIONS:
        partition = log._log.partition(tp)
        is_synced = partition.synced_offset >= partition.end_offset
        assert is_synced or tp in marked_in(one) or tp in one.partitions


@pytest.mark.parametrize("seed", range(5))
def test_the_last_note_of_an_outcome_goes_when_its_markers_are_on_stable_storage(log, seed):
    chance = random.Random(seed)
    with Producer(log, transactional_id="app") as producer:
        for number in range(40):
            commits = chance.random() < 0.6
            with suppress(KeyError), producer.transaction() as transaction:
                for tp in chance.sample(PARTITIONS, chance.randint(1, 2)):
                    transaction.send("a", f"{number}", partition=tp.partition)
                    producer._writer.write(producer._topics.within["a"].buffers[tp.partition])
                    assert_told(log)
                if not commits:
                    raise KeyError
            assert_told(log)
            assert known(log).unsynced is None or not commits
    assert known(log).state.resting
    for tp in PARTITIONS:
        partition = log._log.partition(tp)
        assert partition.synced_offset == partition.end_offset


def without_its_marker(log, producer, monkeypatch, *, commits=True):
    """One transaction in partition 0, whose marker a power cut takes; the next is open in 1.

    Of the one before that, whose producer is the same, everything is in place.
    """
    with producer.transaction() as transaction:
        transaction.send("a", "first", partition=0)
    with monkeypatch.context() as lost:
        lost.setattr(Partition, "append_marker", lambda *_: True)
        with suppress(KeyError), producer.transaction() as transaction:
            transaction.send("a", "second", partition=0)
            if not commits:
                raise KeyError
    opened = producer.transaction()
    opened.__enter__()
    opened.send("a", "third", partition=1)
    producer._writer.write(producer._topics.within["a"].buffers[1])
    one = known(log)
    assert one.state is State.ONGOING and one.partitions == {PARTITIONS[1]}
    monkeypatch.setattr(transactions_topic, "boot_id", lambda: b"another boot")
    log._coordinator._topic._cured = False
    return opened


@pytest.mark.parametrize("commits", [True, False])
def test_markers_that_a_power_cut_took_are_written_again(log, monkeypatch, commits):
    with Producer(log, transactional_id="app") as producer:
        opened = without_its_marker(log, producer, monkeypatch, commits=commits)
        assert read(log, PARTITIONS[0]) == ["first"], "it waits for the marker"
        with Producer(log, transactional_id="other"):
            expected = ["first", "second"] if commits else ["first"]
            assert read(log, PARTITIONS[0]) == expected
            there = log.offsets(PARTITIONS[0])
            assert there.end == there.log_end
        opened.__exit__(None, None, None)
        assert read(log, PARTITIONS[1]) == ["third"]


def test_what_is_not_marked_yet_is_not_aborted_as_if_nobody_knew_of_it(log, monkeypatch):
    with Producer(log, transactional_id="app") as producer:
        opened = without_its_marker(log, producer, monkeypatch)
        with monkeypatch.context() as full:
            append_marker = Partition.append_marker

            def once(self, *args):
                if self.tp == PARTITIONS[0] and args[2]:  # of a commit
                    raise OutOfSpace("as full as can be")
                return append_marker(self, *args)

            full.setattr(Partition, "append_marker", once)
            with Producer(log, transactional_id="other"):
                assert read(log, PARTITIONS[0]) == ["first"]
            opened.__exit__(KeyError, KeyError(), None)
        log._coordinator.settle()
        assert read(log, PARTITIONS[0]) == ["first", "second"]


def test_a_marker_that_cannot_be_written_keeps_later_ones_out_of_its_partition(log, monkeypatch):
    with Producer(log, transactional_id="app") as producer:
        opened = without_its_marker(log, producer, monkeypatch)
        producer._transactions.add([PARTITIONS[0]])  # and nothing is written there
        with monkeypatch.context() as full:
            append_marker = Partition.append_marker

            def once(self, *args):
                if self.tp == PARTITIONS[0] and args[2]:
                    raise OutOfSpace("as full as can be")
                return append_marker(self, *args)

            full.setattr(Partition, "append_marker", once)
            opened.__exit__(KeyError, KeyError(), None)
        assert read(log, PARTITIONS[0]) == ["first"]
        log._coordinator.settle()
        assert read(log, PARTITIONS[0]) == ["first", "second"]


def test_fsck_does_not_abort_what_only_lacks_its_marker(root, log, monkeypatch):
    with Producer(log, transactional_id="app") as producer:
        opened = without_its_marker(log, producer, monkeypatch)
        assert "hanging" not in [finding.kind for finding in check(root, now=0).findings]
        opened.__exit__(None, None, None)
