"""What a serde is: how one type of key or value becomes bytes, and comes back."""

from collections.abc import Callable
from typing import Any, Protocol


class Untyped:
    """The type of values about which nothing was said: they can be written, but not read back."""


class Serde(Protocol):
    """Encodes and decodes one type. Errors name the type and the field; the caller adds where."""

    @property
    def type(self) -> Any:
        """What `serde_for` was asked for."""
        ...

    @property
    def nullable(self) -> bool:
        """Whether a null value can be decoded (to None)."""
        ...

    @property
    def read(self) -> Callable[[Any], Any]:
        """`decode` without its care, for hot loops.

        Raises anything when the bytes are null or not of the type: ask `decode` then.
        """
        ...

    @property
    def write(self) -> Callable[[Any], bytes | None]:
        """`encode` without its care, for hot loops.

        Raises anything when the value is None or not of the type: ask `encode` then.
        """
        ...

    @property
    def quick(self) -> tuple[Any, Callable[[Any], bytes]] | None:
        """A type, and what writes values of exactly this type, for the hottest loops.

        When it raises anything, or `null` is in what it gives, ask `encode`.
        """
        ...

    def encode(self, value: Any) -> bytes | None:
        """Raises SerdeError when the value is not of the type."""
        ...

    def decode(self, data: bytes | None) -> Any:
        """Raises SerdeError when the bytes are not of the type."""
        ...


def type_name(type_: Any) -> str:
    """A type as a message prints it: `Order`, `dict[str, int]`, `int | None`."""
    return type_.__name__ if isinstance(type_, type) else str(type_).replace("typing.", "")
