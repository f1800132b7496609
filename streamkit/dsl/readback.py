"""Whether what an app writes to a topic can be read as the type that it reads there itself.

Doubt passes: what is refused could not be read, whatever the values are.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_origin

from msgspec import inspect

from streamkit.dsl.nodes.node import Node
from streamkit.dsl.nodes.sources import Source, StreamSource, TableSource
from streamkit.errors import TopologyError
from streamkit.serde import Serde, Untyped, type_name, without_none

_KINDS: dict[str, tuple[Any, ...]] = {
    "an object": (
        inspect.StructType,
        inspect.DataclassType,
        inspect.TypedDictType,
        inspect.DictType,
    ),
    "an array": (
        inspect.ListType,
        inspect.VarTupleType,
        inspect.TupleType,
        inspect.SetType,
        inspect.FrozenSetType,
        inspect.NamedTupleType,
    ),
    "a number": (inspect.IntType, inspect.FloatType),
    "true or false": (inspect.BoolType,),
}
_RECORDS = (inspect.StructType, inspect.DataclassType, inspect.TypedDictType)


def check_read_back(
    app: str,
    nodes: Sequence[Node],
    tables: Sequence[TableSource],
    described: Callable[[Node], str],
    declared: Mapping[str, str],
) -> None:
    """Raises TopologyError when records of a topic could not be read by the app that writes them.

    `described`: the step that a node's records are of. `declared`: where it is said that topics are
    read.
    """
    readers: dict[str, Source] = {n.topic: n for n in nodes if isinstance(n, StreamSource)}
    readers |= {table.topic: table for table in tables}
    for node in nodes:
        for spec in node.outputs():
            source = readers.get(spec.name(app))
            # Bytes that are not of the type may be what is meant to be skipped, or set aside.
            if source is None or (isinstance(source, StreamSource) and source.failure):
                continue
            keys = spec.key or (node.above.keys if node.above is not None else None)
            for what, written, read in (
                ("values", spec.value, source.value),
                ("keys", keys, source.key),
            ):
                why = None if written is None else unreadable(written.type, read.type)
                if why is not None:
                    assert written is not None
                    where = declared.get(source.topic)
                    raise TopologyError(
                        _told(source, where, described(node), what, written, read, why)
                    )


def _told(
    source: Source,
    where: str | None,
    writer: str,
    what: str,
    written: Serde,
    read: Serde,
    why: str,
) -> str:
    kind = "stream"
    if isinstance(source, TableSource):
        kind = "global_table" if source.everywhere else "table"
    (mine, _), (others, _) = without_none(read.type), without_none(written.type)
    reads = f"app.{kind}({source.topic!r}, {type_name(without_none(source.value.type)[0])})"
    reads += f" ({where})" if where else ""
    declared = f"key={type_name(others)}" if what == "keys" else type_name(others)
    return (
        f"{source.topic}: {writer} writes {what} of type {type_name(others)} there, and {reads} "
        f"reads {type_name(mine)}: {why}. Declare it with {declared}, or write to another topic"
    )


def unreadable(written: Any, read: Any) -> str | None:
    """Why no value of one type, as it is written, can be read as the other; None: some may be."""
    (written, _), (read, _) = without_none(written), without_none(read)
    # Bytes and text take whatever there is, and may have whatever is wanted in them.
    known = (Untyped, bytes, str, Any, object, None)
    if written == read or any(one in known for one in (written, read)):
        return None
    wanted, given = _type_info(read), _type_info(written)
    if wanted is None or given is None:
        return None
    # An instance of a subclass has more fields; it is written with all of them.
    whys = [_misfit(each, wanted) for each in _with_subclasses(given)]
    return whys[0] if all(whys) else None


def _type_info(type_: Any) -> inspect.Type | None:
    """None: nothing is known of it, as of a union that can only be written."""
    try:
        return inspect.type_info(type_)
    except (TypeError, NameError, AttributeError):
        return None


def _misfit(given: inspect.Type | None, wanted: inspect.Type) -> str | None:
    if given is None:
        return None
    found, expected = _kind(given), _kind(wanted)
    if found is None or expected is None:
        return None
    if found != expected:
        return f"the one is {found} in JSON, the other {expected}"
    if found == "an object" and isinstance(given, _RECORDS) and isinstance(wanted, _RECORDS):
        return _lack(given, wanted)
    return None


def _kind(type_: inspect.Type) -> str | None:
    """What values are in JSON; None: it may be anything."""
    if getattr(type_, "array_like", False):
        return "an array"
    return next((kind for kind, types in _KINDS.items() if isinstance(type_, types)), None)


def _with_subclasses(given: inspect.Type) -> Iterator[inspect.Type | None]:
    yield given
    if isinstance(given, inspect.TypedDictType):
        yield None  # any other that has its keys is one too
    elif isinstance(given, _RECORDS):
        cls: Any = get_origin(given.cls) or given.cls
        for each in cls.__subclasses__():
            known = _type_info(each)
            if known is None:
                yield None
            else:
                yield from _with_subclasses(known)


def _lack(given: Any, wanted: Any) -> str | None:
    """Why no such record is one of those wanted; None: it may be."""
    has = {field.encode_name: field for field in given.fields}
    needs = {field.encode_name: field for field in wanted.fields}
    names = type_name(given.cls), type_name(wanted.cls)
    tag = getattr(given, "tag", None)
    written = has.keys() if tag is None else {*has, given.tag_field}
    if missing := [n for n, field in needs.items() if field.required and n not in written]:
        return f"{names[0]} has no {', '.join(map(repr, missing))}, which {names[1]} needs"
    other = getattr(wanted, "tag", None)
    # One that is not there is not asked for.
    if None not in (tag, other) and given.tag_field == wanted.tag_field and tag != other:
        return f"{names[0]} is written with the tag {tag!r}, {names[1]} has {other!r}"
    if getattr(wanted, "forbid_unknown_fields", False):
        sure = [name for name, field in has.items() if field.required and name not in needs]
        if sure:
            return f"{names[0]} has {', '.join(map(repr, sure))}, which {names[1]} forbids"
    return None
