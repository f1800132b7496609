"""Loading what few programs need only when it is needed, in whatever thread that is."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.RLock()


@contextmanager
def loading() -> Iterator[None]:
    """Import in this block what is needed only now: no process is forked meanwhile.

    A child that was forked while another thread imports a module would wait for ever for that
    module: the thread that is to finish it is not there.
    """
    with _lock:
        yield


os.register_at_fork(
    before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
)
