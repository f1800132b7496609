"""Partitions brought to stable storage together: a disk does several syncs in the time of one."""

import os
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from streamkit.errors import UnknownTopic
from streamkit.log.partition import Partition

_AT_ONCE = 16
_threads: ThreadPoolExecutor | None = None


def sync_all(partitions: Iterable[Partition], *, gone: bool = False) -> None:
    """Return when all that was appended to them before the call is on stable storage.

    `gone`: deleted ones are passed over. Raises the first error, when all others are through.
    """
    todo = list(partitions)
    if not todo:
        return
    if len(todo) == 1:
        _sync(todo[0], gone)
        return
    waiting: list[Future[None]] = []
    try:
        waiting += [_pool().submit(_sync, partition, gone) for partition in todo[1:]]
        _sync(todo[0], gone)
    finally:
        wait(waiting)
    for one in waiting:
        one.result()


def _sync(partition: Partition, gone: bool) -> None:
    try:
        partition.sync()
    except UnknownTopic:
        if not gone:
            raise


def _pool() -> ThreadPoolExecutor:
    global _threads
    if _threads is None:
        _threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="streamkit-sync")
    return _threads


def _begin_in_child() -> None:
    global _threads
    _threads = None  # its threads are the parent's


os.register_at_fork(after_in_child=_begin_in_child)
