import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.connect.config import (
    Duration,
    Shared,
    flatten,
    mask_url,
    parse,
    parse_connector,
    parse_worker,
)
from streamkit.connect.config_file import load
from streamkit.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Options:
    path: str
    batch_max_rows: int = field(default=10, metadata={"range": (1, 100)})
    mode: Literal["bulk", "incrementing"] = "bulk"
    names: tuple[str, ...] = ()
    wait: Duration | None = None
    strict: bool = False
    ratio: float = 0.5
    types: Mapping[str, str] = field(default_factory=dict)


def no_references(provider: str, reference: str) -> str:
    raise ConfigError(f"no {provider}")


def test_dotted_keys_fill_the_fields() -> None:
    flat = {
        "path": "in",
        "batch.max.rows": "20",
        "mode": "incrementing",
        "names": "a, b",
        "wait": "1.5s",
        "strict": "true",
        "ratio": "2",
        "types.some.column": "int",
    }
    assert parse(Options, flat, "f") == Options(
        "in", 20, "incrementing", ("a", "b"), Duration(1500), True, 2.0, {"some.column": "int"}
    )


def test_a_list_of_the_file_keeps_its_commas() -> None:
    assert parse(Options, {"path": "p", "names": ["a,b", "c"]}, "f").names == ("a,b", "c")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("batch.max.row", "1", "unknown key 'batch.max.row'; did you mean 'batch.max.rows'?"),
        ("batch.max.rows", "many", "batch.max.rows = 'many': expected a whole number"),
        ("batch.max.rows", "0", "batch.max.rows = 0: expected a number from 1 to 100"),
        ("mode", "bluk", "mode = 'bluk': expected one of bulk, incrementing"),
        ("wait", "5", "wait = '5': expected a time with its unit"),
        ("strict", "yes", "strict = 'yes': expected true or false"),
        ("tolerance", "all", "unknown key 'tolerance'; did you mean 'errors.tolerance'?"),
        ("error.tolerance", "all", "did you mean 'errors.tolerance'?"),
    ],
)
def test_a_wrong_key_or_value_says_what_is_expected(key: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Options, {"path": "p", key: value}, "w.toml: [connectors.x]", others=Shared)
    assert str(caught.value).startswith("w.toml: [connectors.x]: ")
    assert message in str(caught.value)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match="f: 'path' is missing"):
        parse(Options, {}, "f")


def test_nested_tables_flatten_to_the_same_keys() -> None:
    nested = {"connector": {"class": "FileSource"}, "topic.creation": {"default": {"x": 4}}}
    assert flatten(nested) == {"connector.class": "FileSource", "topic.creation.default.x": "4"}


@given(st.dictionaries(st.text(string.ascii_lowercase, min_size=1), st.integers() | st.booleans()))
def test_flat_tables_keep_their_keys(table: dict[str, int | bool]) -> None:
    assert flatten(table).keys() == table.keys()
    assert all(isinstance(value, str) for value in flatten(table).values())


def test_shared_keys_are_taken_and_the_rest_is_left_to_the_connector() -> None:
    table = {
        "connector.class": "X",
        "topic.creation.default.partitions": 4,
        "topic.creation.default.retention.ms": -1,
        "path": "p",
    }
    config = parse_connector("one", table, "f", no_references)
    assert config.name == "one"
    assert config.shared.topic_creation_default_partitions == 4
    assert config.shared.topic_creation_default == {"retention.ms": "-1"}
    assert config.options == {"path": "p"}


def test_more_than_one_task_is_refused_rather_than_ignored() -> None:
    with pytest.raises(ConfigError, match=r"tasks\.max = 4"):
        parse_connector("one", {"connector.class": "X", "tasks.max": 4}, "f", no_references)


def test_secrets_are_masked_wherever_they_turn_up() -> None:
    table = {
        "connector.class": "X",
        "connection.url": "postgresql://ann:pa55word@db/x",
        "api.token": "t0ken",
        "other": "${file:keys:k}",
    }
    config = parse_connector("one", table, "f", lambda provider, reference: "from-a-file")
    text = config.masked("pa55word t0ken from-a-file postgresql://bob:else@db/x")
    assert text == "*** *** *** postgresql://bob:***@db/x"
    assert "pa55word" not in repr(config.secrets) or "secrets" not in repr(config)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("pg://ann:pa55@word@db:5/x", "cannot resolve 'word@db'"),
        ("pg://ann:pa55%40word@db:5/x", "login with pa55@word"),
        ("pg://db:5/x?password=pa55word&a=b", "in 'pg://db:5/x?password=pa55word&a=b' pa55word"),
        ("pg://ann:pa55@word@db:5/x", "in 'pg://ann:pa55@word@db:5/x'"),
    ],
)
def test_a_password_is_masked_however_it_stands_in_a_url(url: str, message: str) -> None:
    table = {"connector.class": "X", "connection.url": url}
    masked = parse_connector("one", table, "f", no_references).masked(message)
    assert "pa55" not in masked
    assert "word" not in masked.replace("?password=", "")


def test_a_secret_value_is_not_shown_in_a_complaint() -> None:
    @dataclass(frozen=True, slots=True)
    class Login:
        password: int

    with pytest.raises(ConfigError) as caught:
        parse(Login, {"password": "hunter2"}, "f")
    assert "hunter2" not in str(caught.value)


def test_an_empty_text_is_an_empty_list() -> None:
    @dataclass(frozen=True, slots=True)
    class Names:
        names: tuple[str, ...]

    assert parse(Names, {"names": ""}, "f") == Names(())


def test_only_the_password_of_a_url_is_masked() -> None:
    assert (
        mask_url("sqlite:///a.db and pg://u:p@h:5432/d") == "sqlite:///a.db and pg://u:***@h:5432/d"
    )


def test_references_are_resolved_from_the_environment_and_from_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMKIT_TEST_PLACE", "here")
    (tmp_path / "keys.properties").write_text("# none\nuser = ann\n")
    (tmp_path / "w.toml").write_text(
        '[worker]\n"group.id" = "g"\n[connectors.a]\n"connector.class" = "X"\n'
        'path = "${env:STREAMKIT_TEST_PLACE}/x"\nuser = "${file:keys.properties:user}"\n'
        'table = "${topic}"\n'
    )
    config = load(tmp_path / "w.toml")
    assert config.settings.group_id == "g"
    assert config.connectors[0].options == {"path": "here/x", "user": "ann", "table": "${topic}"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[connectors.a]\npath = '${env:STREAMKIT_TEST_UNSET}'", "STREAMKIT_TEST_UNSET is not set"),
        ("[connectors.a]\npath = '${file:none:k}'", "none: cannot be read"),
        ("[connectors.a]\npath = '${vault:k}'", "there are"),
        ("[connectors.a]\ntopic = 'a'\ntopic.prefix = 'b'", "quote the longer"),
        ("[connector.a]\n", "unknown table or key 'connector'; did you mean 'connectors'?"),
        ("[worker]\n'group.ids' = 'a'\n[connectors.a]", "did you mean 'group.id'?"),
        ("[connectors]", "no connector"),
        ("worker = 5\n[connectors.a]", "[worker]: expected a table of options, found 5"),
        ("[connectors.a]\nx = 1", "'connector.class' is missing"),
        ("x = , ", "line 1"),
    ],
)
def test_a_wrong_worker_file_is_one_message_with_its_place(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "w.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "w.toml")
    assert str(caught.value).startswith(str(tmp_path / "w.toml"))
    assert message in str(caught.value)


def test_a_missing_worker_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such worker file"):
        load(tmp_path / "w.toml")


def test_the_same_name_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.toml").write_text("[connectors.x]\n'connector.class' = 'X'")
    with pytest.raises(ConfigError, match="the name is taken by"):
        load([tmp_path / "a.toml", tmp_path / "b.toml"])


def test_a_single_value_is_no_table() -> None:
    with pytest.raises(ConfigError, match="expected a table of options"):
        parse_worker({"connectors": {"x": 1}}, "f", no_references)
