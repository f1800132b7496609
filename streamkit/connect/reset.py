"""Forgetting where a source stands, so that it reads everything again."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from streamkit.backends.base import Backend
from streamkit.clients.connection import connected
from streamkit.clock import SystemClock
from streamkit.connect.api import Place
from streamkit.connect.appending import Rows, append_all, at_once, stop_at
from streamkit.connect.config import WorkerConfig
from streamkit.connect.config_file import load
from streamkit.connect.offsets import SourceOffsets, encode_key
from streamkit.errors import ConfigError, GroupActive, nearest
from streamkit.records import TopicPartition

CLAIM_SECONDS = 10.0
LOOK_SECONDS = 0.05


def reset(
    config: WorkerConfig | str | Path | Sequence[str | Path], name: str, log: str | Path | Backend
) -> list[Place]:
    """Forget all positions of the source `name`, and return the source partitions they were of.

    Its next run reads everything again; what it has stored in its topics stays there. The
    arguments are those of `streamkit.connect.worker.run`. Raises ConfigError when there is no such
    source, GroupActive when a worker runs it.
    """
    settings = config if isinstance(config, WorkerConfig) else load(config)
    _check(settings, name)
    with ExitStack() as cleanup:
        backend = cleanup.enter_context(connected(log))
        target = TopicPartition(settings.settings.offset_storage_topic, 0)
        if target.topic not in backend.topics():
            return []
        cleanup.enter_context(_claimed(backend, settings.settings.group_id, name))
        offsets = SourceOffsets(name)
        offsets.load(backend, target)
        places = [place for place, _ in offsets.all()]
        tombstones = Rows()
        for place in places:
            tombstones.add(encode_key(name, place), None, SystemClock().now(), ())
        if places:
            append_all(at_once(backend, "all"), target, tombstones, stop_at)
        return places


def _check(config: WorkerConfig, name: str) -> None:
    connectors = {connector.name: connector for connector in config.connectors}
    if name not in connectors:
        raise ConfigError(f"no connector {name!r}{nearest(name, connectors)}")
    if connectors[name].shared.topics:
        raise ConfigError(
            f"{connectors[name].where}: a sink stands where its consumer group does; reset that: "
            f"streamkit groups reset connect-{name} --to earliest"
        )


@contextmanager
def _claimed(backend: Backend, group: str, name: str) -> Iterator[None]:
    """No worker runs the connector meanwhile: one that starts now waits for it."""
    unit = TopicPartition(name, 0)
    running = GroupActive(
        f"connector {name} runs in a worker of group {group}; stop that worker first"
    )
    if any(unit in member.units for member in backend.group(group).members):
        raise running
    member = backend.join(group, {name: 1}, client_id=f"reset-{name}")
    try:
        deadline = time.monotonic() + CLAIM_SECONDS
        while unit not in member.poll().owned:
            if time.monotonic() >= deadline:
                raise running
            time.sleep(LOOK_SECONDS)
        yield
    finally:
        member.leave()
