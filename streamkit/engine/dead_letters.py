"""Records that steps have set aside: found, counted, and given back to their steps.

What was given back is told by the topics that the steps read them from: each record there says of
which dead letter it is, and is written in a transaction of `<app>-dlq`, which one process has at a
time. So each is given back once, whatever is killed, and whichever are chosen when.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, TypeAlias

from streamkit.backends.base import Backend
from streamkit.clients.producer import Producer
from streamkit.clock import Clock, SystemClock
from streamkit.engine import letters
from streamkit.engine.letters import Letter, retry_headers
from streamkit.engine.plan import stored
from streamkit.errors import UnknownTopic, UsageError, nearest
from streamkit.records import TopicPartition

_RETRY = "-retry"
_TOGETHER = 500
"""Records given back in one transaction."""


@dataclass(frozen=True, slots=True)
class Dead:
    """A record that was set aside."""

    at: TopicPartition
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    letter: Letter

    @property
    def name(self) -> str:
        """What it is called: its place among the dead letters."""
        return f"{self.at}@{self.offset}"

    @property
    def step(self) -> tuple[str, str]:
        """Whose it is: app and step."""
        return self.letter.app, self.letter.step


Done: TypeAlias = Literal["retried", "discarded"]


@dataclass(frozen=True, slots=True)
class Choice:
    """Some of them: of a step, of a key, of events since a time (ms), by their places."""

    step: str | None = None
    key: bytes | None = None
    since: int | None = None
    at: frozenset[tuple[int, int]] = frozenset()
    """Partition and offset in the topic; empty: any."""

    def has(self, dead: Dead) -> bool:
        return (
            (self.step is None or dead.letter.step == self.step)
            and (self.key is None or dead.key == self.key)
            and (self.since is None or dead.timestamp >= self.since)
            and (not self.at or (dead.at.partition, dead.offset) in self.at)
        )


@dataclass(slots=True)
class Summary:
    """Those of one step in one topic. `errors` has how many there are of each class of error, ""
    of those that only followed another; `first` and `last` are the times of events, in ms."""

    topic: str
    app: str
    step: str
    connector: bool
    waiting: int = 0
    retried: int = 0
    discarded: int = 0
    first: int | None = None
    last: int | None = None
    errors: Counter[str] = field(default_factory=Counter)


class DeadLetters:
    """Those of an app, or of a topic that several may write to."""

    def __init__(self, backend: Backend, topics: Iterable[str], app: str | None) -> None:
        """`app` None: of all that there are in the topics."""
        self.topics = tuple(topics)
        self._backend = backend
        self._app = app
        self._ids = {topic: backend.topic(topic).topic_id for topic in self.topics}
        self._done: dict[tuple[str, str], dict[TopicPartition, dict[int, Done]]] = {}

    @classmethod
    def of(cls, backend: Backend, name: str) -> "DeadLetters":
        """Those of a topic, or of an app that has run. Raises UnknownTopic when it is neither."""
        known = backend.topics()
        if name in known:
            return cls(backend, [name], None)
        manifest = stored(name, backend)
        if manifest is None:
            near = {one for one in (*known, *backend.groups()) if not one.startswith("__")}
            raise UnknownTopic(
                f"{name!r} is no topic, and no app that has run on the log in "
                f"{backend.url}{nearest(name, near)}"
            )
        there = [topic for topic in manifest.dead_letters if topic in known]
        return cls(backend, there, name)

    def check(self, choice: Choice) -> None:
        """Raises UsageError for a step that sets nothing aside here, and never has."""
        step = choice.step
        prefix = "" if self._app is None else f"{self._app}-"
        retries = [
            topic.removeprefix(prefix).removesuffix(_RETRY)
            for topic in self._backend.topics()
            if topic.startswith(prefix) and topic.endswith(_RETRY)
        ]
        if step is None or step in retries:
            return
        if self._app is None and any(name.endswith(f"-{step}") for name in retries):
            return  # of some app, which may write here
        known = {dead.letter.step for dead in self.all()}
        if step not in known:
            own = set() if self._app is None else set(retries)
            where = self.topics[0] if self._app is None else f"app {self._app!r}"
            raise UsageError(
                f"no step {step!r} sets events aside in {where}{nearest(step, known | own)}"
            )

    def all(self, choice: Choice | None = None) -> Iterator[Dead]:
        """Those that were chosen, topic by topic, in the order they are in there."""
        for topic in self.topics:
            for dead in _read(self._backend, topic):
                mine = self._app is None or dead.letter.app == self._app
                if mine and (choice is None or choice.has(dead)):
                    yield dead

    def waiting(self, choice: Choice | None = None) -> Iterator[Dead]:
        """Those of them that were not given back yet."""
        return (dead for dead in self.all(choice) if self.done(dead) is None)

    def done(self, dead: Dead) -> Done | None:
        """What was done about it: it was given back to its step, or given up; None: it waits."""
        if dead.letter.connector:
            return None
        if dead.step not in self._done:
            self._done[dead.step] = self._look(_retry_topic(dead))
        return self._done[dead.step].get(dead.at, {}).get(dead.offset)

    def summaries(self, choice: Choice | None = None) -> list[Summary]:
        """What there is, by topic and step."""
        found: dict[tuple[str, str, str], Summary] = {}
        for dead in self.all(choice):
            letter, topic = dead.letter, dead.at.topic
            one = found.setdefault(
                (topic, *dead.step), Summary(topic, letter.app, letter.step, letter.connector)
            )
            done = self.done(dead)
            if done is not None:
                one.retried += done == "retried"
                one.discarded += done == "discarded"
                continue
            one.waiting += 1
            one.errors[letter.error] += 1
            one.first = dead.timestamp if one.first is None else min(one.first, dead.timestamp)
            one.last = dead.timestamp if one.last is None else max(one.last, dead.timestamp)
        return [found[name] for name in sorted(found)]

    def give_back(
        self,
        choice: Choice | None = None,
        *,
        discard: bool = False,
        clock: Clock | None = None,
        on_done: Callable[[int], None] = lambda count: None,
    ) -> Counter[tuple[str, str]]:
        """Give what waits back to its steps; `discard`: only to be counted as done there.

        Gives how many were, by app and step. Events of one key in their order. `on_done` is told
        how many are done from time to time. Those of connectors are left where they are. Raises
        UsageError when a step is no more, or never was, ProducerFenced when somebody else does
        the same.
        """
        if choice is not None:
            self.check(choice)
        counts: Counter[tuple[str, str]] = Counter()
        clock = clock or SystemClock()
        apps = [self._app] if self._app is not None else self._apps(choice)
        for app in apps:
            mine = DeadLetters(self._backend, self.topics, app)
            with Producer(self._backend, transactional_id=f"{app}-dlq", clock=clock) as producer:
                # Only now is it sure that nobody else gives any of them back.
                chosen = mine._in_order(choice)
                while some := list(islice(chosen, _TOGETHER)):
                    with producer.transaction() as transaction:
                        for dead in some:
                            transaction.send(
                                self._checked(dead),
                                dead.value,
                                key=dead.key,
                                partition=dead.letter.task,
                                timestamp=dead.timestamp,
                                headers=retry_headers(
                                    dead.letter, dead.name, self._ids[dead.at.topic], discard
                                ),
                            )
                    counts.update(dead.step for dead in some)
                    on_done(counts.total())
        self._done.clear()
        return counts

    def _apps(self, choice: Choice | None) -> list[str]:
        letters_ = (dead.letter for dead in self.all(choice))
        return sorted({letter.app for letter in letters_ if not letter.connector})

    def _in_order(self, choice: Choice | None) -> Iterator[Dead]:
        """What waits, as it is there; what is in the row of a key comes last, in that order."""
        rows: list[tuple[tuple[str, str], bytes, str, int, TopicPartition, int]] = []
        for dead in self.waiting(choice):
            behind = dead.letter.behind
            if dead.letter.connector:
                continue
            if behind is None:
                yield dead
            else:
                place = (behind.first, behind.sequence, dead.at, dead.offset)
                rows.append((dead.step, dead.key or b"", *place))
        for *_, at, offset in sorted(rows):
            yield next(_records(self._backend, at, offset, offset + 1))

    def _checked(self, dead: Dead) -> str:
        topic, letter = _retry_topic(dead), dead.letter
        manifest = stored(letter.app, self._backend)
        known = self._backend.topics()
        if topic not in known or (manifest is not None and topic not in manifest.topics):
            raise UsageError(
                f"{dead.name}: app {letter.app!r} has no step {letter.step!r} that takes events "
                "again, as it last ran; give the step its old name=, with on_error=, and run it"
            )
        if letter.task >= known[topic].partitions:
            raise UsageError(
                f"{dead.name}: it belongs to task {letter.task} of app {letter.app!r}, which has "
                f"{known[topic].partitions} for {letter.step!r} now"
            )
        return topic

    def _look(self, topic: str) -> dict[TopicPartition, dict[int, Done]]:
        """What came to a topic of retries, by places among the dead letters."""
        found: dict[TopicPartition, dict[int, Done]] = {}
        if topic in self._backend.topics():
            for dead in _read(self._backend, topic):
                place, _, offset = dead.letter.letter.rpartition("@")
                name, _, number = place.rpartition("-")
                # One of a topic that was deleted has nothing to do with those of its successor.
                if self._ids.get(name) == dead.letter.letter_topic_id:
                    at = found.setdefault(TopicPartition(name, int(number)), {})
                    at[int(offset)] = "discarded" if dead.letter.discarded else "retried"
        return found


def _retry_topic(dead: Dead) -> str:
    return f"{dead.letter.app}-{dead.letter.step}{_RETRY}"


def _read(backend: Backend, topic: str) -> Iterator[Dead]:
    """The records of a topic that were set aside, as far as there are any now."""
    for number in range(backend.topic(topic).partitions):
        at = TopicPartition(topic, number)
        end = backend.end(at)
        yield from _records(backend, at, backend.offsets(at).start, end)


def _records(backend: Backend, at: TopicPartition, start: int, end: int) -> Iterator[Dead]:
    position = start
    while position < end and (batches := backend.fetch({at: position})):
        for batch in batches:
            columns = batch.columns()
            position = batch.next_offset
            for row, headers in enumerate(columns.headers or ()):
                letter = letters.read(headers)
                if columns.offsets[row] < end and letter is not None:
                    yield Dead(
                        at,
                        columns.offsets[row],
                        columns.timestamps[row],
                        columns.keys[row],
                        columns.values[row],
                        letter,
                    )
