"""Topics that change while they are used: more partitions, other configs."""

import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.codec import columns, encode, headers
from streamkit.errors import (
    ConfigError,
    InvalidPartitions,
    ReadOnlyLog,
    RecordTooLarge,
    TopicExists,
    UnknownPartition,
    UnknownTopic,
)
from streamkit.log.directory import Log
from streamkit.log.metadata import ConfigRecord
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)


@pytest.fixture
def pair(tmp_path):
    """Two who have the log open, as two processes do; with the topic `events` of one partition."""
    with Log.open(tmp_path / "log", fsync="never") as one:
        one.create_topic("events", 1, {"segment.ms": "5000"})
        with Log.open(tmp_path / "log", fsync="never") as other:
            other.partition(TP).append([encode([b"a"], timestamps=0)])
            yield one, other


def test_configs_are_set_and_taken_back_all_or_none(log):
    log.create_topic("x", 1, {"segment.ms": "5000", "segment.bytes": "2048"})
    altered = log.alter_topic("x", {"segment.ms": "7000", "max.message.bytes": "900"})
    assert altered == log.topic("x")
    assert altered.config == {
        "segment.ms": "7000",
        "segment.bytes": "2048",
        "max.message.bytes": "900",
    }
    assert log.alter_topic("x", {"segment.ms": None, "max.message.bytes": None}).config == {
        "segment.bytes": "2048"
    }
    end = log._metadata.end_offset
    log.alter_topic("x", {"segment.bytes": "2048", "retention.ms": None})
    assert log._metadata.end_offset == end, "nothing changed, but something was written"
    for wrong in (
        {"segment.ms": "1", "segment.bytes": "many"},
        {"segment.ms": "1", "segment.byte": "2048"},
        {"segment.ms": "1", "segment.byte": None},
    ):
        with pytest.raises(ConfigError, match=r"segment\.byte"):
            log.alter_topic("x", wrong)
    assert log.topic("x").config == {"segment.bytes": "2048"}
    with pytest.raises(UnknownTopic, match="did you mean 'events'"):
        log.alter_topic("event", {"segment.ms": "1"})


def test_what_another_process_alters_counts_from_the_next_append_on(pair):
    one, other = pair
    partition = other.partition(TP)
    one.alter_topic("events", {"max.message.bytes": "200", "segment.ms": None})
    assert other.partition(TP) is partition
    assert partition.config.max_message_bytes == 200
    assert partition.config.segment_ms == 24 * 3_600_000
    with pytest.raises(RecordTooLarge, match=r"max\.message\.bytes is 200"):
        partition.append([encode([b"x" * 300], timestamps=0)])
    one.alter_topic("events", {"max.message.bytes": None})
    assert other.partition(TP).append([encode([b"x" * 300], timestamps=0)]) == 1


def test_a_smaller_segment_size_ends_the_active_segment(pair):
    one, other = pair
    for _ in range(10):
        other.partition(TP).append([encode([b"x" * 500], timestamps=0)])
    folder = other.partition(TP).directory
    assert len([name for name in os.listdir(folder) if name.endswith(".log")]) == 1
    one.alter_topic("events", {"segment.bytes": "1100"})
    for _ in range(4):
        other.partition(TP).append([encode([b"x" * 500], timestamps=0)])
    bases = sorted(int(name[:20]) for name in os.listdir(folder) if name.endswith(".log"))
    assert bases == [0, 11, 12, 13, 14] or bases == [0, 11, 13]


def test_a_batch_that_was_checked_before_segments_became_smaller_is_still_written(log, batch):
    partition = log.partition(TP)
    partition.append([batch(b"first")])
    large = partition._checks.check(batch(b"x" * 4000))
    log.alter_topic("events", {"segment.bytes": "1024"})
    assert log.partition(TP).config.segment_bytes == 1024
    with partition._access.locked() as block:
        partition._appender.append(block, block.end(), [large])
    assert partition.end_offset == 2


def test_append_time_can_be_switched_on(pair):
    one, other = pair
    one.alter_topic("events", {"message.timestamp.type": "LogAppendTime"})
    partition = other.partition(TP)
    partition.append([encode([b"b"], timestamps=0)])
    assert partition.offset_at(1_000_000) == 1


def test_partitions_are_added_and_seen_by_everybody(pair, tmp_path):
    one, other = pair
    new = TopicPartition("events", 2)
    with pytest.raises(UnknownPartition):
        other.partition(new)
    grown = one.add_partitions("events", 3)
    assert grown == other.topic("events")
    assert (grown.partitions, grown.config) == (3, {"segment.ms": "5000"})
    assert other.partition(new).append([encode([b"a"], timestamps=0)]) == 0
    assert one.partition(new).end_offset == 1
    assert one.partition(TP).end_offset == 1
    with Log.open(tmp_path / "log", read_only=True) as reader:
        assert reader.topic("events") == grown
        assert reader.partition(new).end_offset == 1
    one.delete_topic("events")
    assert not [name for name in os.listdir(one.path) if "events" in name]


def test_partitions_are_never_taken_away(log):
    log.create_topic("x", 3)
    for total in (3, 2, 0, -1, 10**6):
        with pytest.raises(InvalidPartitions, match="partitions"):
            log.add_partitions("x", total)
    with pytest.raises(UnknownTopic):
        log.add_partitions("y", 4)
    assert log.topic("x").partitions == 3


def test_a_partition_that_a_killed_addition_left_is_made_anew(log):
    left = os.path.join(log.path, "events-1")
    os.mkdir(left)
    open(os.path.join(left, f"{0:020d}.log"), "w").close()
    log.add_partitions("events", 2)
    assert log.partition(TopicPartition("events", 1)).append([encode([b"a"], timestamps=0)]) == 0


def test_a_topic_that_is_compacted_no_more_may_still_have_gaps(pair):
    one, other = pair
    partition = other.partition(TP)
    assert not partition.config.sparse
    one.alter_topic("events", {"cleanup.policy": "compact"})
    assert other.partition(TP).config.sparse and partition.config.compacted
    for policy in ("delete", None):
        one.alter_topic("events", {"cleanup.policy": policy})
        assert other.partition(TP).config.sparse and not partition.config.compacted
    one.create_topic("fresh")
    assert not one.partition(TopicPartition("fresh", 0)).config.sparse


def test_what_compaction_has_left_is_read_after_the_topic_is_compacted_no_more(tmp_path):
    keys = [b"%d" % (number % 7) for number in range(200)]
    with Log.open(tmp_path, fsync="never", maintenance=False) as log:
        log.create_topic("events", 1, {"cleanup.policy": "compact", "segment.bytes": "1024"})
        partition = log.partition(TP)
        for number, key in enumerate(keys):
            batch = encode([b"%d" % number * 30], keys=[key], timestamps=0)
            partition.append([batch], acks=1)
        while (step := partition.trimmer.compact(force=True)) is not None and not step.done:
            pass
        left = offsets(partition)
        assert len(left) < 100 and left[-7:] == list(range(193, 200))
        log.alter_topic("events", {"cleanup.policy": "delete"})
        assert offsets(log.partition(TP)) == left
        assert partition.trimmer.compact(force=True) is None
    (tmp_path / "events-0" / "control").unlink()
    for read_only in (True, False):
        with Log.open(tmp_path, read_only=read_only) as log:
            assert offsets(log.partition(TP)) == left


def offsets(partition):
    found, offset = [], partition.start_offset
    while data := partition.read(offset):
        found += columns(data, offset).offsets
        for _, header in headers(data):
            offset = header.next_offset
    return found


def test_a_log_opened_read_only_alters_nothing(pair, tmp_path):
    with Log.open(tmp_path / "log", read_only=True) as reader:
        for refused in (
            lambda: reader.add_partitions("events", 2),
            lambda: reader.alter_topic("events", {"segment.ms": "1"}),
        ):
            with pytest.raises(ReadOnlyLog):
                refused()


def test_what_other_processes_add_at_once_is_added_once(tmp_path):
    with Log.open(tmp_path / "log", fsync="never") as log:
        log.create_topic("events", 1, {"segment.ms": "5000"})
        program = (
            "import sys; from streamkit.log.directory import Log\n"
            "from streamkit.errors import InvalidPartitions\n"
            "log = Log.open(sys.argv[1], fsync='never')\n"
            "for n in range(2, 20):\n"
            "    try:\n"
            "        log.add_partitions('events', n)\n"
            "    except InvalidPartitions: pass\n"
            "    log.alter_topic('events', {'segment.ms': str(n * 1000)})\n"
        )
        command = [sys.executable, "-c", program, str(tmp_path / "log")]
        running = [subprocess.Popen(command) for _ in range(3)]
        assert [process.wait(60) for process in running] == [0, 0, 0]
        topic = log.topic("events")
        assert (topic.partitions, topic.config) == (19, {"segment.ms": "19000"})
        for number in range(19):
            assert log.partition(TopicPartition("events", number)).end_offset == 0
        folders = {name for name in os.listdir(log.path) if name.startswith("events-")}
        assert folders == {f"events-{number}" for number in range(19)}


def test_a_config_that_only_a_broker_can_obey_keeps_from_one_topic_and_no_other(log):
    log.create_topic("odd")
    with log._catalog._changing():
        log._catalog._append([ConfigRecord("odd", "min.insync.replicas", "2")])
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"'odd'.*min\.insync\.replicas.*--delete-config"):
            log.partition(TopicPartition("odd", 0))
        assert log.partition(TP).end_offset == 0
    log.alter_topic("odd", {"min.insync.replicas": None})
    assert log.partition(TopicPartition("odd", 0)).end_offset == 0


NAMES = st.sampled_from(["a", "b"])
CHANGES = st.dictionaries(
    st.sampled_from(["segment.ms", "retention.ms", "max.message.bytes"]),
    st.none() | st.integers(1000, 9000).map(str),
    min_size=1,
)
STEPS = st.one_of(
    st.tuples(st.just("create"), NAMES, st.integers(1, 3)),
    st.tuples(st.just("grow"), NAMES, st.integers(0, 6)),
    st.tuples(st.just("alter"), NAMES, CHANGES),
    st.tuples(st.just("delete"), NAMES, st.none()),
    st.tuples(st.just("reopen"), NAMES, st.none()),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), STEPS), max_size=12))
def test_any_changes_by_anybody_amount_to_the_same_for_all(changes):
    model: dict[str, tuple[int, dict[str, str]]] = {}
    with tempfile.TemporaryDirectory() as root, ExitStack() as stack:
        opened = partial(Log.open, root, fsync="never", maintenance=False)
        logs = [stack.enter_context(opened()) for _ in range(2)]
        for who, (what, name, how) in changes:
            count, config = model.get(name, (0, {}))
            with suppress(UnknownTopic, TopicExists, InvalidPartitions):
                if what == "reopen":
                    logs[who] = stack.enter_context(opened())
                elif what == "create":
                    logs[who].create_topic(name, how)
                    model[name] = (how, {})
                elif what == "grow":
                    logs[who].add_partitions(name, how)
                    assert how > count > 0
                    model[name] = (how, config)
                elif what == "alter":
                    logs[who].alter_topic(name, how)
                    new = {key: value for key, value in {**config, **how}.items() if value}
                    model[name] = (count, new)
                else:
                    logs[who].delete_topic(name)
                    del model[name]
            for log in logs:
                found = {name: (t.partitions, t.config) for name, t in log.topics().items()}
                assert found == model
                for topic, (partitions, given) in model.items():
                    last = log.partition(TopicPartition(topic, partitions - 1))
                    assert last.config.given == given and last.end_offset == 0
