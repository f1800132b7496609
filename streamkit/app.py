"""App: collects what a user declares, and hands it to the engine, a test or a replay."""

import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from datetime import tzinfo
from typing import TYPE_CHECKING, Any, TypeVar, get_args, overload

from streamkit.dsl.connectors import AppConnector, Kind
from streamkit.dsl.durations import Duration, milliseconds
from streamkit.dsl.failures import OnError, Retry, failure
from streamkit.dsl.graph import Graph
from streamkit.dsl.guarantee import COMMIT_INTERVAL, Guarantee
from streamkit.dsl.keywords import tells_keywords
from streamkit.dsl.nodes.sources import StreamSource, TableSource
from streamkit.dsl.resources import Opening, Resource
from streamkit.dsl.schedules import Cron, Schedule, Steady, zone_of
from streamkit.dsl.sizes import MEMORY, Size, number_of_bytes
from streamkit.dsl.stream import Stream, stream_of
from streamkit.dsl.table import GlobalTable, Table
from streamkit.dsl.ticks import Missed, Tick, Ticking, Ticks, taking_tick
from streamkit.dsl.times import event_time
from streamkit.dsl.topology import Topology
from streamkit.errors import ConfigError, TopologyError, UsageError
from streamkit.serde import serde_for

if TYPE_CHECKING:
    from streamkit.connect.api import SourceConnector
    from streamkit.connect.beside import Connectors
    from streamkit.engine.settings import Settings
    from streamkit.engine.trial import TestRun

T = TypeVar("T")


@tells_keywords
class App:
    """A named set of streams, tables and functions.

    The name is a contract: the consumer group, stores, changelogs and repartition topics begin
    with it. `log` is a directory or URL; the environment's STREAMKIT_LOG, else ./streamkit-data.
    `memory` is what state takes of each process's memory before it is left on disk alone ("2GB");
    the environment's STREAMKIT_MEMORY, else 512 MB.

    `guarantee`: with "exactly_once" what is made of an event is read once whatever is killed, and
    can be read when it is committed; with "at_least_once" results can be read at once, and those
    that were not committed when a process was killed are there twice. `commit_interval`: commits
    are that far apart, or as far as they take; after a time without events the next is at once.
    100 ms; with "at_least_once", where nobody waits for them, 2 s.
    """

    def __init__(
        self,
        name: str,
        *,
        log: str | None = None,
        memory: Size | None = None,
        guarantee: Guarantee = "exactly_once",
        commit_interval: Duration | None = None,
    ) -> None:
        if guarantee not in get_args(Guarantee):
            one = " or ".join(f'"{each}"' for each in get_args(Guarantee))
            raise ConfigError(f"guarantee={guarantee!r}: it is {one}")
        self._graph = Graph(name, _attach)
        self._log = log
        self._guarantee: Guarantee = guarantee
        commit_interval = commit_interval or COMMIT_INTERVAL[guarantee]
        self._commit_interval = milliseconds(commit_interval, "commit_interval")
        self._memory = None if memory is None else number_of_bytes(memory, "memory")

    @property
    def name(self) -> str:
        """What its group, its stores and its own topics are called after."""
        return self._graph.app

    @property
    def log(self) -> str:
        """Where the app's log is."""
        return self._log or os.environ.get("STREAMKIT_LOG") or "./streamkit-data"

    @property
    def memory(self) -> int:
        """How much memory, in bytes, state takes in each process."""
        if self._memory is not None:
            return self._memory
        asked = os.environ.get("STREAMKIT_MEMORY")
        return MEMORY if not asked else number_of_bytes(asked, "STREAMKIT_MEMORY")

    def settings(self) -> "Settings":
        """How the engine is to run it."""
        from streamkit.engine.settings import Settings

        return Settings(self._guarantee, self._commit_interval / 1000, memory=self.memory)

    @overload
    def stream(
        self,
        topic: str,
        type_: type[T],
        *,
        key: Any = str,
        time: str | Callable[[T], Any] | None = None,
        out_of_order: Duration = "0s",
        max_ahead: Duration | None = None,
        on_error: OnError = "stop",
    ) -> Stream[T]: ...
    # Unions, Any: types that are no class. With Callable[[Any], Any] here mypy would find that a
    # lambda fits both, and take neither.
    @overload
    def stream(
        self,
        topic: str,
        type_: Any,
        *,
        key: Any = str,
        time: str | Callable[[T], Any] | None = None,
        out_of_order: Duration = "0s",
        max_ahead: Duration | None = None,
        on_error: OnError = "stop",
    ) -> Stream[Any]: ...
    def stream(
        self,
        topic: str,
        type_: Any,
        *,
        key: Any = str,
        time: str | Callable[[Any], Any] | None = None,
        out_of_order: Duration = "0s",
        max_ahead: Duration | None = None,
        on_error: OnError = "stop",
    ) -> Stream[Any]:
        """The events of a topic.

        `time` is a field or a function that gives an event's time (datetime, ISO 8601 text, or
        ms); without it the record's timestamp is. `out_of_order` is how much earlier than the
        latest event of its partition an event may be without time having moved past it. An event
        that is further ahead of the wall clock than `max_ahead` moves no time, and is not
        processed: it goes to `<app>-<topic>-ahead`, as it is, with the reason in a header.
        `on_error` is what becomes of a record that is not of the type, or has no event time:
        "stop" the app, "skip" it, "dlq" or dlq(...) for a topic of such records.
        """
        policy = failure(on_error, f"stream {topic!r}")
        if isinstance(policy, Retry):
            raise TopologyError(
                f"stream {topic!r}: on_error=retry(...): bytes that are not of the type now will "
                'not be later; "skip" them, or set them aside with dlq(...)'
            )
        source = StreamSource(
            topic,
            serde_for(_key_type(key)),
            serde_for(type_),
            None if time is None else event_time(time, type_, topic),
            milliseconds(out_of_order, "out_of_order"),
            max_ahead=None if max_ahead is None else milliseconds(max_ahead, "max_ahead"),
            failure=policy,
        )
        return stream_of(self._graph, source)

    @overload
    def source(
        self,
        connector: "str | SourceConnector[Any]",
        type_: type[T],
        *,
        to: str,
        name: str | None = None,
        partitions: int = 1,
        key: Any = str,
        time: str | Callable[[T], Any] | None = None,
        out_of_order: Duration = "0s",
        max_ahead: Duration | None = None,
        on_error: OnError = "stop",
        **options: Any,
    ) -> Stream[T]: ...
    @overload
    def source(
        self,
        connector: "str | SourceConnector[Any]",
        type_: Any,
        *,
        to: str,
        name: str | None = None,
        partitions: int = 1,
        key: Any = str,
        time: str | Callable[[T], Any] | None = None,
        out_of_order: Duration = "0s",
        max_ahead: Duration | None = None,
        on_error: OnError = "stop",
        **options: Any,
    ) -> Stream[Any]: ...
    def source(
        self,
        connector: "str | SourceConnector[Any]",
        type_: Any,
        *,
        to: str,
        name: str | None = None,
        partitions: int = 1,
        key: Any = str,
        time: str | Callable[[Any], Any] | None = None,
        out_of_order: Duration = "0s",
        max_ahead: Duration | None = None,
        on_error: OnError = "stop",
        **options: Any,
    ) -> Stream[Any]:
        """What a connector brings from another system, each record once, as the events of a topic.

        `connector` is the name of one ("FileSource") or what `streamkit.connect.source` made, and
        `options` are its options, with _ where their names have a dot: `poll_interval="5s"`. It
        runs in the processes of the app, beside its steps, and fills the topic `to`, which is made
        with so many `partitions` when it is missing. `name` is that of the topic unless given. All
        else is as for `stream`.
        """
        stream = self.stream(
            to,
            type_,
            key=key,
            time=time,
            out_of_order=out_of_order,
            max_ahead=max_ahead,
            on_error=on_error,
        )
        options = {"topic_creation_default_partitions": partitions, **options}
        self._graph.connect("source", name or to, to, connector, options)
        return stream

    def table(self, topic: str, type_: type[T], *, key: Any = str) -> Table[T]:
        """The latest value per key of a topic; each task holds its own partition of it."""
        source = TableSource(topic, serde_for(_key_type(key)), serde_for(type_))
        return Table(self._graph, self._graph.add_table(source))

    def global_table(self, topic: str, type_: type[T], *, key: Any = str) -> GlobalTable[T]:
        """The latest value per key of a topic; every task holds all of it."""
        source = TableSource(topic, serde_for(_key_type(key)), serde_for(type_), everywhere=True)
        return GlobalTable(self._graph, self._graph.add_table(source))

    @overload
    def resource(self, fn: Callable[[], AsyncIterator[T]], /) -> Resource[T]: ...
    @overload
    def resource(self, fn: Callable[[], Iterator[T]], /) -> Resource[T]: ...
    @overload
    def resource(self, fn: Callable[[], Coroutine[Any, Any, T]], /) -> Resource[T]: ...
    @overload
    def resource(self, fn: Callable[[], T], /) -> Resource[T]: ...
    @overload
    def resource(self, *, lazy: bool) -> Opening: ...
    def resource(self, fn: Callable[[], Any] | None = None, *, lazy: bool = False) -> Any:
        """Decorate what opens a client, a pool, a model: once in each process of the app.

        The function yields it, and closes it behind the `yield`; or it returns what needs no
        closing. The decorated name, called in a function of the app, gives what is open:

            @app.resource
            async def http() -> AsyncIterator[httpx.AsyncClient]:
                async with httpx.AsyncClient() as client:
                    yield client

        Resources are opened in the order of their declaration before the app takes any event, and
        closed in the other order after its last; where one cannot be opened the app does not
        begin. What is `async` is opened in the loop that the app's coroutines run in. With `lazy`
        one is opened when it is first asked for, as all are in the processes of `workers=`.
        """

        def decorate(call: Callable[[], Any]) -> Resource[Any]:
            resource: Resource[Any] = Resource(call, lazy)
            self._graph.resources.append(resource)
            return resource

        return decorate if fn is None else decorate(fn)

    def every(
        self,
        interval: Duration,
        *,
        missed: Missed = "last",
        to: str | None = None,
        key: str | Callable[[Any], Any] | None = None,
        name: str | None = None,
        on_error: OnError = "stop",
    ) -> Ticking:
        """Decorate a function that is called every so often by the wall clock, once in the app.

        It takes a Tick, or a Context, or nothing, then what functions of `process` may ask for;
        what it gives is a stream, of the time the tick was due. Ticks are at multiples of the
        interval since 1970. Of those that were `missed` because no process ran, "last" gives the
        latest, "all" gives all, and "none" none that is more than 10 s late. `to`, `key`, `name`
        and `on_error` are as for `process`.
        """
        schedule = Steady(milliseconds(interval, "every"))
        return self._ticking(schedule, missed, to, key, name, on_error)

    def cron(
        self,
        expression: str,
        *,
        tz: str | tzinfo = "UTC",
        missed: Missed = "last",
        to: str | None = None,
        key: str | Callable[[Any], Any] | None = None,
        name: str | None = None,
        on_error: OnError = "stop",
    ) -> Ticking:
        """Like `every`, at the times of a cron expression: "0 3 * * *" is at three in the night.

        `tz` is the zone that is meant, by its name ("Europe/Berlin").
        """
        return self._ticking(Cron(expression, zone_of(tz)), missed, to, key, name, on_error)

    def _ticking(
        self,
        schedule: Schedule,
        missed: Missed,
        to: str | None,
        key: str | Callable[[Any], Any] | None,
        name: str | None,
        on_error: OnError,
    ) -> Ticking:
        def decorate(call: Callable[..., Any]) -> Any:
            own = name or str(getattr(call, "__name__", type(call).__name__))
            given, ticks = taking_tick(call), Ticks(own, schedule, missed)
            if own == "<lambda>":
                raise TopologyError(f"{schedule}: a lambda has no name to call its ticks by; name=")
            topic = f"{self.name}-{own}-ticks"
            if any(isinstance(n, StreamSource) and n.topic == topic for n in self._graph.nodes):
                raise TopologyError(
                    f"two functions of app {self.name!r} would have ticks in {topic}; give one of "
                    "them another name with name="
                )
            source = StreamSource(topic, serde_for(str), serde_for(Tick), ticks=ticks)
            stream = stream_of(self._graph, source)
            step = stream.process(to=to, key=key, name=own, on_error=on_error)(given)
            return step.calling(call)

        Ticks("", schedule, missed)  # what is wrong is told where it is said
        return decorate

    def topology(self) -> Topology:
        """What was declared, as data. Raises TopologyError when it does not fit together."""
        return self._graph.topology()

    def connectors(self) -> "Connectors | None":
        """What runs its sources and sinks; None: it has none."""
        topology = self.topology()
        if not topology.connectors:
            return None
        from streamkit.connect.beside import Connectors

        return Connectors(topology)

    def run(self, *, until_end: bool = False, finish: bool = False) -> None:
        """Run live, until Ctrl-C or SIGTERM; `streamkit run` with nothing else to say.

        `until_end`: only until everything there is now has been processed. To `finish`: what is
        open then is closed; windows, sessions and joins give what they have, and what comes for
        them later is late.
        """
        if finish and not until_end:
            raise UsageError("finish=True closes what is open at the end: say until_end=True too")
        from streamkit.backends.locate import open_backend
        from streamkit.engine.live import run

        with open_backend(self.log) as backend:
            run(
                self.topology(),
                backend,
                settings=self.settings(),
                until_end=until_end,
                finish=finish,
                companions=self.connectors(),
            )

    def test(
        self,
        partitions: int = 4,
        *,
        members: int = 1,
        resources: Mapping[Resource[Any], Any] | None = None,
    ) -> "TestRun":
        """Run in memory, step by step, for tests. See `TestRun` in streamkit.testing.

        `resources`: what some of the app's are in this test; they are not opened.
        """
        from streamkit.engine.trial import TestRun

        return TestRun(
            self.topology(),
            partitions,
            members=members,
            guarantee=self._guarantee,
            resources=resources or {},
        )


def _attach(
    kind: Kind, name: str, topic: str, connector: Any, options: Mapping[str, Any]
) -> AppConnector:
    from streamkit.connect.attached import attach

    return attach(kind, name, topic, connector, options)


def _key_type(key: Any) -> Any:
    """Keys may always be missing; what needs one says so where it needs it."""
    return key | None if isinstance(key, type) else key
