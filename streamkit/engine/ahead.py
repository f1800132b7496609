"""Tables that are read ahead of the events: all there is, before the next event.

That are those that are looked up as of a time, because a row that comes later in its partition may
be older, and global ones. As of a time nobody sees that rows of later times are there already. Only
a row that is not in the log yet when an event asks for its time is missed: it comes too late, and
that is a decision of the wall clock, for the journal.
"""

from collections.abc import Collection, Mapping

from streamkit.engine.hot.moment import FOREVER, NEVER
from streamkit.engine.inputs import Input
from streamkit.engine.journal import Held, Places
from streamkit.engine.script import Script
from streamkit.engine.tables import AheadRows
from streamkit.records import Columns, TopicPartition


def name_of(partition: TopicPartition) -> str:
    """What the journal calls it: the same partition may be merged with the events as well."""
    return f"{partition} ahead"


class ReadAhead:
    """The tables of a task that are read ahead, and how far."""

    def __init__(
        self,
        rows: Mapping[str, AheadRows],
        partitions: Collection[TopicPartition],
        others: Collection[Input],
    ) -> None:
        """`rows` by topic. `others`: what is read in the order of time."""
        self.inputs = {each: self._input(each, rows[each.topic]) for each in partitions}
        self.rows = rows
        self._others = others
        self._asked: dict[TopicPartition, int] = dict.fromkeys(partitions, NEVER)
        self._held: list[Held] = []

    @staticmethod
    def _input(partition: TopicPartition, rows: AheadRows) -> Input:
        def read(columns: Columns, start: int, stop: int) -> None:
            rows.take(partition.partition, columns, start, stop)

        one = Input(partition, read)
        one.name = name_of(partition)
        return one

    @property
    def buffered(self) -> int:
        return sum(one.length for one in self.inputs.values())

    @property
    def places(self) -> Places:
        return {one.name: one.position for one in self.inputs.values()}

    def read(self, script: Script | None) -> bool:
        """Take in what was fed; False when there may be more. Of what a script says came later,
        nothing before its time. Raises SerdeError."""
        complete = True
        for partition, one in self.inputs.items():
            while one.length and not (script is not None and script.hides(one.name)):
                until = None if script is None else script.stop(one.name)
                columns, start, stop = one.chunk(None, 1 << 62, until)
                if script is None:
                    self._compare(partition, columns, start, stop)
                one.read(columns, start, stop)
                one.done(stop)
            complete &= bool(one.length) or one.at_end
        return complete

    def _compare(self, partition: TopicPartition, columns: Columns, start: int, stop: int) -> None:
        """Note what should have been there when events asked."""
        self._ask(partition.topic)
        asked, one = self._asked[partition], self.inputs[partition]
        if asked == NEVER or min(columns.timestamps[start:stop]) > asked:
            return
        at = next(at for at in range(start, stop) if columns.timestamps[at] <= asked)
        until = {other.name: other.position for other in self._others if other.position}
        self._held.append(Held(one.name, columns.offsets[at], until))
        self._asked[partition] = NEVER  # what is behind it is so in the log, too

    def _ask(self, topic: str) -> None:
        rows = self.rows[topic]
        if rows.asked == NEVER:
            return
        for each, asked in self._asked.items():
            if each.topic == topic and asked < rows.asked:
                self._asked[each] = rows.asked
        rows.asked = NEVER

    def held(self) -> list[Held]:
        """The records since the last call that came later than somebody asked for them."""
        held, self._held = self._held, []
        return held

    # Committed with the offsets.

    def positions(self) -> dict[str, list[int]]:
        """By topic, of its partitions in order."""
        found: dict[str, list[int]] = {}
        for partition, one in self.inputs.items():
            found.setdefault(partition.topic, []).append(one.position)
        return found

    def asked(self) -> dict[str, list[int | bool]]:
        """By topic, of its partitions in order: up to which time they were asked since their last
        record that came late. False: for none; True: for any."""
        found: dict[str, list[int | bool]] = {}
        for topic in self.rows:
            self._ask(topic)
        for partition, at in self._asked.items():
            told = False if at == NEVER else True if at == FOREVER else at
            found.setdefault(partition.topic, []).append(told)
        return {topic: all_ for topic, all_ in found.items() if any(at is not False for at in all_)}

    def recall(
        self, positions: Mapping[str, list[int]], asked: Mapping[str, list[int | bool]]
    ) -> dict[TopicPartition, int]:
        """As it was committed. Gives the positions."""
        found: dict[TopicPartition, int] = {}
        for topic, all_ in positions.items():
            mine = [each for each in self.inputs if each.topic == topic]
            for partition, position in zip(mine, all_, strict=False):
                self.inputs[partition].position = found[partition] = position
        for topic, told in asked.items():
            mine = [each for each in self.inputs if each.topic == topic]
            for partition, at in zip(mine, told, strict=False):
                self._asked[partition] = NEVER if at is False else FOREVER if at is True else at
        return found
