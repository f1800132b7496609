from collections.abc import Callable

from streamkit.clock import Clock
from streamkit.log.access import Access
from streamkit.log.append import Appender
from streamkit.log.checks import Checks
from streamkit.log.files import Buffer
from streamkit.log.segments import Segments
from streamkit.log.space import Space
from streamkit.log.sync import Syncer
from streamkit.log.wake import Wake

class Direct:
    def __init__(
        self,
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
        syncs: bool,
    ) -> None:
        """`wake` is what is touched after an append; None: `notify` is called.

        `syncs`: whether `sync` may do it, with the system's own fdatasync.
        """

    def append(self, batch: Buffer, sequenced: bool = True) -> int | None:
        """Append one batch and wake who waits; its offset. None: nothing was done.

        `sequenced` as in `Partition.append`. Raises what the codec's `check` does, and what
        `Quick.append` does when a write fails.
        """

    def append_commit(
        self, producer_id: int, producer_epoch: int, coordinator_epoch: int | None, bumped: bool
    ) -> bool:
        """Append the marker that commits a transaction and wake who waits. False: nothing was done.

        The arguments are those of `Partition.append_marker`. Raises what `append` does.
        """

    def sync(self, before: int = ...) -> bool:
        """Have all before that offset, or all there is, on stable storage. False: it is not sure.

        Raises what `Syncer.sync` does when a sync fails.
        """

    def ends_at(self, offset: int) -> bool:
        """Whether the published end is there. False: it is not, or that is not sure."""
