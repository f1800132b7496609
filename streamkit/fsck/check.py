"""A whole log: every partition, and what they say of each other."""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from streamkit.codec import columns, headers
from streamkit.errors import ConfigError, CorruptLog, LogNotFound, UnknownTopic, nearest
from streamkit.fsck.finding import Finding
from streamkit.fsck.groups import check_groups
from streamkit.fsck.partition import Checked, check_partition
from streamkit.fsck.place import Place
from streamkit.fsck.transactions import check_transactions
from streamkit.groups import offsets as groups
from streamkit.log.checkpoints import META_PROPERTIES
from streamkit.log.config import METADATA_TOPIC, TopicConfig
from streamkit.log.directory import Log
from streamkit.log.files import Files, RealFiles
from streamkit.log.folders import holds_data, is_deleted, topic_id_of
from streamkit.log.metadata import RemoveTopicRecord, Topic, decode_record
from streamkit.log.root import METADATA, METADATA_TOPIC_ID
from streamkit.log.segment import base_of
from streamkit.records import TopicPartition
from streamkit.transactions import records as transactions

_FOLDER = re.compile(r"(.+)-(\d+)$")
_INTERNAL = (groups.TOPIC, transactions.TOPIC)

Progress = Callable[[int, int], None]
"""Called with the bytes that were looked at, and how many there are in all."""
STEP = 1 << 20
"""… after so many."""


@dataclass(slots=True)
class Report:
    """What a log is like. `bytes` and `batches` are those that were looked at and good."""

    path: str
    findings: list[Finding] = field(default_factory=list)
    partitions: list[Checked] = field(default_factory=list)
    bytes: int = 0
    batches: int = 0

    @property
    def clean(self) -> bool:
        """Nothing is wrong; notes there may be."""
        return all(finding.severity == "note" for finding in self.findings)


def check(
    path: str | os.PathLike[str],
    *,
    topics: Iterable[str] = (),
    now: int,
    progress: Progress = lambda done, total: None,
    files: Files | None = None,
) -> Report:
    """Look at every byte of the log, or of some topics, and hold the files against each other.

    Changes nothing and keeps nobody waiting. `now`: the wall clock in ms, by which a transaction
    is told that should have been finished from one that is being finished. Raises LogNotFound,
    UnsupportedFormat, UnknownTopic.
    """
    files = files if files is not None else RealFiles()
    root = os.path.abspath(path)
    report = Report(root)
    known = _topics(files, root, report)
    wanted = set(topics)
    if known is not None:
        for name in sorted(wanted - known.keys() - {METADATA_TOPIC}):
            raise UnknownTopic(f"no topic {name!r}{nearest(name, known)}")
    places = [
        place
        for place in _places(files, root, known, report)
        if not wanted or place.tp.topic in wanted
    ]
    total = sum(_size(files, place.directory) for place in places)
    done = said = 0

    def looked_at(size: int) -> None:
        nonlocal done, said
        done += size
        if done - said >= STEP:
            said = done
            progress(done, max(total, done))

    for place in places:
        found = check_partition(
            files, place, records=place.tp.topic in _INTERNAL, progress=looked_at
        )
        report.partitions.append(found)
        report.findings += found.findings
        report.bytes += found.bytes
        report.batches += found.batches
    if known is not None and not wanted:
        with Log.open(root, read_only=True, create=False, files=files) as log:
            report.findings += check_groups(log, report.partitions)
            report.findings += check_transactions(report.partitions, now)
    return report


def _topics(files: Files, root: str, report: Report) -> Mapping[str, Topic] | None:
    """The topics by name; None, and a finding, when they cannot be read."""
    if not files.exists(os.path.join(root, META_PROPERTIES)):
        if not files.exists(os.path.join(root, f"{METADATA}")):
            raise LogNotFound(f"{root}: no log here; check the path")
        report.findings.append(
            Finding(
                "error",
                "properties",
                META_PROPERTIES,
                "missing: nobody can open the log",
                repair="write it again, with a new cluster id",
            )
        )
        return None
    try:
        with Log.open(root, read_only=True, create=False, files=files) as log:
            return log.topics()
    except UnknownTopic:
        report.findings.append(
            Finding(
                "error",
                "topics",
                str(METADATA),
                "the directory is missing: nobody knows the topics and their configs. Restore it"
                " from a backup; the records of the topics are where they were",
            )
        )
        return None
    except CorruptLog as error:
        file = META_PROPERTIES if META_PROPERTIES in str(error) else str(METADATA)
        report.findings.append(
            Finding("error", "topics", file, f"the topics cannot be read: {error}")
        )
        return None


def _places(
    files: Files, root: str, topics: Mapping[str, Topic] | None, report: Report
) -> list[Place]:
    """Every partition to look at, and findings about directories that are none or are missing."""
    places = [Place(METADATA, os.path.join(root, str(METADATA)), METADATA_TOPIC_ID.hex(), _SPARSE)]
    there = {name for name in files.listdir(root) if os.path.isdir(os.path.join(root, name))}
    there.discard(str(METADATA))
    for topic in sorted((topics or {}).values(), key=lambda topic: topic.name):
        config = _config(topic, report)
        for number in range(topic.partitions):
            tp = TopicPartition(topic.name, number)
            directory = os.path.join(root, str(tp))
            if str(tp) in there:
                there.discard(str(tp))
                places.append(Place(tp, directory, topic.topic_id, config))
            elif not _deleted_since(files, root, tp):
                report.findings.append(
                    Finding(
                        "error",
                        "missing",
                        str(tp),
                        "the partition's directory is missing, and with it all its records",
                        tp,
                        repair="make an empty partition",
                    )
                )
    removed: set[str] | None = None
    for name in sorted(there):
        match = _FOLDER.match(name)
        path = os.path.join(root, name)
        if is_deleted(name):
            report.findings.append(
                Finding("note", "leftover", name, "of a deletion or creation", repair="remove it")
            )
        elif match is not None and _has_segments(files, path):
            tp = TopicPartition(match[1], int(match[2]))
            if topics is None:
                places.append(Place(tp, path, topic_id_of(files, path) or "", _SPARSE))
            else:
                removed = _removed(files, root) if removed is None else removed
                deleted = topic_id_of(files, path) in removed
                report.findings.append(_orphan(files, path, name, deleted=deleted))
    return places


_SPARSE = TopicConfig(cleanup_policy="compact")
"""Where it is not known whether a topic is compacted, and for a broker's metadata."""


def _config(topic: Topic, report: Report) -> TopicConfig:
    try:
        config = TopicConfig.parse(topic.config)
    except ConfigError as error:
        report.findings.append(
            Finding(
                "warning",
                "config",
                str(METADATA),
                f"topic {topic.name!r} cannot be used: {error}; alter or delete the config",
            )
        )
        return _SPARSE
    return replace(config, once_compacted=topic.once_compacted)


def _deleted_since(files: Files, root: str, tp: TopicPartition) -> bool:
    """Whether the topic was deleted while we looked."""
    with Log.open(root, read_only=True, create=False, files=files) as log:
        return tp.topic not in log.topics() or files.exists(os.path.join(root, str(tp)))


def _removed(files: Files, root: str) -> set[str]:
    """The ids of topics that were deleted: their files may go, whatever is in them."""
    ids: set[str] = set()
    with Log.open(root, read_only=True, create=False, files=files) as log:
        partition = log.partition(METADATA)
        offset = partition.start_offset
        while data := partition.read(offset):
            for value in columns(data, offset).values:
                record = decode_record(value) if value is not None else None
                if isinstance(record, RemoveTopicRecord):
                    ids.add(record.topic_id)
            for _, header in headers(data):
                offset = header.next_offset
    return ids


def _orphan(files: Files, path: str, name: str, *, deleted: bool) -> Finding:
    if deleted:
        return Finding("note", "leftover", name, "of a deleted topic", repair="remove it")
    try:
        data = holds_data(files, path)
    except FileNotFoundError:
        return Finding("note", "leftover", name, "being removed just now")
    if data:
        return Finding(
            "error",
            "orphan",
            name,
            "holds records, but the log knows no such partition; move the directory away, or"
            " restore the topic",
        )
    return Finding(
        "note", "leftover", name, "an empty partition that no topic has", repair="remove it"
    )


def _has_segments(files: Files, directory: str) -> bool:
    try:
        return any(base_of(name) is not None for name in files.listdir(directory))
    except FileNotFoundError:
        return False  # a topic's, that is being deleted just now


def _size(files: Files, directory: str) -> int:
    try:
        names = files.listdir(directory)
    except FileNotFoundError:
        return 0
    size = 0
    for name in names:
        if base_of(name) is not None:
            try:
                size += os.path.getsize(os.path.join(directory, name))
            except FileNotFoundError:
                continue  # removed by retention just now
    return size
