"""Fold the events of one key and one window into a value: each kind of window in its own way."""

from streamkit.dsl.nodes.windows import WindowFold
from streamkit.dsl.windows import Hopping, Session, Sliding
from streamkit.engine.hot.steps import Forward
from streamkit.engine.operators.window_fixed import FixedWindows
from streamkit.engine.operators.window_sessions import Sessions
from streamkit.engine.operators.window_sliding import SlidingWindows
from streamkit.engine.site import Site
from streamkit.serde import Serde


def build(node: WindowFold, key: Serde, site: Site) -> Forward:
    windows: FixedWindows | Sessions | SlidingWindows
    match node.window:
        case Hopping() as kind:
            windows = FixedWindows(node, kind, key, site)
        case Session() as kind:
            windows = Sessions(node, kind, key, site)
        case Sliding() as kind:
            windows = SlidingWindows(node, kind, key, site)
    site.on_time(node, windows)
    site.marked[node.name] = windows
    return windows.step()
