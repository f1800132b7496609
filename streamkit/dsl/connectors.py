"""Connectors of an app, as data: what brings its events from elsewhere, and takes results there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

Kind: TypeAlias = Literal["source", "sink"]


@dataclass(frozen=True, slots=True)
class AppConnector:
    """A source that fills a topic of the app, or a sink that writes one out.

    `name` is its own in the log, `<app>-<name>-source` or `-sink`, and `what` the connector that it
    is one of. A source's topic is made with `partitions` and `settings` when it is missing. `plan`
    is for what runs it.
    """

    name: str
    kind: Kind
    what: str
    topic: str
    plan: Any = field(repr=False)
    partitions: int = 1
    settings: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        way = "to" if self.kind == "source" else "of"
        return f"{self.kind} {self.name}: {self.what}, {way} {self.topic}"


class SinkLike(Protocol):
    """What `streamkit.connect.sink` makes of a function or a class."""

    @property
    def config(self) -> type[Any]: ...

    @property
    def open(self) -> Callable[..., Any]: ...


Attach: TypeAlias = Callable[[Kind, str, str, Any, Mapping[str, Any]], AppConnector]
"""Makes a connector of an app of its kind, its name, its topic, the connector and its options.

Raises ConfigError."""


def connector_name(app: str, own: str, kind: Kind) -> str:
    """What a connector of an app is called in the log."""
    return f"{app}-{own}-{kind}"


def own_name(app: str, connector: AppConnector) -> str:
    """What the app itself calls it."""
    return connector.name.removeprefix(f"{app}-").removesuffix(f"-{connector.kind}")
