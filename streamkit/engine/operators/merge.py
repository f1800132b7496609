"""The events of two streams as those of one."""

from typing import Any

from streamkit.dsl.nodes.in_order import asks_for_places, bears_its_place, place_of
from streamkit.dsl.nodes.merges import Merge, MergedSide
from streamkit.dsl.nodes.node import Node, all_before
from streamkit.dsl.nodes.waiting import Waiting
from streamkit.engine.cursor import Numbers, paired
from streamkit.engine.hot.steps import Forward
from streamkit.engine.operators.window_rows import ordered
from streamkit.engine.roots import made, nth
from streamkit.engine.site import Site
from streamkit.records import Headers
from streamkit.serde import Serde


def build(node: Merge, key: Serde, site: Site) -> Forward:
    """The step of the events of the stream that is merged with another."""
    return _told_apart(node, node, 1, _given_on(node, node, b"l", site), site)


def build_side(node: MergedSide, key: Serde, site: Site) -> Forward:
    """The step of the events of the other one."""
    (merge,) = (one for one in site.nodes if isinstance(one, Merge) and one.right is node)
    return _told_apart(merge, node, 2, _given_on(merge, node, b"r", site), site)


def _told_apart(merge: Merge, side: Node, number: int, give: Forward, site: Site) -> Forward:
    """What tells an event from all others of the merge: those of both may be made of one record, or
    go back to the same, and come in turns."""
    cursor, name, drawn = site.cursor, f"{merge.name} {number}", side in site.drawn
    if not drawn and not any(map(_parts, all_before(side))):
        return give  # what is made of one record comes at once
    numbers = Numbers()
    if drawn:
        site.marked[name] = numbers
    last, of_last = b"", 0

    def told_apart(key: Any, value: Any, stamp: int, headers: Headers) -> None:
        nonlocal last, of_last
        root, part = cursor.root, cursor.part
        if drawn and root:
            of_last = of_last + 1 if root == last else 0
            last = root
            cursor.root = nth(made(name, root), of_last)
        if drawn and cursor.offset >= 0:
            cursor.part = paired(cursor.numbered(numbers.next(cursor.place)), number)
        elif part is not None:
            cursor.part = paired(part, number)
        give(key, value, stamp, headers)
        cursor.root, cursor.part = root, part

    return told_apart


def _parts(node: Node) -> bool:
    """Whether what a node gives may come by itself, and not with all that its record made."""
    return isinstance(node, Waiting) or node.on_error is not None


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
