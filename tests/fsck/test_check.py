"""What is wrong with a log is found, said where it is, and nothing else is said."""

import os
import shlex
import shutil
import threading

import pytest
from typer.testing import CliRunner

from streamkit.cli.main import app
from streamkit.codec import columns, encode, headers
from streamkit.errors import LogNotFound, UnknownTopic
from streamkit.fsck.check import check
from streamkit.fsck.repair import repair
from streamkit.groups.offsets import OffsetCommit, OffsetKey, encode_commit, encode_key
from streamkit.log.control import DIRTY_AT, END, ERRNO_AT, PAGE_BYTES, SYNCED
from streamkit.log.directory import Log
from streamkit.log.index import OFFSET_ENTRY, TIME_ENTRY
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)
NOW = 1_000_000_000


def test_a_good_log_is_clean_and_every_byte_of_it_was_looked_at(checked, segments, root):
    report = checked()
    assert (report.findings, report.clean) == ([], True)
    metadata = os.path.getsize(root / "__cluster_metadata-0" / f"{0:020d}.log")
    assert report.bytes == sum(path.stat().st_size for path in segments()) + metadata
    assert report.batches > 10


def test_a_damaged_batch_is_named_with_the_offsets_that_it_costs(
    checked, folder, segments, overwrite
):
    path = segments()[1]
    base = int(path.stem)
    found = [header for _, header in headers(path.read_bytes())]
    overwrite(path, found[0].size + 70, b"\xff\xff")
    (finding,) = checked().findings
    assert (finding.severity, finding.kind) == ("error", "damage")
    assert (
        finding.where == f"events-0/{path.name}:{found[0].size} (events-0@{found[1].base_offset})"
    )
    assert (finding.lost.first, finding.lost.last) == (found[1].base_offset, found[1].last_offset)
    assert "checksum" in finding.problem and finding.repair
    assert base == found[0].base_offset


def test_a_damaged_last_batch_of_a_segment_costs_what_is_up_to_the_next(
    checked, segments, overwrite
):
    path, following = segments()[:2]
    overwrite(path, -1, b"\xff")
    (finding,) = checked().findings
    assert finding.lost.last == int(following.stem) - 1


def test_a_segment_that_is_gone_is_a_gap(checked, segments):
    files = segments()
    files[2].unlink()
    (finding,) = [one for one in checked().findings if one.severity == "error"]
    assert finding.kind == "gap"
    assert (finding.lost.first, finding.lost.last) == (int(files[2].stem), int(files[3].stem) - 1)


def test_a_first_segment_that_is_gone_is_a_gap(checked, segments):
    first, second = segments()[:2]
    first.unlink()
    (finding,) = [one for one in checked().findings if one.severity == "error"]
    assert finding.kind == "gap"
    assert (finding.lost.first, finding.lost.last) == (0, int(second.stem) - 1)


def test_in_a_compacted_topic_missing_offsets_are_normal(root, kinds, segments):
    with Log.open(root) as log:
        log.alter_topic("events", {"cleanup.policy": "compact"})
    segments()[2].unlink()
    assert [one for one in kinds() if one[0] == "error"] == []


@pytest.mark.parametrize("suffix", [".index", ".timeindex"])
def test_an_index_that_is_gone_lies_or_is_cut_is_found(kinds, segments, suffix, overwrite):
    paths = [path.with_suffix(suffix) for path in segments()[:4]]
    paths[0].unlink()
    lie = OFFSET_ENTRY.pack(1, 3) if suffix == ".index" else TIME_ENTRY.pack(7, 1)
    paths[1].write_bytes(lie)
    paths[2].write_bytes(paths[2].read_bytes() + b"x")
    beyond = OFFSET_ENTRY.pack(500, 10**6) if suffix == ".index" else TIME_ENTRY.pack(10**6, 500)
    paths[3].write_bytes(paths[3].read_bytes() + beyond)
    expected = [("warning", suffix[1:], f"events-0/{path.name}") for path in paths]
    assert kinds() == expected


def test_a_time_index_that_ends_too_early_would_hide_later_records(kinds, segments):
    path = segments()[0].with_suffix(".timeindex")
    entries = path.read_bytes()
    assert len(entries) > TIME_ENTRY.size
    path.write_bytes(entries[: -TIME_ENTRY.size])
    assert kinds() == [("warning", "timeindex", f"events-0/{path.name}")]


def test_zeros_at_the_end_of_an_index_are_the_room_a_killed_broker_set_aside(kinds, segments):
    path = segments()[0].with_suffix(".index")
    path.write_bytes(path.read_bytes() + bytes(800))
    assert kinds() == []


def test_a_control_block_is_held_against_the_batches(root, checked, folder):
    page = bytearray((folder / "control").read_bytes())
    _, end = END.decode(page)
    import msgspec

    END.store(page, msgspec.structs.replace(end, stable_offset=end.end_offset - 1))
    (folder / "control").write_bytes(page)
    (finding,) = checked().findings
    assert (finding.severity, finding.kind) == ("error", "stable-offset")


@pytest.mark.parametrize("content", [None, b"", bytes(100), b"\x55" * PAGE_BYTES])
def test_a_damaged_control_block_is_a_warning_and_the_log_is_still_walked(
    checked, folder, content, segments
):
    if content is None:
        (folder / "control").unlink()
    else:
        (folder / "control").write_bytes(content)
    report = checked()
    assert {(one.severity, one.kind) for one in report.findings} <= {
        ("note" if content is None else "warning", "control"),
        ("error", "storage"),
    }
    assert report.findings
    checked_bytes = {one.place.tp: one.bytes for one in report.partitions}
    assert checked_bytes[TP] == sum(path.stat().st_size for path in segments())


def test_a_storage_that_failed_is_an_error(kinds, folder, overwrite):
    overwrite(folder / "control", ERRNO_AT, bytes([5]))
    assert kinds() == [("error", "storage", "events-0/control")]


def test_the_tail_of_a_killed_writer_is_no_finding(kinds, folder, segments, overwrite):
    overwrite(folder / "control", DIRTY_AT, b"\x01")
    with segments()[-1].open("ab") as file:
        file.write(b"half a batch")
    assert kinds() == []


def test_a_torn_tail_above_what_was_synced_is_a_note_unless_good_batches_follow_it(
    kinds, checked, folder, segments, overwrite
):
    path = segments()[-1]
    page = bytearray(PAGE_BYTES)
    SYNCED.store(page, SYNCED.decode((folder / "control").read_bytes())[1])
    with path.open("ab") as file:
        file.write(bytes(200))
    (folder / "control").write_bytes(page)
    assert kinds() == [("note", "torn", f"events-0/{path.name}")]
    batch = bytearray(encode([b"x"], timestamps=0))
    batch[:8] = (31).to_bytes(8, "big")
    with path.open("ab") as file:
        file.write(batch)
    report = checked()
    assert [(one.severity, one.kind) for one in report.findings] == [("warning", "torn")]
    assert (report.findings[0].lost.first, report.findings[0].lost.last) == (30, 31)


def test_epochs_and_ids_that_cannot_be_read_are_found(kinds, folder):
    (folder / "leader-epoch-checkpoint").write_text("0\n2\n5 0\n3 10\n")
    (folder / "partition.metadata").write_text("nothing")
    (folder.parent / "events-1" / "partition.metadata").unlink()
    (folder.parent / "events-1" / "leader-epoch-checkpoint").unlink()
    found = set(kinds())
    assert found >= {
        ("warning", "epochs", "events-0/leader-epoch-checkpoint"),
        ("warning", "topic-id", "events-0/partition.metadata"),
        ("warning", "topic-id", "events-1/partition.metadata"),
        ("warning", "epochs", "events-1/leader-epoch-checkpoint"),
    }


def test_a_directory_of_another_topic_of_that_name_is_found(root, kinds):
    shutil.copy(root / "events-0" / "partition.metadata", root / "mine")
    with Log.open(root) as log:
        log.create_topic("other")
    shutil.move(root / "mine", root / "other-0" / "partition.metadata")
    assert kinds() == [("error", "topic-id", "other-0/partition.metadata")]


def test_directories_that_are_missing_or_belong_to_nobody_are_found(root, kinds):
    shutil.rmtree(root / "events-1")
    shutil.copytree(root / "events-0", root / "ghost-3")
    (root / "empty-0").mkdir()
    (root / "empty-0" / f"{0:020d}.log").touch()
    (root / f"events-7.{'0f' * 16}-delete").mkdir()
    (root / "backup").mkdir()
    assert kinds() == [
        ("error", "missing", "events-1"),
        ("note", "leftover", "empty-0"),
        ("note", "leftover", f"events-7.{'0f' * 16}-delete"),
        ("error", "orphan", "ghost-3"),
    ]


def test_a_group_that_reads_a_missing_partition_keeps_nothing_else_from_being_checked(root, kinds):
    commit(root, "g", {TP: 31, TopicPartition("events", 1): 5})
    shutil.rmtree(root / "events-1")
    assert [kind for _, kind, _ in kinds()] == ["missing", "committed"]


def test_without_the_metadata_the_rest_is_checked(root, checked, segments, overwrite):
    shutil.rmtree(root / "__cluster_metadata-0")
    overwrite(segments()[1], 70, b"\xff\xff")
    report = checked()
    assert [one.kind for one in report.findings] == ["topics", "damage"]
    assert "directory is missing" in report.findings[0].problem


def test_a_cut_below_what_was_on_stable_storage_is_an_error_with_what_it_costs(
    root, checked, segments
):
    with Log.open(root) as log:
        log.partition(TP).sync()
    path = segments()[-1]
    found = [header for _, header in headers(path.read_bytes())]
    os.truncate(path, found[-1].size // 2)  # in its first batch
    damage, end = checked().findings
    at = f"(events-0@{int(path.stem)})"
    assert (damage.kind, damage.where) == ("damage", f"events-0/{path.name}:0 {at}")
    assert (damage.lost.first, damage.lost.last) == (int(path.stem), 29)
    assert (end.severity, end.kind, end.where) == ("error", "end", f"events-0/control {at}")
    assert "Appends are refused" in end.problem
    assert end.repair == "let the log go on at offset 30"
    repair(root, now=NOW)
    assert [one.kind for one in checked().findings] == ["kept"]


def test_what_recoveries_put_aside_and_what_was_left_half_done_is_noted(folder, checked):
    (folder / f"{7:020d}.cut").write_bytes(b"cut")
    (folder / f"{0:020d}.log.cleaned").write_bytes(b"half")
    report = checked()
    assert [one.kind for one in report.findings] == ["leftover", "kept"]
    assert report.clean


def commit(root, group: str, offsets: dict[TopicPartition, int], raw: bytes | None = None):
    with Log.open(root) as log:
        if "__consumer_offsets" not in log.topics():
            log.create_topic("__consumer_offsets", 1, {"cleanup.policy": "compact"})
        values = [raw or encode_commit(OffsetCommit(offset)) for offset in offsets.values()]
        keys = [encode_key(OffsetKey(group, tp)) for tp in offsets]
        log.partition(TopicPartition("__consumer_offsets", 0)).append(
            [encode(values, keys=keys, timestamps=0)]
        )


def test_committed_offsets_beyond_the_end_are_found_unless_they_were_replaced(root, checked):
    commit(root, "g", {TP: 31, TopicPartition("events", 1): 0, TopicPartition("gone", 0): 9})
    (finding,) = checked().findings
    assert (finding.severity, finding.kind, finding.offset) == ("error", "committed", 0)
    assert "committed offset 31 of events-0, which ends at 30" in finding.problem
    # As it says, to the letter.
    program, *command = shlex.split(finding.problem.partition("Before that: ")[2])
    assert program == "streamkit"
    done = CliRunner().invoke(app, ["--log", str(root), *command])
    assert done.exit_code == 0, done.output
    assert checked().findings == []


def test_a_group_record_that_cannot_be_read_is_an_error(root, checked):
    commit(root, "g", {TP: 3}, raw=b"\x00\x63")
    (finding,) = checked().findings
    assert (finding.severity, finding.kind) == ("error", "group")


def test_only_the_topics_asked_for_are_looked_at(root, checked, segments, overwrite):
    with Log.open(root) as log:
        log.create_topic("other")
    overwrite(segments()[0], 70, b"\xff\xff")
    assert checked(topics=["other"]).findings == []
    assert len(checked(topics=["other"]).partitions) == 1
    assert not checked(topics=["events"]).clean
    with pytest.raises(UnknownTopic, match="did you mean 'other'"):
        checked(topics=["othr"])


def test_without_its_properties_the_partitions_are_still_looked_at(
    root, kinds, segments, overwrite
):
    overwrite(segments()[0], 70, b"\xff\xff")
    (root / "meta.properties").unlink()
    assert [one[:2] for one in kinds()] == [("error", "properties"), ("error", "damage")]


def test_where_there_is_no_log_that_is_said(tmp_path):
    with pytest.raises(LogNotFound):
        check(tmp_path, now=NOW)


def test_nothing_is_written_and_nothing_is_found_beside_processes_at_work(root, tmp_path):
    stop = threading.Event()

    def work() -> None:
        with Log.open(root, fsync="never") as log:
            partition = log.partition(TP)
            number = 0
            while not stop.is_set():
                partition.append([encode([b"more" * 20], timestamps=number)], acks=1)
                number += 1
                if number % 40 == 0:
                    log.create_topic(f"t{number}", 2)
                    log.delete_topic(f"t{number}")

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for _ in range(8):
            assert [one for one in check(root, now=NOW).findings if one.severity != "note"] == []
    finally:
        stop.set()
        worker.join()


def test_a_read_only_check_changes_no_file(root, segments, overwrite):
    overwrite(segments()[0], 70, b"\xff\xff")
    (root / "events-0" / "control").unlink()
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    check(root, now=NOW)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    assert columns(segments()[1].read_bytes()).values
