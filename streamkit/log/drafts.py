"""What batches that come in make of a partition's producers, as a draft: nothing is written."""

from collections.abc import Sequence

from streamkit.codec import BatchHeader, check
from streamkit.codec.header import CONTROL, TRANSACTIONAL
from streamkit.log.checks import Checked
from streamkit.transactions.markers import Marker, encode_marker
from streamkit.transactions.producer import Batch
from streamkit.transactions.producers import Draft
from streamkit.transactions.txnindex import Aborted

OF_PRODUCERS = TRANSACTIONAL | CONTROL


def have_producers(batches: Sequence[Checked]) -> bool:
    """Whether any of them has a producer id, or should have."""
    # Not any(): this is on the way of every batch.
    for _, header in batches:
        if header.producer_id != -1 or header.attributes & OF_PRODUCERS:
            return True
    return False


def check_data(draft: Draft, header: BatchHeader, sequenced: bool) -> Batch | None:
    """As `Draft.check`, of a batch of data that is to be appended."""
    # A transaction begins at sequence 0 in every partition. Who goes on with one that is not known
    # here is a producer of a transaction that was ended, and then forgotten.
    return draft.check(header, sequenced=sequenced, from_zero=header.transactional)


def let_in(draft: Draft, batches: Sequence[Checked], sequenced: bool) -> tuple[list[Checked], int]:
    """The batches that are not in the log yet, and where the first of all stands or will.

    The draft has followed them then. Raises what `Draft.check` does.
    """
    unknown: list[Checked] = []
    offsets: list[int] = []
    for batch, header in batches:
        found = check_data(draft, header, sequenced)
        offsets.append(draft.end_offset if found is None else found.first_offset)
        if found is None:
            draft.follow(header, draft.end_offset)
            unknown.append((batch, header))
    return unknown, offsets[0]


def follow_all(draft: Draft, batches: Sequence[Checked]) -> Draft:
    """The draft, once these batches of data were let in."""
    for _, header in batches:
        draft.follow(header, draft.end_offset)
    return draft


def let_in_marker(
    draft: Draft,
    producer_id: int,
    producer_epoch: int,
    commit: bool,
    coordinator_epoch: int | None,
    *,
    bumped: bool,
    now: int,
) -> tuple[Checked, Sequence[Aborted]] | None:
    """The marker that ends a transaction and what it aborts; None: it has ended here already.

    The draft has followed it then. The arguments are those of `Partition.append_marker`; `now` in
    ms. Raises what `Draft.check_marker` does.
    """
    if coordinator_epoch is None:
        coordinator_epoch = draft.coordinator_epoch(producer_id)
    marker = Marker(commit, coordinator_epoch)
    batch = encode_marker(
        marker, producer_id=producer_id, producer_epoch=producer_epoch, timestamp=now
    )
    header = check(batch)
    if not draft.check_marker(header, marker, bumped=bumped):
        return None
    if commit and draft.holds_earlier(header, bumped=bumped):
        # What is committed has nothing here: with that one open, nothing was let in.
        marker = Marker(False, coordinator_epoch)
        batch = encode_marker(
            marker, producer_id=producer_id, producer_epoch=producer_epoch, timestamp=now
        )
        header = check(batch)
    ended = draft.follow(header, draft.end_offset, marker)
    return (batch, header), () if ended is None else (ended,)
