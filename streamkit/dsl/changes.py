"""What becomes of what an app keeps when its code changes: one manifest held against another."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import IntEnum
from typing import Literal, TypeAlias

from streamkit.dsl.manifest import KeptConnector, KeptStore, Manifest
from streamkit.dsl.nodes.node import parked_name
from streamkit.dsl.nodes.waiting import waiting_name
from streamkit.errors import counted

What: TypeAlias = Literal[
    "kept",
    "new",
    "changed",
    "unreadable",
    "orphaned",
    "returns",
    "gone",
    "waits",
    "grows",
    "misfit",
]

HARMLESS = frozenset(
    {
        "on error",
        "grace",
        "emit",
        "close after idle",
        "ttl",
        "history",
        "with table",
        "with global table",
    }
)
"""Settings that say what is done from now on: what is kept means the same under others."""


class Risk(IntEnum):
    """What a change does to state; the highest is the exit code of `streamkit plan`."""

    NONE = 0
    SAFE = 1
    UNSAFE = 2
    """State would be orphaned, or read as something that it is not."""


@dataclass(frozen=True, slots=True)
class Change:
    """Of a store, or a topic. `topic` is where it is kept; `advice` says what may be done."""

    what: What
    subject: str
    text: str
    risk: Risk
    topic: str | None = None
    advice: str = ""


def compare(old: Manifest, new: Manifest, rows: Mapping[str, int]) -> list[Change]:
    """What becomes of each store and each connector, in order.

    `rows`: how many records, or about, each changelog has that exists.
    `partitions` of a new store are 0 where nobody can know yet.
    """
    known = {store.changelog for store in new.stores.values()}
    orphans = {
        name: store
        for name, store in old.stores.items()
        if store.changelog not in known and store.changelog in rows
    }
    changes = []
    for name, store in new.stores.items():
        before = old.stores.get(name)
        if before is None:
            changes.append(_new(name, store, rows))
        elif store.changelog not in rows:
            text = f"its changelog {store.changelog} was deleted: it begins empty"
            changes.append(Change("gone", name, text, Risk.SAFE, store.changelog))
        else:
            changes.append(changed(name, before, store))
    fresh = {name: store for name, store in new.stores.items() if name not in old.stores}
    for name, store in orphans.items():
        changes.append(orphan(name, store, rows[store.changelog], renamed(name, store, fresh)))
    return [*changes, *_connectors(new.app, old.connectors, new.connectors)]


def _connectors(
    app: str, old: Mapping[str, KeptConnector], new: Mapping[str, KeptConnector]
) -> Iterator[Change]:
    """A connector knows by its name what it has done; under another one it would do it again."""
    gone = {name: one for name, one in old.items() if name not in new}
    for name, one in new.items():
        before = old.get(name)
        if before == one:
            yield Change("kept", name, "goes on where it stands", Risk.NONE)
        elif before is not None:
            now, was = (f"{each.what} at {each.topic}" for each in (one, before))
            yield Change("changed", name, f"{now} instead of {was}", Risk.SAFE)
        elif one in gone.values():
            was = next(other for other, theirs in gone.items() if theirs == one)
            text = f"would begin anew, and do again at {one.topic} what {was} has done"
            own = was.removeprefix(f"{app}-").removesuffix(f"-{one.kind}")
            advice = f"was it renamed? give it name={own!r}"
            yield Change("new", name, text, Risk.UNSAFE, advice=advice)
        else:
            begins = "all that there is" if one.kind == "source" else f"all of {one.topic}"
            yield Change("new", name, f"begins with {begins}", Risk.SAFE)
    for name in gone:
        yield Change("gone", name, "does not run any more", Risk.SAFE)


def _new(name: str, store: KeptStore, rows: Mapping[str, int]) -> Change:
    if rows.get(store.changelog, 0):
        text = f"{store.changelog} has state of earlier code, which is taken up as it was left"
        return Change("returns", name, text, Risk.SAFE, store.changelog)
    return Change("new", name, f"begins empty; kept in {store.changelog}", Risk.SAFE)


def orphan(name: str, store: KeptStore, rows: int, heir: str | None) -> Change:
    """A store that the new code does not have."""
    if not rows:
        text = f"is not used any more; there is nothing in {store.changelog}"
        return Change("orphaned", name, text, Risk.SAFE, store.changelog)
    if heir:
        advice = f"was it renamed? {heir}"
    elif name == waiting_name(store.step):
        advice = "events wait there: let the code before it answer them: streamkit run --until-end"
    elif store.kind == "in order":
        advice = (
            "events wait there for their turn: let the code before it come to it, or to the end: "
            "streamkit run --until-end --finish"
        )
    elif name == parked_name(store.step):
        advice = "keys wait there: let the code before it be given back what was set aside"
    else:
        advice = "was its function renamed? give it its old name="
    text = f"is not used any more; its state is in {store.changelog}"
    return Change("orphaned", name, text, Risk.UNSAFE, store.changelog, advice)


def renamed(name: str, store: KeptStore, fresh: Mapping[str, KeptStore]) -> str | None:
    """How the new code could have this store, if one of its new ones is like it."""
    alike = {other: one for other, one in fresh.items() if _form(one) == _form(store)}
    if not alike:
        return None
    other = (get_close_matches(name, alike, n=1, cutoff=0.0) or sorted(alike))[0]
    heir = alike[other]
    said = []
    if heir.step != store.step:
        said.append(f"give {heir.step} name={store.step!r}")
    if heir.parameter != store.parameter:
        said.append(f"call its parameter {heir.parameter!r} {store.parameter!r} again")
    return f"{other} is like it: {' and '.join(said)}" if said else None


def _form(store: KeptStore) -> tuple[object, ...]:
    lasting = {key: said for key, said in store.settings.items() if key not in HARMLESS}
    return store.kind, lasting, store.key.mark, store.value.mark, store.keyed_by


def changed(name: str, old: KeptStore, new: KeptStore) -> Change:
    """A store that both have. A changed type of values is SAFE here: whether it reads what was
    written, only what was written can say."""
    unsafe: list[str] = []
    safe: list[str] = []
    if new.partitions and old.partitions and old.partitions != new.partitions:
        unsafe.append(
            f"{counted(new.partitions, 'task')} instead of {old.partitions}: keys move, and their "
            "state does not move with them"
        )
    if old.keyed_by != new.keyed_by:
        by_topics = {old.keyed_by.startswith("the key of "), new.keyed_by.startswith("the key of ")}
        told = f"keyed by {new.keyed_by} instead of {old.keyed_by}"
        (safe if by_topics == {True} else unsafe).append(told)
    if old.key.mark != new.key.mark:
        unsafe.append(f"keys are {new.key.name} instead of {old.key.name}")
    if old.kind != new.kind:
        unsafe.append(f"{new.kind} instead of {old.kind}")
    for told, harmless in _settings(old.settings, new.settings):
        (safe if harmless else unsafe).append(told)
    if old.value.mark != new.value.mark:
        other = new.value.name != old.value.name
        safe.append(
            f"values are {new.value.name} instead of {old.value.name}"
            if other
            else f"values are {new.value.name} as before, but what is in that has changed"
        )
    if not unsafe and not safe:
        return Change("kept", name, "goes on with what it has", Risk.NONE, new.changelog)
    advice = ""
    if unsafe:
        advice = (
            f"what is kept was made otherwise; take the change back, or give {new.step} another "
            "name=, so that it begins empty"
        )
    return Change(
        "changed",
        name,
        "; ".join([*unsafe, *safe]),
        Risk.UNSAFE if unsafe else Risk.SAFE,
        new.changelog,
        advice,
    )


def _settings(old: Mapping[str, str], new: Mapping[str, str]) -> list[tuple[str, bool]]:
    """What differs, and whether that is harmless to what is kept."""
    said = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if key == "aggregate" and None in (before, after):
            continue  # what a function of the user's own keeps only its body says
        if before != after:
            was = f"{key} {before}".strip() if before is not None else f"no {key}"
            now = f"{key} {after}".strip() if after is not None else f"no {key}"
            said.append((f"{now} instead of {was}", key in HARMLESS))
    return said
