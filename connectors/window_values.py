"""The window that a record is the result of, as columns."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from streamkit.dsl.instants import moment
from streamkit.engine.headers import WINDOW, WindowNote, window_of
from streamkit.errors import DataError, SerdeError
from streamkit.records import Record


def is_of_a_window(record: Record[bytes | None]) -> bool:
    return any(name == WINDOW for name, _ in record.headers)


def window_note_of(record: Record[bytes | None]) -> WindowNote:
    """Raises DataError and SerdeError."""
    try:
        window = window_of(record.headers)
    except msgspec.MsgspecError as error:
        raise SerdeError(f"{record.coordinates}: the header {WINDOW}: {error}") from error
    if window is None:
        raise DataError(
            f"{record.coordinates}: no header {WINDOW}: pk.mode = window is for the results of "
            "windows, as they are or as functions after the window make others of them"
        )
    return window


def window_fields_of(
    window: WindowNote, record: Record[bytes | None], names: Sequence[str]
) -> dict[str, datetime]:
    """The window's start under the first name, its end under the second, if there is one.

    Raises DataError.
    """
    times = (window.start, window.end)
    try:
        moments = [moment(time) for time in times[: len(names)]]
    except OverflowError:
        raise DataError(f"{record.coordinates}: a window {times} beyond the year 9999") from None
    return dict(zip(names, moments, strict=True))
