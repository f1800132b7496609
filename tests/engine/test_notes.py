"""What goes along with an offset: told again as it was, not longer than one can carry, and nobody's
word but ours."""

import pytest

from streamkit.engine.notes import LIMIT, Note, Paused, end_of, is_waiting, read_note
from streamkit.errors import DataError


def test_what_a_task_noted_is_read_again_and_nothing_is_no_note() -> None:
    paused = Paused(("a", 0, 7, None), True, ("n",), False, {"n": (1, 2)})
    note = Note(latest=5, closed={"n": 9}, tasks=2, told=[(0, 3, 1), (1, None, 4)], paused=paused)
    assert read_note(note.text(), "a-0") == note
    assert [(m.task, m.watermark, m.idle, m.finished) for m in note.markers()] == [
        (0, 3, True, 0),
        (1, None, False, 2),
    ]
    assert read_note("", "a-0") is None
    assert is_waiting(note.text(), "a-0")
    assert end_of("", "a-0") == (0, 0)


def test_a_note_that_no_offset_could_carry_is_refused_before_it_is_committed() -> None:
    told = [(task, 1 << 40, 0) for task in range(LIMIT // 10)]
    with pytest.raises(DataError, match=f"more than {LIMIT}; read fewer partitions"):
        Note(tasks=len(told), told=told).text()


def test_what_somebody_else_has_committed_is_no_note() -> None:
    with pytest.raises(DataError, match="a-0: the committed offset carries 'checkpoint 7', which"):
        read_note("checkpoint 7", "a-0")
