"""A source that reads everything again, because its positions were forgotten."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from streamkit.backends.base import Backend
from streamkit.backends.locate import open_backend
from streamkit.connect.offsets import names_of
from streamkit.connect.reset import reset
from streamkit.connect.status import ConnectorStatus
from streamkit.connect.worker import run
from streamkit.errors import ConfigError, GroupActive

WORKER = """
[connectors.drop]
"connector.class" = "FileSource"
path = "{folder}"
pattern = "*.jsonl"
topic = "rows"

[connectors.other]
"connector.class" = "FileSource"
path = "{folder}"
pattern = "*.csv"
topic = "others"

[connectors.archive]
"connector.class" = "FileSink"
path = "{folder}/archive"
topics = ["rows"]
"""


@pytest.fixture
def worker(tmp_path: Path) -> Path:
    (tmp_path / "a.jsonl").write_text("1\n2\n")
    (tmp_path / "b.jsonl").write_text("3\n")
    (tmp_path / "c.csv").write_text("n\n1\n")
    (tmp_path / "worker.toml").write_text(WORKER.format(folder=tmp_path))
    return tmp_path / "worker.toml"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Backend]:
    with open_backend(str(tmp_path / "log")) as opened:
        yield opened


def counts(statuses: tuple[ConnectorStatus, ...]) -> dict[str, int]:
    return {status.name: status.records for status in statuses}


def test_only_the_source_that_is_reset_reads_again(worker: Path, log: Backend) -> None:
    assert counts(run(worker, log, until_idle=True)) == {"drop": 3, "other": 1, "archive": 3}
    assert counts(run(worker, log, until_idle=True)) == {"drop": 0, "other": 0, "archive": 0}
    places = reset(worker, "drop", log)
    assert sorted(place["file"] for place in places) == ["a.jsonl", "b.jsonl"]
    assert counts(run(worker, log, until_idle=True)) == {"drop": 3, "other": 0, "archive": 3}


def test_a_source_that_has_read_nothing_has_nothing_to_forget(worker: Path, log: Backend) -> None:
    assert reset(worker, "drop", log) == []
    run(worker, log, until_idle=True)
    reset(worker, "drop", log)
    assert reset(worker, "drop", log) == []


def test_a_source_that_runs_is_not_reset(worker: Path, log: Backend, tmp_path: Path) -> None:
    stop, working = Event(), Event()

    def progress(statuses: tuple[ConnectorStatus, ...]) -> None:
        if any(status.name == "drop" and status.records == 3 for status in statuses):
            working.set()

    running = threading.Thread(
        target=run, args=(worker, log), kwargs={"stop_event": stop, "on_progress": progress}
    )
    running.start()
    try:
        assert working.wait(20)
        with open_backend(str(tmp_path / "log")) as other, pytest.raises(GroupActive) as caught:
            reset(worker, "drop", other)
    finally:
        stop.set()
        running.join(20)
    assert "connector drop runs in a worker of group connect-cluster" in str(caught.value)
    assert counts(run(worker, log, until_idle=True))["drop"] == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dorp", "no connector 'dorp'; did you mean 'drop'?"),
        ("archive", "streamkit groups reset connect-archive --to earliest"),
    ],
)
def test_what_is_no_source_of_the_file_is_refused(
    worker: Path, log: Backend, name: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        reset(worker, name, log)
    assert message in str(caught.value)


def test_a_source_that_finds_nothing_new_says_once_what_it_has_read_before(
    worker: Path, log: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "streamkit.connect")
    run(worker, log, until_idle=True)
    assert "nothing new" not in caplog.text
    run(worker, log, until_idle=True)
    said = [message for message in caplog.messages if "nothing new" in message]
    assert sorted(said) == [
        "drop: nothing new; read before: file a.jsonl, file b.jsonl "
        "(connect --reset drop has it read again)",
        "other: nothing new; read before: file c.csv (connect --reset other has it read again)",
    ]
    caplog.clear()
    (worker.parent / "d.jsonl").write_text("4\n")
    run(worker, log, until_idle=True)
    assert "drop: nothing new" not in caplog.text


def test_a_few_of_many_places_are_named() -> None:
    places = [{"file": f"{name}.csv", "id": name} for name in "edcba"]
    assert names_of(places) == "file a.csv, file b.csv, file c.csv, 2 more"
    assert names_of([{}]) == ""


def test_the_command_resets_and_says_what_is_read_again(worker: Path, log: Backend) -> None:
    run(worker, log, until_idle=True)

    def command(*options: str) -> "subprocess.CompletedProcess[str]":
        words = ["--log", str(worker.parent / "log"), "connect", str(worker), *options]
        return subprocess.run(
            [sys.executable, "-m", "streamkit", *words], capture_output=True, text=True, timeout=60
        )

    assert command("--reset", "drop").stdout == (
        "drop: the next run reads again: file a.jsonl, file b.jsonl\n"
    )
    assert "no position is stored" in command("--reset", "drop").stdout
    wrong = command("--reset", "drop", "--until-idle")
    assert (wrong.returncode, "--reset runs nothing" in wrong.stderr) == (2, True)


def test_a_source_of_an_app_is_reset_by_the_app(tmp_path: Path) -> None:
    (tmp_path / "drop").mkdir()
    (tmp_path / "drop" / "a.jsonl").write_text('{"n": 1}\n')
    (tmp_path / "shop.py").write_text(
        "from streamkit import App\n"
        "app = App('shop', log='log')\n"
        "app.source('FileSource', dict, to='rows', path='drop').to('copied')\n"
    )

    def streamkit(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "streamkit", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    for expected in (1, 1):
        assert streamkit("run", "shop.py", "--until-end").returncode == 0
        assert streamkit("--log", "log", "consume", "copied").stdout.count("{") == expected
    done = streamkit("connect", "--reset", "shop-rows-source", "shop.py")
    assert done.stdout == "shop-rows-source: the next run reads again: file a.jsonl\n", done.stderr
    assert streamkit("run", "shop.py", "--until-end").returncode == 0
    assert streamkit("--log", "log", "consume", "copied").stdout.count("{") == 2
