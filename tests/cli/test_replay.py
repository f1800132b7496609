"""`streamkit replay` and `streamkit replays`, as a user calls them."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from streamkit.backends.locate import open_backend
from streamkit.records import TopicPartition

APP = """
import os, time
from streamkit import App

app = App("shop")
orders = app.stream("orders", int)
threshold = int(os.environ.get("THRESHOLD", "50"))

@orders.process(to="big")
def big(amount: int) -> int | None:
    time.sleep(float(os.environ.get("SLOW", "0")))
    return amount if amount >= threshold else None
"""


@pytest.fixture
def home(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    with open_backend(tmp_path / "streamkit-data") as log:
        log.create_topic("orders", 2)
        for number in range(100):
            log.append(
                TopicPartition("orders", number % 2),
                [b"%d" % number],
                keys=[b"k%d" % number],
                timestamps=1_000_000 + number * 1000,
            )
    return tmp_path


def start(home, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "streamkit", *arguments],
        cwd=home,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def streamkit(home, *arguments, code=0, **environment):
    process = start(home, *arguments, **environment)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    return out, err


def test_without_a_difference_the_exit_code_is_0_and_with_one_it_is_1(home):
    streamkit(home, "run", "app.py", "--until-end")
    out, _ = streamkit(home, "replay", "app.py", "--name", "same", "--diff", "big", "--json")
    assert json.loads(out)["diff"] == {
        "big": {
            "same": 50,
            "changed": 0,
            "only_in_replay": 0,
            "only_in_published": 0,
            "outside": 0,
        }
    }
    arguments = ("replay", "app.py", "--name", "other", "--diff", "big")
    out, err = streamkit(home, *arguments, code=1, THRESHOLD="40")
    assert err == ""
    assert "only in replay" in out and "what differs" in out and "k40" in out
    again, err = streamkit(home, *arguments, "--json", code=1, THRESHOLD="40")
    assert "finished before" in err
    assert json.loads(again)["diff"]["big"]["only_in_replay"] == 10
    assert json.loads(again)["topics"] == {"big.replay.other": 60}


def test_results_of_another_time_than_the_span_are_told_and_are_no_agreement(home):
    (home / "app.py").write_text(
        APP.replace('"orders", int', '"orders", int, time=lambda amount: amount * 1000')
    )
    streamkit(home, "run", "app.py", "--until-end")
    arguments = ("replay", "app.py", "--diff", "big", "--json")
    out, err = streamkit(home, *arguments, "--name", "none", "--from", "500000", code=1)
    assert "50 results for big are not compared" in err
    assert json.loads(out)["diff"]["big"]["outside"] == 50
    out, _ = streamkit(home, *arguments, "--name", "all")
    assert (json.loads(out)["diff"]["big"]["same"], json.loads(out)["diff"]["big"]["outside"]) == (
        50,
        0,
    )


def test_a_session_without_a_name_is_found_again_by_its_bounds(home):
    bounds = ("--from", "1000000", "--to", "1020000")
    streamkit(home, "replay", "app.py", *bounds, THRESHOLD="0")
    out, err = streamkit(home, "replay", "app.py", *bounds, "--json")
    assert "finished before" in err
    assert json.loads(out)["topics"] == {"big.replay.1000000.to.1020000": 20}


def test_ctrl_c_stops_a_replay_and_the_same_command_goes_on(home):
    arguments = ("replay", "app.py", "--name", "slow")
    with start(home, *arguments, SLOW="0.02", THRESHOLD="0") as process:
        deadline = time.monotonic() + 20
        with open_backend(home / "streamkit-data") as log:
            while "shop.replay.slow" not in log.groups():
                assert time.monotonic() < deadline
                time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert "the same command goes on" in process.stderr.read()
    listed, _ = streamkit(home, "replays", "list", "--json")
    assert [(row["name"], row["finished"]) for row in json.loads(listed)] == [("slow", False)]
    out, _ = streamkit(home, *arguments, "--json", THRESHOLD="0")
    assert json.loads(out)["topics"] == {"big.replay.slow": 100}


def test_sessions_are_listed_shown_and_deleted(home):
    streamkit(home, "replay", "app.py", "--name", "one")
    assert "shop/one" in streamkit(home, "replays", "list")[0]
    shown, _ = streamkit(home, "replays", "show", "shop/one", "--json")
    assert json.loads(shown)["topics"] == {"big.replay.one": 50}
    assert "orders" in streamkit(home, "replays", "show", "shop/one")[0]
    _, err = streamkit(home, "replays", "delete", "shop/on", code=1)
    assert "did you mean 'shop/one'" in err
    streamkit(home, "replays", "delete", "shop/one")
    assert json.loads(streamkit(home, "replays", "list", "--json")[0]) == []
    assert "replay" not in streamkit(home, "topics", "list", "--internal", "--json")[0].replace(
        "__streamkit_replays", ""
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--diff", "bgi"), ["--diff 'bgi'", "did you mean 'big'"]),
        (("--from", "whenever"), ["--from", "whenever", "earliest"]),
        (("--name", "a b"), ["--name 'a b'"]),
    ],
)
def test_a_wrong_option_says_what_is_right(home, arguments, words):
    out, err = streamkit(home, "replay", "app.py", *arguments, code=1)
    assert out == "" and "Traceback" not in err
    for word in words:
        assert word in err


def test_a_replay_of_a_log_that_is_not_there_makes_none(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    _, err = streamkit(tmp_path, "replay", "app.py", code=1)
    assert "streamkit-data" in err
    assert not (tmp_path / "streamkit-data").exists()


def test_a_topic_without_a_history_is_named(home):
    (home / "other.py").write_text(APP.replace('"orders"', '"returns"'))
    _, err = streamkit(home, "replay", "other.py", code=1)
    assert "returns" in err and "does not exist" in err


def test_a_replay_killed_again_and_again_writes_each_result_once(home):
    chance = random.Random(3)
    arguments = ("replay", "app.py", "--name", "killed", "--json")
    with open_backend(home / "streamkit-data") as log:

        def written():
            topic = "big.replay.killed"
            if topic not in log.topics():
                return 0
            return sum(log.offsets(TopicPartition(topic, n)).end for n in range(2))

        for _ in range(4):
            before = written()
            with start(home, *arguments, SLOW="0.05", THRESHOLD="0") as process:
                deadline = time.monotonic() + 20
                while written() == before and process.poll() is None:
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
                time.sleep(chance.random() * 0.2)
                process.kill()
    out, _ = streamkit(home, *arguments, THRESHOLD="0")
    assert json.loads(out)["topics"] == {"big.replay.killed": 100}
    values, _ = streamkit(home, "consume", "big.replay.killed")
    assert sorted(map(int, values.split())) == list(range(100))


def test_the_same_command_twice_at_once_runs_once(home):
    arguments = ("replay", "app.py", "--name", "twice")
    first = start(home, *arguments, SLOW="1")
    try:
        deadline = time.monotonic() + 30
        with open_backend(home / "streamkit-data", read_only=True) as log:
            while not log.group("shop.replay.twice").members:
                assert time.monotonic() < deadline and first.poll() is None
                time.sleep(0.05)
        _, refused = streamkit(home, *arguments, "--restart", code=1)
        assert "replay 'twice' of app 'shop' runs in another process already" in refused
    finally:
        first.kill()
        first.communicate()
    streamkit(home, *arguments)
