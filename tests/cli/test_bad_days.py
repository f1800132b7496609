"""Bad input and bad days: one screen that says what, where and what to do; nothing is lost."""

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from streamkit import Producer

APP = """
from msgspec import Struct
from streamkit import App

class Order(Struct):
    customer: str
    amount: float

app = App("shop")
orders = app.stream("orders", Order)

@orders.process(to="doubled")
def double(order: Order) -> float:
    if order.amount < 0:
        raise ValueError("a negative amount")
    return order.amount * 2
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """The command, in a folder of its own, with `app.py` in it."""
    (tmp_path / "app.py").write_text(APP)

    def run(
        *arguments: str, stdin: str = "", prefix: tuple[str, ...] = ()
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*prefix, sys.executable, "-m", "streamkit", *arguments],
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={k: v for k, v in os.environ.items() if k != "STREAMKIT_LOG"},
        )

    return run


def refused(done: "subprocess.CompletedProcess[str]", *said: str) -> str:
    """The message: on stderr, on one screen, without a traceback, with all of `said` in it."""
    message = " ".join(done.stderr.split())
    assert done.returncode not in (0, -9), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") < 24
    for words in said:
        assert words in message, done.stderr
    return message


def consumed(run: Run, topic: str) -> list[str]:
    done = run("consume", topic)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def worker(folder: Path, text: str) -> str:
    (folder / "worker.toml").write_text(text)
    return "worker.toml"


FILES = """
[connectors.drop]
"connector.class" = "FileSource"
path = "drop"
topic = "rows"
"csv.types.amount" = "int"
"""


def test_a_malformed_csv_row_names_file_and_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "drop").mkdir()
    (tmp_path / "drop" / "a.csv").write_text("id,amount\n1,10\n2,20,too,many\n3,30\n")
    done = run("connect", worker(tmp_path, FILES), "--until-idle")
    refused(done, "a.csv:3", "drop")
    # What came before it is there, and a mended file goes on after it without a repetition.
    assert len(consumed(run, "rows")) == 1
    (tmp_path / "drop" / "a.csv").write_text("id,amount\n1,10\n2,20\n3,30\n")
    done = run("connect", "worker.toml", "--until-idle")
    assert done.returncode == 0, done.stderr
    assert [row.split('"id":"')[1][0] for row in consumed(run, "rows")][-2:] == ["2", "3"]


def test_a_csv_value_that_is_not_a_number_names_the_column(run: Run, tmp_path: Path) -> None:
    (tmp_path / "drop").mkdir()
    (tmp_path / "drop" / "a.csv").write_text("id,amount\n1,10\n2,ten\n")
    done = run("connect", worker(tmp_path, FILES), "--until-idle")
    refused(done, "a.csv:3", "amount", "'ten'")


def test_a_value_that_does_not_fit_the_type_names_the_record(run: Run) -> None:
    run("topics", "create", "orders")
    run("produce", "orders", stdin='{"customer":"a","amount":1}\n{"customer":"b","amount":"x"}\n')
    done = run("run", "app.py", "--until-end")
    refused(done, "orders-0@1", "amount", "float")
    assert consumed(run, "doubled") == ["2.0"]


def test_an_app_that_raises_names_function_and_record_and_goes_on_there(
    run: Run, tmp_path: Path
) -> None:
    run("topics", "create", "orders")
    run("produce", "orders", stdin='{"customer":"a","amount":1}\n{"customer":"b","amount":-1}\n')
    done = run("run", "app.py", "--until-end")
    refused(done, "double", "orders-0@1", "a negative amount")
    assert consumed(run, "doubled") == ["2.0"]
    assert "Traceback" in run("--debug", "run", "app.py", "--until-end").stderr

    (tmp_path / "app.py").write_text(APP.replace("order.amount < 0", "order.amount < -5"))
    assert run("run", "app.py", "--until-end").returncode == 0
    assert consumed(run, "doubled") == ["2.0", "-2.0"]


def test_an_unreachable_database_is_tried_again_and_said(run: Run, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = f"""
[connectors.db]
"connector.class" = "SqlSource"
"connection.url" = "postgresql+psycopg://user:secret@127.0.0.1:{port}/shop"
tables = ["orders"]
mode = "bulk"
"errors.retry.timeout" = 1000
"""
    done = run("connect", worker(tmp_path, config), "--until-idle")
    refused(done, "db", str(port))
    assert "secret" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("tables", "column", "said"),
    [
        ("order", "id", ("'order'", "orders")),
        ("orders", "idd", ("idd", "id")),
    ],
)
def test_a_missing_table_or_column_names_the_nearest(
    run: Run, tmp_path: Path, tables: str, column: str, said: tuple[str, ...]
) -> None:
    with sqlite3.connect(tmp_path / "shop.db") as db:
        db.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, amount REAL)")
    db.close()
    config = f"""
[connectors.db]
"connector.class" = "SqlSource"
"connection.url" = "sqlite:///shop.db"
tables = ["{tables}"]
mode = "incrementing"
"incrementing.column" = "{column}"
"""
    refused(run("connect", worker(tmp_path, config), "--until-idle"), *said)


def test_a_wrong_config_key_names_the_right_one(run: Run, tmp_path: Path) -> None:
    config = FILES.replace("topic =", "topics =") + '"key.field" = ["id"]\n'
    refused(run("connect", worker(tmp_path, config)), "worker.toml", "'key.fields'")
    refused(
        run("topics", "create", "t", "--config", "retention.msec=1"),
        "retention.msec",
        "'retention.ms'",
    )


def test_an_unknown_topic_names_the_nearest(run: Run) -> None:
    run("topics", "create", "orders")
    for command in (["consume", "order"], ["produce", "order"], ["topics", "describe", "order"]):
        refused(run(*command, stdin="x\n"), "order", "did you mean 'orders'?")


def test_a_corrupt_segment_is_named_and_nothing_after_it_is_deleted(
    run: Run, tmp_path: Path
) -> None:
    run("topics", "create", "orders")
    for number in range(3):
        run("produce", "orders", stdin=f"value number {number}\n")
    segment = tmp_path / "streamkit-data" / "orders-0" / f"{0:020}.log"
    whole = segment.read_bytes()
    damaged = bytearray(whole)
    damaged[whole.index(b"number 1") + 7] ^= 1
    segment.write_bytes(damaged)
    done = run("consume", "orders")
    refused(done, "orders-0@1", segment.name)
    assert done.stdout.splitlines() == ["value number 0"]
    assert segment.read_bytes() == bytes(damaged)
    segment.write_bytes(whole)
    assert len(consumed(run, "orders")) == 3


def test_a_read_only_directory_can_be_read_and_says_so_when_written(
    run: Run, tmp_path: Path
) -> None:
    run("topics", "create", "orders")
    run("produce", "orders", stdin="one\n")
    log = tmp_path / "streamkit-data"
    prefix: tuple[str, ...] = ()
    if os.geteuid() == 0:  # to whom permissions mean nothing: mount it read-only
        if not shutil.which("unshare"):
            pytest.skip("root, and no unshare(1) to mount a folder read-only with")
        script = f'mount --bind "{log}" "{log}" && mount -o remount,ro,bind "{log}" && exec "$@"'
        prefix = ("unshare", "-m", "sh", "-c", script, "-")
        if run("--version", prefix=prefix).returncode:
            pytest.skip("root, and this machine does not allow mounts")
    else:
        for path in [log, *log.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        refused(run("produce", "orders", stdin="two\n", prefix=prefix), "streamkit-data", "read")
        refused(run("run", "app.py", prefix=prefix), "streamkit-data", "read")
        done = run("consume", "orders", prefix=prefix)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "one\n"
    finally:
        for path in [log, *log.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_a_log_of_a_newer_format_is_left_alone(run: Run, tmp_path: Path) -> None:
    run("topics", "create", "orders")
    meta = tmp_path / "streamkit-data" / "meta.properties"
    written = meta.read_text()
    key = next(line for line in written.splitlines() if "streamkit" in line and "=" in line)
    meta.write_text(written.replace(key, key.partition("=")[0] + "=99"))
    for command in (["topics", "list"], ["consume", "orders"], ["run", "app.py"]):
        refused(run(*command), "streamkit-data", "99", "newer")


def test_there_is_no_log_where_one_is_read(run: Run, tmp_path: Path) -> None:
    refused(run("--log", "nowhere", "consume", "orders"), "nowhere")
    refused(run("--log", "nowhere", "run", "app.py", "--until-end"), "nowhere: no log here")
    assert not (tmp_path / "nowhere").exists()


def test_an_app_that_is_not_there_or_does_not_parse_says_where(run: Run, tmp_path: Path) -> None:
    refused(run("run", "ap.py"), "ap.py")
    (tmp_path / "broken.py").write_text("app = App(\n")
    refused(run("run", "broken.py"), "broken.py:1")
    (tmp_path / "empty.py").write_text("x = 1\n")
    refused(run("run", "empty.py"), "empty.py", "App")


def test_a_wrong_declaration_says_where_it_stands(run: Run, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP + "\norders.by('custmer')\n")
    line = len(APP.splitlines()) + 2
    refused(run("run", "app.py"), f"app.py:{line}", "'custmer'", "'customer'")


def test_a_bad_record_can_be_skipped(run: Run, tmp_path: Path) -> None:
    run("topics", "create", "orders", "--partitions", "2")
    with Producer(str(tmp_path / "streamkit-data")) as producer:
        producer.send("orders", {"customer": "a", "amount": 1}, partition=1)
        producer.send("orders", "no json", partition=0)
        producer.send("orders", {"customer": "b", "amount": 2}, partition=0)
    refused(run("run", "app.py", "--until-end"), "orders-0@0")
    reset = ("groups", "reset", "shop", "--topic", "orders:0", "--to")
    refused(run(*reset, "offset:7"), "orders-0@7", "from 0 to 2")
    refused(run(*reset, "earliest", "--topic", "orders:5"), "orders", "no partition 5")
    skipped = run(*reset, "offset:1")
    assert (skipped.returncode, skipped.stderr) == (0, ""), "forwards nothing counts twice"
    done = run("run", "app.py", "--until-end")
    assert done.returncode == 0, done.stderr
    assert sorted(consumed(run, "doubled")) == ["2.0", "4.0"]
