"""One process at a time for a session: from the look whether it exists until it is left."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from streamkit.backends.base import Backend
from streamkit.errors import GroupActive, UnknownGroup

GROUP = "__streamkit_replays"
"""Whoever works on a session holds its unit in this group: the session's own group is deleted and
made anew with it, and cannot be held meanwhile."""


@contextmanager
def claimed(backend: Backend, app: str, name: str) -> Iterator[None]:
    """Keep other processes off the session. Raises GroupActive when one is at it."""
    member = backend.join(GROUP, {f"{app}.replay.{name}": 1}, client_id=f"replay {app}/{name}")
    try:
        if not member.poll().owned:
            raise GroupActive(
                f"replay {name!r} of app {app!r} runs in another process already; wait for it, or "
                "give this one another --name"
            )
        yield
    finally:
        member.leave()
        # It holds no offsets, and is nothing to be listed.
        with suppress(GroupActive, UnknownGroup):
            backend.delete_group(GROUP)
