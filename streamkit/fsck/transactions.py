"""Transactions: what their coordinator has noted, and what stands in the partitions."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from streamkit.errors import DataError
from streamkit.fsck.finding import Finding
from streamkit.fsck.partition import Checked, check_partition
from streamkit.log.files import RealFiles
from streamkit.records import TopicPartition
from streamkit.transactions import records as schema
from streamkit.transactions.state import State
from streamkit.transactions.transaction import Transaction

PATIENCE = 10_000
"""After so many ms a transaction that is decided should be finished."""


Noted: TypeAlias = tuple[Transaction, str, int, TopicPartition]
"""A transaction with the file, the offset and the partition of its record."""


def check_transactions(partitions: Iterable[Checked], now: int) -> Iterator[Finding]:
    """Find transactions that nobody will end, and those that somebody should have ended."""
    partitions = list(partitions)
    known, findings = _known(partitions)
    yield from findings
    for transaction, file, offset, tp in known.values():
        waited = now - transaction.updated_at
        if transaction.state.decided and waited > PATIENCE:
            yield Finding(
                "note",
                "unfinished",
                file,
                f"transaction of {transaction.transactional_id!r} is decided"
                f" ({transaction.state.title}), and has not been finished for {waited // 1000} s:"
                " whoever next uses transactions or maintains the log finishes it",
                tp,
                offset=offset,
            )
    suspects = [
        (checked, producer_id, first, epoch)
        for checked in partitions
        for producer_id, (first, epoch) in checked.open_transactions.items()
        if not _expected(known, checked, producer_id)
    ]
    if not suspects:
        return
    # It may have begun after the coordinator's records were read, and it may have ended since. The
    # coordinator notes it before its first batch and until after its marker: so ask it again, then
    # look again whether it is open.
    known, _ = _known(
        check_partition(RealFiles(), checked.place, records=True)
        for checked in partitions
        if checked.latest is not None
    )
    for checked, producer_id, first, epoch in suspects:
        if _expected(known, checked, producer_id) or not _still_open(checked, producer_id, first):
            continue
        entry = known.get(producer_id)
        why = "knows nothing of it" if entry is None else f"says {entry[0].state.title}"
        yield Finding(
            "warning",
            "hanging",
            str(checked.place.tp),
            f"transaction of producer {producer_id} (epoch {epoch}) is open since offset {first},"
            f" but the coordinator {why}: readers of committed records wait there",
            checked.place.tp,
            offset=first,
            repair="abort it",
        )


def _expected(known: Mapping[int, Noted], checked: Checked, producer_id: int) -> bool:
    """Whether the coordinator knows that the producer has a transaction open in the partition."""
    tp = checked.place.tp
    for transaction, *_ in known.values():
        # After a power cut it may still be without its marker, which may be a commit.
        before = transaction.unsynced
        if before is not None and before.producer_id == producer_id and tp in before.partitions:
            return True
    entry = known.get(producer_id)
    if entry is None:
        return False
    transaction = entry[0]
    if not (transaction.state is State.ONGOING or transaction.state.decided):
        return False
    return tp in transaction.partitions


def _known(
    partitions: Iterable[Checked],
) -> tuple[dict[int, Noted], list[Finding]]:
    """By producer id, what the coordinator said last, and where; and what cannot be read."""
    known: dict[int, Noted] = {}
    findings: list[Finding] = []
    for checked in partitions:
        if checked.place.tp.topic != schema.TOPIC or checked.latest is None:
            continue
        for raw, said in checked.latest.values.items():
            try:
                transactional_id = schema.decode_key(raw)
                if said.value is None or transactional_id is None:
                    continue
                transaction = schema.decode_value(transactional_id, said.value)
            except DataError as error:
                findings.append(
                    Finding(
                        "error",
                        "transaction",
                        said.file,
                        f"a transaction's record cannot be read: {error}",
                        checked.place.tp,
                        said.position,
                        said.offset,
                    )
                )
                continue
            known[transaction.producer_id] = (
                transaction,
                said.file,
                said.offset,
                checked.place.tp,
            )
    return known, findings


def _still_open(checked: Checked, producer_id: int, first: int) -> bool:
    found = check_partition(RealFiles(), checked.place)
    return found.open_transactions.get(producer_id, (-1, 0))[0] == first
