"""Topics that are missing: sources make them, sinks wait for them."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from streamkit.backends.base import Backend
from streamkit.backends.values import TopicInfo
from streamkit.connect.api import ConnectorLog
from streamkit.errors import TopicExists

DOUBT_SECONDS = 5.0  # how long a topic may be missing before that is worth a warning
SIMILAR = 0.75  # "items" and "files" share 0.6, a name with two letters swapped at least 0.8


def ensure_topic(
    backend: Backend, name: str, partitions: int, config: Mapping[str, str]
) -> TopicInfo:
    """The topic, made with these settings if nobody has made it yet."""
    found = backend.topics().get(name)
    if found is not None:
        return found
    try:
        return backend.create_topic(name, partitions, config)
    except TopicExists:
        return backend.topic(name)  # another worker was faster


def guess(name: str, known: Iterable[str]) -> str:
    """Text for the end of a message about a missing topic: the name that was meant, or nothing.

    A guess that is far off is worse than none: most missing topics are just not made yet.
    """
    users = [topic for topic in known if not topic.startswith("__")]
    close = get_close_matches(name, users, n=1, cutoff=SIMILAR)
    return f"; did you mean {close[0]!r}?" if close else ""


class AwaitedTopics:
    """The topics that a sink waits for, and how loudly it says so.

    A source of the same worker may be about to make one, so a warning comes after a while only.
    """

    def __init__(self, wanted: Iterable[str], log: ConnectorLog) -> None:
        self._wanted = tuple(wanted)
        self._log = log
        self._since: dict[str, float] = {}
        self._warned: set[str] = set()

    def look(self, known: Iterable[str], now: float) -> tuple[str, ...]:
        """Those that are missing at `now` (monotonic seconds)."""
        topics = set(known)
        missing = tuple(name for name in self._wanted if name not in topics)
        self._since = {name: self._since.get(name, now) for name in missing}
        self._warned.intersection_update(missing)
        for name, since in self._since.items():
            if since == now:
                self._log.info("waiting for topic %s", name)
            elif now - since >= DOUBT_SECONDS and name not in self._warned:
                self._warned.add(name)
                others = topics - set(self._wanted)
                self._log.warning("still waiting for topic %s%s", name, guess(name, others))
        return missing
