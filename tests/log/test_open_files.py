"""A process that has as many files open as it may."""

import resource

import pytest

from streamkit.codec import encode
from streamkit.errors import StorageFailed
from streamkit.log.directory import Log
from streamkit.records import TopicPartition


def test_too_many_open_files_are_said_to_be_that_and_appends_go_on_with_more(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Log.open(tmp_path, fsync="never", maintenance=False) as log:
        log.create_topic("events")
        partition = log.partition(TopicPartition("events", 0))
        batch = encode([b"x"], timestamps=0)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            with pytest.raises(StorageFailed, match=r"nothing is broken.*ulimit -n"):
                partition.append([batch])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert partition.append([batch]) == 0
