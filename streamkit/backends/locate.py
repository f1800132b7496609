"""From a url to an open log."""

import logging
import os
import re
import shutil
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit

from streamkit.backends.base import Backend
from streamkit.clock import SystemClock
from streamkit.errors import UsageError
from streamkit.log.late import loading

if TYPE_CHECKING:  # who only describes an app, or asks for help, opens no log
    from streamkit.backends.embedded import EmbeddedBackend
    from streamkit.backends.offsets_topic import OffsetsTopic
    from streamkit.backends.settling import Settling
    from streamkit.log.directory import Log

DEFAULT_PATH = "./streamkit-data"

_log = logging.getLogger("streamkit.log")
_ADDRESS = re.compile(r"[\w.-]+:\d+(,[\w.-]+:\d+)*")


def default_url() -> str:
    """Where the log is when nobody says: `STREAMKIT_LOG`, else ./streamkit-data."""
    return os.environ.get("STREAMKIT_LOG") or DEFAULT_PATH


def open_backend(
    url: str | os.PathLike[str] | None = None, *, read_only: bool = False, create: bool = True
) -> Backend:
    """Open the log at a path, a `file:` url, or `memory:`; None is `default_url()`.

    `memory:` is a log of its own in a temporary directory that is removed at close; nothing is
    synced. Several opens of one path in a process share its files and caches. With `create` false
    (always so with `read_only`) the directory must exist: LogNotFound.
    Raises UsageError for other urls; LogError for what is wrong with the directory.
    """
    text = os.fspath(url) if url is not None else default_url()
    if text.startswith("memory:"):
        if text != "memory:":
            raise UsageError(f"{text!r}: a log in memory has no name; write 'memory:'")
        if read_only:
            raise UsageError("memory: is empty when it is opened, so read-only makes no sense")
        return _temporary()
    return _shared(directory_of(text), read_only=read_only, create=create and not read_only)


def directory_of(text: str) -> Path:
    """The directory that a path or a `file:` url means. Raises UsageError for other urls."""
    if text.startswith("file:"):
        parts = urlsplit(text)
        if parts.netloc not in ("", "localhost"):
            raise UsageError(f"{text!r}: a file: url on another host; use file:///path or a path")
        return Path(unquote(parts.path))
    if text.startswith("kafka:"):
        raise UsageError(
            f"{text!r}: this version of streamkit has no client for Kafka clusters; "
            "use a directory, or memory:"
        )
    if _ADDRESS.fullmatch(text) and not os.path.exists(text):
        raise UsageError(
            f"{text!r} looks like the address of a Kafka broker, and a log is a directory; for one"
            f" of that name write './{text}'"
        )
    if "://" in text:
        raise UsageError(f"{text!r} is not a log; use a path, file:///path or memory:")
    return Path(text)


@dataclass(slots=True)
class _Open:
    log: "Log"
    offsets: "OffsetsTopic"
    settling: "Settling"
    uses: int = 0


# One Log per path and process: its inotify instance, file handles and indexes serve all who use it.
_logs: dict[tuple[str, bool], _Open] = {}
_logs_lock = threading.Lock()


def _shared(path: Path, *, read_only: bool, create: bool) -> "EmbeddedBackend":
    with loading():
        from streamkit.backends.embedded import EmbeddedBackend
        from streamkit.backends.offsets_topic import OffsetsTopic
        from streamkit.backends.settling import Settling
        from streamkit.log.checkpoints import META_PROPERTIES
        from streamkit.log.directory import Log

    key = (os.path.realpath(path), read_only)
    with _logs_lock:
        opened = _logs.get(key)
        if opened is None:
            is_new = not os.path.lexists(os.path.join(path, META_PROPERTIES))
            log = Log.open(path, create=create, read_only=read_only)
            clock = SystemClock()
            opened = _logs[key] = _Open(log, OffsetsTopic(log, clock), Settling(log, clock))
            if is_new:  # whoever is in a wrong folder has it from here
                _log.info("there was no log at %s: made one", os.path.abspath(path))
        opened.uses += 1

    def closing() -> None:
        with _logs_lock:
            opened.uses -= 1
            if opened.uses == 0:
                del _logs[key]
                opened.log.close()

    return EmbeddedBackend(
        opened.log,
        opened.offsets,
        url=str(path),
        settling=opened.settling,
        closing=closing,
    )


def _temporary() -> "EmbeddedBackend":
    with loading():
        from streamkit.backends.embedded import EmbeddedBackend
        from streamkit.backends.offsets_topic import OffsetsTopic
        from streamkit.log.directory import Log

    directory = tempfile.mkdtemp(prefix="streamkit-")
    fsync: Literal["never"] = "never"
    try:
        log = Log.open(directory, fsync=fsync)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise

    def closing() -> None:
        try:
            log.close()
        finally:
            shutil.rmtree(directory)

    return EmbeddedBackend(log, OffsetsTopic(log, SystemClock()), url="memory:", closing=closing)


def _unlock_in_child() -> None:
    global _logs_lock
    _logs_lock = threading.Lock()  # a thread that the child does not have may hold the old one


os.register_at_fork(after_in_child=_unlock_in_child)
