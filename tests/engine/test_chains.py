"""Windows over windows of several streams, over repartitions and crashes: nothing lost or twice."""

from collections import Counter
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.app import App
from streamkit.dsl.windows import tumbling

Play = tuple[Any, ...]
"""("left" or "right", key, time, partition), ("step",), ("silence",), ("commit"|"crash", task)."""

moves = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(["left", "right"]),
            st.sampled_from("abc"),
            st.integers(0, 60),
            st.integers(0, 1),
        ),
        st.sampled_from([("step",), ("silence",), ("commit", None), ("crash", None)]),
        st.tuples(st.sampled_from(["commit", "crash"]), st.integers(0, 5)),
    ),
    max_size=40,
)


class Sum(msgspec.Struct):
    bits: int
    kind: str


def _app() -> App:
    """Both streams go through the same tasks, because they are joined with one table."""
    app = App("c")
    names = app.table("names", str)
    for topic in ("left", "right"):

        def named(event: Sum, name: str | None) -> Sum:
            return event

        def first(total: Sum | None, event: Sum) -> Sum:
            return Sum(event.bits + (total.bits if total else 0), event.kind)

        def second(total: int | None, event: Sum) -> int:
            return (total or 0) + event.bits

        joined = app.stream(topic, Sum).join(names, how="left", name=f"named-{topic}")(named)
        short = joined.window(tumbling("10ms", grace="3ms"))
        moved = short.aggregate(name=f"first-{topic}")(first).by("kind")
        long = moved.window(tumbling("20ms", grace="0s"))
        long.aggregate(name=f"second-{topic}", to=f"out-{topic}")(second)
    return app


@settings(max_examples=100, deadline=None)
@given(moves)
def test_every_event_is_in_a_result_or_late_once_whatever_crashes_in_between(
    plays: list[Play],
) -> None:
    sent: dict[str, Counter[str]] = {"left": Counter(), "right": Counter()}
    with _app().test(partitions=2, members=2) as t:
        for number, (play, *more) in enumerate(plays):
            if play in sent:
                kind, time, partition = more
                bit = 1 << number
                t.send(play, Sum(bit, kind), key=kind, timestamp=time, partition=partition)
                sent[play][kind] += bit
            elif play == "step":
                t.step()
            elif play == "silence":
                t.advance("3s")
            else:
                (task,) = more
                getattr(t, play)(None if task is None else task % t.members)
        t.finish(10**6)
        for topic, expected in sent.items():
            total: Counter[str] = Counter()
            for record in t.topic(f"out-{topic}"):
                total[record.key] += record.value
            for window in ("first", "second"):
                for record in t.topic(f"c-{window}-{topic}-late"):
                    total[record.key] += record.value.bits
            assert total == expected
