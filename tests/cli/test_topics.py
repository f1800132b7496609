"""`streamkit topics`: what it shows, and what it changes."""

import json
from contextlib import suppress

import pytest
from typer.testing import CliRunner

from streamkit.backends.locate import open_backend
from streamkit.backends.values import CommittedOffset
from streamkit.cli.main import app
from streamkit.clients.consumer import Consumer
from streamkit.clients.producer import Producer
from streamkit.log.directory import Log
from streamkit.log.metadata import ConfigRecord
from streamkit.records import TopicPartition


@pytest.fixture
def log(tmp_path):
    with open_backend(str(tmp_path / "log")) as backend:
        backend.create_topic("orders", 2, {"segment.ms": "60000"})
        backend.append(TopicPartition("orders", 1), [b"x" * 1000] * 3, timestamps=5)
        backend.commit("g", {TopicPartition("orders", 1): CommittedOffset(2)})
        yield backend


@pytest.fixture
def topics(log, monkeypatch):
    monkeypatch.delenv("STREAMKIT_LOG", raising=False)

    def call(*arguments, code=0):
        result = CliRunner().invoke(app, ["--log", log.url, "topics", *arguments])
        assert result.exit_code == code, result.output
        return result

    return call


def test_the_last_record_is_found_behind_markers_and_what_was_aborted(log, topics):
    with Producer(log, transactional_id="x") as producer:
        with producer.transaction() as transaction:
            transaction.send("orders", b"x", partition=0, timestamp=7)
        for _ in range(2):
            with suppress(ValueError), producer.transaction() as transaction:
                transaction.send_many("orders", [b"x" * 1000] * 40, partition=0, timestamps=9)
                producer.flush()
                raise ValueError
    rows = json.loads(topics("describe", "orders", "--json").stdout)["partitions"]
    assert [row["last_timestamp"] for row in rows] == [7, 5]
    assert rows[0]["end"] > 2, "nothing was aborted that the log has"


def test_an_empty_topic_has_no_last_record(log, topics):
    log.create_topic("empty")
    (row,) = json.loads(topics("describe", "empty", "--json").stdout)["partitions"]
    assert row["last_timestamp"] is None


def test_a_group_that_has_committed_nothing_is_reset_by_naming_topics(log):
    with Consumer(log, "orders", group="new", auto_commit=False) as member:
        member.poll(timeout=1)
        result = CliRunner().invoke(
            app, ["--log", log.url, "groups", "reset", "new", "--to", "earliest", "--force"]
        )
    assert (result.exit_code, result.stderr) == (
        1,
        "error: group 'new' has committed nothing; name the topics to reset with --topic\n",
    )


def test_a_wrong_name_is_not_told_of_internal_topics(topics):
    assert topics("describe", "xyz", code=1).stderr == "error: no topic 'xyz'; there are: orders\n"
    assert "__consumer_offsets" in topics("describe", "__consumer_ofsets", code=1).stderr


def test_sizes_are_listed_and_internal_topics_on_request(topics):
    (orders,) = json.loads(topics("list", "--json").stdout)
    assert (orders["topic"], orders["partitions"], orders["offsets"]) == ("orders", 2, 3)
    assert 3000 < orders["bytes"] < 3300
    names = [row["topic"] for row in json.loads(topics("list", "--internal", "--json").stdout)]
    assert names == ["__consumer_offsets", "orders"]
    assert "__consumer_offsets" in topics("list", "--internal").stdout


def test_a_topic_is_described_with_its_configs_and_what_each_partition_holds(topics):
    told = json.loads(topics("describe", "orders", "--json").stdout)
    assert told["config"] == {"segment.ms": "60000"}
    empty, full = told["partitions"]
    assert empty == {
        "partition": 0,
        "start": 0,
        "stable": 0,
        "end": 0,
        "segments": 1,
        "bytes": 0,
        "last_timestamp": None,
    }
    assert (full["start"], full["stable"], full["end"], full["segments"]) == (0, 3, 3, 1)
    assert 3000 < full["bytes"] < 3300 and full["last_timestamp"] == 5
    shown = topics("describe", "orders").stdout
    assert "segment.ms = 60000" in shown and "1970-01-01" in shown
    assert json.loads(topics("describe", "__consumer_offsets", "--json").stdout)["config"]


def test_configs_and_partitions_are_altered_while_the_log_is_open_elsewhere(topics, log):
    told = topics("alter", "orders", "-c", "max.message.bytes=900", "--delete-config", "segment.ms")
    assert told.stderr == "orders: max.message.bytes = 900, segment.ms = (default)\n"
    assert log.topic("orders").config == {"max.message.bytes": "900"}
    assert topics("alter", "orders", "--partitions", "4").stderr == "orders: 4 partitions\n"
    assert log.append(TopicPartition("orders", 3), [b"x"]) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["orders"], "nothing to alter"),
        (["orders", "-p", "2"], "can only be added"),
        (["orders", "-c", "segment.ms"], "KEY=VALUE"),
        (["orders", "-c", "segment.mss=1"], "did you mean 'segment.ms'"),
        (["orders", "-c", "segment.ms=1", "--delete-config", "segment.ms"], "both set and deleted"),
        (["order", "-p", "4"], "did you mean 'orders'"),
        (["__consumer_offsets", "-p", "4"], "internal"),
    ],
)
def test_what_cannot_be_altered_is_refused(topics, log, arguments, said):
    before = log.topics()
    result = topics("alter", *arguments, code=1)
    assert said in result.stderr.replace("\n", " ")
    assert log.topics() == before


def test_a_topic_that_cannot_be_used_does_not_hide_the_others(topics, log):
    log.create_topic("odd")
    with Log.open(log.url) as other, other._catalog._changing():
        other._catalog._append([ConfigRecord("odd", "min.insync.replicas", "2")])
    listed = topics("list", "--json")
    rows = {row["topic"]: row["offsets"] for row in json.loads(listed.stdout)}
    assert rows == {"odd": None, "orders": 3}
    assert "'odd'" in listed.stderr and "min.insync.replicas" in listed.stderr
    topics("alter", "odd", "--delete-config", "min.insync.replicas")
    assert "odd" in topics("describe", "odd").stdout


def test_internal_topics_are_not_deleted(topics, log):
    result = topics("delete", "__consumer_offsets", "--yes", code=1)
    assert "internal" in result.stderr
    assert log.committed("g")


@pytest.mark.parametrize("command", [(), ("topics", "create"), ("fsck",), ("run",)], ids=str)
def test_the_help_says_of_no_flag_that_it_is_a_bool_and_writes_no_dots_twice(command):
    shown = CliRunner().invoke(app, [*command, "--help"]).output
    assert "--help" in shown
    assert "bool" not in shown and "...}" not in shown
