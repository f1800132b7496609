"""The append that is compiled: where there is one, on the system's own files."""

from collections.abc import Callable
from typing import Literal

from streamkit.clock import Clock
from streamkit.log.access import Access
from streamkit.log.append import Appender
from streamkit.log.checks import Checks
from streamkit.log.files import Files, RealFiles, UnsyncedFiles
from streamkit.log.segments import Segments
from streamkit.log.space import Space
from streamkit.log.sync import Syncer
from streamkit.log.wake import Wake

try:
    from streamkit.log._direct import Direct as Direct
except ImportError:
    COMPILED = False
else:
    COMPILED = True


def direct_for(
    access: Access,
    appender: Appender,
    segments: Segments,
    syncer: Syncer,
    *,
    checks: Checks,
    clock: Clock,
    space: Space | None,
    wake: Wake | None,
    notify: Callable[[], None],
    files: Files,
    fsync: Literal["always", "never"],
) -> "Direct | None":
    """What appends to a partition that is written; None: Python does.

    Files of any other kind are asked for everything, so that faults can be put in.
    """
    if not COMPILED or type(files) not in (RealFiles, UnsyncedFiles):
        return None
    return Direct(
        access,
        appender,
        segments,
        syncer,
        checks=checks,
        clock=clock,
        space=space,
        wake=wake,
        notify=notify,
        syncs=fsync == "always" and type(files) is RealFiles,
    )
