"""`streamkit fsck`: what it prints, and its exit codes."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamkit.cli.main import app
from streamkit.codec import encode
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with Log.open(tmp_path / "log") as log:
        log.create_topic("events")
        for number in range(5):
            log.partition(TP).append([encode([b"value %d" % number], timestamps=number)])
    return tmp_path / "log"


@pytest.fixture
def damaged(root: Path) -> Path:
    """The second of five batches is not what was written."""
    path = root / "events-0" / f"{0:020d}.log"
    data = bytearray(path.read_bytes())
    data[len(data) // 5 + 65] ^= 1
    path.write_bytes(data)
    return root


@pytest.fixture
def fsck(monkeypatch):
    monkeypatch.delenv("STREAMKIT_LOG", raising=False)

    def fsck(*arguments, code=0):
        result = CliRunner().invoke(app, ["fsck", *map(str, arguments)])
        assert result.exit_code == code, result.output
        return result

    return fsck


def test_a_good_log_is_well(fsck, root):
    done = fsck(root)
    assert done.stdout == ""
    assert "2 partitions, 6 batches" in done.stderr and "all is well" in done.stderr
    assert fsck("--log", root).exit_code == 0


def test_damage_is_a_row_that_says_what_is_lost_and_what_a_repair_does(fsck, damaged):
    done = fsck(damaged, code=1)
    (row,) = done.stdout.splitlines()[1:]
    assert row.startswith("error")
    for part in ("events-0@1", "checksum", "1 offsets (1-1)", "put the bytes aside"):
        assert part in row
    assert "1 error" in done.stderr


def test_json_is_one_document(fsck, damaged, root):
    found = json.loads(fsck(damaged, "--json", code=1).stdout)
    assert (found["clean"], found["batches"]) == (False, 5)
    (finding,) = found["findings"]
    assert finding["lost"] == {"first": 1, "last": 1, "offsets": 1}
    assert (finding["kind"], finding["topic"], finding["offset"]) == ("damage", "events", 1)


def test_a_repair_says_what_it_did_and_the_next_check_is_clean(fsck, damaged):
    done = fsck(damaged, "--repair", code=1)
    assert "offsets 1 to 1 lost; readers pass over it" in done.stderr
    assert "after the repair: 1 note" in done.stderr
    assert fsck(damaged, "--repair").exit_code == 0
    found = json.loads(fsck(damaged, "--json").stdout)
    assert [one["kind"] for one in found["findings"]] == ["kept"]


def test_a_copy_is_repaired(fsck, damaged, tmp_path):
    fsck(damaged, "--repair", "--to", tmp_path / "copy", code=1)
    fsck(tmp_path / "copy")
    fsck(damaged, code=1)


def test_repairs_are_told_as_json_too(fsck, damaged):
    found = json.loads(fsck(damaged, "--repair", "--json", code=1).stdout)
    assert found["repaired"] and [one["kind"] for one in found["left"]] == ["kept"]


def test_one_topic_alone(fsck, damaged):
    with Log.open(damaged) as log:
        log.create_topic("other")
    fsck(damaged, "--topic", "other")
    fsck(damaged, "--topic", "events", code=1)
    assert "did you mean" in fsck(damaged, "--topic", "event", code=1).stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--to", "copy"), "only with --repair"),
        (("--repair", "--topic", "events"), "not with --repair"),
    ],
)
def test_wrong_calls(fsck, root, options, said):
    assert said in fsck(root, *options, code=2).stderr
    assert not os.path.exists("copy")


def test_a_cut_file_is_told_once_by_the_report_alone(fsck, root, caplog):
    path = root / "events-0" / f"{0:020d}.log"
    os.truncate(path, path.stat().st_size - 5)
    assert "Appends are refused" in fsck(root, code=1).stdout
    assert caplog.records == []


def test_no_log_is_an_error(fsck, tmp_path):
    assert "no log here" in fsck(tmp_path / "none", code=1).stderr
