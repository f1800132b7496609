"""The events of keys, kept by time, for folds that have to be done again."""

from collections.abc import Callable, Iterator
from typing import Any

from streamkit.dsl.nodes.windows import WindowFold
from streamkit.dsl.windows import Window
from streamkit.engine.cursor import Cursor
from streamkit.engine.site import Site


def refolder(node: WindowFold, site: Site) -> Callable[[Any, int, int, Iterator[Any]], Any]:
    """To be called with key, start and end of a window, and its values in their order: its state.

    The functions of such folds take values and perhaps the Window, and nothing of a record.
    """
    cursor: Cursor = site.cursor
    function = node.function
    call, wants_window = function.call, "window" in function.extras
    # They come in order of time, as if they were of one: then it is their order that decides.
    at = (0,) if function.is_timed else ()

    def refold(key: Any, start: int, end: int, values: Iterator[Any]) -> Any:
        more = (Window(start, end),) if wants_window else at
        state = None
        try:
            for value in values:
                state = call(state, value, *more)
        except Exception as error:
            cursor.fail(function, key, error)
        return state

    return refold
