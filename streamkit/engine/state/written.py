"""What a store's values are in its changelog."""

from collections.abc import Iterable
from itertools import islice
from typing import Any

from streamkit.dsl.instants import LATEST_TIME, moment
from streamkit.errors import SerdeError
from streamkit.serde import Serde

_LARGE = 1 << 63
"""Beyond it a number may be none of JSON's."""
_EXACT = (int, float, bool, str, bytes)
"""Types whose serdes write nothing that they cannot read."""


def written(
    serde: Serde,
    changelog: str,
    keys: list[bytes],
    values: list[Any],
    stamps: Iterable[int] = (),
    keeper: str = "",
) -> list[bytes | None]:
    """Values as they go to the changelog; `stamps` are the times of the events they were kept for,
    `keeper` the functions that keep them, or return them to an aggregate.

    Raises SerdeError when one is not of the type that was declared. They are read back to know:
    what could not be restored would stop the app for good, once it is committed.
    """
    exact = serde.type in _EXACT
    counts = serde.type is int
    encode, read = serde.encode, serde.decode
    encoded: list[bytes | None] = []
    for key, value in zip(keys, values, strict=True):
        if counts and type(value) is int and -_LARGE < value < _LARGE:
            encoded.append(b"%d" % value)  # as the serde does, in a third of the time
            continue
        try:
            data = encode(value)
            if not exact and data is not None:
                read(data)
        except SerdeError as error:
            raise SerdeError(
                f"state for {changelog}, key {key!r}{_at(stamps, len(encoded))}: {error}; "
                f"{keeper or 'the function it is called after'} kept or returned a value that is "
                "not of the type it declares"
            ) from error
        encoded.append(data)
    return encoded


def _at(stamps: Iterable[int], number: int) -> str:
    """Which event a value was kept for, as far as it is known when it is written."""
    stamp = next(islice(stamps, number, None), -1)
    known = 0 <= stamp <= LATEST_TIME
    return f", of an event of {moment(stamp):%Y-%m-%dT%H:%M:%S.%f} UTC" if known else ""
