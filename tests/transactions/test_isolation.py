"""What a reader of committed records sees of a fetched run."""

from streamkit.codec import columns
from streamkit.transactions.isolation import Committed, committed
from streamkit.transactions.txnindex import Aborted


def values(raw, found):
    return [offset for start, end in found.spans for offset in columns(raw[start:end]).offsets]


def test_a_run_of_plain_batches_is_one_piece(partition):
    partition.plain(2)
    partition.send(7, 0, 0)
    assert committed(partition.raw, [], 3) == Committed([(0, len(partition.raw))], 3)
    assert committed(b"", [], 3) == Committed([], None)


def test_markers_are_not_seen_but_read_past(partition):
    partition.send(7, 0, 0, 2, transactional=True)
    partition.mark(7, 0, commit=True)
    partition.plain()
    partition.mark(7, 1, commit=True)
    found = committed(partition.raw, [], 5)
    first, marker, plain, _ = map(len, partition.batches)
    assert found == Committed([(0, first), (first + marker, first + marker + plain)], 5)


def test_nothing_is_seen_from_the_last_stable_offset_on(partition):
    partition.plain(2)
    partition.send(7, 0, 0, 2, transactional=True)
    partition.plain(2)
    stable = partition.producers.stable_offset
    assert committed(partition.raw, [], stable) == Committed([(0, len(partition.batches[0]))], 2)
    assert committed(partition.batches[1], [], stable) == Committed([], None)


def test_of_an_aborted_transaction_nothing_is_seen_and_of_its_neighbours_all(partition):
    partition.send(7, 0, 0, 2, transactional=True)
    partition.plain()
    partition.send(8, 0, 0, transactional=True)
    partition.send(7, 0, 2, transactional=True)
    partition.mark(7, 0, commit=False)
    partition.mark(8, 0, commit=True)
    partition.send(7, 0, 3, transactional=True)
    partition.mark(7, 0, commit=True)
    found = committed(partition.raw, partition.index, partition.producers.stable_offset)
    assert values(partition.raw, found) == [2, 3, 7]
    assert found.next_offset == 9


def test_a_fetch_from_the_middle_of_an_aborted_transaction_sees_nothing_of_it(partition):
    partition.send(7, 0, 0, 2, transactional=True)
    partition.send(7, 0, 2, 2, transactional=True)
    partition.mark(7, 0, commit=False)
    rest = partition.batches[1]
    assert committed(rest, partition.index, 5) == Committed([], 4)


def test_several_aborted_transactions_of_one_producer_are_kept_apart(partition):
    for round_ in range(6):
        partition.send(7, round_, 0, 2, transactional=True)
        partition.mark(7, round_ + 1, commit=round_ % 2 == 0, bumped=True)
    found = committed(partition.raw, partition.index, partition.producers.stable_offset)
    assert values(partition.raw, found) == [0, 1, 6, 7, 12, 13]


def test_what_a_producer_writes_outside_of_transactions_is_seen_always(partition):
    partition.send(7, 0, 0)
    assert committed(partition.raw, [Aborted(7, 0, 5, 6)], 9).spans == [(0, len(partition.raw))]
