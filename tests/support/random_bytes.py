"""`random_bytes.py COUNT`: everything that so many apps made by chance write, as a digest of each.

The same apps whenever it is called. With STREAMKIT_PURE nothing of it is compiled.
"""

import logging
import os
import runpy
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

if os.environ.get("STREAMKIT_PURE"):
    sys.modules["streamkit.codec._native"] = None  # type: ignore[assignment]
    runpy.run_path(str(Path(__file__).parents[1] / "conftest.py"))  # finds the Python of the others

from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from random_apps import Spec, build, specs
from random_runs import Bell, Interrupted, act, end, fill, moves, planned, retry, table_rows

from streamkit.codec import BACKEND
from streamkit.engine.hot import steps
from streamkit.errors import TopologyError
from streamkit.records import TopicPartition
from streamkit.testing import TestRun


def digest(t: TestRun) -> str:
    """Of all topics, and of what is committed."""
    found = sha256()
    for topic, info in sorted(t._backend.topics().items()):
        for number in range(info.partitions):
            at = TopicPartition(topic, number)
            position = t._backend.offsets(at).start
            while batches := t._backend.fetch({at: position}):
                for batch in batches:
                    for record in batch.records():
                        found.update(repr(record).encode())
                    position = batch.next_offset
    committed = sorted(t._backend.committed("r").items())
    found.update(repr([(at, one.offset, one.metadata) for at, one in committed]).encode())
    return found.hexdigest()


def main(count: int) -> None:
    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[*HealthCheck],
    )
    @given(
        spec=specs(wild=True),
        chosen=moves,
        table=table_rows,
        partitions=st.integers(1, 3),
        members=st.integers(1, 3),
        batch=st.integers(1, 6),
        seed=st.integers(0, 99),
    )
    def write(
        spec: Spec,
        chosen: list[Any],
        table: list[Any],
        partitions: int,
        members: int,
        batch: int,
        seed: int,
    ) -> None:
        try:
            bell = Bell(seed)
            mended: set[int] = set()
            app = build(spec, close_after_idle="8s", slow=bell.slow, mended=mended)
            topology = app.topology()
        except TopologyError:
            reject()
        with Interrupted(topology, partitions, members=members, batch=batch) as t:
            t.bell = bell
            t.shuffle(seed)
            fill(t, table, partitions)
            for one in planned(spec, chosen, partitions):
                act(t, one)
            end(t, lambda: None)
            retry(t, spec, mended)
            print(digest(t))

    write()


if __name__ == "__main__":
    logging.getLogger("streamkit").setLevel(logging.ERROR)
    print(BACKEND, Path(steps.__file__).suffix, file=sys.stderr)
    main(int(sys.argv[1]))
