"""What an app is made of, in a few characters: another app, or other code, has others.

Not in it is what code reads while it runs (the environment, files, services), nor are installed
packages.
"""

import inspect
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, get_args

from streamkit.dsl.aggregates import Fold
from streamkit.dsl.functions import Function
from streamkit.dsl.topology import Topology
from streamkit.serde import type_name

_ELSEWHERE = (Path(__file__).parents[1], Path(sysconfig.get_path("stdlib")))
_INSTALLED = {"site-packages", "dist-packages"}


def fingerprint(topology: Topology) -> str:
    """Of an app's declarations, and of the source files of its functions and types.

    The modules that have been imported from the folders of those files, or below, belong to it.
    """
    nodes = [node for sub in topology.subtopologies for node in (*sub.nodes, *sub.sources)]
    names = {name for node in nodes for name in _modules(node)}
    names |= {name for each in topology.resources for name in _module(_unwrapped(each))}
    folders = {path.parent for path in map(_source, names) if path is not None}
    sources = {path for path in map(_source, list(sys.modules)) if path is not None}
    told = [_described(node) for node in nodes]
    told += sorted(
        sha256(path.read_bytes()).hexdigest()
        for path in sources
        if not folders.isdisjoint(path.parents)
    )
    return sha256("\n".join(told).encode()).hexdigest()[:32]


def _described(node: Any) -> str:
    """A node's settings; other nodes stand by their names, code by the files it is in."""
    told = [type(node).__name__]
    for field in fields(node):
        value = getattr(node, field.name)
        if hasattr(value, "name"):
            text = value.name
        elif hasattr(value, "topic"):
            text = value.topic
        elif hasattr(value, "decode") and hasattr(value, "type"):
            text = type_name(value.type)
        elif value is None or isinstance(value, str | int) or is_dataclass(value):
            text = str(value)  # a window, say, with its sizes
        else:
            text = type(value).__name__
        told.append(f"{field.name}={text}")
    return " ".join(told)


def _modules(node: Any) -> Iterator[str]:
    """The names of the modules that a node's functions and types are in."""
    for field in fields(node):
        value = getattr(node, field.name)
        if isinstance(value, Fold):
            yield from _modules(value)
            for call in value.code:
                yield from _module(_unwrapped(call))
        elif isinstance(value, Function):
            yield from _module(_unwrapped(value.call))
            for kept in value.states:
                yield from _module(kept.type)
                yield from _module(kept.key)
        elif hasattr(value, "decode") and hasattr(value, "type"):
            yield from _module(value.type)


def _unwrapped(call: Any) -> Any:
    while isinstance(call, partial):
        call = call.func
    return inspect.unwrap(call)


def _module(one: Any) -> Iterator[str]:
    name = getattr(one, "__module__", None)
    if isinstance(name, str):
        yield name
    for argument in get_args(one):
        yield from _module(argument)


def _source(name: str) -> Path | None:
    """The file of a module that is nobody else's."""
    file = getattr(sys.modules.get(name), "__file__", None)
    if not isinstance(file, str) or not file.endswith(".py"):
        return None
    path = Path(file)
    if not _INSTALLED.isdisjoint(path.parts) or not path.is_file():
        return None
    return None if any(folder in path.parents for folder in _ELSEWHERE) else path
