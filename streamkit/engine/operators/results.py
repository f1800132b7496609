"""Give on what a function returned."""

from collections.abc import Callable, Sequence
from typing import Any

from streamkit.dsl.functions import Function
from streamkit.engine.cursor import Cursor
from streamkit.engine.hot.steps import Forward
from streamkit.records import Headers


def giver(function: Function, forward: Forward, cursor: Cursor) -> Forward:
    """Gives on what the function returned: nothing for None, the items of an iterator."""
    many = function.many

    def give(key: Any, result: Any, stamp: int, headers: Headers) -> None:
        if result is None:
            return
        if many is False or (many is None and not hasattr(result, "__next__")):
            forward(key, result, stamp, headers)
            return
        try:
            # A generator runs between the items, so that it may raise after some.
            for item in result:
                if item is not None:
                    forward(key, item, stamp, headers)
        except Exception as error:
            cursor.fail(function, key, error)

    return give


def gathered(function: Function) -> Callable[[Any], Sequence[Any]]:
    """What to give on of what the function returned, after a generator has come to its end."""
    many = function.many

    def gather(result: Any) -> Sequence[Any]:
        if result is None:
            return ()
        if many is False or (many is None and not hasattr(result, "__next__")):
            return (result,)
        return [item for item in result if item is not None]

    return gather
