"""What every node says about itself, so that nothing else has to know its kind."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamkit.dsl.failures import DeadLetters, Failure, last_resort
from streamkit.dsl.functions import Function
from streamkit.dsl.stores import StoreSpec, state_stores
from streamkit.serde import Serde, serde_for


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """A topic that a node writes to, and how its records are encoded.

    `own` topics are the app's, and called `<app>-<topic>`. Those that are `internal` too are
    nobody else's: functions may not send there. `key` None: as the events that the node is given.
    Of a `compact` one the latest record of each key is what it is for; a `kept` one nothing but
    somebody's word removes records from.
    """

    topic: str
    value: Serde
    key: Serde | None = None
    own: bool = False
    internal: bool = False
    compact: bool = False
    kept: bool = False

    def name(self, app: str) -> str:
        return f"{app}-{self.topic}" if self.own else self.topic


_BYTES = serde_for(bytes | None)


def dead_letter_topic(letters: DeadLetters) -> OutputSpec:
    """Where events are set aside; bytes, as steps of all types may write there."""
    own = letters.topic is None
    return OutputSpec(letters.topic or "dlq", _BYTES, _BYTES, own=own, kept=True)


def retry_topic(step: str) -> OutputSpec:
    """Where events come from that a step is to be given again."""
    return OutputSpec(f"{step}-retry", _BYTES, _BYTES, own=True, internal=True)


def parked_name(step: str) -> str:
    """The store of the keys whose events a step does not take for the time being."""
    return f"{step}-parked"


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
    def on_error(self) -> Failure | None:
        """What becomes of an event that it fails for; None: it stops."""
        return getattr(self, "failure", None)

    @property
    def dead_letters(self) -> DeadLetters | None:
        """Where such an event goes in the end, if anywhere."""
        last = last_resort(self.on_error)
        return last if isinstance(last, DeadLetters) else None

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
        """Whether the wall clock, or who runs the app, may decide something in it."""
        return False

    @property
    def is_timeless(self) -> bool:
        """Whether it does the same however far event time has come."""
        return False

    @property
    def unique(self) -> str | None:
        """What an app has only one of under the node's name; None: many may have its name."""
        return None if self.dead_letters is None else "step"

    def stores(self) -> tuple[StoreSpec, ...]:
        """The stores it needs; here those of its functions' States, and of keys set aside."""
        stores = [store for function in self.functions for store in state_stores(function)]
        return (*stores, *self._parked())

    def _parked(self) -> tuple[StoreSpec, ...]:
        letters = self.dead_letters
        if letters is None or not letters.by_key:
            return ()
        return (StoreSpec(parked_name(self.name), serde_for(tuple[int, int, str, list[int]])),)

    def outputs(self) -> tuple[OutputSpec, ...]:
        """The topics it writes to; here those of the events it fails for."""
        letters = self.dead_letters
        return () if letters is None else (dead_letter_topic(letters), retry_topic(self.name))

    def tables(self) -> tuple[Any, ...]:
        """The tables it reads: their sources."""
        return ()

    def together(self) -> tuple[Any, ...]:
        """What it shares with nodes of other streams, which have to be in one task with it then."""
        return ()

    def also_after(self) -> "tuple[Node, ...]":
        """Nodes of other streams that it is given events by too: as time passes, they act first."""
        return ()


def all_before(node: Node) -> Iterator[Node]:
    """The nodes on any way to a node, that one not."""
    seen: set[Node] = set()
    above = [node.above, *node.also_after()]
    while above:
        one = above.pop()
        if one is not None and one not in seen:
            seen.add(one)
            yield one
            above += [one.above, *one.also_after()]


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
