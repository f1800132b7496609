"""What docs/connect.md shows works."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from streamkit.connect.config import parse_worker
from streamkit.connect.testing import opened, read, records

TEXT = (Path(__file__).parents[2] / "docs" / "connect.md").read_text("utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    return str(found)


def test_the_worker_file_is_accepted() -> None:
    config = parse_worker(tomllib.loads(block("toml")), "f", lambda provider, reference: "secret")
    assert [connector.name for connector in config.connectors] == ["orders", "archive"]


def test_the_connectors_run(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "docs_example"}
    exec(compile(block("python"), "connect.md", "exec"), names)
    config = names["CounterConfig"]("t", 3)
    first = read(names["counter"], config, limit=2)
    assert first.values + read(names["counter"], config, first.offsets).values == [
        {"n": 1},
        {"n": 2},
        {"n": 3},
    ]
    with opened(names["printer"], names["PrinterConfig"](">")) as sink:
        sink.write(records([b"x"]))
    assert capsys.readouterr().out == "> events-0@0 b'x'\n"
