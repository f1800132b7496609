"""`produce` and `consume`, and the errors around them."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from streamkit.backends.locate import open_backend
from streamkit.backends.values import CommittedOffset
from streamkit.cli.main import app
from streamkit.clients.producer import Producer
from streamkit.engine.notes import Note
from streamkit.records import TopicPartition


@pytest.fixture
def log(tmp_path):
    return str(tmp_path / "log")


@pytest.fixture
def streamkit(log, monkeypatch):
    monkeypatch.delenv("STREAMKIT_LOG", raising=False)

    def call(*arguments, input=None, code=0):
        result = CliRunner().invoke(app, ["--log", log, *arguments], input=input)
        assert result.exit_code == code, result.output
        return result

    return call


def spawn(log, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "streamkit", "--log", log, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        **options,
    )


def test_lines_go_in_and_come_out(streamkit):
    streamkit("topics", "create", "lines")
    produced = streamkit("produce", "lines", input="one\n\nthree")
    assert produced.stderr == "3 records to lines\n"
    assert produced.stdout == ""
    assert streamkit("consume", "lines").stdout == "one\n\nthree\n"


def test_what_is_empty_may_be_null(streamkit):
    streamkit("topics", "create", "rows")
    streamkit("produce", "rows", "-k:", "-Z", input="a:1\na:\n")
    streamkit("produce", "rows", "-k:", input="a:\n")
    records = map(json.loads, streamkit("consume", "rows", "--json").stdout.splitlines())
    assert [record["value"] for record in records] == [1, None, ""]


def test_a_full_disk_says_once_what_is_there_and_what_is_lost(log, streamkit):
    streamkit("topics", "create", "lines")

    def no_more_room():
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))

    producing = spawn(log, "produce", "lines", stdin=subprocess.PIPE, preexec_fn=no_more_room)
    _, said = producing.communicate("x" * 999 + "\n" + f"{'y' * 999}\n" * 2999)
    assert producing.returncode == 1
    there = len(streamkit("consume", "lines").stdout.splitlines())
    found = re.search(
        r"^the producer is closed nevertheless; lost: ([\d,]+) records? sent to lines-0\n"
        r"([\d,]+) lines of standard input were read; the others are in lines$",
        said,
        re.MULTILINE,
    )
    assert found, said
    read, lost = (int(number.replace(",", "")) for number in (found[2], found[1]))
    assert read - lost == there > 0
    assert "tried again" not in said
    assert "go on after them" not in said


def test_keys_are_split_off_and_decide_the_partition(streamkit):
    streamkit("topics", "create", "lines", "--partitions", "4")
    streamkit("produce", "lines", "-k", "=", input="a=1\nb=2=3\na=4\n")
    rows = [
        json.loads(line) for line in streamkit("consume", "lines", "--json").stdout.split("\n")[:-1]
    ]
    assert {row["key"] for row in rows} == {"a", "b"}
    of_a = [row for row in rows if row["key"] == "a"]
    assert [row["value"] for row in of_a] == [1, 4]
    assert len({row["partition"] for row in of_a}) == 1
    assert [row["value"] for row in rows if row["key"] == "b"] == ["2=3"]


def test_a_line_without_the_separator_is_named(streamkit):
    streamkit("topics", "create", "lines")
    result = streamkit("produce", "lines", "-k", ":", input="a:1\nb\n", code=1)
    assert "standard input:2: no ':'" in result.stderr
    assert streamkit("consume", "lines").stdout == "1\n"


def test_a_file_is_read(streamkit, tmp_path):
    streamkit("topics", "create", "lines")
    (tmp_path / "in.txt").write_bytes("grün\n".encode() + b"\xff\n")
    streamkit("produce", "lines", "--file", str(tmp_path / "in.txt"))
    assert streamkit("consume", "lines").stdout == "grün\n\\xff\n"


def fill(log, count=10):
    with open_backend(log) as backend:
        backend.create_topic("numbers")
        for number in range(count):
            backend.append(
                TopicPartition("numbers", 0), [b"%d" % number], timestamps=1_000_000 + number * 1000
            )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-n", "2"], "0 1"),
        (["--from", "offset:8"], "8 9"),
        (["--from", "1007000"], "7 8 9"),
        (["--from", "1970-01-01T00:16:48"], "8 9"),
        (["--from", "-1h"], ""),
        (["--from", "latest"], ""),
        (["--partition", "0", "-n", "1"], "0"),
        (["--format", "{topic}-{partition}@{offset}:{key}", "-n", "1"], "numbers-0@0:null"),
        (["--format", "{time}", "-n", "1"], "1970-01-01T00:16:40.000Z"),
    ],
)
def test_where_to_begin_and_what_to_show(log, streamkit, arguments, expected):
    fill(log)
    assert streamkit("consume", "numbers", *arguments).stdout.split() == expected.split()


def test_whatever_a_record_holds_is_one_line_of_json(log, streamkit):
    values = [b'{"a":\n 1}', b'"\xff"', b"\xff", b"[" * 100_000, None, b"1e5"]
    with open_backend(log) as backend:
        tp = TopicPartition("odd", 0)
        backend.create_topic("odd")
        backend.append(tp, values, timestamps=10**17)
        backend.append(tp, [b""], headers=[(("h", b"1"), ("h", b"2"), ("n", None))])
    lines = streamkit("consume", "odd", "--json").stdout.split("\n")
    rows = [json.loads(line) for line in lines[:-1]]
    assert [r["value"] for r in rows[:-1]] == [
        {"a": 1},
        '"\\xff"',
        "\\xff",
        "[" * 100_000,
        None,
        1e5,
    ]
    assert rows[-1]["headers"] == [["h", "1"], ["h", "2"], ["n", None]]


def test_a_time_that_no_calendar_has_is_shown_as_a_number(log, streamkit):
    with open_backend(log) as backend:
        backend.create_topic("odd")
        backend.append(TopicPartition("odd", 0), [b"a"], timestamps=10**17)
    assert streamkit("consume", "odd").stdout == "a\n"
    assert streamkit("consume", "odd", "--format", "{time}").stdout == f"{10**17}\n"
    assert str(10**17) in streamkit("topics", "describe", "odd").stdout


def test_a_table_in_a_pipe_cuts_and_wraps_nothing(log, streamkit):
    name = "n" * 200
    streamkit("topics", "create", name)
    streamkit("produce", name, input="a\n")
    streamkit("consume", name, "--group", "g" * 200)
    for arguments in (["topics", "list"], ["groups", "describe", "g" * 200]):
        lines = streamkit(*arguments).stdout.split("\n")
        assert any(name in line for line in lines)
        assert all(line == line.rstrip() for line in lines)
    assert "g" * 200 in streamkit("groups", "list").stdout


def test_the_line_that_was_refused_is_named(streamkit):
    streamkit("topics", "create", "lines", "-c", "max.message.bytes=1000")
    produced = streamkit("produce", "lines", input="a\n" + "b" * 2000 + "\nc\n", code=1)
    assert "1000" in produced.stderr
    assert "at standard input:2" in produced.stderr
    assert streamkit("consume", "lines").stdout == "a\n"


def test_a_group_goes_on_where_it_stood(log, streamkit):
    fill(log)
    assert streamkit("consume", "numbers", "-g", "readers", "-n", "3").stdout.split() == [
        "0",
        "1",
        "2",
    ]
    assert streamkit("consume", "numbers", "-g", "readers").stdout.split() == list("3456789")
    assert streamkit("consume", "numbers", "-g", "readers").stdout == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["consume", "numbrs"], ["no topic", "numbers"]),
        (["consume", "numbers", "--partition", "1"], ["numbers has no partition 1"]),
        (["consume", "numbers", "--from", "soon"], ["--from", "'soon'", "earliest"]),
        (["consume", "numbers", "--from", "offset:11"], ["numbers-0@11", "from 0 to 10"]),
        (["consume", "numbers", "--from", "7"], ["--from '7'", "write offset:7"]),
        (["consume", "numbers", "--from", "offset:-7"], ["--from 'offset:-7'", "begin at 0"]),
        (["consume", "numbers", "--format", "{valeu}"], ["no field 'valeu'", "'value'"]),
        (["consume", "numbers", "--format", "{offset:zz}"], ["--format", "zz"]),
        (["consume", "numbers", "--format", "{value!x}"], ["--format", "x"]),
        (["produce", "numbers", "-k", ""], ["--key-separator"]),
        (["produce", "numbrs"], ["numbrs", "numbers"]),
        (["topics", "describe", "numbrs"], ["numbrs", "numbers"]),
        (["topics", "delete", "numbrs"], ["numbrs", "numbers"]),
        (["topics", "create", "numbers"], ["numbers"]),
        (["topics", "create", "a/b"], ["a/b"]),
        (["topics", "create", "x", "-c", "retention.sm=1"], ["retention.sm", "retention.ms"]),
        (["topics", "create", "x", "-c", "retention"], ["KEY=VALUE"]),
        (["groups", "describe", "nobody"], ["no group 'nobody'"]),
        (["groups", "reset", "nobody", "--to", "latest"], ["no group 'nobody'"]),
        (
            ["groups", "reset", "g", "--to", "soon", "--topic", "numbers"],
            ["--to", "'soon'", "earliest", "offset:10 or shift:-10"],
        ),
    ],
)
def test_a_wrong_call_is_one_short_error_without_a_traceback(log, streamkit, arguments, words):
    fill(log)
    result = streamkit(*arguments, code=1)
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) < 10
    assert result.stdout == ""
    for word in words:
        assert word in result.stderr


def test_who_asks_for_a_group_of_an_empty_log_is_told_which_log_that_is(log, streamkit):
    streamkit("topics", "create", "t")
    assert (
        f"no group 'g'; the log in {log} has" in streamkit("groups", "describe", "g", code=1).stderr
    )


def test_debug_shows_the_traceback(streamkit):
    assert "Traceback" in streamkit("--debug", "topics", "create", "a/b", code=1).stderr


def test_a_wrong_option_is_a_wrong_call(streamkit):
    assert streamkit("consume", "--no-such-option", code=2).stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["produce", "t"],
        ["consume", "t", "--group", "g"],
        ["topics", "delete", "t"],
        ["groups", "reset", "g", "--to", "earliest"],
    ],
)
def test_a_log_is_made_by_creating_topics_alone(streamkit, log, arguments):
    assert "log" in streamkit(*arguments, input="a\n", code=1).stderr
    assert not os.path.exists(log)


def test_reading_makes_no_directory(streamkit, log):
    result = streamkit("topics", "list", code=1)
    assert log in result.stderr
    assert not os.path.exists(log)


def test_the_log_may_be_named_anywhere(log, tmp_path):
    other = str(tmp_path / "other")
    assert CliRunner().invoke(app, ["topics", "create", "x", "--log", other]).exit_code == 0
    listed = CliRunner().invoke(app, ["topics", f"--log={other}", "list", "--json"])
    assert [row["topic"] for row in json.loads(listed.stdout)] == ["x"]


def test_the_help_says_the_defaults(streamkit):
    assert "[default: ./streamkit-data]" in streamkit("--help").stdout
    assert "[default: {value}]" in streamkit("consume", "--help").stdout


def test_the_version_names_the_codec():
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout.strip() in (
        "streamkit 0.1.0 (codec: cython)",
        "streamkit 0.1.0 (codec: python)",
    )


def test_following_sees_what_another_process_writes_and_ends_cleanly_on_ctrl_c(log, streamkit):
    streamkit("topics", "create", "lines")
    with spawn(log, "consume", "lines", "--follow", "-g", "g") as process:
        streamkit("produce", "lines", input="hello\n")
        assert process.stdout.readline() == "hello\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr.read() == ""
    assert streamkit("consume", "lines", "-g", "g").stdout == ""


def test_a_reader_of_the_pipe_may_go_away(log, streamkit):
    fill(log, 1)
    with open_backend(log) as backend:
        backend.append(TopicPartition("numbers", 0), [b"x" * 100] * 5_000)
    with spawn(log, "consume", "numbers") as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(20) == 141
        assert process.stderr.read() == ""


@pytest.mark.parametrize("arguments", [["topics", "list"], ["topics", "list", "--json"]])
def test_a_listing_that_nobody_reads_ends_as_a_broken_pipe(log, streamkit, arguments):
    streamkit("topics", "create", "lines")
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "streamkit", "--log", log, *arguments]
    unread = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (unread.returncode, unread.stderr) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize("arguments", [["consume", "lines", "-g", "g"], ["topics", "list"]])
def test_an_output_that_takes_nothing_is_an_error(log, streamkit, arguments):
    streamkit("topics", "create", "lines")
    streamkit("produce", "lines", input="one\n")
    command = [sys.executable, "-m", "streamkit", "--log", log, *arguments]
    with open("/dev/full", "w") as full:
        refused = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert refused.returncode == 1
    assert "No space left" in refused.stderr
    assert streamkit("consume", "lines", "-g", "g").stdout == "one\n"


def test_a_fault_of_our_own_is_one_line_and_says_how_to_see_more(streamkit, monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("streamkit.cli.topics.open_log", fail)
    result = streamkit("topics", "list", code=1)
    assert "ZeroDivisionError: oops" in result.stderr
    assert "--debug" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_command_line_does_not_load_what_it_does_not_need():
    done = subprocess.run(
        [sys.executable, "-c", "import sys, streamkit.cli.main; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split())
    assert not loaded & {"sqlalchemy", "watchdog", "croniter", "rich.console", "asyncio"}


def wait_until(true, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.01)


def test_members_share_a_group_and_the_listing_shows_them(log, streamkit):
    streamkit("topics", "create", "lines", "-p", "2")
    with (
        spawn(log, "consume", "lines", "--follow", "-g", "g") as one,
        spawn(log, "consume", "lines", "--follow", "-g", "g") as two,
    ):

        def shares():
            groups = json.loads(streamkit("groups", "list", "--json").stdout)
            if not groups:
                return None
            told = json.loads(streamkit("groups", "describe", "g", "--json").stdout)
            return sorted(len(member["units"]) for member in told["members"])

        wait_until(lambda: shares() == [1, 1])
        refused = streamkit("groups", "reset", "g", "--to", "latest", "--topic", "lines", code=1)
        assert "live members" in refused.stderr
        one.kill()
        wait_until(lambda: shares() == [2])
        two.terminate()
        assert two.wait(20) == 0


def test_a_member_reads_the_partitions_that_its_topic_is_given(log, streamkit):
    streamkit("topics", "create", "lines")
    with spawn(log, "consume", "lines", "--follow", "-g", "g", "--from", "latest") as member:

        def owned():
            if streamkit("groups", "list", "--json").stdout == "[]\n":
                return None
            told = json.loads(streamkit("groups", "describe", "g", "--json").stdout)
            return [unit for member in told["members"] for unit in member["units"]]

        wait_until(lambda: owned() == [["lines", 0]])
        with open_backend(log) as backend:
            backend.add_partitions("lines", 2)
            backend.append(TopicPartition("lines", 1), [b"in the new one"])
        wait_until(lambda: owned() == [["lines", 0], ["lines", 1]])
        assert member.stdout.readline() == "in the new one\n"
        member.terminate()
        assert member.wait(20) == 0


def test_lag_and_reset(log, streamkit):
    fill(log)
    streamkit("consume", "numbers", "-g", "g", "-n", "4")
    group = json.loads(streamkit("groups", "list", "--json").stdout)[0]
    assert group == {"group": "g", "state": "Empty", "members": 0, "partitions": 1, "lag": 6}
    moved = json.loads(streamkit("groups", "reset", "g", "--to", "offset:2", "--json").stdout)
    assert moved == [{"topic": "numbers", "partition": 0, "before": 4, "after": 2}]
    streamkit("groups", "reset", "g", "--to", "1970-01-01T00:16:49")
    assert streamkit("consume", "numbers", "-g", "g").stdout == "9\n"
    assert "numbers" in streamkit("groups", "describe", "g").stdout
    told = json.loads(streamkit("groups", "describe", "g", "--json").stdout)["partitions"]
    assert (told[0]["lag"], told[0]["behind_seconds"]) == (0, 0.0)
    noted = {TopicPartition("numbers", 0): CommittedOffset(10, "n" * 300)}
    with open_backend(log) as backend:
        backend.commit("g", noted)
    assert "nnn…" in streamkit("groups", "describe", "g").stdout
    shifted = ("groups", "reset", "g", "--to", "shift:-3", "--topic", "numbers:0", "--json")
    dry = streamkit(*shifted, "--dry-run")
    assert json.loads(dry.stdout)[0]["after"] == 7 and "nothing was changed" in dry.stderr
    assert json.loads(streamkit(*shifted).stdout)[0]["before"] == 10
    told = json.loads(streamkit("groups", "describe", "g", "--json").stdout)["partitions"]
    assert told[0]["lag"] == 3 and told[0]["behind_seconds"] > 1_000_000
    for wrong in (["shift:x"], ["latest", "-t", "numbers:x"], ["latest", "-t", "numbers:1"]):
        assert (
            wrong[-1].split(":")[0]
            in streamkit("groups", "reset", "g", "--to", *wrong, code=1).stderr
        )
    new = ("groups", "reset", "gg", "--to", "latest", "--topic", "numbers", "--dry-run")
    assert "group 'gg' is new; did you mean 'g'?\n" in streamkit(*new).stderr
    streamkit("groups", "delete", "g")
    assert streamkit("groups", "list", "--json").stdout == "[]\n"


def test_of_an_app_the_time_is_shown_that_it_has_come_to_and_what_waits(log, streamkit):
    fill(log)
    upstream = [(0, 60_000, 0), (1, 5_000, 0)]
    notes = {
        "numbers": Note(latest=86_400_000, waiting=3),
        "app-a-by-k-repartition": Note(tasks=2, told=upstream),
    }
    with open_backend(log) as backend:
        backend.create_topic("app-a-by-k-repartition")
        for topic, note in notes.items():
            backend.commit("app", {TopicPartition(topic, 0): CommittedOffset(1, note.text())})
    shown = streamkit("groups", "describe", "app").stdout
    assert '"' not in shown and "1970-01-02T00:00:00.000Z        3" in shown
    assert "1970-01-01T00:00:05.000Z        -" in shown, "the slowest of those upstream"
    told = json.loads(streamkit("groups", "describe", "app", "--json").stdout)["partitions"]
    assert [row["event_time"] for row in told] == [5_000, 86_400_000]
    assert [row["waiting"] for row in told] == [0, 3]
    assert '"q":3' in told[1]["note"]


def test_a_group_is_reset_by_force_under_its_members(log, streamkit):
    fill(log)
    with spawn(log, "consume", "numbers", "--follow", "-g", "g") as member:

        def committed():
            told = streamkit("groups", "list", "--json").stdout
            if told == "[]\n":
                return None
            rows = json.loads(streamkit("groups", "describe", "g", "--json").stdout)["partitions"]
            return rows[0]["committed"] if rows else None

        wait_until(lambda: committed() == 10)
        moved = streamkit("groups", "reset", "g", "--to", "offset:4", "--force", "--json")
        assert json.loads(moved.stdout)[0] == {
            "topic": "numbers",
            "partition": 0,
            "before": 10,
            "after": 4,
        }
        assert member.wait(20) == 1
        assert committed() == 4


def test_topics_are_listed_described_and_deleted(log, streamkit):
    streamkit("topics", "create", "b", "-c", "cleanup.policy=compact")
    streamkit("topics", "create", "b", "--if-missing")
    fill(log)
    assert [row["topic"] for row in json.loads(streamkit("topics", "list", "--json").stdout)] == [
        "b",
        "numbers",
    ]
    (told,) = json.loads(streamkit("topics", "describe", "numbers", "--json").stdout)["partitions"]
    assert (told["start"], told["end"], told["last_timestamp"]) == (0, 10, 1_009_000)
    assert json.loads(streamkit("topics", "describe", "b", "--json").stdout)["config"] == {
        "cleanup.policy": "compact"
    }
    assert "cleanup.policy = compact" in streamkit("topics", "describe", "b").stdout
    streamkit("topics", "delete", "b", "numbers")
    assert "numbers" not in streamkit("topics", "list").stdout


def test_a_file_that_is_not_there_is_said_plainly(streamkit):
    streamkit("topics", "create", "lines")
    result = streamkit("produce", "lines", "--file", "nowhere.txt", code=1)
    assert result.stderr == "error: nowhere.txt: No such file or directory\n"


@pytest.mark.parametrize("group", [[], ["--group", "readers"]])
def test_records_removed_before_they_were_read_are_told(log, streamkit, group):
    fill(log)
    if group:
        streamkit("consume", "numbers", *group, "-n", "2")
    with open_backend(log) as backend:
        backend.delete_records(TopicPartition("numbers", 0), 5)
    told = streamkit("consume", "numbers", *group)
    assert told.stdout.split() == list("56789")
    assert ("numbers-0@2 to 4 were removed" in told.stderr) == bool(group)


def test_what_an_open_transaction_keeps_back_is_told(log, streamkit):
    fill(log, 3)
    with Producer(log, transactional_id="x") as producer:
        transaction = producer.transaction()
        transaction.__enter__()
        transaction.send("numbers", "open")
        producer.flush()
        streamkit("produce", "numbers", input="after\n")
        for group in ([], ["--group", "readers"]):
            told = streamkit("consume", "numbers", *group)
            assert told.stdout.split() == list("012")
            assert "numbers-0@3: a transaction is open since there" in told.stderr
            assert "3 to 4" in told.stderr and "log maintain" in told.stderr
        told = streamkit("groups", "describe", "readers")
        assert "numbers-0@3: a transaction is open since there" in told.stderr
        transaction.__exit__(ValueError, ValueError(), None)
    told = streamkit("consume", "numbers")
    assert (told.stdout.split(), told.stderr) == ([*"012", "after"], "")
