"""`streamkit run --reload`: stop when the app's files change, and begin again with them."""

import linecache
import os
import site
import sys
import sysconfig
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import Event, Thread

import streamkit
from streamkit.cli.failures import describe
from streamkit.cli.output import note, print_error
from streamkit.engine.signals import Stop
from streamkit.errors import StreamkitError

LOOK_SECONDS = 0.25
"""How often files are looked at."""

_OURS = str(Path(streamkit.__file__).parent)

Seen = tuple[int, int, int]
"""What a file is like: time of its last change, size, inode."""


class Files:
    """The files of an app: Python files beside it, and those it has imported, unless installed."""

    def __init__(self, source: str) -> None:
        self._folder = _folder(source)
        self._seen: dict[str, Seen | None] = {}
        self.changed()

    def changed(self) -> str | None:
        """A file that is not what it was at the last look, or has come or gone since."""
        found: str | None = None
        beside = {str(path) for path in self._folder.glob("*.py")}
        for path in {*beside, *_imported(), *self._seen}:
            now = _look(path)
            if path in self._seen:
                if self._seen[path] != now:
                    found = path
            elif self._seen and path in beside:
                found = path
            self._seen[path] = now
        return found


def until_changed(source: str, stop: Stop, work: Callable[[], None]) -> bool:
    """Do the work until a file of the app changes; whether one did, else it was stopped.

    What goes wrong is shown, with its traceback; so is that the work is done. Then a change is
    waited for, too.
    """
    # Kept, it would be taken for that of a file as large that is saved in the same second.
    sys.dont_write_bytecode = True
    files = Files(source)
    changed: list[str] = []
    ended = Event()

    def look() -> None:
        while not ended.wait(LOOK_SECONDS):
            path = files.changed()
            if path is not None:
                changed.append(path)
                stop.set()
                return

    looking = Thread(target=look, daemon=True)
    looking.start()
    try:
        try:
            work()
            if not stop.is_set():
                note("came to its end; waiting for a change of the app's files")
        except Exception as error:
            _show(error)
            if not changed:
                note("waiting for a change of the app's files")
        # `stop` may be set by a worker that failed.
        while looking.is_alive() and not stop.signal:
            looking.join(LOOK_SECONDS)
    finally:
        ended.set()
        looking.join()
    if changed and not stop.signal:
        note(f"{os.path.relpath(changed[0])} changed: beginning again")
        return True
    return False


def begin_again() -> None:
    """Become this command anew. Nothing of this process is left, but its number."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _folder(source: str) -> Path:
    name = source.partition(":")[0]
    if name.endswith(".py") or Path(name).is_file():
        return Path(name).resolve().parent
    return Path(*name.split(".")).resolve().parent


def _imported() -> set[str]:
    """Files of modules that are neither Python's, nor installed, nor ours."""
    found = set()
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if path and path.endswith(".py") and not path.startswith(_installed()):
            found.add(path)
    return found


@cache
def _installed() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    places = [paths["stdlib"], paths["purelib"], paths["platlib"], site.getusersitepackages()]
    return (_OURS + os.sep, "<", *(place + os.sep for place in places))


def _look(path: str) -> Seen | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _show(error: Exception) -> None:
    """An error, with the traceback of the app's own code."""
    cause = error.__cause__ if isinstance(error, StreamkitError) else error
    if cause is not None:
        linecache.checkcache()
        shown = traceback.TracebackException.from_exception(cause, compact=True)
        frames = [f for f in shown.stack if not f.filename.startswith((_OURS + os.sep, "<"))]
        shown.stack = traceback.StackSummary.from_list(frames)
        note("".join(shown.format()).rstrip())
    print_error(describe(error))
