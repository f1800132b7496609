"""The numbers of a producer's batches, whatever interrupts them."""

import pytest

from streamkit.clients import sequences as sequences_module
from streamkit.clients.sequences import Sequences
from streamkit.codec import encode, read_header
from streamkit.errors import OutOfSpace
from streamkit.records import TopicPartition

PLACE = ("id", TopicPartition("t", 0))


class Partition:
    """Takes batches, and raises what it is told to instead or afterwards."""

    def __init__(self):
        self.sequences = []
        self.before = self.after = None

    def append(self, batch):
        error, self.before = self.before, None
        if error:
            raise error
        self.sequences.append(read_header(batch).base_sequence)
        error, self.after = self.after, None
        if error:
            raise error
        return len(self.sequences)


def without_memory(*_, **__):
    raise MemoryError


def batch(count):
    return encode([b"x"] * count, timestamps=0)


def test_the_same_batch_again_is_not_appended_again():
    partition, sequences, one = Partition(), Sequences((7, 0)), batch(2)
    # An interrupt may come after it was appended and before its owner takes it off the queue.
    assert sequences.append(PLACE, one, partition.append) == 1
    assert sequences.append(PLACE, one, partition.append) == 1
    assert sequences.append(PLACE, batch(2), partition.append) == 2
    assert partition.sequences == [0, 2]


def test_one_that_was_refused_leaves_its_sequence_to_the_next():
    partition, sequences = Partition(), Sequences((7, 0))
    sequences.append(PLACE, batch(5), partition.append)
    partition.before = OutOfSpace("full")
    with pytest.raises(OutOfSpace):
        sequences.append(PLACE, batch(3), partition.append)
    sequences.append(PLACE, batch(4), partition.append)
    sequences.append(PLACE, batch(1), partition.append)
    assert partition.sequences == [0, 5, 9]


def test_one_that_could_not_be_given_its_sequence_is_not_tried_before_the_next(monkeypatch):
    partition, sequences = Partition(), Sequences((7, 0))
    with monkeypatch.context() as full:
        full.setattr(sequences_module.codec, "of_producer", without_memory)
        with pytest.raises(MemoryError):
            sequences.append(PLACE, batch(3), partition.append)
    sequences.append(PLACE, batch(2), partition.append)
    sequences.append(PLACE, batch(1), partition.append)
    assert partition.sequences == [0, 2]


@pytest.mark.parametrize("when", ["before", "after"])
def test_one_that_was_interrupted_is_tried_again_before_the_next(when):
    partition, sequences = Partition(), Sequences((7, 0))
    setattr(partition, when, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        sequences.append(PLACE, batch(3), partition.append)
    # A full disk tells nothing about it.
    partition.before = OutOfSpace("full")
    with pytest.raises(OutOfSpace):
        sequences.append(PLACE, batch(2), partition.append)
    sequences.append(PLACE, batch(2), partition.append)
    assert partition.sequences == ([0, 3] if when == "before" else [0, 0, 3])


def test_places_do_not_share_them():
    partition, sequences = Partition(), Sequences((7, 0))
    for place in (PLACE, ("id", TopicPartition("t", 1)), ("another id", PLACE[1])):
        sequences.append(place, batch(3), partition.append)
    assert partition.sequences == [0, 0, 0]
