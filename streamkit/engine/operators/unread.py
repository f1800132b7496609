"""What becomes of records that are not what a stream was declared to be."""

from bisect import bisect_left

from streamkit.dsl.nodes.sources import StreamSource
from streamkit.engine.cursor import Cursor
from streamkit.engine.inputs import Reader
from streamkit.engine.letters import Letter
from streamkit.engine.operators.failing import Failing
from streamkit.engine.site import Site
from streamkit.records import Columns, Headers
from streamkit.serde import serde_for

_BYTES = serde_for(bytes | None)


def guarded(read: Reader, source: StreamSource, site: Site) -> Reader:
    """A reader that does as the stream's `on_error` says with records that `read` cannot read."""
    policy, cursor = source.failure, site.cursor
    assert policy is not None
    failing = Failing(source, policy, _BYTES, _BYTES, site)

    def read_guarded(columns: Columns, start: int, stop: int) -> None:
        at = start
        while at < stop:
            end = stop
            if failing.is_parking:
                if _follows(failing, cursor, columns, at):
                    at += 1
                    continue
                end = at + 1
            try:
                read(columns, at, end)
            except Exception as error:
                if error is not cursor.unread:
                    raise  # of what comes after
                at = bisect_left(columns.offsets, cursor.offset, at, stop)
                failing.fail(*_row(columns, at), error)
                end = at + 1
            if cursor.cut:
                return  # it has read up to where the cursor is, and others have their turn
            at = end

    def again(key: bytes | None, value: bytes | None, stamp: int, letter: Letter) -> bool:
        columns = Columns([letter.offset], [stamp], [key], [value], [letter.headers])
        earlier = letter.earlier
        if failing.turned_away(key, value, stamp, letter.headers, earlier):
            return False
        cursor.offset = -1  # nothing of it is read: it is, whoever waits for a turn
        try:
            read(columns, 0, 1)
        except Exception as error:
            if error is not cursor.unread:
                raise
            failing.fail(key, value, stamp, letter.headers, error, earlier=earlier)
            return False
        failing.passed(key, stamp, earlier)
        return True

    failing.again = again
    return read_guarded


def _follows(failing: Failing, cursor: Cursor, columns: Columns, at: int) -> bool:
    before, cursor.offset = cursor.offset, columns.offsets[at]
    if failing.follows(*_row(columns, at)):
        return True
    # The cursor is at what was processed last: who reads on may be told to stop behind that.
    cursor.offset = before
    return False


def _row(columns: Columns, at: int) -> tuple[bytes | None, bytes | None, int, Headers]:
    headers: Headers = () if columns.headers is None else columns.headers[at]
    return columns.keys[at], columns.values[at], columns.timestamps[at], headers
