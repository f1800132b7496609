"""Joins of two streams: one object for both of its sides."""

from typing import Any, TypeAlias

from streamkit.dsl.nodes.stream_joins import AsOf, RightSide, StreamJoin, Within
from streamkit.engine.hot.steps import Forward
from streamkit.engine.operators.as_of_join import AsOfJoin
from streamkit.engine.operators.interval_join import IntervalJoin
from streamkit.engine.site import Site
from streamkit.serde import Serde

Joined: TypeAlias = IntervalJoin | AsOfJoin


def build(node: StreamJoin, key: Serde, site: Site) -> Forward:
    """The step of the events of the left stream."""
    return _joined(node, site).left(key)


def build_right(node: RightSide, key: Serde, site: Site) -> Forward:
    """The step of the events of the right stream."""
    (join,) = (one for one in site.nodes if isinstance(one, StreamJoin) and one.right is node)
    return _joined(join, site).right(key)


def _joined(node: StreamJoin, site: Site) -> Joined:
    joined: Joined = site.shared(node, lambda: _make(node, site))
    return joined


def _make(node: StreamJoin, site: Site) -> Joined:
    joined: Any
    match node.kind:
        case Within() as kind:
            joined = IntervalJoin(node, kind, site)
        case AsOf() as kind:
            joined = AsOfJoin(node, kind, site)
    site.on_time(node, joined)
    return joined  # type: ignore[no-any-return]
