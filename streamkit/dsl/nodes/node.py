"""What every node says about itself, so that nothing else has to know its kind."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamkit.dsl.functions import Function
from streamkit.dsl.stores import StoreSpec, state_stores
from streamkit.serde import Serde


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """A topic that a node writes to, and how its records are encoded.

    `own` topics are the app's, and called `<app>-<topic>`. Those that are `internal` too are
    nobody else's: functions may not send there. `key` None: as the events that the node is given.
    Of a `compact` one the latest record of each key is what it is for.
    """

    topic: str
    value: Serde
    key: Serde | None = None
    own: bool = False
    internal: bool = False
    compact: bool = False

    def name(self, app: str) -> str:
        return f"{app}-{self.topic}" if self.own else self.topic


class Node:
    """A step. What is said here holds for most; the others say what holds for them."""

    __slots__ = ()

    if TYPE_CHECKING:  # a field of some, and a dataclass would take a property for its default

        @property
        def name(self) -> str:
            """What it is called in names of topics and stores, and in messages."""

    @property
    def above(self) -> "StreamNode | None":
        """The node whose events it is given; None for a source."""
        return getattr(self, "parent", None)

    @property
    def functions(self) -> tuple[Function, ...]:
        """The user's functions that may ask for State."""
        function = getattr(self, "function", None)
        return () if function is None else (function,)

    @property
    def is_keyed(self) -> bool:
        """Whether what it does depends on all events of a key being in one task."""
        return bool(self.stores())

    @property
    def delay(self) -> int:
        """How much later than the time they bear its results may come, in ms of event time."""
        return 0

    @property
    def is_clocked(self) -> bool:
        """Whether the wall clock may decide something in it."""
        return getattr(self, "close_after_idle", None) is not None

    @property
    def unique(self) -> str | None:
        """What an app has only one of under the node's name; None: many may have its name."""
        return None

    def stores(self) -> tuple[StoreSpec, ...]:
        """The stores it needs; here those of its functions' States."""
        return tuple(store for function in self.functions for store in state_stores(function))

    def outputs(self) -> tuple[OutputSpec, ...]:
        """The topics it writes to."""
        return ()

    def tables(self) -> tuple[Any, ...]:
        """The tables it reads: their sources."""
        return ()

    def together(self) -> tuple[Any, ...]:
        """What it shares with nodes of other streams, which have to be in one task with it then."""
        return ()

    def also_after(self) -> "tuple[Node, ...]":
        """Nodes of other streams that it is given events by too: as time passes, they act first."""
        return ()


class StreamNode(Node):
    """A node that gives events, for others to follow."""

    __slots__ = ()

    @property
    def keys(self) -> Serde:
        """Of the events it gives: those it is given, unless it gives them others."""
        assert self.above is not None, "a source has its own"
        return self.above.keys

    @property
    def gives(self) -> Serde:
        """The serde of the values of the events it gives."""
        value: Serde = self.value  # type: ignore[attr-defined]  # a field where not said otherwise
        return value
