"""Finding the connector that `connector.class` names."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import Any, TypeAlias

from streamkit.connect.api import SinkConnector, SourceConnector
from streamkit.connect.config import ConnectorConfig
from streamkit.errors import ConfigError, nearest

GROUP = "streamkit.connectors"

Connector: TypeAlias = SourceConnector[Any] | SinkConnector[Any]


def find(config: ConnectorConfig, directory: str = "") -> Connector:
    """The connector of a config: an installed one by name, or one's own as `module:object`.

    Modules are looked for in `directory` too. Raises ConfigError.
    """
    name = config.shared.connector_class
    where = f"{config.where}: connector.class = {name!r}"
    installed = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name in installed:
        found = _loaded(where, installed[name].load)
    elif ":" in name:
        found = _imported(name, where, directory)
    else:
        raise ConfigError(
            f"{where}: no such connector{nearest(name, installed)}\n"
            "Write a connector of your own as 'module:object'."
        )
    if not isinstance(found, SourceConnector | SinkConnector):
        raise ConfigError(f"{where}: is not declared with @source or @sink")
    return found


def _imported(name: str, where: str, directory: str) -> object:
    module_name, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise ConfigError(f"{where}: {module_name!r} is no module; expected 'module:object'")
    with _importable(directory):
        module = _loaded(where, lambda: importlib.import_module(module_name))
    if not hasattr(module, attribute):
        raise ConfigError(
            f"{where}: module {module_name} has no {attribute!r}{nearest(attribute, vars(module))}"
        )
    found: object = getattr(module, attribute)
    return found


def _loaded(where: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except ModuleNotFoundError as error:
        raise ConfigError(f"{where}: {error}") from error
    except Exception as error:  # whatever the module's own code raises
        text = f"{where}: importing it failed: {type(error).__name__}: {error}"
        raise ConfigError(text) from error


@contextmanager
def _importable(directory: str) -> Iterator[None]:
    if not directory:
        yield
        return
    sys.path.insert(0, directory)
    try:
        yield
    finally:
        sys.path.remove(directory)
