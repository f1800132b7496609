"""A log to damage: one topic of several segments, a group, and a transaction or two."""

from collections.abc import Callable
from pathlib import Path

import pytest

from streamkit.codec import encode
from streamkit.fsck.check import Report, check
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)
NOW = 1_000_000_000
RECORDS = 30


def value(offset: int) -> bytes:
    return b"value %d " % offset * 12


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Thirty records in batches of one to three, in segments of 1 KiB."""
    with Log.open(tmp_path / "log") as log:
        log.create_topic("events", 2, {"segment.bytes": "1024", "index.interval.bytes": "200"})
        offset = 0
        while offset < RECORDS:
            count = 1 + offset % 3
            values = [value(offset + n) for n in range(count)]
            log.partition(TP).append([encode(values, timestamps=1000 + offset)])
            offset += count
    return tmp_path / "log"


@pytest.fixture
def folder(root: Path) -> Path:
    return root / "events-0"


@pytest.fixture
def segments(folder: Path) -> Callable[[], list[Path]]:
    return lambda: sorted(folder.glob("*.log"))


@pytest.fixture
def checked(root: Path) -> Callable[..., Report]:
    return lambda **options: check(root, now=NOW, **options)


@pytest.fixture
def kinds(checked: Callable[..., Report]) -> Callable[..., list[tuple[str, str, str]]]:
    """(severity, kind, file) of all findings."""
    return lambda **options: [
        (one.severity, one.kind, one.file) for one in checked(**options).findings
    ]


@pytest.fixture
def overwrite() -> Callable[..., None]:
    def overwrite(path: Path, at: int, data: bytes) -> None:
        with path.open("r+b") as file:
            file.seek(at, 0 if at >= 0 else 2)
            file.write(data)

    return overwrite
