"""Record batches: both of our codecs beside aiokafka's compiled one, per core.

A batch has 500 records of a 10-byte key and 100 bytes of JSON. Checksums are made and checked by
all. A figure is CPU time, so that other work on the machine counts less.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType

from benchmarks.measure import Row, main, medians
from streamkit.codec import pure
from streamkit.codec.compression import Compression

try:
    from streamkit.codec import _native as native
except ImportError:
    native = None

try:
    from aiokafka.record import default_records as peer
except ImportError:
    peer = None

RECORDS = 500
ROUNDS = 5
BATCHES = 400
NOW = 1_700_000_000_000

ENCODE_GOAL = DECODE_GOAL = 2.5
"""How many times aiokafka's speed the compiled codec reaches at least."""

ORDER = b'{"id":%d,"customer":"c%04d","amount":%.2f,"currency":"EUR","state":"shipped","note":"'
VALUES = [(ORDER % (i, i % 97, i * 1.19)).ljust(98, b".") + b'"}' for i in range(RECORDS)]
KEYS = [b"key-%06d" % i for i in range(RECORDS)]
TIMES = [NOW + i for i in range(RECORDS)]

PEER_CODECS: dict[Compression, int] = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


def lists(codec: ModuleType, compression: Compression) -> bytes:
    batch: bytes = codec.encode(VALUES, keys=KEYS, timestamps=TIMES, compression=compression)
    return batch


def one_by_one(codec: ModuleType) -> bytes:
    builder = codec.Builder()
    append = builder.append
    for value, key, timestamp in zip(VALUES, KEYS, TIMES, strict=True):
        append(value, key, timestamp)
    batch: bytes = builder.build()
    return batch


def peer_encode(compression: Compression) -> bytes:
    builder = peer.DefaultRecordBatchBuilder(2, PEER_CODECS[compression], 0, -1, -1, -1, 1 << 20)
    append = builder.append
    for offset, (value, key, timestamp) in enumerate(zip(VALUES, KEYS, TIMES, strict=True)):
        append(offset, timestamp, key, value, [])
    return bytes(builder.build())


def peer_decode(batch: bytes) -> int:
    found = peer.DefaultRecordBatch(batch)
    if not found.validate_crc():
        raise SystemExit("aiokafka does not accept the batch that is measured")
    return len(list(found))


def per_second(run: Callable[[], object], batches: int) -> float:
    """Records per second of CPU time."""
    began = time.process_time()
    for _ in range(batches):
        run()
    return RECORDS * batches / max(time.process_time() - began, 1e-9)


def measure(scale: float) -> Sequence[Row]:
    rounds = max(1, round(ROUNDS * min(scale, 1)))
    batches = max(1, round(BATCHES * scale))
    plain, zipped = lists(pure, "none"), lists(pure, "lz4")
    codecs = {"compiled": native, "pure Python": pure}

    paths: list[tuple[str, str, Callable[[ModuleType], object], float]] = [
        ("encode lists", "encode", partial(lists, compression="none"), ENCODE_GOAL),
        ("encode one by one", "encode", one_by_one, ENCODE_GOAL),
        ("encode lists, lz4", "encode lz4", partial(lists, compression="lz4"), 1.0),
        ("decode to columns", "decode", lambda codec: codec.columns(plain), DECODE_GOAL),
        ("decode to records", "decode", lambda codec: codec.records(plain, "t", 0), DECODE_GOAL),
        ("decode to columns, lz4", "decode lz4", lambda codec: codec.columns(zipped), 1.0),
    ]
    runs: dict[str, Callable[[], float]] = {}
    for name, codec in codecs.items():
        for path, _, run, _ in paths:
            if codec is not None:
                few = batches if codec is native else max(1, batches // 10)
                runs[f"{name} {path}"] = partial(per_second, partial(run, codec), few)
    if peer is not None:
        for name, work in (
            ("encode", partial(peer_encode, "none")),
            ("encode lz4", partial(peer_encode, "lz4")),
            ("decode", partial(peer_decode, plain)),
            ("decode lz4", partial(peer_decode, zipped)),
        ):
            runs[f"peer {name}"] = partial(per_second, work, max(1, batches // 3))
    took = medians(runs, rounds)
    return [
        Row(
            path=f"{path}, {name}",
            ours=took.get(f"{name} {path}"),
            beside=f"aiokafka {beside}",
            theirs=took.get(f"peer {beside}"),
            goal=goal if codec is native else None,
            note=remark(codec),
        )
        for name, codec in codecs.items()
        for path, beside, _, goal in paths
    ]


def remark(codec: ModuleType | None) -> str:
    if codec is None:
        return "not built: a C compiler is needed when streamkit is installed"
    if peer is None:
        return "aiokafka is not installed: pip install aiokafka"
    if not peer.DefaultRecordBatch.__module__.endswith("_crecords.default_records"):
        return f"aiokafka without its compiled codec ({peer.DefaultRecordBatch.__module__})"
    return "records per CPU second"


if __name__ == "__main__":
    main(measure)
