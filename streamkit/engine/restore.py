"""Bring state back from its changelog: up to what was committed, and no further.

    start                    committed                 end
      |  written and committed  |  written, then killed  |
      |------ loaded -----------|------ taken back ------|

What was written past the committed end belongs to work that will be done again. The keys it
touched have to be written once more with their committed value, or a later restore, by then
with a committed end behind them, would take them for true.

Compaction of a changelog must therefore never look past the committed end of the app's group: it
would remove the committed value in favour of one that does not count.
"""

from collections.abc import Callable, Mapping

from streamkit.backends.base import Backend
from streamkit.engine.columns import before
from streamkit.records import Columns, TopicPartition


def restore(
    backend: Backend,
    changelog: TopicPartition,
    committed: int,
    load: Callable[[Columns], None],
    on_progress: Callable[[int, int], None] | None = None,
) -> Mapping[bytes, bytes | None]:
    """Hand what was committed to `load`; give what has to be appended to take back the rest.

    The result has every key touched at or past `committed` with its committed value, None when it
    has none. `on_progress` is called after each batch with the records done and in all.
    """
    bounds = backend.offsets(changelog)
    committed = min(max(committed, bounds.start), bounds.end)
    taken_back: dict[bytes, bytes | None] = {}
    position = committed
    while position < bounds.end:
        for batch in backend.fetch({changelog: position}):
            taken_back.update((key, None) for key in batch.columns().keys if key is not None)
            position = batch.next_offset
    position = bounds.start
    while position < committed:
        for batch in backend.fetch({changelog: position}):
            columns = before(batch.columns(), committed)
            load(columns)
            if taken_back:
                for key, value in zip(columns.keys, columns.values, strict=True):
                    if key in taken_back:
                        taken_back[key] = value
            position = batch.next_offset
        if on_progress is not None:
            on_progress(min(position, committed) - bounds.start, committed - bounds.start)
    return taken_back
