"""The topics that a producer sends to."""

from functools import partial

from streamkit import codec
from streamkit.backends.base import Backend
from streamkit.clients.buffers import TopicBuffers
from streamkit.errors import TopicExists, UnknownTopic


class SentTopics:
    """The topics that are sent to, with their buffers. They are looked up when first sent to."""

    __slots__ = ("_backend", "_batch_bytes", "_create", "lanes", "opened", "within")

    def __init__(self, backend: Backend, *, batch_bytes: int, create: int) -> None:
        """`create`: how many partitions a missing topic is made with; 0: UnknownTopic."""
        self._backend = backend
        self._batch_bytes = batch_bytes
        self._create = create
        self.opened: dict[str, TopicBuffers] = {}
        # Those of the open transaction: `opened` while something is sent in it, and only then.
        self.within: dict[str, TopicBuffers] = {}
        self.lanes: dict[str, codec.Lanes] = {}

    def open(self, name: str) -> TopicBuffers:
        try:
            info = self._backend.topic(name)
        except UnknownTopic:
            if not self._create:
                raise
            try:
                info = self._backend.create_topic(name, self._create)
            except TopicExists:  # by somebody else, just now
                info = self._backend.topic(name)
        look = partial(self._backend.topic, name)
        target = self.opened[name] = TopicBuffers(info, self._batch_bytes, look)
        self.lanes[name] = target.lanes
        return target

    def forget(self, topic: TopicBuffers) -> None:
        """Ask anew about a topic that is gone: it may come back."""
        name = topic.info.name
        if self.opened.get(name) is topic:
            del self.opened[name]
            self.lanes.pop(name, None)

    def close_lanes(self) -> None:
        """Have the next record of every partition go the long way, where errors are raised."""
        for target in self.opened.values():
            for buffer in target.buffers:
                buffer.lane.open = False

    def clear(self) -> None:
        """What is sent now is looked up again."""
        self.opened.clear()
        self.lanes.clear()
