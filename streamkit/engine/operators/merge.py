"""The events of two streams as those of one."""

from typing import Any

from streamkit.dsl.nodes.in_order import asks_for_places, bears_its_place, place_of
from streamkit.dsl.nodes.merges import Merge, MergedSide
from streamkit.dsl.nodes.node import Node
from streamkit.engine.hot.steps import Forward
from streamkit.engine.operators.window_rows import ordered
from streamkit.engine.roots import made
from streamkit.engine.site import Site
from streamkit.records import Headers
from streamkit.serde import Serde


def build(node: Merge, key: Serde, site: Site) -> Forward:
    """The step of the events of the stream that is merged with another."""
    return _given_on(node, node, b"l", site)


def build_side(node: MergedSide, key: Serde, site: Site) -> Forward:
    """The step of the events of the other one."""
    (merge,) = (one for one in site.nodes if isinstance(one, Merge) and one.right is node)
    give = _given_on(merge, node, b"r", site)
    if node not in site.drawn:
        return give
    cursor, name = site.cursor, merge.name

    def told_apart(key: Any, value: Any, stamp: int, headers: Headers) -> None:
        root = cursor.root
        if root:
            cursor.root = made(name, root)  # both may go back to the same
        give(key, value, stamp, headers)
        cursor.root = root

    return told_apart


def _given_on(merge: Merge, side: Node, which: bytes, site: Site) -> Forward:
    """What follows, with the place of each event where somebody asks: first of all its stream."""
    forward, cursor = site.after(merge, merge.keys), site.cursor
    if not any(map(asks_for_places, site.nodes)):
        return forward
    place = place_of(side, site.nodes)
    is_read, placed = place == "read", bears_its_place(place)

    def give(key: Any, value: Any, stamp: int, headers: Headers) -> None:
        origin = cursor.origin
        there = ordered(cursor.offset) if is_read else origin if placed else b""
        cursor.origin = which + there
        forward(key, value, stamp, headers)
        cursor.origin = origin

    return give
