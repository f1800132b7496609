"""Worker files: TOML read from disk, with `${env:NAME}` and `${file:path:key}` resolved."""

import os
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from streamkit.connect.config import Resolve, WorkerConfig, WorkerSettings, parse_worker
from streamkit.errors import ConfigError, nearest


def load(paths: str | Path | Sequence[str | Path]) -> WorkerConfig:
    """One config from one or several worker files. Raises ConfigError naming file and key."""
    files = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    if not files:
        raise ConfigError("no worker file given")
    configs = [_load_one(path) for path in files]
    first, *others = configs
    names: dict[str, str] = {}
    for connector in (c for config in configs for c in config.connectors):
        if connector.name in names:
            raise ConfigError(f"{connector.where}: the name is taken by {names[connector.name]}")
        names[connector.name] = connector.where
    for other, path in zip(others, files[1:], strict=True):
        if other.settings not in (first.settings, WorkerSettings()):
            raise ConfigError(f"{path}: [worker] differs from the one in {files[0]}")
    return replace(first, connectors=tuple(c for config in configs for c in config.connectors))


def _load_one(path: Path) -> WorkerConfig:
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such worker file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        hint = ""
        if "overwrite" in str(error):
            # In TOML `topic = "a"` and `topic.prefix = "b"` cannot stand together.
            hint = (
                "\nWhere one key is the beginning of another, quote the longer: "
                '"topic.creation.default.partitions" = 4'
            )
        raise ConfigError(f"{path}: {error}{hint}") from None
    return parse_worker(document, str(path), resolver(path.parent), directory=str(path.parent))


def resolver(directory: Path) -> Resolve:
    """Looks references up; relative paths of `${file:…}` start at `directory`."""

    def resolve(provider: str, reference: str) -> str:
        if provider == "env":
            if reference not in os.environ:
                raise ConfigError(f"the environment variable {reference} is not set")
            return os.environ[reference]
        if provider == "file":
            name, _, key = reference.rpartition(":")
            return _property(directory / name, key)
        raise ConfigError(f"${{{provider}:{reference}}}: there are ${{env:…}} and ${{file:…}} only")

    return resolve


def _property(path: Path, key: str) -> str:
    """The value of `key` in a file of `key=value` lines."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    pairs = [line.partition("=") for line in lines if not line.lstrip().startswith(("#", "!"))]
    found = {name.strip(): value.strip() for name, equals, value in pairs if equals}
    if key not in found:
        raise ConfigError(f"{path} has no line {key}=…{nearest(key, found)}")
    return found[key]
