"""`streamkit dlq`: what apps have set aside, for people and programs; each comes back once, also
when the command is killed."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streamkit.backends.locate import open_backend
from streamkit.cli.main import app
from streamkit.engine.dead_letters import DeadLetters
from streamkit.records import TopicPartition

SHOP = """
from streamkit import App, dlq

app = App("shop")
orders = app.stream("orders", int, on_error=dlq("unreadable"))


@orders.process(to="checked", on_error=dlq({mode}))
def check(order: int) -> int:
    if order % {fails} == 0:
        raise ValueError(f"{{order}} will not do")
    return order
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("STREAMKIT_LOG", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def streamkit(*arguments: str, input: str | None = None, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["--log", "log", *arguments], input=input)
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.output


def write(folder: Path, fails: int, mode: str = "") -> None:
    (folder / "shop.py").write_text(SHOP.format(fails=fails, mode=mode))


def run(folder: Path) -> None:
    """In a process of its own, as the module is another one each time."""
    command = [sys.executable, "-m", "streamkit", "--log", "log", "run", "shop.py", "--until-end"]
    subprocess.run(command, check=True, cwd=folder, capture_output=True, timeout=60)


@pytest.fixture
def shop(folder: Path) -> Path:
    """An app that has set aside 2 and 4, and what is no number."""
    write(folder, 2)
    streamkit("topics", "create", "orders")
    streamkit("produce", "orders", input="1\n2\nthree\n4\n")
    run(folder)
    return folder


def test_what_waits_is_listed_by_topic_and_step(shop: Path) -> None:
    rows = json.loads(streamkit("dlq", "list", "shop", "--json"))
    told = [(r["topic"], r["step"], r["waiting"], r["retried"], r["errors"]) for r in rows]
    assert told == [
        ("shop-dlq", "check", 2, 0, {"builtins.ValueError": 2}),
        ("unreadable", "orders", 1, 0, {"streamkit.errors.SerdeError": 1}),
    ]
    assert rows[0]["first"] <= rows[0]["last"]
    header, first, _ = streamkit("dlq", "list", "shop").splitlines()
    assert header.split()[:4] == ["topic", "app", "step", "waiting"]
    assert first.endswith("ValueError 2")
    assert json.loads(streamkit("dlq", "list", "unreadable", "--json"))[0]["waiting"] == 1


def test_one_is_shown_in_full(shop: Path) -> None:
    said = streamkit("dlq", "show", "shop", "--step", "check")
    assert said.startswith("shop-dlq 0:0\n  app       shop, step check, task 0\n")
    assert "  record    orders-0@1, " in said
    assert "  value     2\n" in said
    assert "  error     builtins.ValueError: 2 will not do\n" in said
    assert 'raise ValueError(f"{order} will not do")\n' in said
    line = json.loads(streamkit("dlq", "show", "shop", "--at", "0:1", "--json").splitlines()[0])
    assert (line["value"], line["source"]["offset"], line["retried"]) == ("4", 3, False)
    lines = streamkit("dlq", "show", "shop", "-n", "9", "--json").splitlines()
    assert [json.loads(each)["value"] for each in lines] == ["2", "4", "three"]


def test_what_is_retried_is_processed_when_the_app_runs_and_waits_no_more(shop: Path) -> None:
    write(shop, 4)
    said = streamkit("dlq", "retry", "shop", "--step", "check")
    assert said == "2 events of check: app shop processes what is given back when it runs\n"
    assert streamkit("dlq", "retry", "shop", "--step", "check") == ""
    run(shop)
    assert streamkit("consume", "checked").split() == ["1", "2"]
    (one,) = json.loads(streamkit("dlq", "list", "shop", "--step", "check", "--json"))
    assert (one["waiting"], one["retried"]) == (1, 2)
    last = json.loads(streamkit("dlq", "show", "shop-dlq", "--json"))
    assert (last["value"], last["attempts"]) == ("4", 2)


def test_only_what_was_chosen_is_given_up(shop: Path) -> None:
    said = streamkit("dlq", "discard", "shop", "--step", "check", "--at", "0:0")
    assert said == "1 event of check: given up\n"
    waiting = json.loads(streamkit("dlq", "show", "shop", "--step", "check", "--json"))
    assert waiting["value"] == "4"
    (one,) = json.loads(streamkit("dlq", "list", "shop", "--step", "check", "--json"))
    assert (one["waiting"], one["retried"], one["discarded"]) == (1, 0, 1)
    assert "0:0, given up" in streamkit("dlq", "show", "shop-dlq", "--at", "0:0")
    assert "say which" in streamkit("dlq", "discard", "shop", code=1)
    assert json.loads(streamkit("dlq", "discard", "shop", "--all", "--json")) == [
        {"app": "shop", "step": "check", "count": 1},
        {"app": "shop", "step": "orders", "count": 1},
    ]


def test_what_makes_no_sense_is_said(shop: Path) -> None:
    said = streamkit("dlq", "list", "shops", code=1)
    assert "no app that has run" in said
    assert "did you mean 'shop'" in said
    assert "PARTITION:OFFSET" in streamkit("dlq", "show", "shop", "--at", "7", code=1)
    for verb in ("list", "show", "retry", "discard"):
        said = streamkit("dlq", verb, "shop", "--step", "chek", code=1)
        assert "no step 'chek' sets events aside in app 'shop'; did you mean 'check'?" in said
        said = streamkit("dlq", verb, "unreadable", "--step", "chek", code=1)
        assert "in unreadable; there are: orders" in said
        streamkit("dlq", verb, "unreadable", "--step", "check")  # it might write there
    renamed = (shop / "shop.py").read_text().replace("def check", "def verify")
    (shop / "shop.py").write_text(renamed)
    run(shop)
    streamkit("dlq", "retry", "shop", "--step", "verify")  # it has set nothing aside yet
    assert "no step 'check'" in streamkit("dlq", "retry", "shop", "--step", "check", code=1)


def test_what_connectors_set_aside_is_listed_and_shown_and_left_to_them(folder: Path) -> None:
    streamkit("topics", "create", "bad-rows")
    said = {
        "connector.name": "orders-sink",
        "stage": "TASK_PUT",
        "topic": "orders",
        "partition": "1",
        "offset": "7",
        "task.id": "0",
        "exception.class.name": "streamkit.errors.DataError",
        "exception.message": "no amount",
    }
    headers = tuple((f"__connect.errors.{name}", text.encode()) for name, text in said.items())
    with open_backend("log") as log:
        at = TopicPartition("bad-rows", 0)
        log.append(at, [b"{}", b"no letter"], timestamps=0, headers=[headers, ()])
    (row,) = json.loads(streamkit("dlq", "list", "bad-rows", "--json"))
    assert (row["connector"], row["waiting"]) == ("orders-sink", 1)
    shown = streamkit("dlq", "show", "bad-rows")
    assert "connector  orders-sink, step TASK_PUT, task 0" in shown
    assert "record     orders-1@7" in shown
    assert streamkit("dlq", "retry", "bad-rows") == ""


RETRY = """
import sys
from streamkit.backends.locate import open_backend
from streamkit.engine import dead_letters

dead_letters._TOGETHER = 4
with open_backend("log") as log:
    print("begun", flush=True)
    dead_letters.DeadLetters.of(log, "shop").give_back()
"""


@pytest.mark.parametrize("mode", ["", "mode='key'"])
def test_each_comes_back_once_however_often_the_command_is_killed(folder: Path, mode: str) -> None:
    write(folder, 1, mode)
    streamkit("topics", "create", "orders", "-p", "2")
    numbers = range(1, 121)
    lines = "".join(f"k{n % 7}\t{n}\n" for n in numbers)
    streamkit("produce", "orders", "--key-separator", "\t", input=lines)
    run(folder)
    chance = random.Random(7)
    killed = 0
    for _ in range(12):
        command = [sys.executable, "-c", RETRY]
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.random() * 0.04)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        with open_backend("log") as log:
            left = sum(1 for _ in DeadLetters.of(log, "shop").waiting())
        if left == 0:
            break
    assert killed > 2
    streamkit("dlq", "retry", "shop")
    write(folder, 1000, mode)
    run(folder)
    found: dict[Any, list[int]] = {}
    for line in streamkit("consume", "checked", "--json").splitlines():
        record = json.loads(line)
        found.setdefault(record["key"], []).append(record["value"])
    wanted = {f"k{k}": [n for n in numbers if n % 7 == k] for k in range(7)}
    assert found == wanted
