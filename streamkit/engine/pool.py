"""Functions at work in other processes, which import them by their names."""

import importlib
import logging
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import inf
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.resource_tracker import ensure_running
from queue import SimpleQueue
from time import monotonic
from typing import Any

from streamkit.dsl.functions import Function
from streamkit.engine.failed import as_exception, told
from streamkit.engine.loop import Wanted
from streamkit.engine.performing import perform
from streamkit.engine.source_file import import_file
from streamkit.engine.traces import trace_of
from streamkit.engine.waiting import Answer, Event, Request

logger = logging.getLogger("streamkit.engine")

STOP_SECONDS = 1.0
"""How long a process has to end by itself."""
LOOK_SECONDS = 1.0
"""How often is looked whether somebody still waits for the answer to a call."""

_IGNORED = (signal.SIGINT, signal.SIGTERM)
"""What is sent to all processes of a group, and is for whoever has the app."""


class Pool:
    """The processes of one function, and for each a thread that gives it one call after another.

    A process is started with its first call. One that dies is replaced with the next; the call that
    it had, if it had one, has failed.
    """

    def __init__(self, function: Function, workers: int) -> None:
        self._calls: SimpleQueue[tuple[Request, Wanted] | None] = SimpleQueue()
        self._stopping = threading.Event()
        self._slots = [_Slot(function, self._stopping) for _ in range(workers)]
        self._threads = [
            threading.Thread(
                target=self._work, args=(slot,), name=f"streamkit-{function.name}", daemon=True
            )
            for slot in self._slots
        ]
        for thread in self._threads:
            thread.start()

    def start(self, request: Request, wanted: Wanted) -> None:
        """Make a call."""
        self._calls.put((request, wanted))

    def stop(self) -> None:
        """End the processes, also those that are at work."""
        self._stopping.set()
        for slot in self._slots:
            self._calls.put(None)
            slot.kill()

    def close(self) -> None:
        """When they have been stopped: wait until they are gone."""
        for thread in self._threads:
            thread.join(STOP_SECONDS)
        for slot in self._slots:
            slot.close()

    def _work(self, slot: "_Slot") -> None:
        while not self._stopping.is_set() and (call := self._calls.get()) is not None:
            request, wanted = call
            if wanted.closed:
                continue
            try:
                answer = slot.call(request, wanted)
            except Exception as error:  # whoever waits for it is to know
                answer = Answer(error=error)
            wanted.done(request.step, request.number, answer)


class _Slot:
    """One process, or its successor."""

    def __init__(self, function: Function, stopping: threading.Event) -> None:
        self._function = function
        self._stopping = stopping
        self._process: Any = None
        self._pipe: Connection | None = None
        self._lock = threading.Lock()

    def call(self, request: Request, wanted: Wanted) -> Answer:
        """Have the process make a call, and wait for its answer, or for its end. Where nobody wants
        it any more, as its task has gone elsewhere, the process is ended: others wait for it."""
        try:
            data = _packed(request)
        except Exception as error:
            return Answer(error=_unpicklable(f"what {self._function.name} is given", error))
        try:
            pipe = self._given(data)
            if isinstance(pipe, Answer):
                return pipe
            said = self._received(pipe, request.timeout, wanted)
        except (EOFError, OSError) as error:
            return self._died(error)
        return said if isinstance(said, Answer) else _read(said, self._function)

    def _given(self, data: bytes) -> Connection | Answer:
        """The pipe to a process that has the call now; if none can begin, why."""
        pipe = self._started()
        if isinstance(pipe, Answer):
            return pipe
        try:
            pipe.send_bytes(data)
        except OSError:  # it died when it had nothing to do: this call is another one's
            self.close()
            pipe = self._started()
            if not isinstance(pipe, Answer):
                pipe.send_bytes(data)
        return pipe

    def _received(self, pipe: Connection, timeout: float | None, wanted: Wanted) -> bytes | Answer:
        """What it answers; if it does not, why."""
        until = inf if timeout is None else monotonic() + timeout
        either = [pipe, self._process.sentinel]
        error: Exception | None = None
        while not (ready := wait(either, max(0.0, min(LOOK_SECONDS, until - monotonic())))):
            if wanted.closed:
                error = ChildProcessError("nobody waits for it any more; the process was ended")
            elif monotonic() >= until:
                error = TimeoutError(f"no answer within {timeout:g} s; the process was ended")
            if error is not None:
                self.kill()
                self.close()
                return Answer(error=error)
        return pipe.recv_bytes() if pipe in ready else self._died(EOFError())

    def _died(self, error: Exception) -> Answer:
        process = self._process
        if process is None:  # it could not even begin
            return Answer(error=error)
        process.join(STOP_SECONDS)
        code, number = process.exitcode, process.pid
        self.close()
        how = f"by signal {signal.Signals(-code).name}" if code and code < 0 else f"with {code}"
        return Answer(error=ChildProcessError(f"the process that had it, {number}, ended {how}"))

    def _started(self) -> Connection | Answer:
        """The pipe to the process; if it cannot begin, why."""
        if self._pipe is not None:
            return self._pipe
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        call = self._function.call
        path = getattr(sys.modules.get(call.__module__), "__file__", None)
        with self._lock:
            if self._stopping.is_set():
                return Answer(error=ChildProcessError("it is being stopped"))
            process = context.Process(
                target=work,
                args=(theirs, call.__module__, call.__qualname__, path),
                name=f"streamkit {self._function.name}",
                daemon=True,
            )
            with _deaf():  # as it is from its first step on
                process.start()
            self._process = process
        theirs.close()
        self._pipe = ours
        refused: Exception | None = pickle.loads(ours.recv_bytes())
        if refused is None:
            return ours
        self.close()
        return Answer(error=refused)

    def kill(self) -> None:
        """End the process now."""
        with self._lock:
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """Let go of a process that has ended, or ends as its pipe does."""
        with self._lock:
            process, self._process = self._process, None
            pipe, self._pipe = self._pipe, None
        if pipe is not None:
            pipe.close()
        if process is not None:
            process.join(STOP_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()


@contextmanager
def _deaf() -> Iterator[None]:
    """Whatever process this thread starts meanwhile hears none of the signals that it ignores."""
    ensure_running()  # else it comes with the first process, and lets them through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _IGNORED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _packed(request: Request) -> bytes:
    event = None
    if "context" in request.function.extras:
        # What the Context tells, and not what it is kept as.
        event = replace(request.event, value=None, data=None, encoded=None)
    return pickle.dumps((request.step, request.number, request.given, event), protocol=5)


def _read(said: bytes, function: Function) -> Answer:
    """The answer of a process."""
    try:
        answer: Answer = pickle.loads(said)
    except Exception as error:
        return Answer(error=_unpicklable(f"what {function.name} gave", error))
    return answer


def _unpicklable(what: str, error: Exception) -> TypeError:
    return TypeError(f"{what} cannot be handed to another process: {told(error)}")


# In the process.


def work(pipe: Connection, module: str, name: str, path: str | None) -> None:
    """What a process does: make the calls that come, until nobody is there to ask for more."""
    # Whoever has the app ends it: by a signal to all of a group it would die with its call.
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _IGNORED)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        function = _found(module, name, path)
    except BaseException as error:
        pipe.send_bytes(pickle.dumps(_told(error)))
        return
    pipe.send_bytes(pickle.dumps(None))
    while True:
        try:
            data = pipe.recv_bytes()
        except EOFError:
            return
        try:
            answer = _performed(function, data)
        except BaseException as error:  # sys.exit(), say, which is for one call to say
            answer = Answer(error=_told(error))
        pipe.send_bytes(_written(answer))


_NOWHERE = Event(0, None, None, -1, (), "", -1, -1, 0, None, 0)


def _performed(function: Function, data: bytes) -> Answer:
    """Make a call here that was packed for it."""
    try:
        step, number, given, event = pickle.loads(data)
    except Exception as error:
        return Answer(error=_unpicklable("what it is given", error))
    return perform(Request(step, number, function, given, event or _NOWHERE))


def perform_as_elsewhere(request: Request) -> Answer:
    """Make a call in this process, with what another would be handed, and of what that could hand
    back."""
    function = request.function
    try:
        data = _packed(request)
    except Exception as error:
        return Answer(error=_unpicklable(f"what {function.name} is given", error))
    try:
        answer = _performed(function, data)
    except SystemExit as error:
        return Answer(error=as_exception(error))
    return answer if answer.error is not None else _read(_written(answer), function)


def _found(module: str, name: str, path: str | None) -> Function:
    """The function as the app declares it."""
    loaded: Any = sys.modules.get(module) or _imported(module, path)
    for part in name.split("."):
        loaded = getattr(loaded, part)
    node = getattr(loaded, "_node", None)
    if node is None:
        raise TypeError(
            f"{module}.{name} is not the stream that @process makes; a function for workers= is "
            "decorated where it is defined"
        )
    function: Function = node.function
    return function


def _imported(module: str, path: str | None) -> Any:
    of_a_package = "." in module and "@" not in module
    if path is None or of_a_package or not path.endswith(".py"):
        return importlib.import_module(module)
    # A file that was given to `streamkit run`, under the name it has there.
    return import_file(path, module)


def _written(answer: Answer) -> bytes:
    if answer.error is not None:
        return pickle.dumps(Answer(error=_told(answer.error)), protocol=5)
    try:
        return pickle.dumps(answer, protocol=5)
    except Exception as error:
        return pickle.dumps(Answer(error=_unpicklable("what the function gave", error)))


def _told(error: BaseException) -> Exception:
    """An error as it can be handed over, with where it came from as a note."""
    where = trace_of(error).rstrip() or told(error)
    handed: Exception = RuntimeError(told(error))
    if isinstance(error, Exception):
        try:
            handed = pickle.loads(pickle.dumps(error))
        except Exception:
            handed = RuntimeError(told(error))
    handed.add_note(f"in a worker process:\n{where}")
    return handed


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
