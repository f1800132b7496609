"""A log as a whole: made, opened, its topics, and what other processes see of them."""

import os
import subprocess
import sys
import time

import pytest

from streamkit.codec import encode
from streamkit.errors import (
    ConfigError,
    InvalidPartitions,
    InvalidTopic,
    LogError,
    LogNotFound,
    ReadOnlyLog,
    TopicExists,
    UnknownPartition,
    UnknownTopic,
    UnsupportedFormat,
)
from streamkit.log.control import END
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)


def value(text: bytes) -> bytes:
    return encode([text], timestamps=0)


def test_a_directory_without_a_log_is_made_one_only_when_asked(tmp_path):
    for options in ({"create": False}, {"read_only": True}):
        with pytest.raises(LogNotFound, match="no log here"):
            Log.open(tmp_path / "log", **options)
    assert not (tmp_path / "log").exists()
    with Log.open(tmp_path / "log") as log:
        cluster = log.cluster_id
    with Log.open(tmp_path / "log", create=False) as log:
        assert log.cluster_id == cluster
    assert len(cluster) == 22


def test_the_files_are_kafkas_and_a_few_of_our_own(tmp_path):
    with Log.open(tmp_path) as log:
        topic = log.create_topic("events", 2, {"segment.bytes": "2048"})
        log.partition(TP).append([value(b"a")])
    assert sorted(os.listdir(tmp_path)) == [
        ".lock",
        "__cluster_metadata-0",
        "control",
        "events-0",
        "events-1",
        "maintenance",
        "meta.properties",
        "wake",
    ]
    names = ["partition.metadata", "leader-epoch-checkpoint", "control"]
    names += [f"{0:020d}.{suffix}" for suffix in ("log", "index", "timeindex")]
    assert sorted(os.listdir(tmp_path / "events-1")) == sorted(names)
    assert sorted(os.listdir(tmp_path / "events-0")) == sorted(names)
    metadata = (tmp_path / "events-0" / "partition.metadata").read_text()
    assert metadata.startswith("version: 0\ntopic_id: ")
    assert len(topic.topic_id) == 32
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(path.stat().st_mode & 0o111 for path in files), "none is a program"


def test_a_newer_format_is_refused(tmp_path):
    Log.open(tmp_path).close()
    path = tmp_path / "meta.properties"
    path.write_text(path.read_text().replace("streamkit.format=1", "streamkit.format=2"))
    with pytest.raises(UnsupportedFormat, match=r"streamkit\.format=2"):
        Log.open(tmp_path)


def test_a_path_that_cannot_be_made_a_log_is_said_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ReadOnlyLog, match="Not a directory"):
        Log.open(tmp_path / "file" / "log")


def test_topics_are_listed_described_and_deleted(log):
    assert log.topics()["events"].partitions == 1
    topic = log.create_topic("other", 3, {"cleanup.policy": "compact"})
    assert log.topic("other") == topic
    assert topic.config == {"cleanup.policy": "compact"}
    assert log.partition(TopicPartition("other", 2)).config.compacted
    log.delete_topic("other")
    assert list(log.topics()) == ["events"]
    assert not [name for name in os.listdir(log.path) if "other" in name]


def test_what_cannot_be_created_is_refused_and_leaves_nothing(log):
    with pytest.raises(TopicExists, match="partitions: 1"):
        log.create_topic("events")
    with pytest.raises(InvalidTopic):
        log.create_topic("a/b")
    with pytest.raises(ConfigError, match="did you mean"):
        log.create_topic("x", 1, {"segment.byte": "1"})
    for count in (0, -1, 10**6):
        with pytest.raises(InvalidPartitions, match="partitions"):
            log.create_topic("x", count)
    log.create_topic("a.b")
    with pytest.raises(InvalidTopic, match=r"like 'a\.b'"):
        log.create_topic("a_b")
    assert sorted(log.topics()) == ["a.b", "events"]


def test_what_does_not_exist_is_named_with_the_nearest_that_does(log):
    with pytest.raises(UnknownTopic, match="did you mean 'events'"):
        log.topic("event")
    with pytest.raises(UnknownTopic, match="did you mean 'events'"):
        log.partition(TopicPartition("event", 0))
    with pytest.raises(UnknownTopic):
        log.delete_topic("event")
    for number in (-1, 1):
        with pytest.raises(UnknownPartition, match="partitions 0 to 0"):
            log.partition(TopicPartition("events", number))


def test_a_partition_is_the_same_object_while_its_topic_lives(log):
    first = log.partition(TP)
    assert log.partition(TP) is first
    log.create_topic("other")
    assert log.partition(TP) is first
    log.delete_topic("events")
    log.create_topic("events")
    assert log.partition(TP) is not first


def test_topics_of_one_process_are_those_of_the_others(tmp_path):
    with (
        Log.open(tmp_path) as one,
        Log.open(tmp_path) as other,
        Log.open(tmp_path, read_only=True) as reader,
    ):
        one.create_topic("a", 2)
        assert other.topic("a").partitions == reader.topic("a").partitions == 2
        with pytest.raises(TopicExists):
            other.create_topic("a")
        other.delete_topic("a")
        assert one.topics() == reader.topics() == {}


def test_an_append_to_a_topic_that_another_process_deleted_is_refused(tmp_path):
    with Log.open(tmp_path) as one, Log.open(tmp_path) as other:
        one.create_topic("events")
        partition = one.partition(TP)
        partition.append([value(b"a")])
        other.delete_topic("events")
        for use in (lambda: partition.append([value(b"b")]), lambda: partition.read(0)):
            with pytest.raises(UnknownTopic, match="events-0: deleted"):
                use()
        with pytest.raises(UnknownTopic):
            one.partition(TP)
        other.create_topic("events")
        assert one.partition(TP).append([value(b"c")]) == 0


def test_syncing_a_topic_that_another_process_deletes_says_so(tmp_path):
    with Log.open(tmp_path) as one, Log.open(tmp_path) as other:
        one.create_topic("events")
        partition = one.partition(TP)
        partition.append([value(b"a")], acks=1)
        other.delete_topic("events")
        with pytest.raises(UnknownTopic, match="events-0: deleted"):
            partition.sync()


def test_a_partition_of_a_deleted_topic_is_not_one_of_the_topic_made_anew(tmp_path):
    with Log.open(tmp_path) as one, Log.open(tmp_path) as other:
        one.create_topic("events")
        partition = one.partition(TP)
        partition.append([value(b"a"), value(b"b")])
        other.delete_topic("events")
        other.create_topic("events")
        for use in (
            lambda: partition.append([value(b"c")]),
            lambda: partition.read(0),
            lambda: partition.end_offset,
            partition.sync,
        ):
            with pytest.raises(UnknownTopic, match="events-0: deleted"):
                use()
        assert one.partition(TP).append([value(b"c")]) == 0
        assert other.partition(TP).end_offset == 1


def test_a_log_opened_read_only_refuses_everything_else(tmp_path):
    with Log.open(tmp_path) as log:
        log.create_topic("events")
        log.partition(TP).append([value(b"a")])
    with Log.open(tmp_path, read_only=True) as log:
        assert log.partition(TP).read(0)
        for refused in (
            lambda: log.create_topic("x"),
            lambda: log.delete_topic("events"),
            lambda: log.partition(TP).append([value(b"b")]),
        ):
            with pytest.raises(ReadOnlyLog, match="read-only"):
                refused()


def test_files_that_a_killed_creation_left_do_not_stand_in_the_way(log):
    os.mkdir(os.path.join(log.path, "x-0"))
    open(os.path.join(log.path, "x-0", f"{0:020d}.log"), "w").close()
    log.create_topic("x")
    assert log.partition(TopicPartition("x", 0)).append([value(b"a")]) == 0


def test_records_that_nobody_knows_of_are_never_removed(log):
    os.mkdir(os.path.join(log.path, "x-0"))
    with open(os.path.join(log.path, "x-0", f"{0:020d}.log"), "wb") as file:
        file.write(b"data")
    with pytest.raises(LogError, match="move the directory away"):
        log.create_topic("x")
    assert "x" not in log.topics()
    assert os.listdir(os.path.join(log.path, "x-0")) == [f"{0:020d}.log"]


def test_files_that_a_killed_deletion_left_are_removed_by_the_next_change(log, tmp_path):
    log.create_topic("x")
    log.partition(TopicPartition("x", 0)).append([value(b"a")])
    saved = {}
    folder = os.path.join(log.path, "x-0")
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "rb") as file:
            saved[name] = file.read()
    log.delete_topic("x")
    for left in ("x-0", "x-1.0123-delete"):
        os.mkdir(os.path.join(log.path, left))
        for name, data in saved.items():
            with open(os.path.join(log.path, left, name), "wb") as file:
                file.write(data)
    log.create_topic("y")
    assert sorted(name for name in os.listdir(log.path) if name[0] in "xy") == ["y-0"]


def test_the_longest_topic_name_can_be_created_and_deleted(log):
    name = "x" * 249
    log.create_topic(name, 2)
    assert log.partition(TopicPartition(name, 1)).append([value(b"a")]) == 0
    log.delete_topic(name)
    assert list(log.topics()) == ["events"]


def test_a_thousand_partitions_are_opened_without_touching_them(tmp_path):
    with Log.open(tmp_path, fsync="never") as log:
        for number in range(10):
            log.create_topic(f"t{number}", 100)
        log.maintain()
    program = (
        "import sys; from streamkit.log.directory import Log; import time; t = time.perf_counter();"
        "n = sum(t.partitions for t in Log.open(sys.argv[1]).topics().values());"
        "print(n, round((time.perf_counter() - t) * 1000, 1))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    count, milliseconds = done.stdout.split()
    assert count == "1000"
    print(f"1,000 partitions opened in {milliseconds} ms")
    assert not any(END.decode(path.read_bytes()) for path in tmp_path.glob("t*/control"))


def test_more_partitions_than_the_soft_limit_of_open_files_can_be_used(tmp_path):
    program = (
        "import resource, sys; hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))\n"
        "from streamkit.codec import encode\n"
        "from streamkit.log.directory import Log\n"
        "from streamkit.records import TopicPartition\n"
        "log = Log.open(sys.argv[1], fsync='never'); log.create_topic('many', 60)\n"
        "for n in range(60):\n"
        "    log.partition(TopicPartition('many', n)).append([encode([b'x'], timestamps=0)])\n"
        "print(sum(log.partition(TopicPartition('many', n)).end_offset for n in range(60)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "60\n"


def test_what_other_processes_create_at_once_is_created_once(tmp_path):
    program = (
        "import sys; from streamkit.log.directory import Log\n"
        "from streamkit.errors import TopicExists\n"
        "log, made = Log.open(sys.argv[1], fsync='never'), 0\n"
        "for n in range(8):\n"
        "    try:\n"
        "        log.create_topic(f't{n}', 2); made += 1\n"
        "    except TopicExists: pass\n"
        "print(made)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "log")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    made = [int(process.communicate(timeout=60)[0]) for process in running]
    assert sum(made) == 8
    with Log.open(tmp_path / "log") as log:
        assert sorted(log.topics()) == [f"t{n}" for n in range(8)]


def test_a_waiter_of_another_log_object_is_woken_by_a_new_topic(tmp_path):
    with Log.open(tmp_path) as one, Log.open(tmp_path) as other:
        started = time.monotonic()
        one.create_topic("a")
        assert other.wait(lambda: "a" in other.topics(), 10)
        assert time.monotonic() - started < 10


def test_nobody_is_given_a_producer_id_twice(tmp_path):
    with Log.open(tmp_path / "log", fsync="never") as one:
        with Log.open(tmp_path / "log", fsync="never") as other:
            given = [log.producer_id() for log in (one, other) for _ in range(1001)]
            assert len(set(given)) == 2002
            assert min(given) == 0
            assert one.topics() == {}
        with Log.open(tmp_path / "log", fsync="never") as later:
            assert later.producer_id() > max(given)
    with (
        Log.open(tmp_path / "log", read_only=True) as reader,
        pytest.raises(ReadOnlyLog),
    ):
        reader.producer_id()
