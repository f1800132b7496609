"""Apps in memory whose stores have disks: what a start reads, and what a budget makes room by."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from streamkit.dsl.topology import Topology
from streamkit.engine.state.disk import Disk
from streamkit.records import TopicPartition
from streamkit.testing import TestRun

_SMALL = {
    "streamkit.engine.state.cache._CHUNK": 3,
    "streamkit.engine.state.cache._FEW": 4,
    "streamkit.engine.state.cache._MOST_PENDING": 12,
    "streamkit.engine.state.disk._TOGETHER": 3,
    "streamkit.engine.state.versions._LOOKED_AT": 2,
}
"""Bounds so small that a few rows pass them."""


class OnDisk:
    """Where the stores of one run are."""

    def __init__(self, run: TestRun) -> None:
        self.run = run
        self.folder = Path(tempfile.mkdtemp(prefix="on-disk-"))
        self.disks: list[Disk] = []

    def directory(self, partition: TopicPartition) -> Path:
        return self.folder / str(partition)

    def kill(self) -> None:
        """Every member, where it is: nothing more is written behind."""
        for worker in self.run._workers:
            stores = [store for one in worker.running for store in one._own_stores()]
            stores += [store for each in worker._shared._stores.values() for store in each]
            for store in stores:
                if store._backing is not None:
                    store._backing.let_go()  # type: ignore[attr-defined]
                    store._backing = None
        self.run.crash()

    def lose(self) -> None:
        """Every member is stopped, and begins without what was on disk."""
        self.run.crash()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def on_disk(
    topology: Topology, partitions: int, *, memory: int, **options: int
) -> Iterator[OnDisk]:
    """A run whose stores may take `memory` bytes, and leave what they have beside their topics."""
    with TestRun(topology, partitions, **options) as run:  # type: ignore[arg-type]
        here = OnDisk(run)
        run._settings = replace(run._settings, memory=memory)
        small = [patch(name, value) for name, value in _SMALL.items()]
        try:
            for one in small:
                one.start()
            with patch.object(run._backend, "state_directory", here.directory):
                yield here
                for worker in run._workers:
                    worker.close()
                run._workers.clear()
        finally:
            for one in small:
                one.stop()
            shutil.rmtree(here.folder, ignore_errors=True)
