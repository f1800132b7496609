"""What an app has declared so far: checks names as they come, and gives the topology."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from streamkit.dsl.connectors import AppConnector, Attach, Kind, connector_name
from streamkit.dsl.cut import build, described
from streamkit.dsl.functions import place_of_caller
from streamkit.dsl.nodes.node import Node
from streamkit.dsl.nodes.sources import StreamSource, TableSource
from streamkit.dsl.readback import check_read_back
from streamkit.dsl.resources import Resource
from streamkit.dsl.retractions import check_retractions
from streamkit.dsl.topology import Topology
from streamkit.errors import InvalidTopic, TopologyError
from streamkit.serde import serde_for

N = TypeVar("N", bound=Node)

_ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def check_topic(topic: str) -> str:
    """The name itself when Kafka would take it. Raises InvalidTopic."""
    if not isinstance(topic, str) or not 0 < len(topic) < 250 or topic in (".", ".."):
        raise InvalidTopic(f"{topic!r} is no topic name: 1 to 249 characters, not '.' or '..'")
    if not _ALLOWED.issuperset(topic):
        raise InvalidTopic(f"topic name {topic!r}: only letters, digits, '.', '_' and '-'")
    return topic


def check_output(topic: str) -> str:
    """The name itself when an app may write there. Raises InvalidTopic."""
    if check_topic(topic).startswith("__"):
        raise InvalidTopic(f"topic {topic!r}: those that begin with __ are the log's own")
    return topic


class Graph:
    """The declarations of one app, in order."""

    def __init__(self, app: str, attach: Attach) -> None:
        """`attach` checks the connectors of the app, and has them made."""
        self.app = check_topic(app)
        self._attach = attach
        self.connectors: list[AppConnector] = []
        self.nodes: list[Node] = []
        self.tables: list[TableSource] = []
        self.resources: list[Resource[Any]] = []
        self._declared: dict[str, str] = {}
        """Of the topics that are read: by which line of the user's."""
        self._changes: dict[TableSource, StreamSource] = {}

    def add(self, node: N) -> N:
        """Take a node in. Raises TopologyError when its name is taken."""
        if isinstance(node, StreamSource):
            self._check_source(node.topic)
        elif node.unique is not None:
            self._check_name(node, node.unique)
        self.nodes.append(node)
        return node

    def add_table(self, table: TableSource) -> TableSource:
        self._check_source(table.topic)
        self.tables.append(table)
        return table

    def changes_of(self, table: TableSource) -> StreamSource:
        """A table's topic, read as the stream of its changes: rows, and None for those deleted."""
        if table not in self._changes:
            source = StreamSource(table.topic, table.key, serde_for(table.value.type | None))
            self._changes[table] = source
            self.nodes.append(source)
        return self._changes[table]

    def connect(
        self, kind: Kind, own: str, topic: str, connector: Any, options: Mapping[str, Any]
    ) -> None:
        """Take a connector in. Raises TopologyError when its name is taken, and ConfigError."""
        name = check_topic(connector_name(self.app, own, kind))
        if any(other.name == name for other in self.connectors):
            raise TopologyError(
                f"two {kind}s of app {self.app!r} would be called {own!r}; give one of them "
                "another name with name="
            )
        self.connectors.append(self._attach(kind, name, topic, connector, options))

    def topology(self) -> Topology:
        """The app as data. Raises TopologyError when its parts do not fit together."""
        built = build(self.app, tuple(self.nodes), tuple(self.tables))
        check_read_back(self.app, self.nodes, self.tables, described, self._declared)
        check_retractions(built, self.nodes)
        return replace(built, connectors=tuple(self.connectors), resources=tuple(self.resources))

    def _check_source(self, topic: str) -> None:
        check_topic(topic)
        sources = [n.topic for n in self.nodes if isinstance(n, StreamSource)]
        if topic in sources or topic in (table.topic for table in self.tables):
            raise TopologyError(
                f"topic {topic!r} is declared twice in app {self.app!r}; keep the stream or table "
                "in a variable and use it again; a stream's .to_table() is a table of it"
            )
        self._declared[topic] = place_of_caller()

    def _check_name(self, node: Node, what: str) -> None:
        if node.name == "<lambda>":
            (function,) = node.functions
            raise TopologyError(
                f"{function.described}: a lambda has no name to call its store by; add name="
            )
        check_topic(f"{self.app}-{node.name}-repartition")
        for other in self.nodes:
            if other.unique == what and other.name == node.name:
                raise TopologyError(
                    f"two {what}s of app {self.app!r} would be called {node.name!r}; "
                    "give one of them another name with name="
                )
