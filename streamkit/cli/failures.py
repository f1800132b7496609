"""An error as text of one screen: what happened, where, and what to do."""

from streamkit.engine.traces import places_of
from streamkit.errors import FunctionError, StreamkitError


def describe(error: Exception) -> str:
    """Say an error to a person who does not want a traceback, and how to get one if it helps."""
    lines = [_what(error), *getattr(error, "__notes__", ())]
    if isinstance(error, FunctionError) and error.__cause__ is not None:
        lines += [f"    {place}" for place in places_of(error.__cause__)[-3:]]
        for note in getattr(error.__cause__, "__notes__", ()):
            lines += [f"    {line}" for line in note.splitlines()]
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
