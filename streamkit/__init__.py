"""Event streaming in one `pip install`: a log in a directory, connectors, processing, replay."""

from streamkit._version import __version__

__all__ = ["__version__"]
