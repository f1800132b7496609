"""Where a client's log is: a path, a url, or a backend that somebody else closes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

from streamkit.backends.base import Backend
from streamkit.backends.locate import open_backend

LogLike: TypeAlias = str | os.PathLike[str] | Backend | None
"""A path, `file:` or `memory:` url; a Backend; None: `STREAMKIT_LOG`, else ./streamkit-data."""


def connect(log: LogLike, *, create: bool = True) -> tuple[Backend, bool]:
    """The backend, and whether the client has to close it. `create` makes a missing directory."""
    if log is None or isinstance(log, str | os.PathLike):
        return open_backend(log, create=create), True
    return log, False


@contextmanager
def connected(log: LogLike) -> Iterator[Backend]:
    """The backend for as long as the body lasts; one that was handed in stays open."""
    backend, owned = connect(log)
    try:
        yield backend
    finally:
        if owned:
            backend.close()
