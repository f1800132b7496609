"""Ready-made steps for streams, one per module, built on the public API only."""

if __name__ != "streamkit.processors":
    raise ImportError("import streamkit.processors: as `processors` it would be a second module")
