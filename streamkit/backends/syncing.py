"""Partitions brought to stable storage together: a disk does several syncs in the time of one."""

import os
import threading
from _thread import start_new_thread
from collections.abc import Iterable
from contextlib import suppress
from queue import Empty, SimpleQueue

from streamkit.errors import UnknownTopic
from streamkit.log.partition import Partition

_AT_ONCE = 16


class _Threads:
    """They sync what they are given, and are kept.

    Unlike those of the standard library: there an interrupt, at the wrong moment of handing
    something over, leaves a lock taken for ever, and who closes a producer after it never returns.
    """

    def __init__(self) -> None:
        self._todo: SimpleQueue[_Sync] = SimpleQueue()
        self._idle: SimpleQueue[None] = SimpleQueue()
        """As many as there are threads with nothing to do; after an interrupt perhaps fewer."""
        self._started = 0

    def give(self, one: "_Sync") -> None:
        """Have it done by a thread; by this one, where there can be none."""
        try:
            self._idle.get_nowait()
        except Empty:
            if self._started < _AT_ONCE:
                with suppress(RuntimeError):  # the interpreter is ending, or there are too many
                    start_new_thread(self._work, ())
                    self._started += 1
            if not self._started:
                one.do()
                return
        self._todo.put(one)

    def _work(self) -> None:
        threading.current_thread().name = "streamkit-sync"
        while True:
            self._todo.get().do()
            self._idle.put(None)


class _Sync:
    """A partition to be synced, and how that ends: None, or an error, is put where it is said."""

    def __init__(
        self, partition: Partition, gone: bool, ends: "SimpleQueue[BaseException | None]"
    ) -> None:
        self._partition = partition
        self._gone = gone
        self._ends = ends

    def do(self) -> None:
        try:
            _sync(self._partition, self._gone)
        except BaseException as error:
            self._ends.put(error)
        else:
            self._ends.put(None)


_threads = _Threads()


def sync_all(partitions: Iterable[Partition], *, gone: bool = False) -> None:
    """Return when all that was appended to them before the call is on stable storage.

    `gone`: deleted ones are passed over. Raises an error of one when all others are through.
    """
    todo = list(partitions)
    if not todo:
        return
    if len(todo) == 1:
        _sync(todo[0], gone)
        return
    ends: SimpleQueue[BaseException | None] = SimpleQueue()
    errors: list[BaseException] = []
    given = 0
    try:
        for partition in todo[1:]:
            _threads.give(_Sync(partition, gone, ends))
            given += 1
        _sync(todo[0], gone)
    finally:
        errors = [error for _ in range(given) if (error := ends.get()) is not None]
    if errors:
        raise errors[0]


def _sync(partition: Partition, gone: bool) -> None:
    try:
        partition.sync()
    except UnknownTopic:
        if not gone:
            raise


def _begin_in_child() -> None:
    global _threads
    _threads = _Threads()  # those that there were are the parent's


os.register_at_fork(after_in_child=_begin_in_child)
