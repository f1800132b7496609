"""Whether values of one type can be given to a parameter that is annotated with another.

Doubt passes: what is refused could not work, and what is let through a type checker has to judge.
"""

from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, NewType, Union, get_args, get_origin, is_typeddict

from streamkit.dsl.functions import Function
from streamkit.errors import TopologyError
from streamkit.serde import Untyped, type_name

_NUMBERS = (int, float, complex)


def check_fit(function: Function, given: Sequence[tuple[Any, str]]) -> None:
    """Raises TopologyError when a leading parameter cannot take what it is given.

    `given` has, for each of them, the type and what it is.
    """
    for (parameter, annotated), (type_, what) in zip(function.takes, given, strict=False):
        if not can_fit(type_, annotated):
            raise TopologyError(
                f"{function.described}: parameter {parameter!r} is annotated "
                f"{type_name(annotated)}, but is given {what}, {type_name(type_)}"
            )


def check_gives_one(function: Function, what: str) -> None:
    """Raises TopologyError for a function that gives no value, or many, where one is looked at:
    what comes of a generator is always true, and None never.

    `what` is what it is to give: "whether ...".
    """
    if function.many:
        gives = "gives an iterator"
    elif function.gives_none:
        gives = "is annotated to give None"
    else:
        return
    raise TopologyError(f"{function.described} {gives}; it is to return {what}")


def can_fit(given: Any, annotated: Any) -> bool:
    """Whether some value of type `given` may be one of type `annotated`; None is not looked at."""
    wanted = [_class(member) for member in members(annotated)]
    return any(_related(_class(one), other) for one in members(given) for other in wanted)


def members(type_: Any) -> list[Any]:
    """The types of a union, or the one that it is, without None."""
    if get_origin(type_) is Annotated:
        return members(get_args(type_)[0])
    if isinstance(type_, NewType):
        return members(type_.__supertype__)
    if get_origin(type_) not in (Union, UnionType):
        return [type_]
    some = [member for member in get_args(type_) if member is not NoneType]
    return [each for member in some for each in members(member)]


def _class(type_: Any) -> type | None:
    """The class that values of a type are of; None: it may be anything."""
    if is_typeddict(type_):
        return dict
    origin = get_origin(type_) or type_
    if not isinstance(origin, type) or origin in (Any, object, NoneType, Untyped):
        return None
    # What has the methods of a protocol is one, and only a call would show whether it has.
    return None if getattr(origin, "_is_protocol", False) else origin


def _related(one: type | None, other: type | None) -> bool:
    if one is None or other is None or (issubclass(one, _NUMBERS) and other in _NUMBERS):
        return True
    # A wider type may hold a narrower one: the function before may promise less than it gives.
    return issubclass(one, other) or issubclass(other, one)
