"""What of a traceback is the user's own: all but the frames that are ours."""

import traceback

_OURS = (__file__.rpartition("/engine/")[0] + "/", "streamkit/")
"""How the paths of our files begin, and of those that are compiled."""


def is_ours(path: str) -> bool:
    """Whether a frame with this path is one of ours."""
    return path.startswith(_OURS)


def trace_of(error: BaseException) -> str:
    """The traceback without our frames; where all are ours, what was noted of where it came from in
    another process, or nothing."""
    shown = traceback.TracebackException.from_exception(error)
    if not _without_ours(shown):
        return "\n".join(getattr(error, "__notes__", ()))
    return "".join(shown.format())


def places_of(error: BaseException) -> list[str]:
    """The lines of the user's code that an error came through."""
    return [
        f"{frame.filename}:{frame.lineno} in {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
        if not is_ours(frame.filename)
    ]


def _without_ours(shown: traceback.TracebackException) -> bool:
    """Take our frames out of an error's stack, and of those before it; whether others are left."""
    found = False
    seen: set[int] = set()
    rest = [shown]
    while rest:
        one = rest.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        frames = [frame for frame in one.stack if not is_ours(frame.filename)]
        one.stack = traceback.StackSummary.from_list(frames)
        found |= bool(frames)
        rest += [each for each in (one.__cause__, one.__context__) if each is not None]
        rest += getattr(one, "exceptions", None) or ()
    return found
