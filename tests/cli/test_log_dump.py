"""`streamkit log dump`: every file of a log is readable, good or damaged."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamkit.cli.main import app
from streamkit.codec import encode
from streamkit.groups.offsets import OffsetCommit as Commit
from streamkit.groups.offsets import OffsetKey, encode_commit, encode_key
from streamkit.log.directory import Log
from streamkit.records import TopicPartition
from streamkit.transactions.markers import Marker, encode_marker
from streamkit.transactions.producer import Batch, Producer
from streamkit.transactions.snapshot import encode_snapshot
from streamkit.transactions.txnindex import Aborted, encode_entries

TP = TopicPartition("events", 0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with Log.open(tmp_path / "log", fsync="never") as log:
        log.create_topic("events", 2, {"segment.bytes": "1024", "index.interval.bytes": "0"})
        for number in range(6):
            value = b"value %d " % number * 30
            log.partition(TP).append(
                [encode([value], keys=[b"key"], timestamps=1000 + number, headers=[(("h", b"x"),)])]
            )
    return tmp_path / "log"


@pytest.fixture
def dump(root, monkeypatch):
    monkeypatch.delenv("STREAMKIT_LOG", raising=False)

    def dump(*arguments, code=0):
        result = CliRunner().invoke(app, ["--log", str(root), "log", "dump", *map(str, arguments)])
        assert result.exit_code == code, result.output
        return result.stdout if code == 0 else result.stderr

    return dump


def lines(output: str) -> list[dict]:
    return [json.loads(line) for line in output.splitlines()]


def test_a_topic_is_all_its_segments_with_the_batches_in_them(dump, root):
    found = [line for line in lines(dump("events", "--json")) if line["kind"] == "batch"]
    assert [line["offset"] for line in found] == list(range(6))
    assert {line["codec"] for line in found} == {"none"}
    files = sorted(path.name for path in (root / "events-0").glob("*.log"))
    assert len(files) > 1
    assert sorted({Path(line["file"]).name for line in found}) == files


def test_an_offset_leaves_out_the_batches_before_it(dump):
    found = lines(dump("events:0@4", "--json"))
    assert [line["offset"] for line in found if line["kind"] == "batch"] == [4, 5]
    assert lines(dump("events:1@4", "--json")) == lines(dump("events:1", "--json"))


def test_records_are_shortened_for_people_and_whole_for_programs(dump):
    text = dump("events:0@5", "--records")
    assert (
        "key 'key'" in text and "… (240 characters)" in text and "1970-01-01T00:00:01.005Z" in text
    )
    (record,) = [
        line for line in lines(dump("events:0@5", "-r", "--json")) if line["kind"] == "record"
    ]
    assert record["value"] == "value 5 " * 30
    assert record["headers"] == [["h", "x"]]


def test_indexes_and_the_control_block_show_their_fields(dump, root):
    folder = root / "events-0"
    base = f"{0:020d}"
    index = lines(dump(folder / f"{base}.index", "--json"))
    assert [entry["kind"] for entry in index] == ["entry"] * len(index) and index
    assert index[0]["offset"] == 1 and index[0]["position"] > 0
    assert lines(dump(folder / f"{base}.timeindex", "--json"))[0]["timestamp"] >= 1000
    end, synced, state = lines(dump(folder / "control", "--json"))
    assert (end["kind"], end["end_offset"], synced["kind"]) == ("end", 6, "synced")
    assert (state["dirty"], state["errno"]) == (False, 0)
    assert "topic_id" in dump(folder / "partition.metadata")
    assert "0 0" in dump(folder / "leader-epoch-checkpoint")
    assert "streamkit.format=1" in dump(root / "meta.properties")


def test_what_stands_beyond_the_published_end_is_said_to_be_no_part_of_the_log(dump, root):
    path = sorted((root / "events-0").glob("*.log"))[-1]
    path.write_bytes(path.read_bytes() + b"torn")
    found = lines(dump(path, "--json"))
    assert [line["kind"] for line in found[-2:]] == ["end", "damage"]
    assert found[-1]["hex"] == b"torn".hex()


def test_damage_is_a_line_with_its_bytes_and_what_follows_is_read(dump, root):
    path = root / "events-0" / f"{0:020d}.log"
    data = bytearray(path.read_bytes())
    data[100:108] = b"OVERWRIT"
    path.write_bytes(data)
    found = lines(dump(path, "--json"))
    assert [line["kind"] for line in found][:2] == ["damage", "batch"]
    assert "checksum" in found[0]["problem"]
    text = dump(path)
    assert "OVERWRIT" in text.replace("\n", "")
    for name in (f"{0:020d}.index", f"{0:020d}.timeindex"):
        short = root / "events-0" / name
        short.write_bytes(short.read_bytes()[:-1])
        assert lines(dump(short, "--json"))[-1]["kind"] == "damage"
    control = root / "events-0" / "control"
    control.write_bytes(bytes(4096))
    assert "neither copy of 'end' is whole" in dump(control)


def test_records_of_our_own_topics_are_decoded(dump, root):
    with Log.open(root, fsync="never") as log:
        log.create_topic("__consumer_offsets", 1, {"cleanup.policy": "compact"})
        key = encode_key(OffsetKey("readers", TP))
        log.partition(TopicPartition("__consumer_offsets", 0)).append(
            [encode([encode_commit(Commit(7)), None, b"\x00"], keys=[key] * 3, timestamps=5)]
        )
    text = dump("__consumer_offsets", "--records")
    assert "group readers  partition events-0  committed 7" in text
    assert "forgotten True" in text
    assert "unreadable a record of 1 bytes ends before its fields do" in text
    assert "record TopicRecord  name events" in dump("__cluster_metadata", "-r")


def test_transactions_are_readable(dump, tmp_path):
    marker = encode_marker(Marker(False, 3), producer_id=9, producer_epoch=1, timestamp=5)
    log = tmp_path / f"{0:020d}.log"
    log.write_bytes(marker)
    (found,) = lines(dump(log, "--json"))
    assert (found["marker"], found["coordinator_epoch"], found["producer_id"]) == ("abort", 3, 9)
    assert found["flags"] == ["transactional", "control"]
    assert "key" in dump(log, "--records")
    (tmp_path / "0.txnindex").write_bytes(encode_entries([Aborted(9, 1, 2, 3)]) + b"xy")
    aborted, rest = lines(dump(tmp_path / "0.txnindex", "--json"))
    assert (aborted["producer_id"], aborted["last_stable_offset"], rest["kind"]) == (9, 3, "damage")
    snapshot = encode_snapshot([Producer(9, 1, 3, 4, 5, (Batch(6, 7, 0),))])
    (tmp_path / "0.snapshot").write_bytes(snapshot)
    assert lines(dump(tmp_path / "0.snapshot", "--json"))[0]["last_offset"] == 7
    (tmp_path / "0.snapshot").write_bytes(snapshot[:-1] + b"x")
    assert "checksum" in dump(tmp_path / "0.snapshot")


def test_what_is_no_file_and_no_topic_is_refused(dump, root, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert "not a file of a log" in dump(tmp_path / "notes.txt", code=1)
    assert "did you mean 'events'?" in dump("event", code=1)
    assert "events:7" in dump("events:7", code=1)
    assert "No such file" in dump("some/where", code=1)
    assert "TOPIC:P@OFFSET" in dump("events:0@first", code=1)


def test_a_whole_directory_is_dumped_file_by_file(dump, root):
    text = dump(root / "events-0")
    for name in ("control", ".index", ".timeindex", "partition.metadata", ".log"):
        assert name in text
