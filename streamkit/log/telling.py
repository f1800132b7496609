"""What a walk has found is told once.

A log that was opened read-only is walked by each who opens it, and again whenever it has grown: all
of them find the same.
"""

import logging
import os

_told: set[tuple[str, str, int]] = set()


def tell(
    logger: logging.Logger, level: int, message: str, path: str, at: int, *args: object, each: bool
) -> None:
    """Log `message` of byte `at` in the file `path`, unless this process has said that before.

    With `each` false: unless it has said that of any place in the directory. For a place that moves
    on while somebody else appends.
    """
    place = (message, path, at)
    anywhere = (message, os.path.dirname(path), -1)
    if place in _told or (anywhere in _told and not each):
        return
    _told.update((place, anywhere))
    logger.log(level, message, path, at, *args)
