"""What docs/connect.md shows works."""

import re
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from mypy import api

from streamkit.backends.locate import open_backend
from streamkit.connect.config import Duration, Shared, WorkerSettings, keys_of, parse_worker
from streamkit.connect.testing import opened, read, records
from streamkit.connectors.file_sink import FileSinkConfig
from streamkit.connectors.file_source import FileSourceConfig
from streamkit.connectors.sql_sink import SqlSinkConfig
from streamkit.connectors.sql_source import SqlSourceConfig

TEXT = (Path(__file__).parents[2] / "docs" / "connect.md").read_text("utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    return str(found)


def test_the_worker_file_is_accepted() -> None:
    config = parse_worker(tomllib.loads(block("toml")), "f", lambda provider, reference: "secret")
    assert [connector.name for connector in config.connectors] == ["orders", "archive"]


def test_the_log_accepts_the_topic_configs_of_the_worker_file(tmp_path: Path) -> None:
    config = parse_worker(tomllib.loads(block("toml")), "f", lambda provider, reference: "secret")
    given = config.connectors[0].shared.topic_creation_default
    with open_backend(str(tmp_path / "log")) as log:
        assert given and log.create_topic("orders", 1, given).config == given


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


def test_the_connectors_pass_a_strict_type_checker(tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text(block("python"))
    out, err, code = api.run(
        ["--strict", "--no-incremental", "--config-file=", str(tmp_path / "example.py")]
    )
    assert code == 0, out + err


TABLES = {
    "`[worker]`:": WorkerSettings,
    "Every connector:": Shared,
    "### FileSource": FileSourceConfig,
    "### FileSink": FileSinkConfig,
    "### SqlSource": SqlSourceConfig,
    "### SqlSink": SqlSinkConfig,
}


@pytest.mark.parametrize("heading", TABLES)
def test_every_option_stands_in_the_docs_with_its_type_and_default(heading: str) -> None:
    assert table(heading) == [row for row in options(TABLES[heading]) if row[0] != "name"]


def table(heading: str) -> list[tuple[str, str, str]]:
    """Key, type and default of every row of the table under a heading."""
    _, found, rest = TEXT.partition(f"\n{heading}\n\n")
    assert found, f"no {heading!r}"
    rows = [line.strip("|").split(" | ") for line in rest.split("\n\n")[0].splitlines()[2:]]
    assert all(len(row) == 4 and row[3].strip() for row in rows), "every option has its meaning"
    return [(row[0].strip(" `"), row[1].strip().replace("`", ""), row[2].strip()) for row in rows]


def options(target: type[Any]) -> list[tuple[str, str, str]]:
    hints = typing.get_type_hints(target)
    return [
        (key, type_of(hints[item.name]), default_of(item, hints[item.name]))
        for key, item in zip(keys_of(target), fields(target), strict=True)
    ]


def type_of(hint: Any) -> str:
    if get_origin(hint) in (typing.Union, types.UnionType):
        return type_of(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return ", ".join(get_args(hint))
    if get_origin(hint) is tuple:
        return "list"
    if get_origin(hint) is Mapping:
        return type_of(get_args(hint)[1])
    return {str: "text", int: "whole number", bool: "true, false", Duration: "time"}[hint]


def default_of(item: Any, hint: Any) -> str:
    if item.default is MISSING:
        return "required" if item.default_factory is MISSING else "none"
    if item.default in ("", (), None):
        return "none"
    if hint is Duration:
        assert item.default % 1000 == 0
        return f"`{item.default // 1000}s`"
    return f"`{str(item.default).lower() if hint is bool else item.default}`"
