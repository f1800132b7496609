"""What must be there and is not, and what is there and must not be."""

from collections.abc import Iterable, Iterator

from streamkit.history.evidence import Anomaly, Evidence, Partition
from streamkit.history.operations import Assign, Commit, Operation, Poll, Send, Value


def wrong_reads(found: Evidence, history: Iterable[Operation]) -> Iterator[Anomaly]:
    """Records that were seen and never sent, not committed, or not yet."""
    for value, reader in found.seen.items():
        name, offset = found.offsets[value]
        write = found.writes.get(value)
        where = f"{value!r} at {name}@{offset}"
        if write is None:
            yield Anomaly("unwritten-read", f"nobody sent {where}", (reader,))
            continue
        writer, send = write
        if send.partition != name:
            text = f"{value!r} was sent to {send.partition} and read at {name}@{offset}"
            yield Anomaly("inconsistent-offsets", text, (writer, reader))
        if writer.outcome == "fail":
            yield Anomaly("G1a", f"{where} was not committed and was read", (writer, reader))
        elif reader.ended < writer.asked:
            text = f"{where} was read before its commit was asked for"
            yield Anomaly("precommitted-read", text, (writer, reader))
    for operation in history:
        if operation.txn:
            sent = {step.value for step in operation.steps if isinstance(step, Send)}
            for step in operation.steps:
                if isinstance(step, Poll) and sent:
                    own = [value for _, value in step.records if value in sent]
                    if own:
                        text = f"a transaction read its own {own[0]!r} from {step.partition}"
                        yield Anomaly("precommitted-read", text, (operation,))


def losses(found: Evidence) -> Iterator[Anomaly]:
    """Acknowledged records that nobody saw, and records that a scan of everything lacks."""
    lacking = _lacking(found)
    yield from lacking.values()
    for value, (writer, send) in found.writes.items():
        if writer.outcome != "ok" or value in found.seen or value in lacking:
            continue
        at = found.partition(send.partition)
        if _may_be_gone(found, at, value, send.offset):
            continue
        known = send.offset is not None and send.offset < at.seen_to
        where = send.partition if send.offset is None else f"{send.partition}@{send.offset}"
        if known:
            text = f"{value!r} at {where} was acknowledged; later records were read, it never was"
            yield Anomaly("lost-write", text, (writer,))
        else:
            text = f"{value!r} at {where} was acknowledged, and nobody has read it"
            yield Anomaly("unseen", text, (writer,))


def _may_be_gone(found: Evidence, at: Partition, value: Value, offset: int | None) -> bool:
    """Retention or compaction may have removed it; in doubt, when its offset is unknown, it did."""
    gone = at.start > 0 if offset is None else offset < at.start
    return gone or found.replaced(value, at, offset)


def _lacking(found: Evidence) -> dict[Value, Anomaly]:
    """What a scan would have to show: it was acknowledged, or seen, before the scan began."""
    lacking: dict[Value, Anomaly] = {}
    for name, at in found.partitions.items():
        for scanner, scan in at.scans:
            shown = {value for _, value in scan.records}
            last: dict[str, int] = {}
            for offset, value in scan.records:
                if (write := found.writes.get(value)) is not None and write[1].key is not None:
                    last[write[1].key] = offset
            for offset in at.visible:
                value = at.values[offset]
                if not scan.start <= offset < scan.end or value in shown or value in lacking:
                    continue
                witness = _witness(found, value)
                if witness.ended > scanner.begun or _cleaned(found, at, value, offset, last):
                    continue
                text = f"{value!r} was at {name}@{offset}; read from start to end, it is not there"
                lacking[value] = Anomaly("lost-write", text, (witness, scanner))
    return lacking


def _witness(found: Evidence, value: Value) -> Operation:
    """Of those who know that it was there, the one that ended first."""
    seen = found.seen.get(value)
    if value in found.writes:
        writer = found.writes[value][0]
        if writer.outcome == "ok" and (seen is None or writer.ended < seen.ended):
            return writer
    assert seen is not None  # it is among the visible ones
    return seen


def _cleaned(
    found: Evidence, at: Partition, value: Value, offset: int, last: dict[str, int]
) -> bool:
    """Compaction left it out for a later one that the scan shows, or left nothing of the key.

    `last` is where the scan shows each key last: an older record than a deletion has come back.
    """
    write = found.writes.get(value)
    if write is None or write[1].key is None:
        return False
    key = write[1].key
    return last.get(key, -1) > offset or (key in at.deleted and key not in last)


def torn(found: Evidence, history: Iterable[Operation]) -> Iterator[Anomaly]:
    """Transactions of which some records can be seen and others, that must be there, cannot."""
    for operation in history:
        if not operation.txn or operation.outcome == "fail":
            continue
        sends = [step for step in operation.steps if isinstance(step, Send)]
        seen = [send for send in sends if send.value in found.seen]
        if not seen or len(seen) == len(sends):
            continue
        since = min(found.seen[send.value].ended for send in seen)
        for send in sends:
            if send.value in found.seen:
                continue
            at = found.partition(send.partition)
            if _may_be_gone(found, at, send.value, send.offset):
                continue
            if _passed(at, send, since):
                text = f"{seen[0].value!r} of a transaction was read, {send.value!r} is not there"
                yield Anomaly("torn-transaction", text, (operation, found.seen[seen[0].value]))
                break


def _passed(at: Partition, send: Send, since: float) -> bool:
    """Readers have been where the record must stand."""
    if send.offset is not None:
        return send.offset < at.seen_to or any(send.offset < scan.end for _, scan in at.scans)
    return any(scanner.begun > since for scanner, _ in at.scans)


def unprocessed(found: Evidence, history: Iterable[Operation]) -> Iterator[Anomaly]:
    """Records before a group's committed offset that none of its members was ever given."""
    groups: dict[str, str] = {}
    given: dict[str, set[Value]] = {}
    commits: dict[tuple[str, str], tuple[int, Operation]] = {}
    for operation in history:
        for step in operation.steps:
            if isinstance(step, Assign) and step.group:
                groups[operation.process] = step.group
            elif isinstance(step, Commit) and operation.outcome == "ok":
                where = (step.group, step.partition)
                if where not in commits or step.offset > commits[where][0]:
                    commits[where] = (step.offset, operation)
            elif isinstance(step, Poll) and operation.process in groups:
                group = given.setdefault(groups[operation.process], set())
                group.update(value for _, value in step.records)
    for (group_name, name), (committed, operation) in commits.items():
        at = found.partition(name)
        group = given.get(group_name, set())
        for offset in at.visible:
            if offset >= committed:
                break
            value = at.values[offset]
            if value not in group and not _may_be_gone(found, at, value, offset):
                text = f"{group_name} is done up to {name}@{committed}, and no member got {value!r}"
                yield Anomaly("unprocessed", f"{text} at {offset}", (operation,))
                break
