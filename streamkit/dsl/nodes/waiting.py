"""Steps whose answers are waited for, while others are at work."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import msgspec

from streamkit.dsl.failures import Failure
from streamkit.dsl.functions import Function
from streamkit.dsl.nodes.node import Node, StreamNode, all_before
from streamkit.dsl.stores import StoreSpec
from streamkit.serde import Serde, serde_for

Order: TypeAlias = Literal["partition", "key"]
Where: TypeAlias = Literal["here", "loop", "workers"]


@dataclass(frozen=True, slots=True)
class Waits:
    """How a function is called whose answers are waited for.

    `where`: "here", one call at a time by the thread that has the task; in an asyncio "loop"; or
    by `workers` processes. Up to `concurrency` calls are made at once. Results leave in the `order`
    of the input: of all events of a partition, or of those of each key, of which then one is called
    at a time. `timeout` in ms, of one call. A call is of one event, or of a `batch` of up to so
    many, of which the oldest has waited no longer than `within` ms.
    """

    where: Where
    concurrency: int = 1
    order: Order = "partition"
    timeout: int | None = None
    batch: int | None = None
    within: int | None = None
    workers: int | None = None


class WaitingRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event that waits, as it is kept: what it was made of, and what time it was for it.

    `frontier` is that of its partition, when it was behind it, and `held` how far time had come for
    the step. `attempts`: calls that failed; the next is `due` at that time of the wall clock, in
    ms; of the first that a batch is gathered of, that is. `batch`: the number of the first event of
    the batch it is in, once that is complete.
    `earlier`, of one that had been set aside: how often it was tried, and its place behind which.
    `given`, of the first of a call: the results of so many of its events, and so many of the next.
    `root`: what tells it from others where it is not that record, and `origin` its place among
    those of its time. `again`: it, or what it was made of, had been set aside and came back.
    """

    key: bytes | None
    value: bytes | None
    stamp: int
    headers: tuple[tuple[str, bytes | None], ...]
    topic: str
    partition: int
    offset: int
    ordinal: int
    frontier: int | None
    held: int
    attempts: int = 0
    due: int | None = None
    batch: int | None = None
    earlier: tuple[int, str | None, int] | None = None
    given: tuple[int, int] = (0, 0)
    root: bytes = b""
    origin: bytes = b""
    again: bool = False


def waiting_name(step: str) -> str:
    """The store of the events that a step has taken and not answered."""
    return f"{step}-waiting"


@dataclass(frozen=True, slots=True, eq=False)
class Waiting(StreamNode):
    """A function from an event, or a batch of them, to nothing, one value or many, that is called
    beside the processing of others: a coroutine, one for batches, or one for other processes."""

    parent: StreamNode
    function: Function
    value: Serde
    waits: Waits
    failure: Failure | None = None

    @property
    def name(self) -> str:
        return self.function.name

    @property
    def is_keyed(self) -> bool:
        # Its own store alone is no reason: events that wait are those of the task.
        return self.waits.order == "key" or bool(StreamNode.stores(self))

    @property
    def is_clocked(self) -> bool:
        return True

    @property
    def unique(self) -> str:
        return "store"

    def stores(self) -> tuple[StoreSpec, ...]:
        return (StoreSpec(waiting_name(self.name), _ROWS), *StreamNode.stores(self))


_ROWS = serde_for(WaitingRow)


def waiting_before(node: Node) -> tuple[Waiting, ...]:
    """The steps before a node, on any way to it, that events wait at."""
    return tuple(one for one in all_before(node) if isinstance(one, Waiting))
