"""What is said about topics that are missing."""

import pytest

from streamkit.connect.api import log_of
from streamkit.connect.topics import DOUBT_SECONDS, AwaitedTopics, guess


@pytest.mark.parametrize(
    ("name", "known", "text"),
    [
        ("items", ["files", "orders"], ""),
        ("itmes", ["files", "items"], "; did you mean 'items'?"),
        ("order", ["orders"], "; did you mean 'orders'?"),
        ("_offsets", ["__offsets"], ""),
    ],
)
def test_only_a_really_similar_topic_of_the_users_is_guessed(
    name: str, known: list[str], text: str
) -> None:
    assert guess(name, known) == text


def test_a_missing_topic_is_mentioned_at_once_and_warned_about_once_after_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    awaited = AwaitedTopics(["itmes", "files"], log_of("c"))

    def said(known: list[str], now: float) -> list[tuple[str, str]]:
        caplog.clear()
        awaited.look(known, now)
        return [(record.levelname, record.getMessage()) for record in caplog.records]

    caplog.set_level("INFO", "streamkit.connect")
    assert said(["files", "items"], 1.0) == [("INFO", "c: waiting for topic itmes")]
    assert said(["files", "items"], 2.0) == []
    late = 1.0 + DOUBT_SECONDS
    warning = "c: still waiting for topic itmes; did you mean 'items'?"
    assert said(["files", "items"], late) == [("WARNING", warning)]
    assert said(["files", "items"], 2 * late) == []
    assert awaited.look(["files"], 2 * late) == ("itmes",)
    assert awaited.look(["files", "itmes"], 2 * late) == ()
