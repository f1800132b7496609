"""What an app promises about its results when a process is killed."""

from collections.abc import Mapping
from typing import Literal, TypeAlias

Guarantee: TypeAlias = Literal["exactly_once", "at_least_once"]

COMMIT_INTERVAL: Mapping[Guarantee, str] = {"exactly_once": "100ms", "at_least_once": "2s"}
"""How far commits are apart, unless the app says: in the one case results wait for them."""
