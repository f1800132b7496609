"""How an app is run."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from streamkit.dsl.guarantee import Guarantee
from streamkit.dsl.sizes import MEMORY

OnMissing: TypeAlias = Literal["fail", "earliest", "rebuild"]
"""What to do about records that were removed before the app has read them: stop and say so; go on
with what is left; or forget the state of the task that would have read them, and make it anew of
what is left."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`commit_interval` in seconds: from the begin of one commit to the begin of the next, or as
    long as a commit takes. After a time without work the first is made at once. `memory` in bytes:
    what state takes of the process's memory before it is left on disk alone.
    """

    guarantee: Guarantee = "exactly_once"
    commit_interval: float = 0.1
    on_missing: OnMissing = "fail"
    memory: int = MEMORY
