"""An error as text of one screen: what happened, where, and what to do."""

import traceback
from pathlib import Path

import streamkit
from streamkit.errors import FunctionError, StreamkitError

_OURS = Path(streamkit.__file__).parent


def describe(error: Exception) -> str:
    """Say an error to a person who does not want a traceback, and how to get one if it helps."""
    lines = [_what(error), *getattr(error, "__notes__", ())]
    if isinstance(error, FunctionError) and error.__cause__ is not None:
        lines += [f"    {place}" for place in _places(error.__cause__)]
        lines.append("The next run begins at this record.")
    elif not isinstance(error, StreamkitError | OSError):
        lines.append(
            "This is a fault in streamkit or its surroundings; run again with --debug to see where."
        )
    return "\n".join(lines)


def _what(error: Exception) -> str:
    if isinstance(error, StreamkitError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror}"
    return f"{type(error).__name__}: {error}"


def _places(cause: BaseException) -> list[str]:
    """The lines of a user's own code that an exception came through, the last three of them."""
    frames = [
        frame
        for frame in traceback.extract_tb(cause.__traceback__)
        if _OURS not in Path(frame.filename).parents
    ]
    return [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames[-3:]]
