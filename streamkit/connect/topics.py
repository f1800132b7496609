"""Topics that the connect runtime makes when they are missing."""

from collections.abc import Mapping

from streamkit.backends.base import Backend, TopicInfo
from streamkit.errors import TopicExists


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
