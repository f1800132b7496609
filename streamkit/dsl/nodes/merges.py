"""Where two streams become one, as data."""

from dataclasses import dataclass
from typing import Any

from streamkit.dsl.nodes.node import Node, StreamNode
from streamkit.serde import Serde


@dataclass(frozen=True, slots=True, eq=False)
class MergedSide(Node):
    """Gives the events of a stream to the merge `name`, beside those of its own parent."""

    parent: StreamNode
    name: str

    @property
    def is_timeless(self) -> bool:
        return True  # it is for the merge to say

    @property
    def is_keyed(self) -> bool:
        # What follows may keep something of a key, of the events of both.
        return True

    def together(self) -> tuple[Any, ...]:
        return (self,)


@dataclass(frozen=True, slots=True, eq=False)
class Merge(StreamNode):
    """Gives the events of `parent` and those of another stream, as they come."""

    parent: StreamNode
    right: MergedSide
    name: str

    @property
    def is_timeless(self) -> bool:
        return True

    @property
    def unique(self) -> str:
        return "merge"

    @property
    def gives(self) -> Serde:
        return self.parent.gives

    @property
    def is_keyed(self) -> bool:
        return True

    def together(self) -> tuple[Any, ...]:
        return (self.right,)

    def also_after(self) -> tuple[Node, ...]:
        return (self.right,)
