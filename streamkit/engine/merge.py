"""The order in which a task processes the records of several inputs.

Smallest timestamp first, then topic, partition, offset. The task waits for an input of which
nothing is buffered, as its next record might come first; unless the partition stood at its end when
it was last fetched. A record that comes later and should have been before is processed after, and
that is noted for the journal: what stood at its end when is known to the wall clock alone.
"""

from collections.abc import Collection

from streamkit.engine.inputs import Head, Input
from streamkit.engine.journal import Held
from streamkit.engine.script import Script
from streamkit.errors import DataError
from streamkit.records import Columns

_FIRST: Head = (-(1 << 62), "", -1)
"""Before every record."""


class Merge:
    """Chooses what comes next. With a script it chooses what was chosen when that was written."""

    def __init__(self, inputs: Collection[Input]) -> None:
        self.script: Script | None = None
        self._inputs = list(inputs)
        self._passed: dict[str, Head] = dict.fromkeys((one.name for one in inputs), _FIRST)
        self._held: list[Held] = []

    def has(self, one: Input) -> bool:
        """Whether it is one of the inputs."""
        return one.name in self._passed

    def first(self) -> tuple[Input, Head | None] | None:
        """The input whose head comes first, and the head of the next one.

        None when there is nothing to do, or something to wait for. Raises DataError when the
        journal waits for what does not come.
        """
        heads: list[tuple[Head, Input]] = []
        hidden: list[str] = []
        for one in self._inputs:
            if one.length:
                if self.script is not None and self.script.hides(one.name):
                    hidden.append(one.name)
                else:
                    heads.append((one.head, one))
            elif not one.at_end:
                return None
        if not heads:
            if hidden and (self.script is None or self.script.paused is None):
                raise DataError(
                    f"the journal does not go with what {', '.join(hidden)} and the other inputs "
                    "hold: it waits for records that are not there; was a topic made anew?"
                )
            return None
        heads.sort(key=lambda pair: pair[0])
        return heads[0][1], heads[1][0] if len(heads) > 1 else None

    def stop(self, one: Input) -> int | None:
        """The offset of the chosen input to stop before; None: none."""
        return None if self.script is None else self.script.stop(one.name)

    def begins(self, one: Input) -> None:
        """The input's head is about to be processed, after whatever was processed before."""
        if one.head < self._passed[one.name] and self.script is None:
            # Where all others are: what of it would have been before anyway changes nothing.
            until = {
                other.name: other.position
                for other in self._inputs
                if other is not one and other.position
            }
            self._held.append(Held(one.name, one.head_offset, until))

    def done(self, one: Input, columns: Columns, start: int, stop: int) -> None:
        """Records of the input were processed."""
        if len(self._inputs) == 1:
            return
        last = (max(columns.timestamps[start:stop]), *one.partition)
        for other in self._inputs:
            if last > self._passed[other.name]:
                self._passed[other.name] = last
        self._passed[one.name] = _FIRST

    def held(self) -> list[Held]:
        """The records since the last call that came after later ones."""
        held, self._held = self._held, []
        return held

    def passed(self, one: Input) -> Head | None:
        """The last, by time, of what was processed since the input's last record."""
        passed = self._passed[one.name]
        return None if passed == _FIRST else passed

    def recall(self, one: Input, passed: Head) -> None:
        """As it was committed."""
        self._passed[one.name] = passed
