"""The end of what an app is given: what is open closes, in those tasks first that feed others."""

import logging
from collections.abc import Collection, Mapping

from streamkit.backends.base import Backend
from streamkit.backends.values import Unit
from streamkit.dsl.topology import Layout, Topology
from streamkit.engine.notes import end_of
from streamkit.engine.running import Running
from streamkit.engine.stages import stages
from streamkit.engine.worker import Worker
from streamkit.records import TopicPartition

logger = logging.getLogger("streamkit.engine")

PATIENCE = 10.0
"""Seconds after which it is worth a line that others are waited for."""


class Finishing:
    """How far an app is with that: in a worker, and in those that have the other tasks."""

    def __init__(self, topology: Topology, layout: Layout, backend: Backend) -> None:
        self._topology = topology
        self._backend = backend
        self._stages = [
            {
                Unit(sub.name, number): sub.streams[0].topic
                for sub in stage
                for number in range(layout.tasks[sub.name])
            }
            for stage in stages(topology)
        ]
        """The tasks that are told at once, and of which topic each reads a partition first."""
        self._since: float | None = None

    def reached(self, worker: Worker, now: float) -> bool:
        """Go on with it, which gives the worker something to do; True when all tasks have finished
        and committed that, here and elsewhere.

        To be called while the worker is at its end. `now` in monotonic seconds.
        """
        here = {one.unit: one.task for one in worker.running}
        ends = self._elsewhere(here.keys())
        ends |= {unit: task.last_end for unit, task in here.items()}
        number = max((number for number, _ in ends.values()), default=0)
        if (number, 0) in ends.values():
            number += 1  # something came since; else who was not told yet is told of the same
        for stage in self._stages:

            def end(one: Running, stage: Mapping[Unit, str] = stage) -> bool:
                return one.unit in stage and one.end(number)

            worker.act(end)
            if worker.uncommitted:
                return False
            ends |= {unit: task.last_end for unit, task in here.items()}
            waiting = [str(unit) for unit in sorted(stage) if ends.get(unit) != (number, 2)]
            if waiting:
                self._waits(waiting, now)
                return False
        return True

    def _elsewhere(self, here: Collection[Unit]) -> dict[Unit, tuple[int, int]]:
        units = {unit: topic for stage in self._stages for unit, topic in stage.items()}
        if units.keys() <= set(here):
            return {}
        committed = self._backend.committed(self._topology.app)
        found = {}
        for unit in units.keys() - set(here):
            at = TopicPartition(units[unit], unit.partition)
            found[unit] = end_of(committed[at].metadata, at) if at in committed else (0, 0)
        return found

    def _waits(self, tasks: list[str], now: float) -> None:
        if self._since is None:
            self._since = now
        if now - self._since >= PATIENCE:
            self._since = now
            told = (
                "waiting for tasks of other processes to finish (%s): where those run without "
                "--finish, stop them, and their tasks come here"
            )
            logger.warning(told, ", ".join(tasks))


def tell_open(worker: Worker) -> None:
    """Say what the worker's tasks have not given, because more events may belong to it."""
    found: dict[str, tuple[int, str]] = {}
    for task in worker.tasks:
        for name, each in task.open.items():
            found[name] = (each.count + found.get(name, (0, ""))[0], each.what)
    if found:
        told = ", ".join(
            f"{count} {what if count > 1 else what.removesuffix('s')} of {name}"
            for name, (count, what) in found.items()
        )
        logger.warning(
            "still open: %s. Their results come when later events do, or at once with "
            "--until-end --finish",
            told,
        )
