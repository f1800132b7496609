"""A keyword argument that an operation does not take: said kindly, with those that do."""

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar

from streamkit.errors import TopologyError, nearest

C = TypeVar("C", bound=type[Any])

_told: list[type[Any]] = []
"""The classes whose operations users call, as they were declared."""


def tells_keywords(cls: C) -> C:
    """Have the operations of a class, and of what it is made of, raise TopologyError for a keyword
    that they do not take: Python alone would not say what does."""
    for base in cls.__mro__:
        if base.__module__.startswith("streamkit."):
            for name, operation in list(vars(base).items()):
                if inspect.isfunction(operation) and not name.startswith("_"):
                    setattr(base, name, _telling(cls.__name__, operation))
    _told.append(cls)
    return cls


def _telling(owner: str, operation: Callable[..., Any]) -> Callable[..., Any]:
    if hasattr(operation, "tells_keywords"):
        return operation

    @wraps(operation)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return operation(*args, **kwargs)
        except TypeError:
            _refuse(owner, operation, kwargs)
            raise

    call.tells_keywords = True  # type: ignore[attr-defined]
    return call


def _refuse(owner: str, operation: Callable[..., Any], given: Iterable[str]) -> None:
    takes = _keywords(operation)
    for name in given:
        if takes is None or name in takes:
            continue
        others = _takers(name)
        if name == "grace":
            others.insert(0, 'the window, as in tumbling("5m", grace="1m")')
        why = nearest(name, takes)
        if others and "did you mean" not in why:
            why = f"; it is for {'; '.join(others)}"
            if name == "on_error":
                why += ". Do what may fail in one of these, before or after"
        raise TopologyError(f"{owner}.{operation.__name__}() takes no {name}={why}") from None


def _keywords(operation: Callable[..., Any]) -> list[str] | None:
    """The keywords that are taken; None: any."""
    own = list(inspect.signature(operation).parameters.values())[1:]
    if any(each.kind is each.VAR_KEYWORD for each in own):
        return None
    return [each.name for each in own if each.kind is not each.POSITIONAL_ONLY]


def _takers(name: str) -> list[str]:
    """Which operations take a keyword, class by class."""
    found = []
    for cls in _told:
        known = [base for base in cls.__mro__[1:] if base in _told]
        operations = [
            attribute
            for attribute, operation in inspect.getmembers(cls, inspect.isfunction)
            if not attribute.startswith("_") and name in (_keywords(operation) or ())
            if not any(hasattr(base, attribute) for base in known)
        ]
        if operations:
            found.append(f"{', '.join(operations)} of {cls.__name__}")
    return found
