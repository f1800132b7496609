"""Kafka's small text files."""

import pytest

from streamkit.errors import CorruptLog, UnsupportedFormat
from streamkit.log.checkpoints import (
    Properties,
    decode_epochs,
    decode_id,
    decode_offsets,
    decode_partition_metadata,
    encode_epochs,
    encode_id,
    encode_partition_metadata,
)


def test_ids_are_22_characters():
    assert encode_id(bytes(15) + b"\x01") == "AAAAAAAAAAAAAAAAAAAAAQ"
    assert decode_id("AAAAAAAAAAAAAAAAAAAAAQ") == bytes(15) + b"\x01"


def test_epochs_are_kafkas_and_back():
    assert encode_epochs([(0, 0), (2, 55)]) == b"0\n2\n0 0\n2 55\n"
    assert decode_epochs(b"0\n2\n0 0\n2 55\n") == [(0, 0), (2, 55)]
    for damaged in (b"", b"1\n0\n", b"0\nx\n", b"0\n1\n5\n"):
        with pytest.raises(ValueError):
            decode_epochs(damaged)


def test_partition_metadata_is_kafkas_and_back():
    data = b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ\n"
    assert encode_partition_metadata(bytes(15) + b"\x01") == data
    assert decode_partition_metadata(data) == bytes(15) + b"\x01"
    with pytest.raises(ValueError):
        decode_partition_metadata(b"version: 0\n")


def test_properties_come_back():
    properties = Properties("cluster", "directory", 3)
    assert Properties.decode(properties.encode(), "p") == properties


def test_a_brokers_own_properties_can_be_read():
    data = b"#Sat Nov 21\ncluster.id=c\ndirectory.id=d\nnode.id=1\nversion=1\n"
    assert Properties.decode(data, "p") == Properties("c", "d", 1)


@pytest.mark.parametrize("newer", [b"version=2\n", b"version=1\nstreamkit.format=2\n"])
def test_a_newer_format_is_refused_by_name(newer):
    with pytest.raises(UnsupportedFormat, match=r"meta\.properties.*=2.*reads"):
        Properties.decode(b"cluster.id=c\nnode.id=1\n" + newer, "x/meta.properties")


@pytest.mark.parametrize(
    "damaged", [b"", b"version=1\n", b"version=x\ncluster.id=c\nnode.id=1\n", b"\xff"]
)
def test_damaged_properties_are_corrupt(damaged):
    with pytest.raises(CorruptLog, match=r"x/meta\.properties"):
        Properties.decode(damaged, "x/meta.properties")


def test_a_brokers_empty_file_of_offsets_has_none():
    assert decode_offsets(b"") == {}
