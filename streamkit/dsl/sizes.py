"""Sizes as users write them: "512MB", "2GB", "64MiB", or a number of bytes."""

import re
from typing import TypeAlias

from streamkit.errors import ConfigError

MEMORY = 512_000_000
"""Bytes of memory for the state of one process, unless another number is asked for."""

Size: TypeAlias = str | int

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}


def number_of_bytes(size: Size, what: str = "size") -> int:
    """A size in bytes; `what` names it in the error. Raises ConfigError when it cannot be read."""
    if isinstance(size, int) and not isinstance(size, bool) and size >= 0:
        return size
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)", str(size).strip())
    if isinstance(size, str) and found and found[2].upper() in _UNITS:
        return int(float(found[1]) * _UNITS[found[2].upper()])
    raise ConfigError(f"{what}: {size!r} is no size; write it like '64MB', '2GB', '512MiB'")
