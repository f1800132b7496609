"""Functions at work in other processes, which `elsewhere` runs."""

import logging
import pickle
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.resource_tracker import ensure_running
from queue import SimpleQueue
from time import monotonic
from typing import Any

from streamkit.dsl.functions import Function
from streamkit.engine.elsewhere import IGNORED, packed, read_answer, unpicklable, work
from streamkit.engine.loop import Wanted
from streamkit.engine.waiting import Answer, Request

logger = logging.getLogger("streamkit.engine")

STOP_SECONDS = 5.0
"""How long a process has to end by itself, and to close what it has open."""
LOOK_SECONDS = 1.0
"""How often is looked whether somebody still waits for the answer to a call."""
LONG = 5.0
"""Seconds after which a line says that a process has not imported its function yet."""
IMPORTED_WITHIN = 300.0
"""Seconds after which that is a failure of the call which is waited for."""


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
        """End the processes: those that are at work now, others when they have closed what they
        have open."""
        self._stopping.set()
        for slot in self._slots:
            self._calls.put(None)
            slot.stop()

    def close(self) -> None:
        """When they have been stopped: wait until they are gone."""
        until = monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - monotonic()))
        for slot in self._slots:
            slot.close(until)

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
        self._at_work = False

    def call(self, request: Request, wanted: Wanted) -> Answer:
        """Have the process make a call, and wait for its answer, or for its end. Where nobody wants
        it any more, as its task has gone elsewhere, the process is ended: others wait for it."""
        try:
            data = packed(request)
        except Exception as error:
            return Answer(error=unpicklable(f"what {self._function.name} is given", error))
        with self._lock:
            if self._stopping.is_set():
                return Answer(error=ChildProcessError("it is being stopped"))
            self._at_work = True
        try:
            pipe = self._given(data, wanted)
            if isinstance(pipe, Answer):
                return pipe
            said = self._received(pipe, request, wanted)
        except (EOFError, OSError) as error:
            return self._died(error)
        finally:
            self._at_work = False
        return said if isinstance(said, Answer) else read_answer(said, self._function)

    def _given(self, data: bytes, wanted: Wanted) -> Connection | Answer:
        """The pipe to a process that has the call now; if none can begin, why."""
        pipe = self._started(wanted)
        if isinstance(pipe, Answer):
            return pipe
        try:
            pipe.send_bytes(data)
        except OSError:  # it died when it had nothing to do: this call is another one's
            self.close()
            pipe = self._started(wanted)
            if not isinstance(pipe, Answer):
                pipe.send_bytes(data)
        return pipe

    def _received(self, pipe: Connection, request: Request, wanted: Wanted) -> bytes | Answer:
        """What it answers; if it does not, why."""
        until = inf if request.timeout is None else monotonic() + request.timeout
        either = [pipe, self._process.sentinel]
        while not (ready := wait(either, max(0.0, min(LOOK_SECONDS, until - monotonic())))):
            if wanted.closed:
                return self._ended(_unwanted())
            if monotonic() >= until:
                return self._ended(out_of_time(request))
        return pipe.recv_bytes() if pipe in ready else self._died(EOFError())

    def _ended(self, why: Answer) -> Answer:
        """End the process, which does not come to an answer."""
        self.kill()
        self.close()
        return why

    def _died(self, error: Exception) -> Answer:
        process = self._process
        if process is None:  # it could not even begin
            return Answer(error=error)
        process.join(STOP_SECONDS)
        code, number = process.exitcode, process.pid
        self.close()
        how = f"by signal {signal.Signals(-code).name}" if code and code < 0 else f"with {code}"
        return Answer(error=ChildProcessError(f"the process that had it, {number}, ended {how}"))

    def _started(self, wanted: Wanted) -> Connection | Answer:
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
        return self._begun(ours, wanted)

    def _begun(self, pipe: Connection, wanted: Wanted) -> Connection | Answer:
        """The pipe to the process, once it has imported the function; if it cannot, why."""
        since = monotonic()
        telling = LONG
        while not wait([pipe, self._process.sentinel], LOOK_SECONDS):
            if wanted.closed:
                return self._ended(_unwanted())
            waited = monotonic() - since
            if waited >= IMPORTED_WITHIN:
                where = "it was ended: what a module does when it is imported has to come to an end"
                return self._ended(
                    Answer(error=TimeoutError(f"{self._importing(waited)}; {where}"))
                )
            if waited >= telling:
                telling *= 2
                logger.warning("%s; its calls wait for that", self._importing(waited))
        refused: Exception | None = pickle.loads(pipe.recv_bytes())
        if refused is None:
            return pipe
        self.close()
        return Answer(error=refused)

    def _importing(self, waited: float) -> str:
        call = self._function.call
        path = getattr(sys.modules.get(call.__module__), "__file__", None)
        return (
            f"{self._function.described}: its worker process {self._process.pid} has not imported "
            f"{path or call.__module__} in {waited:.0f} s"
        )

    def kill(self) -> None:
        """End the process now."""
        with self._lock:
            if self._process is not None:
                self._process.kill()

    def stop(self) -> None:
        """End the process, now if it is at work; else it is told that nothing more comes."""
        with self._lock:
            if self._process is None:
                return
            if self._at_work:
                self._process.kill()
            elif self._pipe is not None:
                self._pipe.close()
                self._pipe = None

    def close(self, until: float | None = None) -> None:
        """Let go of a process that has ended, or ends as its pipe does; `until` when at last."""
        with self._lock:
            process, self._process = self._process, None
            pipe, self._pipe = self._pipe, None
        if pipe is not None:
            pipe.close()
        if process is not None:
            process.join(STOP_SECONDS if until is None else max(0.0, until - monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
            process.close()


@contextmanager
def _deaf() -> Iterator[None]:
    """Whatever process this thread starts meanwhile hears none of the signals that it ignores."""
    ensure_running()  # else it comes with the first process, and lets them through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _unwanted() -> Answer:
    return Answer(error=ChildProcessError("nobody waits for it any more; the process was ended"))


def out_of_time(request: Request) -> Answer:
    """Of a call that takes too long."""
    return Answer(
        error=TimeoutError(f"no answer within {request.timeout:g} s; the process was ended")
    )
