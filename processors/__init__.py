"""Ready-made steps for streams, one per module, built on the public API only.

    from streamkit.processors import dedupe

    dedupe(orders, "id", within="1d").to("orders-once")

Each takes a stream and gives one. What it keeps, it keeps under the stream's name and its own,
`orders-dedupe`, unless `name=` says otherwise: that is a contract, as all names of stores are.
"""

if __name__ != "streamkit.processors":
    raise ImportError("import streamkit.processors: as `processors` it would be a second module")

from streamkit.processors.dedupe import dedupe
from streamkit.processors.enrich import enrich
from streamkit.processors.flatten import flatten
from streamkit.processors.mask import mask
from streamkit.processors.moving import Moving, moving_average, z_score
from streamkit.processors.rate import rate
from streamkit.processors.sample import sample
from streamkit.processors.sessionize import Session, sessionize
from streamkit.processors.throttle import throttle
from streamkit.processors.top_k import Ranked, top_k

__all__ = [
    "Moving",
    "Ranked",
    "Session",
    "dedupe",
    "enrich",
    "flatten",
    "mask",
    "moving_average",
    "rate",
    "sample",
    "sessionize",
    "throttle",
    "top_k",
    "z_score",
]
