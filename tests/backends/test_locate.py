"""From a url to a log."""

import os
from pathlib import Path

import pytest

from streamkit.backends.locate import open_backend
from streamkit.errors import LogNotFound, ReadOnlyLog, UsageError
from streamkit.records import TopicPartition


def test_a_path_and_a_file_url_are_the_same_log(tmp_path):
    path = tmp_path / "a log"
    with open_backend(path) as one, open_backend(f"file://{tmp_path}/a%20log") as other:
        one.create_topic("t")
        assert "t" in other.topics()
        assert one.url == str(path)


def test_the_environment_says_where_the_log_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STREAMKIT_LOG", "elsewhere")
    open_backend().close()
    assert Path("elsewhere/meta.properties").exists()
    monkeypatch.delenv("STREAMKIT_LOG")
    open_backend().close()
    assert Path("streamkit-data/meta.properties").exists()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("kafka://host:9092", "Kafka"),
        ("localhost:9092", "address of a Kafka broker"),
        ("one.example:9092,two.example:9092", "address of a Kafka broker"),
        ("http://host/x", "not a log"),
        ("file://host/x", "another host"),
        ("memory:x", "no name"),
    ],
)
def test_urls_that_are_no_log_are_refused(url, why):
    with pytest.raises(UsageError, match=why):
        open_backend(url)


def test_a_directory_that_is_called_like_an_address_can_be_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    open_backend("./host:1").close()
    open_backend("host:1").close()  # it is there


def test_a_log_that_has_lost_its_properties_says_what_brings_them_back(tmp_path):
    open_backend(tmp_path).close()
    (tmp_path / "meta.properties").unlink()
    with pytest.raises(LogNotFound, match="fsck --repair"):
        open_backend(tmp_path, create=False)


def test_nothing_is_made_when_it_is_not_to_be(tmp_path):
    for arguments in ({"read_only": True}, {"create": False}):
        with pytest.raises(LogNotFound):
            open_backend(tmp_path / "nowhere", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_where_a_log_was_made_is_told_once(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    with caplog.at_level("INFO", "streamkit"):
        for _ in range(2):
            with open_backend("here"):
                pass
    assert caplog.messages == [f"there was no log at {tmp_path / 'here'}: made one"]


def test_a_log_open_for_reading_refuses_every_write(tmp_path):
    with open_backend(tmp_path) as log:
        log.create_topic("t")
    with open_backend(tmp_path, read_only=True) as log:
        for call in (
            lambda: log.create_topic("u"),
            lambda: log.delete_topic("t"),
            lambda: log.append(TopicPartition("t", 0), [b"x"]),
            lambda: log.commit("g", {}),
            lambda: log.join("g", {"t": 1}),
            lambda: log.delete_group("g"),
        ):
            with pytest.raises(ReadOnlyLog):
                call()
        assert log.groups() == [] and log.group("g").state == "Dead"


def test_a_log_in_memory_is_alone_and_gone_at_the_end():
    with open_backend("memory:") as one, open_backend("memory:") as other:
        one.create_topic("t")
        assert "t" not in other.topics()
        with pytest.raises(UsageError):
            open_backend("memory:", read_only=True)


def test_closing_one_of_several_leaves_the_others_open(tmp_path):
    one, other = open_backend(tmp_path), open_backend(os.path.relpath(tmp_path))
    one.create_topic("t")
    one.close()
    one.close()
    assert other.append(TopicPartition("t", 0), [b"x"]) == 0
    other.close()
    with open_backend(tmp_path) as again:
        assert again.offsets(TopicPartition("t", 0)).end == 1


def test_waking_one_does_not_end_the_wait_of_another(tmp_path):
    with open_backend(tmp_path) as one, open_backend(tmp_path) as other:
        one.wake()
        assert other.wait({}, 0.01) is False
        assert one.wait({}, 0.01) is True
