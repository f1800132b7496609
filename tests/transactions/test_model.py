"""Random schedules against a model that keeps a list of everything and looks it all up again."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.codec import columns, read_header
from streamkit.errors import (
    InvalidProducerEpoch,
    InvalidTxnState,
    OutOfOrderSequence,
    TransactionError,
)
from streamkit.transactions.isolation import committed
from streamkit.transactions.producer import MAX_SEQUENCE
from streamkit.transactions.producers import Producers
from streamkit.transactions.snapshot import decode_snapshot, encode_snapshot
from streamkit.transactions.txnindex import aborted_in

ROUND = MAX_SEQUENCE + 1


@dataclass
class Model:
    """Rows of (offset, count, producer, epoch, first sequence, in a transaction, outcome)."""

    rows: list[tuple] = field(default_factory=list)
    end: int = 0

    def of(self, pid):
        return [row for row in self.rows if row[2] == pid]

    def open_from(self, pid):
        since = None
        for row in self.of(pid):
            if row[6] is not None:
                since = None
            elif row[5] and since is None:
                since = row[0]
        return since

    def expects(self, pid, epoch):
        """The last few batches of the epoch, and the sequence that is next."""
        mine = self.of(pid)
        same = [row for row in mine if row[3] == epoch and row[6] is None]
        return same[-5:], ((same[-1][4] + same[-1][1]) % ROUND if same else 0)

    def add(self, *row):
        self.rows.append((self.end, *row))
        self.end += row[0]
        return self.end - row[0]

    def send(self, pid, epoch, sequence, count, transactional):
        mine = self.of(pid)
        if mine and pid >= 0:
            present = mine[-1][3]
            window, following = self.expects(pid, epoch)
            for row in window if epoch == present else ():
                if (row[4], row[1]) == (sequence, count):
                    return "known", row[0]
            if epoch < present:
                return "error", InvalidProducerEpoch
            if sequence != following:
                return "error", OutOfOrderSequence
            if self.open_from(pid) is not None and (epoch > present or not transactional):
                return "error", InvalidTxnState
        return "at", self.add(count, pid, epoch, sequence, transactional, None)

    def mark(self, pid, epoch, commit, bumped):
        mine = self.of(pid)
        if mine:
            present, opened = mine[-1][3], self.open_from(pid) is not None
            if epoch < present or (bumped and epoch == present and opened):
                return "error", InvalidProducerEpoch
            if epoch == present and not opened:
                return "at", None
        return "at", self.add(1, pid, epoch, -1, True, commit)

    def stable(self):
        opened = [self.open_from(pid) for pid in {row[2] for row in self.rows}]
        return min([at for at in opened if at is not None], default=self.end)

    def visible(self):
        """Offsets of data that is plain or committed, below the last stable offset."""
        found = []
        for at, row in enumerate(self.rows):
            ends = [
                later[6] for later in self.rows[at:] if later[2] == row[2] and later[6] is not None
            ]
            if row[6] is None and row[0] < self.stable() and (not row[5] or ends[0]):
                found += range(row[0], row[0] + row[1])
        return found


ids = st.integers(0, 2)
sends = st.tuples(
    st.just("send"),
    ids,
    st.sampled_from([0, 0, 0, 0, 1, -1]),  # epoch, against the present one
    st.sampled_from([0, 0, 0, 0, 0, 1, -1, -2, -4]),  # sequence, in batches from the expected
    st.integers(1, 3),
    st.booleans(),
)
marks = st.tuples(
    st.just("mark"), ids, st.sampled_from([0, 0, 1, 1, -1]), st.booleans(), st.booleans()
)
plain = st.tuples(st.just("plain"), st.integers(1, 3))
schedules = st.lists(sends | sends | marks | plain, max_size=40)


@settings(max_examples=150, deadline=None)
@given(schedules, st.sampled_from([0, 40, MAX_SEQUENCE - 4]), st.data())
def test_every_schedule_gives_what_the_model_gives(new_partition, replay, schedule, first, data):
    partition, model = new_partition(), Model()
    snapshots = [(0, encode_snapshot(partition.producers))]
    for kind, *what in schedule:
        if kind == "plain":
            assert partition.plain(*what) == model.add(what[0], -1, -1, -1, False, None)
        elif kind == "mark":
            pid, rise, commit, bumped = what
            mine = model.of(pid)
            epoch = max(0, (mine[-1][3] if mine else 0) + rise)
            expected = model.mark(pid, epoch, commit, bumped)
            assert outcome(partition.mark, pid, epoch, commit=commit, bumped=bumped) == expected
        else:
            pid, rise, skip, count, transactional = what
            mine = model.of(pid)
            epoch = max(0, (mine[-1][3] if mine else 0) + rise)
            window, following = model.expects(pid, epoch)
            if not mine:
                following = first
            if skip < 0 and len(window) >= -skip:
                sequence, count = window[skip][4], window[skip][1]
            else:
                sequence = (following + max(skip, 0)) % ROUND
            expected = model.send(pid, epoch, sequence, count, transactional)
            found = outcome(
                partition.send, pid, epoch, sequence, count, transactional=transactional
            )
            assert found == expected
        assert partition.producers.end_offset == model.end
        assert partition.producers.stable_offset == model.stable()
        snapshots.append((model.end, encode_snapshot(partition.producers)))

    # What a reader of committed records sees, from any offset.
    start = data.draw(st.integers(0, model.end))
    run = b"".join(b for b in partition.batches if read_header(b).next_offset > start)
    stable = partition.producers.stable_offset
    found = committed(run, aborted_in(partition.index, start, stable).aborted, stable)
    seen = [o for a, b in found.spans for o in columns(run[a:b], start).offsets]
    assert seen == [offset for offset in model.visible() if offset >= start]

    # A recovery from scratch, and from any snapshot, ends in the same state.
    end, raw = data.draw(st.sampled_from(snapshots))
    for entries, since in (([], 0), (decode_snapshot(raw, "s"), end)):
        recovered = Producers("orders-3", entries, since)
        index = replay(partition.batches, recovered)
        assert index == [entry for entry in partition.index if entry.last_offset >= since]
        assert encode_snapshot(recovered) == encode_snapshot(partition.producers)
        assert recovered.open_transactions == partition.producers.open_transactions
        assert recovered.stable_offset == partition.producers.stable_offset
        for producer in recovered:
            known = partition.producers.get(producer.producer_id).batches
            assert producer.batches == (known if since == 0 else known[-len(producer.batches) :])


def outcome(call, *args, **options):
    try:
        found = call(*args, **options)
    except TransactionError as error:
        return "error", type(error)
    return ("known", found.first_offset) if hasattr(found, "first_offset") else ("at", found)
