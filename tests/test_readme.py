"""What the README shows runs as it stands, and what it links to is there."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streamkit.clients.admin import Admin
from streamkit.clients.consumer import Consumer
from streamkit.clients.producer import Producer

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [text for tag, text in fenced if tag == language]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    app, test = blocks("python")
    (tmp_path / "shop.py").write_text(app)
    (tmp_path / "test_shop.py").write_text(test)
    # The command `streamkit`, wherever it was installed.
    command = tmp_path / "bin" / "streamkit"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m streamkit "$@"\n')
    command.chmod(0o755)
    return tmp_path


def shell(line: str, folder: Path) -> "subprocess.Popen[str]":
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    return subprocess.Popen(
        ["sh", "-c", f"exec {line}" if "|" not in line else line],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k != "STREAMKIT_LOG"} | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]", code: int = 0) -> str:
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    return out


def test_the_commands_of_the_app_do_what_is_said(shop: Path) -> None:
    (block,) = [b for b in blocks("") if "streamkit run shop.py" in b]
    create, produce, run, consume, replay = block.strip().splitlines()

    finish(shell(create, shop))
    finish(shell(produce, shop))
    app = shell(run, shop)
    try:
        deadline = time.monotonic() + 60
        while not (out := finish(shell(consume, shop)) if big_orders_is_there(shop) else ""):
            assert time.monotonic() < deadline, "the app wrote nothing"
    finally:
        app.send_signal(signal.SIGINT)
        finish(app, code=130)
    assert [json.loads(line)["customer"] for line in out.splitlines()] == ["ada"]
    assert "same" in finish(shell(replay, shop))


def big_orders_is_there(shop: Path) -> bool:
    """Whether the app has made its result topic yet: consuming it is an error before."""
    topics = finish(shell("streamkit topics list --json", shop))
    return any(topic["topic"] == "big-orders" for topic in json.loads(topics))


def test_the_test_of_the_app_passes(shop: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_shop.py"]
    done = subprocess.run(command, cwd=shop, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout, done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, heading in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text()):
        place = page.parent / target if target else page
        assert place.exists(), f"{page.name} links to {target}"
        assert not heading or heading in headings(place), f"{page.name}: {target}#{heading}"


def headings(page: Path) -> list[str]:
    """As links name them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


def test_every_page_is_linked_from_the_readme() -> None:
    pages = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}
    assert pages <= set(re.findall(r"\]\(([^)#]+)\)", README))


def test_the_transaction_of_the_guide_invoices_each_order_once(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "transactions.md").read_text()
    (program,) = re.findall(r"^```python\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    again = program.replace("admin.create_topic(", "admin.topic(")
    for code in (program, again):
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    with Consumer(tmp_path / "data", "invoices", value_type=str) as consumer:
        values = [record.value for record in consumer.until_end()]
    assert values == [f"invoice for {thing}" for thing in ("book", "lamp", "chair")] * 2


def test_a_log_is_read_as_the_page_about_topics_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "topics.md").read_text()
    (program,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    with Admin(tmp_path / "data") as admin:
        admin.create_topic("orders")
    with Producer(tmp_path / "data") as producer:
        producer.send("orders", "a book")
    monkeypatch.chdir(tmp_path)
    exec(program, {})
    assert capsys.readouterr().out == "b'a book'\n"


def test_the_make_targets_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
