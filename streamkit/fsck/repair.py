"""Setting a log right, in place or in a copy."""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from uuid import uuid4

from streamkit.clock import SystemClock
from streamkit.errors import ConfigError
from streamkit.fsck.check import Report, check
from streamkit.fsck.exclusive import exclusively
from streamkit.fsck.finding import Finding
from streamkit.fsck.mend import mend
from streamkit.groups import offsets as groups
from streamkit.log.checkpoints import META_PROPERTIES, Properties, encode_id
from streamkit.log.directory import Log
from streamkit.log.files import Files, RealFiles, write_new
from streamkit.log.folders import is_deleted, make_folder, remove_folder
from streamkit.log.opening import CONTROL
from streamkit.log.partition import Partition
from streamkit.records import TopicPartition
from streamkit.transactions import records as transactions

_SPEAKING = (f"{transactions.TOPIC}-", f"{groups.TOPIC}-")
"""Partitions that say what has been done to others, the first of them also to the second."""


def repair(path: str | os.PathLike[str], *, now: int, files: Files | None = None) -> list[str]:
    """Repair the log in place, and say what was done. Raises LogInUse when somebody has it open.

    Nothing is removed that holds records: what cannot be read is put into files of their own.
    """
    files = files if files is not None else RealFiles()
    root = os.path.abspath(path)
    with exclusively(root):
        return list(_repair(files, root, now))


def copy_log(path: str | os.PathLike[str], to: str | os.PathLike[str]) -> None:
    """Copy a log, also while others use it. Raises ConfigError when there is something already."""
    root, target = os.path.abspath(path), os.path.abspath(to)
    if os.path.exists(target) and os.listdir(target):
        raise ConfigError(f"--to {target}: not empty; name a directory that is not there yet")
    if os.path.commonpath([root, target]) == root:
        raise ConfigError(f"--to {target}: within the log itself")
    _copy(root, target)


def _copy(folder: str, into: str) -> None:
    """What speaks of other files is copied before them, as they only grow meanwhile."""
    os.makedirs(into, exist_ok=True)
    _copy_entry(folder, into, CONTROL)  # before the files of a later end are listed
    names = set(os.listdir(folder)) - {CONTROL}
    first = [name for prefix in _SPEAKING for name in names if name.startswith(prefix)]
    for name in (*first, *sorted(names.difference(first))):
        _copy_entry(folder, into, name)


def _copy_entry(folder: str, into: str, name: str) -> None:
    source, target = os.path.join(folder, name), os.path.join(into, name)
    with suppress(FileNotFoundError):  # removed by retention meanwhile
        if os.path.isdir(source):
            _copy(source, target)
        else:
            shutil.copy2(source, target)


def _repair(files: Files, root: str, now: int) -> Iterator[str]:
    if not files.exists(os.path.join(root, META_PROPERTIES)):
        properties = Properties(encode_id(uuid4().bytes), encode_id(uuid4().bytes))
        write_new(files, os.path.join(root, META_PROPERTIES), properties.encode())
        yield f"{META_PROPERTIES}: written again, with a new cluster id"
    report = check(root, now=now, files=files)
    for found in report.partitions:
        if any(
            one.severity != "note" or one.kind in ("torn", "leftover", "control")
            for one in found.findings
        ):
            yield from mend(files, found.place, now)
    # By now the topics can be read, and every partition's transactions be followed.
    again = check(root, now=now, files=files)
    for finding in again.findings:
        yield from _repair_root(files, root, finding, again)


def _repair_root(files: Files, root: str, finding: Finding, report: Report) -> Iterator[str]:
    path = os.path.join(root, finding.file)
    match finding.kind:
        case "leftover" if os.path.isdir(path) and (finding.repair or is_deleted(path)):
            remove_folder(files, path)
            yield f"{finding.file}: removed"
        case "missing" if finding.tp is not None:
            with Log.open(root, read_only=True, files=files) as log:
                topic = log.topic(finding.tp.topic)
            make_folder(files, path, bytes.fromhex(topic.topic_id))
            files.fsync_dir(root)
            yield f"{finding.file}: made empty; what was in it is lost"
        case "hanging" if finding.tp is not None:
            yield from _abort(files, finding.tp, finding, report)


def _abort(files: Files, tp: TopicPartition, finding: Finding, report: Report) -> Iterator[str]:
    """End a transaction that nobody knows of, so that readers of committed records go on."""
    (found,) = [one for one in report.partitions if one.place.tp == tp]
    place = found.place
    partition = Partition(
        tp,
        place.topic_id,
        place.directory,
        place.config,
        files=files,
        clock=SystemClock(),
        fsync="always",
        read_only=False,
        notify=lambda: None,
    )
    try:
        for producer_id, (first, epoch) in found.open_transactions.items():
            if first == finding.offset:
                partition.append_marker(producer_id, epoch, False, None, False)
                partition.sync()
                yield f"{tp}@{first}: the transaction of producer {producer_id} is aborted"
    finally:
        partition.close()
