"""The page that all processes share about maintenance, where it cannot be had."""

import os

import pytest

from streamkit.codec import encode
from streamkit.errors import StorageFailed
from streamkit.log.directory import Log
from streamkit.log.files import UnsyncedFiles
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)


def append(log: Log) -> int:
    return log.partition(TP).append([encode([b"x"], timestamps=0)])


class Unopenable(UnsyncedFiles):
    """A disk on which the page of maintenance cannot be opened for a while."""

    def __init__(self) -> None:
        self.broken = True

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:  # type: ignore[override]
        if self.broken and path.endswith("/maintenance"):
            raise OSError(5, "Input/output error")
        return os.open(path, flags, mode)


def test_without_its_page_maintenance_says_why_at_once_and_blames_no_other_process(
    tmp_path, caplog
):
    files = Unopenable()
    with Log.open(tmp_path, files=files, maintenance=False) as log:
        log.create_topic("events")
        append(log)
        with pytest.raises(StorageFailed, match=r"maintenance: cannot be opened"):
            log.maintain()
        for _ in range(3):
            log._upkeep._tick(False)
        assert len([one for one in caplog.records if "cannot be opened" in one.message]) == 1
        files.broken = False
        assert log.maintain().problems == ()
        append(log)
