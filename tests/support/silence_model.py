"""What is late and what closes in one task when the clock has decided what its journal says: the
records of its inputs as one would go through them by hand, with all of them on the table."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from window_model import BEFORE_ALL

from streamkit.engine.headers import FRONTIER, WATERMARK, Marker
from streamkit.engine.journal import Counted, Entry, Held, Silence
from streamkit.records import Record

Inputs = Mapping[str, list[Record[bytes]]]
"""By topic and partition, as "orders-0"."""
EVER = 1 << 60


def in_turn(
    inputs: Inputs, journal: list[Entry]
) -> Iterator[tuple[str, Record[bytes]] | Silence | Counted]:
    """All records by their times, but for those that came later, and between them the silences."""
    left = {name: list(records) for name, records in inputs.items()}
    held = {(one.input, one.offset): one.until for one in journal if isinstance(one, Held)}
    silences = [one for one in journal if isinstance(one, Silence | Counted)]

    def has_reached(places: Mapping[str, int], *, but: str = "") -> bool:
        return all(
            name == but or not left[name] or left[name][0].offset >= at
            for name, at in places.items()
        )

    while silences or any(left.values()):
        if silences and has_reached(silences[0].at):
            yield silences.pop(0)
            continue
        heads = [
            (records[0].timestamp, records[0].topic, records[0].partition, name)
            for name, records in left.items()
            if records
            and not (silences and records[0].offset >= silences[0].at.get(name, EVER))
            and has_reached(held.get((name, records[0].offset), {}), but=name)
        ]
        name = min(heads)[-1]
        yield name, left[name].pop(0)


@dataclass
class Told:
    """How far an input is. What is handed over is as far as its tasks say."""

    reached: int = BEFORE_ALL
    is_idle: bool = False


class Times:
    """How far a task has come, and what that leaves of its inputs."""

    def __init__(self, out_of_order: int, handed: Collection[str]) -> None:
        """`handed`: the inputs that other tasks hand over."""
        self.watermark = BEFORE_ALL
        self.closed = BEFORE_ALL
        """What the clock has closed."""
        self._out_of_order = out_of_order
        self._markers: dict[str, dict[int, Marker]] = {name: {} for name in handed}
        self._counted: dict[str, set[int]] = {name: set() for name in handed}
        self._told: dict[str, Told] = {}

    def go(
        self, inputs: Inputs, journal: list[Entry], last: Callable[[int], int]
    ) -> Iterator[tuple[Record[bytes], int]]:
        """The events of the task, each with how far time had come for it. `last` tells when all
        would be closed that is open at a time."""
        self._told = {name: Told() for name in inputs}
        for one in in_turn(inputs, journal):
            if isinstance(one, Counted):
                for name in self._markers:
                    self._counted[name] = set(one.tasks.get(name, ()))
                    self._weigh(name)
                self._look()
                continue
            if isinstance(one, Silence):
                for name, told in self._told.items():
                    if name not in self._markers:
                        told.is_idle = name in one.idle
                self._look()
                if one.closed:
                    self.closed = max(self.closed, self.watermark, last(self.watermark))
                continue
            name, record = one
            headers = dict(record.headers)
            if WATERMARK in headers:
                self._hear(name, Marker.read(headers[WATERMARK] or b""))
                continue
            told = self._told[name]
            if FRONTIER in headers:
                frontier = int(headers[FRONTIER] or b"")
            else:
                frontier = BEFORE_ALL if name in self._markers else told.reached
            yield record, max(frontier, self.watermark, self.closed)
            if name not in self._markers:
                told.is_idle = False
                told.reached = max(told.reached, record.timestamp - self._out_of_order)
            self._look()

    def _hear(self, name: str, marker: Marker) -> None:
        self._markers[name][marker.task] = marker
        self._counted[name].discard(marker.task)
        self._weigh(name)
        self._look()

    def _weigh(self, name: str) -> None:
        heard = self._markers[name].values()
        if not heard or len(heard) < next(iter(heard)).tasks:
            return
        idle = {each: each.idle and each.task not in self._counted[name] for each in heard}
        told = self._told[name]
        told.is_idle = all(idle.values())
        times = [
            BEFORE_ALL if each.watermark is None else each.watermark
            for each, is_idle in idle.items()
            if told.is_idle or not is_idle
        ]
        told.reached = max(times) if told.is_idle else min(times)

    def _look(self) -> None:
        told = self._told.values()
        awake = [each.reached for each in told if not each.is_idle]
        reached = min(awake) if awake else max(each.reached for each in told)
        self.watermark = max(self.watermark, reached)
