"""A process that a function is at work in, which it imports by its name; what goes to and fro.

It makes one call after another, until nobody is there to ask for more: the pipe they come by has
its end then, whatever became of whoever had the other one.
"""

import importlib
import logging
import os
import pickle
import signal
import sys
import threading
from dataclasses import replace
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from time import sleep
from typing import Any

from streamkit.dsl.functions import Function
from streamkit.engine.failed import as_exception, told
from streamkit.engine.opened import Opened
from streamkit.engine.performing import perform
from streamkit.engine.source_file import import_file
from streamkit.engine.traces import trace_of
from streamkit.engine.waiting import Answer, Event, Request

logger = logging.getLogger("streamkit.engine")

IGNORED = (signal.SIGINT, signal.SIGTERM)
"""What is sent to all processes of a group, and is for whoever has the app."""
CLOSE_SECONDS = 5.0
"""How long it has to close what it has open when whoever started it is gone."""


def packed(request: Request) -> bytes:
    event = None
    if "context" in request.function.extras:
        # What the Context tells, and not what it is kept as.
        event = replace(request.event, value=None, data=None, encoded=None)
    return pickle.dumps((request.step, request.number, request.given, event), protocol=5)


def read_answer(said: bytes, function: Function) -> Answer:
    """The answer of a process."""
    try:
        answer: Answer = pickle.loads(said)
    except Exception as error:
        return Answer(error=unpicklable(f"what {function.name} gave", error))
    return answer


def unpicklable(what: str, error: Exception) -> TypeError:
    return TypeError(f"{what} cannot be handed to another process: {told(error)}")


# In the process.


def work(pipe: Connection, module: str, name: str, path: str | None) -> None:
    """What a process does: make the calls that come, until nobody is there to ask for more."""
    # Whoever has the app ends it: by a signal to all of a group it would die with its call.
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED)
    has_open = threading.Event()
    threading.Thread(target=_end_with_parent, args=(has_open,), daemon=True).start()
    try:
        step = _found(module, name, path)
    except BaseException as error:
        pipe.send_bytes(pickle.dumps(_told(error)))
        return
    pipe.send_bytes(pickle.dumps(None))
    # Nobody knows which of them a function asks for, before it does.
    opened = Opened(step._graph.resources, None, late=True)
    opened.take()
    if step._graph.resources:
        has_open.set()
    try:
        _answer_all(pipe, step._node.function)
    finally:
        for wrong in opened.close():
            logger.error("%s", wrong)


def _answer_all(pipe: Connection, function: Function) -> None:
    while True:
        try:
            data = pipe.recv_bytes()
        except (EOFError, ConnectionResetError):
            return
        try:
            answer = _performed(function, data)
        except BaseException as error:  # sys.exit(), say, which is for one call to say
            answer = Answer(error=_told(error))
        try:
            pipe.send_bytes(_written(answer))
        except BrokenPipeError:
            return


_NOWHERE = Event(0, None, None, -1, (), "", -1, -1, 0, None, 0)


def _performed(function: Function, data: bytes) -> Answer:
    """Make a call here that was packed for it."""
    try:
        step, number, given, event = pickle.loads(data)
    except Exception as error:
        return Answer(error=unpicklable("what it is given", error))
    return perform(Request(step, number, function, given, event or _NOWHERE))


def perform_as_elsewhere(request: Request) -> Answer:
    """Make a call in this process, with what another would be handed, and of what that could hand
    back."""
    function = request.function
    try:
        data = packed(request)
    except Exception as error:
        return Answer(error=unpicklable(f"what {function.name} is given", error))
    try:
        answer = _performed(function, data)
    except SystemExit as error:
        return Answer(error=as_exception(error))
    return answer if answer.error is not None else read_answer(_written(answer), function)


def _found(module: str, name: str, path: str | None) -> Any:
    """The step of the function, as the app declares it."""
    loaded: Any = sys.modules.get(module) or _imported(module, path)
    for part in name.split("."):
        loaded = getattr(loaded, part)
    if getattr(loaded, "_node", None) is None:
        raise TypeError(
            f"{module}.{name} is not the stream that @process makes; a function for workers= is "
            "decorated where it is defined"
        )
    return loaded


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
        return pickle.dumps(Answer(error=unpicklable("what the function gave", error)))


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


def _end_with_parent(has_open: threading.Event) -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        if has_open.is_set():
            sleep(CLOSE_SECONDS)
        os._exit(1)
