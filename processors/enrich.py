"""Events with what a table knows about them."""

from collections.abc import Callable
from typing import Any, Literal, TypeVar, get_type_hints

import msgspec

from streamkit import GlobalTable, Stream, Table, TopologyError
from streamkit.processors.fields import as_dict, called, fields_of

V = TypeVar("V")
T = TypeVar("T")
R = TypeVar("R")


def enrich(
    stream: Stream[V],
    table: Table[T] | GlobalTable[T],
    into: type[R],
    *,
    on: str | Callable[[V], Any] | None = None,
    how: Literal["inner", "left"] = "left",
    name: str | None = None,
) -> Stream[R]:
    """Values of type `into`, whose fields are the event's and, where it has none of that name, the
    row's.

    The row is that of the event's key, or of `on`. With `how="left"` an event without a row gets
    the defaults that `into` has for the rest; with "inner" it is dropped. Raises TopologyError for
    a field without a default that neither has.
    """
    wanted = set(get_type_hints(into))
    left, right = fields_of(stream.type), fields_of(table.type)
    if left is not None and right is not None:
        described: Any = msgspec.inspect.type_info(into)
        needed = [field.name for field in getattr(described, "fields", ()) if field.required]
        missing = [name for name in needed if name not in left and name not in right]
        if missing:
            raise TopologyError(
                f"enrich {stream.name!r} into {into.__name__}: neither the events nor the rows of "
                f"{table.name!r} have {', '.join(map(repr, missing))}; the events have "
                f"{', '.join(left)}, the rows {', '.join(right)}"
            )

    def both(event: Any, row: Any) -> Any:
        known = as_dict(event) if row is None else {**as_dict(row), **as_dict(event)}
        return into(**{field: known[field] for field in wanted & known.keys()})

    call = called(name or f"{stream.name}-enrich", both, into)
    if how == "left":
        return stream.join(table, on=on, how="left")(call)
    return stream.join(table, on=on)(call)
