"""What running an app would change: its code against what is in the log of earlier code.

The manifest of each app that ran is kept in the compacted topic `streamkit-apps`, under its name.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import msgspec

from streamkit.backends.base import Backend
from streamkit.dsl.changes import Change, Risk, compare
from streamkit.dsl.manifest import Manifest, manifest, serdes
from streamkit.dsl.topology import Layout, TopicSpec, Topology
from streamkit.engine.topics import partition_counts
from streamkit.errors import (
    GroupActive,
    SerdeError,
    TopicExists,
    TopologyError,
    UnsafeChange,
    UsageError,
    counted,
    nearest,
)
from streamkit.records import TopicPartition
from streamkit.serde import Serde

APPS = "streamkit-apps"
"""The topic of manifests."""

LOOK_AT = 100_000
"""Records of a changelog's partition that are read to see whether another type reads them."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What would change. `create`: topics that would be made, with their partitions."""

    app: str
    changes: tuple[Change, ...]
    create: dict[str, TopicSpec]
    before: Manifest | None
    """None: the app never ran on this log."""
    after: Manifest

    @property
    def risk(self) -> Risk:
        made = Risk.SAFE if self.create or self.before is None else Risk.NONE
        return max([made, *(change.risk for change in self.changes)])

    @property
    def unsafe(self) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.risk is Risk.UNSAFE)


def plan(topology: Topology, backend: Backend) -> Plan:
    """Hold an app's code against the log. Changes nothing."""
    before = stored(topology.app, backend)
    changes, layout = _laid_out(topology, backend, before)
    after = manifest(topology, layout.tasks, layout.partitions, before.left if before else [])
    rows = _rows(topology.app, backend)
    left = before or Manifest(topology.app, "", {}, {}, {})
    for name in left.stores.keys() - after.stores.keys():
        changelog = left.stores[name].changelog
        if 0 < rows.get(changelog, 0) <= LOOK_AT:
            rows[changelog] = _kept(changelog, backend)
    changes = [
        *(_tried(change, topology, backend) for change in compare(left, after, rows)),
        *_unnoted(topology, left, backend, rows),
        *_unread(topology, left, backend),
        *changes,
    ]
    return Plan(topology.app, tuple(changes), dict(layout.create), before, after)


def accept(topology: Topology, backend: Backend, found: Plan, layout: Layout) -> None:
    """Note that the app runs as it is now: what it leaves behind is not asked about again."""
    known = found.before.left if found.before else []
    used = set(topology.internal)
    orphans = [c.topic for c in found.changes if c.what == "orphaned" and c.topic is not None]
    left = sorted({*known, *orphans} - used)
    now = manifest(topology, layout.tasks, layout.partitions, left)
    if now != found.before:
        store(now, backend)


def refuse_unsafe(found: Plan, *, accept: bool = False) -> None:
    """Raises UnsafeChange when state would be orphaned or misread, and TopologyError when the
    app's topics do not fit together.

    With `accept` only when it cannot be read at all: the run would stop at it, and later plans
    would hold the code against itself.
    """
    for change in found.unsafe:
        if change.what == "misfit":  # there is nothing to go on with
            raise TopologyError(change.text)
    unreadable = [change for change in found.unsafe if change.what == "unreadable"]
    refused = unreadable if accept else found.unsafe
    if not refused:
        return
    lines = []
    for change in refused:
        lines.append(f"  {change.subject}: {change.text}")
        lines += [f"    {change.advice}"] if change.advice else []
    ways = []
    if not unreadable:
        ways.append("`streamkit run --accept` goes on and leaves what is not used where it is")
    kept = [change.subject for change in unreadable or refused if change.topic is not None]
    if kept:
        ways.append(f"`streamkit plan --forget {kept[0]}` deletes what was kept, for good")
    raise UnsafeChange(
        f"app {found.app!r} is not what it was when it last ran here:\n"
        + "\n".join(lines)
        + "\nIf that is meant: "
        + ";\n".join(ways)
        + "."
    )


def begun_empty(found: Plan) -> list[str]:
    """What to say of the stores that begin empty though their state was kept: its topic is gone."""
    return [
        f"store {change.subject}: {change.text}. What it held is lost, and results are made "
        "without it from here on; `streamkit replay` makes those that the inputs, as far as they "
        "are left, would give"
        for change in found.changes
        if change.what == "gone" and change.topic is not None
    ]


def forget(topology: Topology, backend: Backend, names: list[str]) -> list[str]:
    """Delete what is kept under these names; gives the topics. Only what is unsafe may go.

    Raises UsageError for another name, and GroupActive while the app runs.
    """
    found = plan(topology, backend)
    unsafe = {change.subject: change for change in found.unsafe if change.topic is not None}
    for name in names:
        if name not in unsafe:
            raise UsageError(
                f"--forget {name}: nothing of that name is orphaned or would be misread"
                f"{nearest(name, unsafe)}"
            )
    if topology.app in backend.groups() and backend.group(topology.app).members:
        raise GroupActive(
            f"app {topology.app!r} runs; stop its processes, then forget what they keep"
        )
    topics = [topic for name in names if (topic := unsafe[name].topic) is not None]
    if found.before is not None:
        rest = {n: s for n, s in found.before.stores.items() if n not in names}
        store(msgspec.structs.replace(found.before, stores=rest), backend)
    for topic in topics:
        backend.delete_topic(topic)
    return topics


# The topic of manifests.


def stored(app: str, backend: Backend) -> Manifest | None:
    """The manifest of an app as it last ran; None: it never did. Raises SerdeError."""
    if APPS not in backend.topics():
        return None
    latest = dict(_records(backend, TopicPartition(APPS, 0))).get(app.encode())
    if latest is None:
        return None
    try:
        return msgspec.json.decode(latest, type=Manifest)
    except msgspec.DecodeError as error:
        raise SerdeError(
            f"{APPS}: the manifest of app {app!r} cannot be read ({error}); it may be of a newer "
            "streamkit"
        ) from error


def store(now: Manifest, backend: Backend) -> None:
    """Write an app's manifest."""
    if APPS not in backend.topics():
        with suppress(TopicExists):  # another process was faster
            backend.create_topic(APPS, 1, {"cleanup.policy": "compact"})
    value = msgspec.json.encode(now)
    backend.append(TopicPartition(APPS, 0), [value], keys=[now.app.encode()], acks="all")


def _records(
    backend: Backend, at: TopicPartition, start: int = -1, limit: int | None = None
) -> Iterator[tuple[bytes | None, bytes | None]]:
    """Keys and values of a partition, from an offset (-1: all there are) to its end."""
    position = max(start, backend.offsets(at).start)
    read = 0
    while batches := backend.fetch({at: position}):
        for batch in batches:
            columns = batch.columns()
            yield from zip(columns.keys, columns.values, strict=True)
            read += len(columns.keys)
            position = batch.next_offset
        if limit is not None and read >= limit:
            return


# What the log says.


def _laid_out(
    topology: Topology, backend: Backend, before: Manifest | None
) -> tuple[list[Change], Layout]:
    """How many tasks and partitions there would be, and what is to be said about that."""
    sizes = partition_counts(backend)
    changes = [
        Change("waits", topic, "is not there yet: the app waits for it", Risk.SAFE)
        for topic in topology.sources
        if topic not in {*sizes, *topology.imported}
    ]
    for topic in topology.sources:
        had = before.topics.get(topic, 0) if before is not None else 0
        if had and sizes.get(topic, had) != had:
            text = f"has {counted(sizes[topic], 'partition')} instead of {had}: its keys move"
            changes.append(Change("grows", topic, text, Risk.SAFE, topic))
    kept = {store.changelog for sub in topology.subtopologies for store in sub.stores}
    try:
        # Without the changelogs: that they do not fit is said of each.
        layout = topology.layout({t: n for t, n in sizes.items() if t not in kept})
    except TopologyError as error:
        if not changes or all(change.what == "grows" for change in changes):
            changes.append(Change("misfit", topology.app, str(error), Risk.UNSAFE))
        return changes, Layout({}, {}, {t: n for t, n in sizes.items() if t in topology.sources})
    create = {topic: spec for topic, spec in layout.create.items() if topic not in sizes}
    return changes, replace(layout, create=create)


def _rows(app: str, backend: Backend) -> dict[str, int]:
    """How many records there are in each changelog of an app, with those that end transactions."""
    return {
        topic: sum(part.stable - part.start for part in backend.partitions(topic))
        for topic in backend.topics()
        if topic.startswith(f"{app}-") and topic.endswith("-changelog")
    }


def _kept(changelog: str, backend: Backend) -> int:
    """How many keys have a value: all that waited may have left, say."""
    parts = (part.partition for part in backend.partitions(changelog))
    rows = (dict(_records(backend, at)).values() for at in parts)
    return sum(value is not None for values in rows for value in values)


def _tried(change: Change, topology: Topology, backend: Backend) -> Change:
    """A changed store whose values are of another type: are those read that are there?"""
    if change.what not in ("changed", "returns") or change.topic is None:
        return change
    if change.what == "changed" and "values are" not in change.text:
        return change
    serde = serdes(topology)[change.subject]
    tried = 0
    for part in backend.partitions(change.topic):
        rows = dict(_records(backend, part.partition, limit=LOOK_AT))
        for key, value in rows.items():
            if value is None:
                continue
            tried += 1
            why = _unreadable(serde, value)
            if why is not None:
                return replace(
                    change,
                    what="unreadable",
                    text=f"{change.text}; what {part.partition} has for key {key!r} cannot be "
                    f"read: {why}",
                    risk=Risk.UNSAFE,
                    advice="let the type read what is there (a default for a new field, a union), "
                    "or forget what was kept",
                )
    said = f"the {tried:,} values that were tried can be read" if tried else "nothing is there yet"
    return replace(change, text=f"{change.text}; {said}")


def _unreadable(serde: Serde, value: bytes) -> str | None:
    try:
        serde.decode(value)
    except SerdeError as error:
        return str(error)
    return None


def _unnoted(
    topology: Topology, before: Manifest, backend: Backend, rows: dict[str, int]
) -> Iterator[Change]:
    """Changelogs with committed state of which no manifest says anything."""
    app = topology.app
    noted = {store.changelog for store in before.stores.values()}
    known = noted | {*before.left, *topology.internal}
    topics = dict.fromkeys(at.topic for at in sorted(backend.committed(app)))
    for topic in topics:
        if topic in rows and rows[topic] and topic not in known:
            name = topic.removeprefix(f"{app}-").removesuffix("-changelog")
            text = f"is not used by this code; its state is in {topic}"
            advice = "was its function renamed? give it its old name="
            yield Change("orphaned", name, text, Risk.UNSAFE, topic, advice)


def _unread(topology: Topology, before: Manifest, backend: Backend) -> Iterator[Change]:
    """Repartition topics: what nobody reads any more, and what cannot be read any more."""
    app = topology.app
    types = topology.types()
    known = backend.topics()
    for at, place in sorted(backend.committed(app).items()):
        topic = at.topic
        if not (topic.startswith(f"{app}-") and topic.endswith("-repartition")):
            continue
        if topic not in known or topic in before.left:
            continue
        # What has no key tells readers of time, or ends a transaction.
        unread = [
            (key, value)
            for key, value in _records(backend, at, place.offset, LOOK_AT)
            if key is not None and value is not None
        ]
        name = topic.removeprefix(f"{app}-")
        least = "at least " if backend.end(at) - place.offset > LOOK_AT else ""
        if topic not in topology.internal:
            if unread:
                events = counted(len(unread), "event")
                text = f"is not read any more; {at} has {least}{events} left"
                advice = (
                    "let the code before it come to the end: streamkit run --until-end; with "
                    "--accept they stay where they are, and are never processed"
                )
                yield Change("orphaned", name, text, Risk.UNSAFE, topic, advice)
            continue
        serde = types[topic][1]
        wrong = [(key, why) for key, value in unread if (why := _unreadable(serde, value))]
        if wrong:
            key, why = wrong[0]
            text = (
                f"{least}{len(wrong):,} of the {len(unread):,} events that {at} still has cannot "
                f"be read, and a run stops at the first of them, of key {key!r}: {why}"
            )
            advice = (
                "let the type read them, or let the code before it come to the end: streamkit run "
                "--until-end; --forget loses all that the topic still has"
            )
            yield Change("unreadable", name, text, Risk.UNSAFE, topic, advice)
