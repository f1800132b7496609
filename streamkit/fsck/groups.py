"""What groups have committed: readable, and inside of what the partitions have."""

import shlex
from collections.abc import Iterable, Iterator

from streamkit.errors import DataError, UnknownTopic
from streamkit.fsck.finding import Finding
from streamkit.fsck.latest import Said
from streamkit.fsck.partition import Checked
from streamkit.groups import offsets as schema
from streamkit.log.directory import Log


def check_groups(log: Log, partitions: Iterable[Checked]) -> Iterator[Finding]:
    """Hold the latest commit of each group against where its partitions end by now."""
    for checked in partitions:
        if checked.place.tp.topic != schema.TOPIC or checked.latest is None:
            continue
        topics = log.topics()
        for raw, said in checked.latest.values.items():
            try:
                key = schema.decode_key(raw)
                if said.value is None or key is None:
                    continue
                if isinstance(key, schema.GroupKey):
                    schema.decode_group(said.value)
                    continue
                commit = schema.decode_commit(said.value)
            except DataError as error:
                yield _finding(checked, said, f"a group's record cannot be read: {error}", "group")
                continue
            topic = topics.get(key.partition.topic)
            if topic is None or key.partition.partition >= topic.partitions:
                continue  # deleted, or another topic of the name: the group forgets it by itself
            try:
                end = log.partition(key.partition).end_offset
            except UnknownTopic:
                continue  # its directory is missing, which is a finding of its own
            if commit.offset > end:
                yield _finding(
                    checked,
                    said,
                    f"group {key.group!r} has committed offset {commit.offset} of {key.partition},"
                    f" which ends at {end}: what it read from there on is gone, and what is sent"
                    f" next, up to offset {commit.offset - 1}, it would pass over. Before that:"
                    f" streamkit groups reset {shlex.quote(key.group)} --to offset:{end} --topic"
                    f" {key.partition.topic}:{key.partition.partition}",
                    "committed",
                )


def _finding(checked: Checked, said: Said, problem: str, kind: str) -> Finding:
    return Finding(
        "error",
        kind,
        said.file,
        problem,
        checked.place.tp,
        said.position,
        said.offset,
    )
