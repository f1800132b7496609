"""What a task tells those that it hands events to: how far it is."""

from collections.abc import Iterator

from streamkit.dsl.nodes.outputs import Repartition
from streamkit.dsl.topology import SubTopology
from streamkit.engine.ending import Ending
from streamkit.engine.headers import Marker
from streamkit.engine.hot.moment import NEVER
from streamkit.engine.rows import Rows
from streamkit.engine.site import Site


class Markers:
    """Of one task, for each topic that it hands events over in."""

    def __init__(self, sub: SubTopology, tasks: int, site: Site, ending: Ending) -> None:
        """`tasks`: how many of the sub-topology there are."""
        self._nodes = [node for node in sub.nodes if isinstance(node, Repartition)]
        self._tasks = tasks
        self._site = site
        self._ending = ending
        self._told: dict[str, Marker] = {}

    def news(self) -> Iterator[tuple[str, Rows]]:
        """By topic, where it is something else than it was the last time."""
        for node in self._nodes:
            marker = self._marker(node)
            if self._told.get(node.topic) != marker:
                self._told[node.topic] = marker
                stamp = max(marker.watermark or 0, 0)
                yield node.topic, Rows([None], [None], [stamp], [marker.headers()])

    def _marker(self, node: Repartition) -> Marker:
        site = self._site
        reached = site.reached(node)
        idle = all(frontier.is_idle for frontier in site.moving.values())
        idle = idle and not site.is_held(node)
        told = None if reached <= NEVER else reached - site.delays[node]
        end = self._ending.number if self._ending.is_finished else 0
        return Marker(site.number, self._tasks, told, idle, end)
