"""How much memory a value takes."""

from sys import getsizeof
from typing import Any

_MOST = 200
"""Parts of a value that are looked at: of a long list the first ones stand for the others."""


def weight(value: Any) -> int:
    """About how many bytes a value takes, with all that it consists of."""
    taken, looked, waiting = 0, 0, [value]
    while waiting and looked < _MOST:
        part = waiting.pop()
        looked += 1
        # Small ones are shared by everybody.
        if part is None or part is True or part is False or (type(part) is int and -6 < part < 257):
            continue
        taken += getsizeof(part)
        waiting += _parts(part)
    return taken if not waiting else taken * (looked + len(waiting)) // looked


def _parts(value: Any) -> list[Any]:
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, dict):
        return [*value, *value.values()]
    fields = getattr(value, "__struct_fields__", None)
    if fields is not None:
        return [getattr(value, field) for field in fields]
    held = getattr(value, "__dict__", None)
    if held is not None and not isinstance(value, type):
        return [held]
    return []
