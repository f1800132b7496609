import pytest

from streamkit.dsl.sizes import number_of_bytes
from streamkit.errors import ConfigError


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, 0),
        (17, 17),
        ("17", 17),
        ("1.5KB", 1500),
        ("512MB", 512_000_000),
        (" 2 gb ", 2_000_000_000),
        ("64MiB", 64 << 20),
    ],
)
def test_sizes_are_read(size: str | int, expected: int) -> None:
    assert number_of_bytes(size) == expected


@pytest.mark.parametrize("size", ["", "MB", "-1", "1 PB", "1,5MB", -1, True, None])
def test_what_is_no_size_is_refused_by_name(size: str) -> None:
    with pytest.raises(ConfigError, match=r"memory: .* is no size; write it like '64MB'"):
        number_of_bytes(size, "memory")
