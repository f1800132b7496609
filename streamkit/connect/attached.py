"""Connectors that an app declares: their options as keywords, checked where they are declared."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamkit.connect.api import SinkConnector, SourceConnector
from streamkit.connect.config import keys_of, parse_connector
from streamkit.connect.config_file import resolver
from streamkit.connect.plugins import Connector, find
from streamkit.connect.worker import plan
from streamkit.dsl.connectors import AppConnector, Kind
from streamkit.errors import ConfigError

_BY_THE_APP = {
    "connector.class": "is the first argument",
    "topic": "is said by to=",
    "topics": "are what the stream is written to",
}


def attach(
    kind: Kind, name: str, topic: str, connector: Any, options: Mapping[str, Any]
) -> AppConnector:
    """A source or a sink of an app, with all that it takes to run it. Raises ConfigError."""
    where = f"{kind} {name}"
    given = {_key(option): option for option, value in options.items() if value is not None}
    table = {key: _value(options[option]) for key, option in given.items()}

    def spell(key: str) -> str:
        """A key as the keyword that it was given as, or could be."""
        for known, option in given.items():
            below = isinstance(options[option], Mapping) and key.startswith(f"{known}.")
            if key == known or below:
                return option + key.removeprefix(known)
        return key.replace(".", "_")

    for key, said in _BY_THE_APP.items():
        if key in table:
            raise ConfigError(f"{where}: {given[key]!r} {said}")
    if not isinstance(connector, str | SourceConnector | SinkConnector):
        raise ConfigError(
            f"{where}: {connector!r} is no connector; name one ('FileSource'), or declare it with "
            f"@{kind} of streamkit.connect"
        )
    table["connector.class"] = what = connector if isinstance(connector, str) else _named(connector)
    if kind == "sink":
        table["topics"] = [topic]
    config = parse_connector(name, table, where, resolver(Path()), spell)
    found = find(config) if isinstance(connector, str) else connector
    _check(found, kind, what, where)
    if kind == "source":
        config = parse_connector(name, table | {"topic": topic}, where, resolver(Path()), spell)
    shared = config.shared
    return AppConnector(
        name,
        kind,
        what,
        topic,
        plan(config, found),
        shared.topic_creation_default_partitions,
        shared.topic_creation_default,
    )


def _check(connector: Connector, kind: Kind, what: str, where: str) -> None:
    is_source = isinstance(connector, SourceConnector)
    if is_source != (kind == "source"):
        other = "app.source(...)" if is_source else "stream.sink(...)"
        raise ConfigError(f"{where}: {what} is for {other}")
    if is_source and "topic" not in keys_of(connector.config):
        raise ConfigError(
            f"{where}: {what} has no option 'topic', which would say where its records go: run it "
            "with `streamkit connect`"
        )


def _named(connector: Connector) -> str:
    """A connector that is given as an object, in messages and headers."""
    declared = connector.read if isinstance(connector, SourceConnector) else connector.open
    return str(getattr(declared, "__name__", connector.config.__name__))


def _key(option: str) -> str:
    return option.rstrip("_").replace("_", ".")


def _value(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | set | frozenset) else value
