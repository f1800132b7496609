"""The command `streamkit`."""

import os
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

INTERRUPTED = 130
"""The exit code after Ctrl-C."""


def main() -> None:
    """Run the command line; the heavy imports wait until somebody asks for it."""
    # Also where it was ignored, as shells have it for what they start in the background.
    signal.signal(signal.SIGINT, end_at_once)
    # Whoever starts us may have blocked them, for purposes of its own.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    sys.unraisablehook = _not_swallowed

    from streamkit.cli.main import app

    app(prog_name="streamkit")


def end_at_once(number: int, frame: FrameType | None) -> None:
    """What Ctrl-C does as long as nothing is open, and when all is closed.

    Not by an exception: imports run code, in callbacks and in C, that would swallow it.
    """
    os._exit(INTERRUPTED)


def _not_swallowed(unraisable: "UnraisableHookArgs") -> None:
    """An interrupt that came inside a finaliser would be forgotten there."""
    if unraisable.exc_type is KeyboardInterrupt:
        os._exit(INTERRUPTED)
    sys.__unraisablehook__(unraisable)
