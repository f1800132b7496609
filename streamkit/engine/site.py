"""What an operator is built with, once per task."""

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from streamkit.dsl.nodes.drawn import drawn_behind
from streamkit.dsl.nodes.in_order import InOrder
from streamkit.dsl.nodes.node import Node, OutputSpec, all_before
from streamkit.dsl.nodes.sources import TableSource
from streamkit.dsl.nodes.tables import JoinedTable, KeptTable, TableNode
from streamkit.dsl.nodes.waiting import Waiting, waiting_before
from streamkit.dsl.topology import SubTopology
from streamkit.engine.calls import Calls
from streamkit.engine.cursor import Cursor, Place
from streamkit.engine.failed import Failed
from streamkit.engine.held import Held, HeldTime
from streamkit.engine.hot.moment import Clock, EventFrontier, Frontier, NodeTime
from streamkit.engine.hot.outlet import Outlet
from streamkit.engine.hot.steps import All, Forward
from streamkit.engine.late import Late
from streamkit.engine.letters import Letter
from streamkit.engine.node_time import Timed
from streamkit.engine.outlets import Outlets
from streamkit.engine.rows import Rows
from streamkit.engine.state.expiring import ExpiringStore, new_store
from streamkit.engine.state.store import Store
from streamkit.engine.tables import (
    AheadRows,
    JoinedRows,
    KeptRows,
    MergedRows,
    TableRows,
    row_maker,
)
from streamkit.engine.waiting import Queue, Request
from streamkit.records import Columns, Headers, TopicPartition
from streamkit.serde import Serde

if TYPE_CHECKING:
    from streamkit.engine.operators.in_order import EventsInOrder
    from streamkit.engine.operators.waiting import WaitingStep


class Kept(Protocol):
    """State with a changelog. `touched`: the offset of the record that last saw some of it."""

    touched: int

    def load(self, columns: Columns) -> None:
        """Take in records of the changelog, in order. Raises SerdeError."""

    def stored(self, key: bytes) -> bytes | None:
        """A key's value as the changelog should have it; None: it has none."""

    @property
    def changed(self) -> Collection[bytes]:
        """Keys that `changes` is about to give, as far as is known."""

    def changes(self) -> Rows:
        """What changed since the last call, each key once with the value it has now."""


class Failing(Protocol):
    """What becomes of events that a step fails for."""

    name: str
    skipped: int
    dead: int
    retries: str | None

    def failed(self) -> list[Failed]:
        """Those since the last call."""

    def retried(
        self, name: bytes | None, data: bytes | None, stamp: int, letter: Letter, /
    ) -> None:
        """Process one of them again."""


class Marked(Protocol):
    """What an operator knows beside its rows, in the middle of what a record has brought about."""

    def marks(self, at: Place) -> tuple[int, ...]:
        """It, for who was interrupted at a place; empty: nothing."""

    def begin_at(self, at: Place, marks: tuple[int, ...]) -> None:
        """As it was, before anything is done."""


Build: TypeAlias = "Callable[[Any, Serde, Site], Forward]"
"""Makes the step of a node whose events have keys of that serde."""


class Site:
    """One task's, for its operators: where it is, what it keeps, what follows, what time it is."""

    def __init__(
        self,
        app: str,
        sub: SubTopology,
        number: int,
        build: Build,
        cursor: Cursor,
        clock: Clock,
        outlets: Outlets,
        merged: Mapping[str, MergedRows],
        ahead: Mapping[str, AheadRows],
        start: Callable[[Request], None],
    ) -> None:
        """`number` is the task's; `build` makes the step of any node, `start` has a call made.
        `merged`, `ahead`: rows of tables, by topic."""
        self.app = app
        self.number = number
        self.cursor = cursor
        self.stores: dict[str, Kept] = {}
        """By name, in the order of the nodes."""
        self.timed: list[tuple[Timed, Node]] = []
        """In the order of the nodes: results of one may be given to the next."""
        self.late: list[Late] = []
        self.failing: list[Failing] = []
        self.ordered: list[tuple[EventsInOrder, InOrder]] = []
        """Those that wait for their turn."""
        self.before: Place | None = None
        """The event whose turn it was when what is due before it was interrupted."""
        self.waiting: list[WaitingStep] = []
        """The steps that events wait at, in the order of the nodes."""
        self.marked: dict[str, Marked] = {}
        """By name."""
        self.held: dict[tuple[Waiting, ...], Held] = {}
        """How far time has come behind steps that events wait at."""
        self.start = start
        self.moving: dict[TopicPartition, Frontier] = {}
        """How far each input has come whose events move the task's time."""
        self.delays = _delays(sub)
        """How much later than the time they bear a node's events may come, in ms."""
        self._sub = sub
        self._build = build
        self.clock = clock
        """For who has time pass for some nodes as events come there."""
        self.begin = outlets.begin
        self._outlets = outlets
        self._merged, self._ahead = merged, ahead
        self._times: dict[Node, NodeTime] = {}
        self._queues: dict[Waiting, Queue] = {}
        self._following: dict[Node, Forward] = {}
        self._shared: dict[Node, Any] = {}
        self.drawn = drawn_behind(sub.nodes)
        """The nodes that draw, and those whose results are drawn of: they give these roots where
        they make them of no record, or of several."""
        self._stores = {
            one.name: new_store(one.changelog, one.spec.value, cursor, one.spec.ttl, clock)
            for one in sub.stores
        }
        for one in sub.stores:
            self._stores[one.name].keeper = one.keeper
            if isinstance(store := self._stores[one.name], ExpiringStore):
                store.passed = self.passed
        self.stores |= self._stores
        self.calls = Calls(cursor, self._stores, outlets.send, self.marked)
        self.send = outlets.send
        self.encoded = outlets.encoded
        self.refusal = outlets.refusal

    def after(self, node: Node, key: Serde) -> Forward:
        """What happens to the events that a node gives, under keys of serde `key`."""
        known = self._following.get(node)
        if known is None:
            children = self._sub.children[node]
            steps = [self._build(child, key, self) for child in children]
            known = _all([step for step in steps if step is not ignore])
            self._following[node] = known
        return known

    def following(self, node: Node) -> tuple[Node, ...]:
        """The nodes that are given the events of a node."""
        return self._sub.children[node]

    def shared(self, node: Node, make: Callable[[], Any]) -> Any:
        """What the steps of several nodes use for a node: made for the first that asks."""
        if node not in self._shared:
            self._shared[node] = make()
        return self._shared[node]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All that the task does."""
        return self._sub.nodes

    def outlet(self, output: OutputSpec | str) -> Outlet:
        """Where records of a topic go: of the app's name for it, or of a node's `outputs`."""
        name = output if isinstance(output, str) else output.name(self.app)
        return self._outlets.of(name)

    def late_events(self, name: str, output: OutputSpec, key: Serde) -> Late:
        """Where the late events of the node `name` go; they are counted under that name."""
        late = Late(name, self.outlet(output), key, output.value, self.cursor)
        self.late.append(late)
        return late

    def store(self, name: str) -> Store:
        """The store of this name, of a node's `stores`."""
        return self._stores[name]

    def retries(self, node: Node) -> str | None:
        """The topic that a node is given events from again; None: it sets none aside."""
        return self._sub.retries.get(node)

    def changelog(self, store: str) -> str:
        """The topic that a store's changes are kept in."""
        return next(one.changelog for one in self._sub.stores if one.name == store)

    def keep(self, name: str, kept: Kept) -> None:
        """Let something else be the store of this name."""
        self.stores[name] = kept

    def rows(self, table: TableNode, *, then: bool) -> TableRows:
        """The rows of a table that the task can see; `then`: as of a time."""
        match table:
            case TableSource():
                ahead = then or table.everywhere
                return self._ahead[table.topic] if ahead else self._merged[table.topic]
            case KeptTable():
                return KeptRows(self._stores[table.name])
            case JoinedTable():
                make = row_maker(table.function, table.how, table.key, self.cursor)
                left, right = (self.rows(each, then=then) for each in (table.left, table.right))
                return JoinedRows(left, right, make)

    def time(self, node: Node) -> NodeTime:
        """Event time as the node sees it: one object, whenever it is asked for."""
        if node not in self._times:
            held, delay = self._held(node), self.delays[node]
            if held is None:
                self._times[node] = NodeTime(self.clock, self.cursor, delay)
            else:
                self._times[node] = HeldTime(held, self.cursor, delay)
        return self._times[node]

    def queue(self, node: Waiting) -> Queue:
        """What waits at a step: one object, whenever it is asked for."""
        if node not in self._queues:
            in_order = node.waits.order == "partition"
            self._queues[node] = Queue(node.waits.concurrency, in_order=in_order)
        return self._queues[node]

    def reached(self, node: Node) -> int:
        """How far time has come where a node is: the task's watermark, or less if events wait."""
        held = self._held(node)
        if held is None:
            return self.clock.watermark
        held.refresh()
        return held.clock.watermark

    def is_held(self, node: Node) -> bool:
        """Whether events wait before a node that it may be given."""
        held = self._held(node)
        if held is not None and held.is_held:
            return True
        others = (pair for pair in self.ordered if pair[1] is not node)
        waiting = {each.step for order, each in others if order.waits}
        return bool(waiting) and any(one in waiting for one in all_before(node))

    def _held(self, node: Node) -> Held | None:
        before = waiting_before(node)
        if not before:
            return None
        if before not in self.held:
            self.held[before] = Held(self.clock, tuple(self.queue(one) for one in before))
        return self.held[before]

    @property
    def is_waiting(self) -> bool:
        """Whether events wait at any step."""
        return any(len(step.queue) for step in self.waiting)

    @property
    def own(self) -> EventFrontier | None:
        """How far the input has come that the record at hand is of; None: others know that."""
        here = self.moving.get(TopicPartition(self.cursor.topic, self.cursor.partition))
        return here if isinstance(here, EventFrontier) else None

    def coming(self, stamp: int) -> int:
        """How far time will have come with the record at hand, if its time is `stamp`, in a task
        that reads one stream.

        An input's time moves after its record was processed.
        """
        here = self.own
        reached = self.clock.watermark
        return reached if here is None else max(reached, stamp - here.out_of_order)

    def passed(self) -> int:
        """How far time has come for all events, with those whose turn has come, and which others
        had theirs before."""
        turns = (order.due for order, _ in self.ordered)
        return min([self.clock.watermark, *(due - 1 for due in turns if due is not None)])

    def on_time(self, node: Node, timed: Timed) -> None:
        """Have an operator act as time passes; those of earlier nodes act first.

        When its node has a `close_after_idle`, all it has open closes when nothing comes for long.
        """
        self.timed.append((timed, node))
        order = {each: place for place, each in enumerate(self._sub.nodes)}
        self.timed.sort(key=lambda pair: order[pair[1]])


def ignore(key: Any, value: Any, stamp: int, headers: Headers) -> None:
    """The step of a node that takes none of the events of the one before it."""


def _all(steps: list[Forward]) -> Forward:
    return steps[0] if len(steps) == 1 else All(steps).give


def _delays(sub: SubTopology) -> dict[Node, int]:
    delays: dict[Node, int] = dict.fromkeys(sub.streams, 0)
    for node in sub.nodes:
        # Where streams meet, that of the one whose events may come later.
        delays[node] = max(delays[node], *(delays[other] for other in node.also_after()), 0)
        for child in sub.children[node]:
            delays[child] = delays[node] + node.delay
    return delays
