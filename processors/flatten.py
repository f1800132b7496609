"""Nested values as one level of fields, for tables and files that have columns."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from streamkit import Stream
from streamkit.processors.fields import called

V = TypeVar("V")


def flatten(stream: Stream[V], *, separator: str = "_", name: str | None = None) -> Stream[Any]:
    """Events as dicts whose values are no dicts: `{"a": {"b": 1}}` becomes `{"a_b": 1}`.

    Structs, dataclasses and dicts are taken apart; lists stay. Of two fields that would be called
    the same the function raises: choose another separator.
    """

    def flat(event: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        whole = msgspec.to_builtins(event)
        if not isinstance(whole, Mapping):
            raise TypeError(f"flatten: a {type(event).__name__} has no fields")
        for path, value in _leaves(whole, ()):
            field = separator.join(path)
            if field in found:
                raise ValueError(f"flatten: two fields would be called {field!r}")
            found[field] = value
        return found

    return stream.map(called(name or f"{stream.name}-flatten", flat))


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    # An empty dict in a field is a value, which would be lost otherwise.
    if isinstance(value, Mapping) and (value or not path):
        for field, inner in value.items():
            yield from _leaves(inner, (*path, str(field)))
    else:
        yield path, value
