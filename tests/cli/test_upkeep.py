"""What of a log is kept, said and changed by commands."""

import json

import pytest
from typer.testing import CliRunner

from streamkit.backends.locate import open_backend
from streamkit.cli.main import app
from streamkit.records import TopicPartition

TP = TopicPartition("orders", 0)


@pytest.fixture
def log(tmp_path):
    with open_backend(str(tmp_path / "log")) as backend:
        backend.create_topic("orders", 1)
        for number in range(5):
            backend.append(TP, [b"%d" % number])
        yield backend


@pytest.fixture
def run(log, monkeypatch):
    monkeypatch.delenv("STREAMKIT_LOG", raising=False)

    def call(*arguments, code=0):
        result = CliRunner().invoke(app, ["--log", log.url, *arguments])
        assert result.exit_code == code, result.output
        return result

    return call


def test_records_are_deleted_up_to_an_offset_or_all(run, log):
    assert "orders-0 starts at 2" in run("topics", "delete-records", "orders:0@2").stderr
    assert log.offsets(TP).start == 2
    run("topics", "delete-records", "orders:0@end", "--yes")
    assert (log.offsets(TP).start, log.offsets(TP).end) == (5, 5)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("orders", "TOPIC:PARTITION@OFFSET"),
        ("orders:0", "TOPIC:PARTITION@OFFSET"),
        ("orders:0@-3", "TOPIC:PARTITION@OFFSET"),
        ("orders:0@6", "up to offset 5"),
        ("orders:1@0", "partitions 0 to 0"),
        ("order:0@1", "did you mean 'orders'"),
    ],
)
def test_what_cannot_be_deleted_is_refused(run, log, place, said):
    result = run("topics", "delete-records", place, code=1)
    assert said in result.stderr.replace("\n", " ")
    assert log.offsets(TP).start == 0


def test_the_logs_configs_are_shown_and_set(run, log):
    assert run("log", "config").stdout == "max.disk.bytes = -1 (default)\n"
    assert run("log", "config", "max.disk.bytes=5000000").stdout == "max.disk.bytes = 5000000\n"
    assert json.loads(run("log", "config", "--json").stdout) == {"max.disk.bytes": "5000000"}
    run("log", "config", "max.disk.bytes=")
    assert log.log_config() == {}
    assert "KEY=VALUE" in run("log", "config", "max.disk.bytes", code=1).stderr
    assert "did you mean" in run("log", "config", "max.disk.byte=1", code=1).stderr


def test_maintenance_says_what_it_has_removed(run, log, tmp_path):
    assert "nothing to remove" in run("log", "maintain").stderr
    other = tmp_path / "other"
    with open_backend(str(other)) as backend:
        backend.create_topic("orders", 1)
        backend.append(TP, [b"x"])
    # With no other process that may be faster.
    run_other = ["--log", str(other)]
    CliRunner().invoke(app, [*run_other, "topics", "alter", "orders", "-c", "retention.bytes=0"])
    result = CliRunner().invoke(app, [*run_other, "log", "maintain", "--json"])
    (removed,) = json.loads(result.stdout)["removed"]
    assert (removed["partition"], removed["before"], removed["why"]) == (
        "orders-0",
        1,
        "retention.bytes",
    )


def test_what_could_not_be_kept_small_is_said_once_and_compaction_is_listed(tmp_path, caplog):
    other = str(tmp_path / "other")
    config = {"cleanup.policy": "compact", "segment.bytes": "4096"}
    with open_backend(other) as backend:
        backend.create_topic("table", 1, config)
        for _ in range(9):
            values = [b"v" * 100] * 20
            backend.append(
                TopicPartition("table", 0),
                values,
                keys=[b"%d" % (number % 2) for number in range(20)],
            )
    result = CliRunner().invoke(app, ["--log", other, "log", "maintain", "--json"])
    done = json.loads(result.stdout)
    assert [one["partition"] for one in done["compacted"]] == ["table-0"]
    CliRunner().invoke(app, ["--log", other, "log", "config", "max.disk.bytes=10"])
    caplog.clear()
    result = CliRunner().invoke(app, ["--log", other, "log", "maintain"])
    assert result.exit_code == 1
    assert "max.disk.bytes" in result.stderr and not caplog.records
