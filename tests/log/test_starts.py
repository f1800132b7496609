"""The file that remembers where partitions begin."""

import pytest

from streamkit.log.checkpoints import STARTS, decode_offsets, encode_offsets
from streamkit.log.files import RealFiles
from streamkit.log.starts import forget_starts, note_start, read_starts
from streamkit.records import TopicPartition

A0, A1, B0 = TopicPartition("a", 0), TopicPartition("a", 1), TopicPartition("b", 0)


def test_the_file_is_kafkas_and_back():
    data = b"0\n2\na 0 5\nb 0 7\n"
    assert encode_offsets({B0: 7, A0: 5}) == data
    assert decode_offsets(data) == {A0: 5, B0: 7}
    assert decode_offsets(b"0\n0\n") == {}
    assert decode_offsets(b"") == {}, "a broker makes it so at first"


@pytest.mark.parametrize("damaged", [b"\n", b"1\n0\n", b"0\n2\na 0 5\n", b"0\n1\na 0\n", b"\xff\n"])
def test_a_damaged_file_is_told(damaged):
    with pytest.raises(ValueError):
        decode_offsets(damaged)


def test_starts_only_rise_and_are_forgotten_by_topic(tmp_path):
    files, root = RealFiles(), str(tmp_path)
    assert read_starts(files, root) == {}
    for tp, offset in ((A0, 5), (A1, 6), (B0, 7), (A0, 4)):
        note_start(files, root, tp, offset)
    assert read_starts(files, root) == {A0: 5, A1: 6, B0: 7}
    forget_starts(files, root, "a")
    assert read_starts(files, root) == {B0: 7}


def test_a_damaged_file_says_so_and_is_made_anew(tmp_path, caplog):
    files, root = RealFiles(), str(tmp_path)
    (tmp_path / STARTS).write_bytes(b"nonsense")
    note_start(files, root, A0, 5)
    assert "deleted records may be seen again" in caplog.text
    assert read_starts(files, root) == {A0: 5}
