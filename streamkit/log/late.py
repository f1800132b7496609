"""Loading what few programs need only when it is needed, in whatever thread that is."""

import logging
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


# `logging` does the same with its lock, and modules take that when they are loaded. It is imported
# above to have registered first: a fork then comes to ours first, while it does not hold that one.
_ = logging

os.register_at_fork(
    before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
)
