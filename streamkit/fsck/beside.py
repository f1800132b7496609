"""The small files beside a partition's segments: control block, epochs, id, and leftovers."""

import os
from itertools import pairwise

from streamkit.fsck.place import Findings
from streamkit.log.checkpoints import (
    EPOCHS,
    PARTITION_METADATA,
    decode_epochs,
    decode_partition_metadata,
)
from streamkit.log.control import CUT, END, ERRNO_AT, PAGE_BYTES, End, Synced
from streamkit.log.files import Files, read_whole
from streamkit.log.opening import CONTROL

ANEW = "make it anew from the log"
LEFT = (".cleaned", ".swap", ".deleted", ".tmp")
KEPT = {".cut": "that a recovery cut off", ".damaged": "that a repair put aside"}


def check_leftovers(files: Files, findings: Findings, names: set[str]) -> None:
    """Files of work that was killed half way, and what was put aside for a person to look at."""
    for name in sorted(names):
        suffix = os.path.splitext(name)[1]
        if suffix in LEFT:
            problem = "left by a process that was killed, or at work"
            findings.add("note", "leftover", name, problem, "remove it")
        elif suffix in KEPT:
            try:
                size = os.path.getsize(os.path.join(findings.place.directory, name))
            except FileNotFoundError:
                continue
            problem = f"{size:,} bytes {KEPT[suffix]}; remove the file when you like"
            findings.add("note", "kept", name, problem)


def check_control(
    files: Files,
    findings: Findings,
    names: set[str],
    end: End | None,
    synced: Synced | None,
) -> None:
    """`end` and `synced` are what is gone by: the block's, or found by walking."""
    if CONTROL not in names:
        # As in every directory of a broker.
        findings.add("note", "control", CONTROL, "missing: who next opens the log makes it anew")
        return
    try:
        page = read_whole(files, os.path.join(findings.place.directory, CONTROL))
    except FileNotFoundError:
        return  # the topic was deleted meanwhile
    if len(page) < PAGE_BYTES:
        problem = f"{len(page)} bytes instead of {PAGE_BYTES}"
        findings.add("warning", "control", CONTROL, problem, ANEW)
        return
    if END.decode(page) is None and END.generation(page) > 0:
        problem = "neither copy of the end has its checksum"
        findings.add("warning", "control", CONTROL, problem, ANEW)
    errno = page[ERRNO_AT]
    if errno not in (0, CUT):
        findings.add(
            "error",
            "storage",
            CONTROL,
            f"a write or fsync failed ({os.strerror(errno)}): appends are refused, and what was"
            " not synced before may be lost",
            "look at every checksum, sync the log, and let appends go on",
        )
    if end is None or synced is None:
        return
    if end.start_offset > end.end_offset or synced.offset > end.end_offset:
        problem = (
            f"offsets {end.start_offset} to {end.end_offset - 1}, synced below {synced.offset}"
        )
        findings.add("error", "control", CONTROL, problem, ANEW)


def check_epochs(files: Files, findings: Findings, names: set[str], end: End | None) -> None:
    """The leader epochs: ascending, none beyond the end."""
    path = os.path.join(findings.place.directory, EPOCHS)
    problem = ""
    if EPOCHS not in names:
        problem = "missing"
    else:
        try:
            epochs = decode_epochs(read_whole(files, path))
        except FileNotFoundError:
            return
        except ValueError as error:
            problem = f"cannot be read: {error}"
        else:
            pairs = pairwise(epochs)
            if any(one[0] >= two[0] or one[1] > two[1] for one, two in pairs):
                problem = f"not ascending: {epochs}"
            elif end is not None and epochs and epochs[-1][1] > end.end_offset:
                problem = f"epoch {epochs[-1][0]} begins at {epochs[-1][1]}, beyond the end"
    if problem:
        findings.add("warning", "epochs", EPOCHS, problem, "make it anew")


def check_topic_id(files: Files, findings: Findings, names: set[str]) -> None:
    """Whose directory it is."""
    place = findings.place
    if not place.topic_id:
        return
    problem = ""
    if PARTITION_METADATA not in names:
        problem = "missing"
    else:
        try:
            data = read_whole(files, os.path.join(place.directory, PARTITION_METADATA))
            found = decode_partition_metadata(data).hex()
        except FileNotFoundError:
            return
        except ValueError as error:
            problem = f"cannot be read: {error}"
        else:
            if found != place.topic_id:
                findings.add(
                    "error",
                    "topic-id",
                    PARTITION_METADATA,
                    f"the directory belongs to a topic of id {found}, but the log's topic"
                    f" {place.tp.topic!r} has {place.topic_id}",
                )
            return
    findings.add("warning", "topic-id", PARTITION_METADATA, problem, "write it again")
