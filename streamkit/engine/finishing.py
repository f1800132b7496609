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
        self.is_unheard = False
        """Whether no task, here or elsewhere, was told of the end that was last gone on with."""

    def reached(self, worker: Worker, now: float) -> bool:
        """Go on with it, which gives the worker something to do; True when all tasks have finished
        and committed that, here and elsewhere.

        To be called while the worker is at its end. `now` in monotonic seconds.
        """
        ends = self._ends(worker)
        number = max((number for number, _ in ends.values()), default=0)
        if (number, 0) in ends.values():
            number += 1  # something came since; else who was not told yet is told of the same
        waiting = self._go_on(worker, number)
        if waiting:
            self._waits(waiting, now)
        return waiting == []

    def under_way(self, worker: Worker) -> int:
        """The number of the end that tasks here or elsewhere were told of, after which nothing has
        come; 0: there is none."""
        ends = self._ends(worker).values()
        number = max((number for number, _ in ends), default=0)
        return 0 if (number, 0) in ends else number

    def follow(self, worker: Worker, number: int) -> None:
        """Have the worker's tasks come to an end that was begun elsewhere, as far as they can by
        now. To be called while the worker is at its end."""
        self._go_on(worker, number)

    def _go_on(self, worker: Worker, number: int) -> list[str] | None:
        """Which tasks others wait for; none: all have finished. None: something was given."""
        ends = self._ends(worker)
        for stage in self._stages:

            def end(one: Running, stage: Mapping[Unit, str] = stage) -> bool:
                return one.unit in stage and one.end(number)

            worker.act(end)
            self.is_unheard = False
            if worker.uncommitted:
                return None
            ends |= {one.unit: one.task.last_end for one in worker.running}
            waiting = [str(unit) for unit in sorted(stage) if ends.get(unit) != (number, 2)]
            if waiting:
                is_ours = any(one.unit in stage for one in worker.running)
                told = any(last >= (number, 1) for last in ends.values())
                self.is_unheard = not (is_ours or told)
                return waiting
        return []

    def _ends(self, worker: Worker) -> dict[Unit, tuple[int, int]]:
        here = {one.unit: one.task.last_end for one in worker.running}
        return self._elsewhere(here.keys()) | here

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
