"""What Kafka's DumpLogSegments prints of files in order, and all else that it prints."""

import re

BATCH = re.compile(
    r"baseOffset: \d+ lastOffset: \d+ count: (?P<count>\d+) .* producerId: (?P<id>-?\d+) .*"
    r" deleteHorizonMs: OptionalLong(?P<horizon>\S+) .* compresscodec: (?P<codec>\w+) .*"
    r" isvalid: true"
)
RECORD = re.compile(
    r"\| offset: (?P<offset>\d+) (?P<kind>\w+): (?P<time>-?\d+) keySize: (?P<key_size>-?\d+) "
    r"valueSize: (?P<value_size>-?\d+) sequence: (?P<sequence>-?\d+)"
    r" headerKeys: \[(?P<headers>.*?)\]"
    r"(?: key: (?P<key>.*?))?(?: payload: (?P<value>.*))?"
)
MARKER = re.compile(
    r"\| offset: (?P<offset>\d+) CreateTime: \d+ keySize: 4 valueSize: 6 sequence: -1"
    r" headerKeys: \[\] endTxnMarker: (?P<outcome>COMMIT|ABORT) coordinatorEpoch: \d+"
)
ABORTED = re.compile(
    r"version: 0 producerId: (?P<id>\d+) firstOffset: (?P<first>\d+) lastOffset: (?P<last>\d+)"
    r" lastStableOffset: \d+"
)
PRODUCER = re.compile(
    r"producerId: \d+ producerEpoch: \d+ coordinatorEpoch: -?\d+ currentTxnFirstOffset: \S+"
    r" lastTimestamp: \d+ ?(?:firstSequence: .*)?"
)
INDEX = re.compile(r"offset: \d+ position: \d+|timestamp: \d+ offset: \d+")
PLAIN = re.compile(
    r"|Dumping /.*|Log starting offset: \d+|Snapshot end offset: .*|/.* is empty\."
    r"|/.* passed sanity check\."
)
# Kafka 4.3's tool takes any file that does not begin with offset 0 for one with a gap after -1.
NO_GAP = re.compile(r"Non-consecutive offsets in /.*/0*(\d+)\.log\n {2}-1 is followed by \1\n")
# Of a compacted partition every gap is told of.
GAPS = re.compile(r"Non-consecutive offsets in /.*\n(?: {2}-?\d+ is followed by \d+\n)+")
# An empty batch has the time of what was in it, also in the index that a broker makes of it when
# it recovers; the tool looks for records of that time.
EMPTY = re.compile(
    r"Found timestamp mismatch in :/.*\n(?: {2}Index timestamp: \d+, log timestamp: -1\n)+"
)


class Dump:
    """Its lines by what they are."""

    def __init__(self, text: str, *, compacted: bool = False) -> None:
        """`text` is what it said; `compacted`: offsets may be missing, and batches be empty."""
        kinds: list[tuple[re.Pattern[str], list[re.Match[str]]]] = [
            (BATCH, []),
            (RECORD, []),
            (MARKER, []),
            (ABORTED, []),
            (PRODUCER, []),
            (INDEX, []),
            (PLAIN, []),
        ]
        self.complaints: list[str] = []
        text = EMPTY.sub("", GAPS.sub("", text)) if compacted else NO_GAP.sub("", text)
        for line in text.split("\n"):
            for pattern, found in kinds:
                if match := pattern.fullmatch(line):
                    found.append(match)
                    break
            else:
                self.complaints.append(line)
        found = dict(kinds)
        self.batches = found[BATCH]
        self.records = found[RECORD]
        self.markers = found[MARKER]
        self.aborted = found[ABORTED]
        self.producers = found[PRODUCER]
        """Those in snapshots."""
        self.entries = len(found[INDEX])
        """Entries of offset and time indexes."""
        self.codecs = [one["codec"] for one in self.batches]
