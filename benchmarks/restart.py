"""A whole app that begins again: `streamkit run`, exactly once, with millions of keys of state.

From the start of the process to the first result that others can read, of an event that was there;
beside the same with the snapshots removed, so that state is read from the changelogs.
"""

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measure import Row
from streamkit.backends.base import Backend
from streamkit.backends.locate import open_backend
from streamkit.records import TopicPartition

KEYS = 5_000_000
PARTITIONS = 4
LIMIT_S = 5.0
_TOGETHER = 20_000

_APP = """
from streamkit import App, State

app = App("restart")
events = app.stream("events", int)
names = app.table("names", str)


@events.join(names, how="left")
def named(event: int, name: str | None) -> int:
    return event


@named.process(to="counts")
def count(event: int, seen: State[int]) -> int | None:
    seen.set(seen.get(0) + 1)
    return seen.get(0) if event else None
"""


def restart(folder: Path, scale: float) -> list[Row]:
    keys = int(KEYS * scale) or 1
    folder.mkdir()
    (folder / "app.py").write_text(_APP)
    with open_backend(folder / "log") as log:
        for topic in ("events", "names", "counts"):
            log.create_topic(topic, PARTITIONS)
        for start in range(0, keys, _TOGETHER):
            some = [b"key-%08d" % number for number in range(start, min(start + _TOGETHER, keys))]
            at = start // _TOGETHER % PARTITIONS
            log.append(TopicPartition("events", at), [b"0"] * len(some), keys=some, timestamps=1)
            log.append(TopicPartition("names", at), [b"a"] * len(some), keys=some, timestamps=0)
        subprocess.run(_command(folder, "--until-end"), check=True, stderr=subprocess.DEVNULL)
        from_disk = sorted(_ready(folder, log) for _ in range(3))[1]
        for rows in folder.glob("log/**/rows.mdb"):
            rows.unlink()
        from_log = _ready(folder, log)
    what = f"whole app begins again with {KEYS / 1e6:g} M keys of state and {KEYS / 1e6:g} M rows"
    return [
        Row(
            path=what,
            ours=from_disk * 1000,
            beside="without snapshots, from changelogs and topics",
            theirs=from_log * 1000,
            unit="ms",
            goal=1.0 if scale >= 1 else None,
        ),
        Row(
            path=what,
            ours=from_disk * 1000,
            beside="limit",
            theirs=LIMIT_S * 1000,
            unit="ms",
            goal=1.0,
            note="from the start of `streamkit run` to the first result that can be read",
        ),
    ]


def _command(folder: Path, *options: str) -> list[str]:
    command = [sys.executable, "-m", "streamkit", "run", str(folder / "app.py")]
    return [*command, "--log", str(folder / "log"), *options]


def _ready(folder: Path, log: Backend) -> float:
    """Seconds until an app that is started now has given a result."""
    counts = [TopicPartition("counts", number) for number in range(PARTITIONS)]
    before = [log.offsets(at).end for at in counts]
    log.append(TopicPartition("events", 0), [b"1"], keys=[b"key-00000000"], timestamps=2)
    began = time.perf_counter()
    app = subprocess.Popen(_command(folder), stderr=subprocess.DEVNULL)
    try:
        while [log.offsets(at).end for at in counts] == before:
            if app.poll() is not None:
                raise SystemExit(f"streamkit run ended with {app.returncode}")
            time.sleep(0.001)
        return time.perf_counter() - began
    finally:
        app.terminate()
        app.wait()
