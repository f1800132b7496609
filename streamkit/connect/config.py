"""Connector configs: flat string keys as in Kafka Connect, parsed into frozen dataclasses.

A field `batch_max_rows: int = 1000` is the key `batch.max.rows`. A field that is a Mapping takes
every key below it: `types: Mapping[str, str]` is `types.<anything>`. Field metadata may hold
`secret=True` (the value is never shown) and `range=(low, high)`.
"""

import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Literal, NewType, TypeAlias, TypeVar, get_args, get_origin
from urllib.parse import unquote

from streamkit.errors import ConfigError, nearest

C = TypeVar("C")

Flat: TypeAlias = Mapping[str, str | list[str]]
"""Dotted keys to text; a list only where the file had one."""

Resolve: TypeAlias = Callable[[str, str], str]
"""(provider, reference) -> the secret or setting it names: `${env:HOME}` is ("env", "HOME")."""

Spell: TypeAlias = Callable[[str], str]
"""A dotted key as whoever wrote the config knows it, for messages."""

Duration = NewType("Duration", int)
"""Milliseconds, written with a unit: `500ms`, `5s`, `10m`, `1h`, `1d`."""

_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(\d+(?:\.\d+)?) ?(ms|s|m|h|d)")
_REFERENCE = re.compile(r"\$\{([a-z]+):([^}]*)\}")
_URL_PASSWORD = re.compile(r"(?<=://)([^/@\s:]*):([^\s]+)@")
_QUERY_PASSWORD = re.compile(r"(?<=[?&]password=)[^&\s'\"]+")
_SECRET_KEY = re.compile(r"password|secret|token|credential", re.IGNORECASE)
MASK = "***"


@dataclass(frozen=True, slots=True)
class Shared:
    """The options that every connector has."""

    name: str
    connector_class: str
    tasks_max: int = field(default=1, metadata={"range": (1, 1)})
    topics: tuple[str, ...] = ()
    topic_creation_default_partitions: int = field(default=1, metadata={"range": (1, 10_000)})
    topic_creation_default: Mapping[str, str] = field(default_factory=dict)
    errors_tolerance: Literal["none", "all"] = "none"
    errors_deadletterqueue_topic_name: str = ""
    errors_retry_timeout: int | None = None
    errors_retry_delay_max_ms: int = field(default=60_000, metadata={"range": (1, None)})


@dataclass(frozen=True, slots=True)
class ConnectorConfig:
    """One connector as configured. `where` names it in messages; `secrets` never leave `masked`."""

    shared: Shared
    options: Flat
    where: str
    secrets: frozenset[str] = field(default=frozenset(), repr=False)
    spell: Spell = field(default=str, repr=False, compare=False)

    @property
    def name(self) -> str:
        return self.shared.name

    def masked(self, text: str) -> str:
        """`text` without any secret of this config."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, MASK)
        return mask_url(text)


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """The options of the worker itself, under `[worker]`."""

    group_id: str = "connect-cluster"
    offset_storage_topic: str = "connect-offsets"


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """Everything that one worker runs. Custom connectors are imported from `directory` too."""

    connectors: tuple[ConnectorConfig, ...]
    settings: WorkerSettings = WorkerSettings()
    directory: str = ""


def mask_url(text: str) -> str:
    """`text` with the password of every URL in it replaced."""
    return _QUERY_PASSWORD.sub(MASK, _URL_PASSWORD.sub(rf"\1:{MASK}@", text))


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, str | list[str]]:
    """Nested tables to dotted keys; numbers and booleans to text as Kafka writes them."""
    flat: dict[str, str | list[str]] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            flat[prefix + key] = [_text(item) for item in value]
        else:
            flat[prefix + key] = _text(value)
    return flat


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse_worker(
    document: Mapping[str, Any], where: str, resolve: Resolve, *, directory: str = ""
) -> WorkerConfig:
    """A worker file: `[worker]` and one `[connectors.<name>]` per connector.

    Raises ConfigError naming the file, the connector and the key.
    """
    unknown = set(document) - {"worker", "connectors"}
    if unknown:
        key = min(unknown)
        raise ConfigError(
            f"{where}: unknown table or key {key!r}{nearest(key, ['worker', 'connectors'])}\n"
            "A worker file has [worker] and one [connectors.<name>] per connector."
        )
    connectors = document.get("connectors", {})
    if not isinstance(connectors, Mapping) or not connectors:
        raise ConfigError(f"{where}: no connector; write one as [connectors.<name>]")
    worker = document.get("worker", {})
    if not isinstance(worker, Mapping):
        raise ConfigError(f"{where}: [worker]: expected a table of options, found {worker!r}")
    settings = parse(WorkerSettings, flatten(worker), f"{where}: [worker]")
    return WorkerConfig(
        tuple(
            parse_connector(str(name), table, f"{where}: [connectors.{name}]", resolve)
            for name, table in connectors.items()
        ),
        settings,
        directory,
    )


def parse_connector(
    name: str, table: Any, where: str, resolve: Resolve, spell: Spell = str
) -> ConnectorConfig:
    """One connector's table; the keys that are not shared by all stay in `options`."""
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where}: expected a table of options, found {table!r}")
    secrets: set[str] = set()
    flat = {"name": name} | {
        key: _resolved(spell(key), value, where, resolve, secrets)
        for key, value in flatten(table).items()
    }
    shared = {key: value for key, value in flat.items() if _field_of(Shared, key)}
    options = {key: value for key, value in flat.items() if key not in shared}
    parsed = parse(Shared, shared, where, spell=spell)
    return ConnectorConfig(parsed, options, where, frozenset(secrets), spell)


def _resolved(
    key: str, value: str | list[str], where: str, resolve: Resolve, secrets: set[str]
) -> str | list[str]:
    if isinstance(value, list):
        return [str(_resolved(key, item, where, resolve, secrets)) for item in value]

    def replace(match: re.Match[str]) -> str:
        try:
            found = resolve(match[1], match[2])
        except ConfigError as error:
            raise ConfigError(f"{where}: {key}: {error}") from error
        if match[1] != "env" or _SECRET_KEY.search(f"{key} {match[2]}"):
            secrets.add(found)
        return found

    text = _REFERENCE.sub(replace, value)
    for match in _URL_PASSWORD.finditer(text):
        # A driver splits at the first @ that should have been written %40, and names the rest.
        secrets.update((match[2], unquote(match[2]), *match[2].split("@")))
    secrets.update(_QUERY_PASSWORD.findall(text))
    if _SECRET_KEY.search(key):
        secrets.add(text)
    secrets.discard("")
    return text


def parse(
    target: type[C],
    flat: Flat,
    where: str,
    *,
    others: type[Any] | None = None,
    spell: Spell = str,
) -> C:
    """The dataclass `target` from dotted keys.

    Raises ConfigError for an unknown key (naming the nearest of `target` and of `others`, whose
    keys are valid elsewhere), a missing key and a value that does not fit.
    """
    hints = typing.get_type_hints(target)
    values: dict[str, Any] = {}
    below: dict[str, dict[str, str]] = {}
    for key, value in flat.items():
        found = _field_of(target, key)
        if found is None:
            known = [spell(k) for k in keys_of(target) + (keys_of(others) if others else [])]
            raise ConfigError(f"{where}: unknown key {spell(key)!r}{nearest(spell(key), known)}")
        if _is_mapping(hints[found.name]):
            rest = key.removeprefix(_key(found.name) + ".")
            below.setdefault(found.name, {})[rest] = _one(spell(key), value, where)
        else:
            values[found.name] = _value(spell(key), value, hints[found.name], found, where)
    for item in fields(target):  # type: ignore[arg-type]
        required = item.default is MISSING and item.default_factory is MISSING
        if required and item.name not in values and item.name not in below:
            raise ConfigError(f"{where}: {spell(_key(item.name))!r} is missing")
    try:
        return target(**values, **below)
    except ConfigError as error:
        # A config's own __post_init__ checks what one field alone cannot tell.
        raise ConfigError(f"{where}: {error}") from error


def keys_of(target: type[Any]) -> list[str]:
    """The dotted keys that a config dataclass takes."""
    hints = typing.get_type_hints(target)
    return [
        _key(item.name) + (".*" if _is_mapping(hints[item.name]) else "") for item in fields(target)
    ]


def _key(name: str) -> str:
    return name.rstrip("_").replace("_", ".")


def _is_mapping(hint: Any) -> bool:
    return get_origin(hint) is not None and issubclass(_class(hint), Mapping)


def _class(hint: Any) -> type[Any]:
    origin = get_origin(hint)
    return origin if isinstance(origin, type) else object


def _field_of(target: type[Any], key: str) -> Field[Any] | None:
    hints = typing.get_type_hints(target)
    for item in fields(target):
        if _key(item.name) == key and not _is_mapping(hints[item.name]):
            return item
    for item in fields(target):
        if _is_mapping(hints[item.name]) and key.startswith(_key(item.name) + "."):
            return item
    return None


def _one(key: str, value: str | list[str], where: str) -> str:
    if isinstance(value, list):
        raise ConfigError(f"{where}: {key}: expected one value, found a list")
    return value


def _value(key: str, value: str | list[str], hint: Any, item: Field[Any], where: str) -> Any:
    shown = MASK if item.metadata.get("secret") or _SECRET_KEY.search(key) else None
    parsed = _parsed(key, value, hint, where, shown)
    low, high = item.metadata.get("range", (None, None))
    if isinstance(parsed, int | float) and (
        (low is not None and parsed < low) or (high is not None and parsed > high)
    ):
        limits = f"at least {low}" if high is None else f"from {low} to {high}"
        raise ConfigError(f"{where}: {key} = {value}: expected a number {limits}")
    return parsed


def _parsed(key: str, value: str | list[str], hint: Any, where: str, shown: str | None) -> Any:
    def wrong(expected: str) -> ConfigError:
        return ConfigError(f"{where}: {key} = {shown or value!r}: expected {expected}")

    origin = get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        options = [option for option in get_args(hint) if option is not type(None)]
        return _parsed(key, value, options[0], where, shown)
    if origin in (tuple, list, Sequence) or hint in (tuple, list):
        items = value if isinstance(value, list) else value.split(",")
        stripped = [entry.strip() for entry in items] if value else []
        return tuple(stripped) if origin is tuple else stripped
    text = _one(key, value, where)
    if origin is Literal:
        if text not in get_args(hint):
            raise wrong(f"one of {', '.join(map(str, get_args(hint)))}")
        return text
    if hint is bool:
        if text.lower() not in ("true", "false"):
            raise wrong("true or false")
        return text.lower() == "true"
    if hint in (int, float):
        try:
            return hint(text)
        except ValueError:
            raise wrong("a whole number" if hint is int else "a number") from None
    if hint is Duration:
        match = _DURATION.fullmatch(text.strip())
        if match is None:
            raise wrong("a time with its unit, as 500ms, 5s, 10m, 1h or 1d")
        return int(float(match[1]) * _UNITS[match[2]])
    if hint is str:
        return text
    raise ConfigError(f"{where}: {key}: a config field cannot be of type {hint!r}")
